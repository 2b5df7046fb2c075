# ---
# jupyter:
#   accelerator: GPU
#   colab:
#     gpuType: T4
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 16 · The paper on a page: every claim, and what came of it
#
# You will read the paper as a chain of assumptions, theorems, checks and experiments; see every
# claim with its numbers beside the figure that decides it; and find what did not replicate as
# easily as what did.
#
# - Paper: all of it; *On Symmetric Losses for Robust Policy Optimization with Noisy Preferences*,
#   arXiv 2505.24709. We worked from a summary of the paper and from the authors' released code;
#   section numbers are the summary's.
# - Reads → writes: the tables and the executed notebooks of the profile → `fig16_map`,
#   `fig16_verdicts`, `table16_assumptions`.
# - Time: half a minute in every profile. It trains nothing and needs no torch.

# %% tags=["bootstrap", "hide-cell"]
# Colab only: fetch this repository and install it beside Colab's own torch. Elsewhere this does
# nothing.
import runpy
import subprocess
import sys

repository = ""  # `make badges REPO=owner/name` writes the address here
if "google.colab" in sys.modules:
    assert repository, "write this repository's GitHub address, owner/name, into `repository`"
    fetch = f"git clone --depth=1 https://github.com/{repository} /content/companion"
    subprocess.run(f"test -d /content/companion || {fetch}", shell=True, check=True)
    runpy.run_path("/content/companion/notebooks/colab.py")

# %% tags=["parameters"]
profile = "auto"  # @param ["auto", "smoke", "laptop", "gpu", "paper"]

# %%
import pandas as pd
from IPython.display import Markdown

from sympo.book import claims, figures, paper, retold
from sympo.studies import profiles

profile = profiles.resolve_profile(profile)
figures.use_readable_tables()

# %% [markdown]
# ## In one paragraph
#
# The paper says: people who compare two answers err; a reward that is learned with a *symmetric*
# loss, for which $\ell(z) + \ell(-z)$ is a constant, keeps the true order of the answers all the
# same; and a policy that follows a reward with the true order improves on the reference policy. So
# SymPO, which is DPO with such a loss, should win more often than DPO where labels are noisy.
#
# That the order is kept, and that the order is enough, is mathematics: this companion derives both,
# and the map below says under which assumptions. That SymPO wins more often is a measurement, and
# what came of it depends on where one measures.
#
# Every verdict below is computed from the data behind the figures, by the rules that
# [notebook 00](00_start_here.ipynb) lists. No verdict and no measured number on this page is typed
# in: where a study has not been run, it says so.

# %%
verdicts = claims.judge_claims(profile)

# %% tags=["hide-input"]
summary = paper.summarise(verdicts.verdict)
Markdown(f"In profile {profile}: **{summary}**. {paper.say_whose(verdicts)}")

# %% [markdown]
# ## The argument as a map
#
# Read it from left to right. An assumption stands before the theorems that ask for it, and a
# theorem before the experiments that put it to the test in trained models. In a theorem's box
# stands how many of the cells that check it pass. (The colour of an arrow only helps the eye to
# follow it.)
#
# **Expect** ✓ in the second column: these are proofs, and a cell that fails there refutes one.
# In the third column the theory promises less than the paper claims. It says which order the best
# reward has, not how far a fixed number of epochs comes, and not that a policy with the better
# order wins more often at every distance from the reference. A ± there refutes no
# theorem; it says that the experiments ask for more than the theorems give. The claims of 12, 13
# and 14 are hypotheses of this companion's, some of them asked in order to be refuted: ✗
# there contradicts nothing that the paper says. T10, for one, says how many labels are enough, and
# nothing of the rate at which a network trades pairs against noise, which is what 14 asks.

# %%
boxes, arrows = paper.tabulate_map(verdicts)
figure = figures.fig16_map(boxes, arrows)
figures.save(figure, "fig16_map", {"boxes": boxes, "arrows": arrows}, profile=profile)

# %% [markdown]
# ### Drop this, and see that break
#
# For each assumption of the map there is a computed counterexample: it drops the assumption, and a
# conclusion fails. The last column leads to it. Assumptions lean on one another, so that a
# counterexample may break a second one along with the first: without a lower bound there is no best
# margin to be reached either. A theorem in brackets names the assumption and holds under less. T7
# asks for a loss of T5's family, which is enough: what its proof uses is that no margin of the
# wrong sign, nor 0, is ever best, and that one reward comes to all best margins.

# %%
dropped = figures.save_table(paper.tabulate_assumptions(), "table16_assumptions", profile=profile)
Markdown(figures.to_markdown(dropped, "llll"))

# %% [markdown]
# A map whose links lead nowhere would prove little. So each box is looked up: the section of every
# counterexample has to exist and to hold a cell that checks something, every theorem needs a claim
# with cells of its own, and no theorem stands without an assumption.

# %% tags=["check"]
graph = paper.read_map()
for assumption in graph["assumptions"]:
    section = paper.find_section(assumption["notebook"], assumption["heading"])
    assert paper.count_checks(section) > 0, assumption["id"]
for experiment in graph["experiments"]:
    assert paper.find_section(experiment["notebook"], experiment["heading"])
needed = {name for assumption in graph["assumptions"] for name in assumption["theorems"]}
assert needed == {theorem["id"] for theorem in graph["theorems"]}
spared = {(each.source, each.target) for each in arrows.itertuples() if each.kind == "enough"}
assert spared == {("continuous", "T7"), ("monotone", "T7")}
assert set(arrows.source) | set(arrows.target) <= set(boxes.id)
assert paper.find_section("04_rank_and_policy", "A heading that nobody wrote") == []

# %% [markdown]
# The theorems of the map, with the cells that check them and the experiments that put them to the
# test; in brackets, those that ask for more than the theorem says. T1, T2 and so on number the
# statements that the notebooks derive. T9, on gradients, and T12, on where the policy comes from,
# carry none of the others, and have no box.

# %% tags=["hide-input"]
Markdown(figures.to_markdown(paper.tabulate_theorems(verdicts), "llll"))

# %% [markdown]
# ## All verdicts in one figure
#
# Each bar is a group of claims in one world, from mathematics to large models. **Expect** a
# different picture in each part of the argument: derivations hold or fail as a whole; on MNIST, the
# paper's own experiment at the size of the profile, most of the claims about accuracy should be
# reproduced at high noise; on language models the claims are about win rates at the paper's β.
# Orange in a bar of reward accuracy on MNIST would contradict the paper's first experiment. Orange
# in a bar "beyond the paper" contradicts a hypothesis of this companion's, and nothing that the
# paper says.

# %%
counts = paper.count_verdicts(verdicts)
figures.save(figures.fig16_verdicts(counts), "fig16_verdicts", counts, profile=profile)

# %% [markdown]
# ## The claims, group by group
#
# Each figure stands beside the claims that it shows. The evidence is a mean difference over n seeds
# with its 95% interval, or the number of checks that passed; long tables are folded away, and open
# with a click.
#
# ### Reward accuracy
#
# Symmetric losses order more held-out pairs rightly than logistic and hinge where many labels are
# wrong: the paper's Section 5.1 says so of MNIST. The verdicts are those of this profile; what the
# paper's own number of epochs says stands below them.

# %% tags=["hide-input"]
accuracy = paper.write_group(verdicts, "key result: reward accuracy")
Markdown(f"{accuracy}\n\n{retold.retell_full_grid()}")

# %% [markdown]
# ### Win rate
#
# The paper says that a policy trained with SymPO wins more often than one trained with DPO and its
# relatives, all at one β. A summary of it speaks of gains of up to 15%: the most of several
# settings, which no single one can refute, so that leads are reported and not held against it.
# This is the claim that a practitioner cares about, and it depends on how the comparison is made:
# at each method's own β, or at the same distance from the reference, the question is ours, and the
# answer stands below, "beyond the paper".

# %% tags=["hide-input"]
wins = paper.write_group(verdicts, "key result: win rate")
Markdown(f"{wins}\n\n{retold.retell_known_reward(profile)}")

# %% [markdown]
# ### Mechanisms
#
# Why it should work: what is derived, and where a condition that the paper leaves unsaid is needed.

# %% tags=["hide-input"]
Markdown(paper.write_group(verdicts, "mechanism"))

# %% [markdown]
# ### Trade-offs and failure signatures
#
# What a symmetric loss costs, and what one sees where a loss that is not symmetric fails.

# %% tags=["hide-input"]
trade_offs = paper.write_group(verdicts, "trade-off")
Markdown(f"{trade_offs}\n\n{paper.write_group(verdicts, 'failure signature')}")

# %% [markdown]
# ### First experiments
#
# The three experiments that a reader of the paper would do first: an ablation of losses, a test of
# noise equivalence, and alignment from end to end.

# %% tags=["hide-input"]
Markdown(paper.write_group(verdicts, "first experiment"))

# %% [markdown]
# ### Beyond the paper
#
# What this companion asks further: limits of the theorems, exact policies, real comparisons, and
# policies of a known reward at other β, at equal KL, and by how far they fall.

# %% tags=["hide-input"]
Markdown(paper.write_group(verdicts, "beyond the paper"))

# %% [markdown]
# ## What did not replicate
#
# In the order of how much it says. *Contradicted* is a significant difference in the other
# direction; for a claim of equality an interval that lies wholly outside what is claimed; or a
# failed check. *No difference larger than 0.02* says that the effect, if there is
# one, is too small to matter. *Not seen at this scale* says that the study could not tell, which is
# no evidence against the claim.

# %% tags=["hide-input"]
ours = verdicts.group == "beyond the paper"
Markdown(paper.write_not_replicated(verdicts[~ours]))

# %% [markdown]
# The same of what this companion asks beyond the paper. These are no claims of the paper's, and
# some of them are asked in order to be refuted: where a sentence says what the theory expects, that
# counts, and not the verdict's name.

# %% tags=["hide-input"]
Markdown(paper.write_not_replicated(verdicts[ours]))

# %% [markdown]
# ## What is not measured, and which runs are missing
#
# A claim without a verdict waits for runs that nobody has made yet. Which ones follows from the
# claims themselves: the methods and noise rates that they name, with as many seeds of each as
# profile gpu has. One command trains them before all others of their study, and goes on where it
# was interrupted. What a GPU needs for it, how long a seed takes and where to send the records is
# in the [README](../README.md#fill-in-the-missing-runs).

# %% tags=["hide-input"]
missing = paper.list_missing_runs(verdicts)
text = figures.to_markdown(missing.astype(str), "lrrll")
Markdown(text if len(missing) else "Nothing is missing.")

# %% [markdown]
# A comparison at equal KL that is *measured in too few seeds* waits for no run: its policies are
# there, and in most seeds those of one method all lie on the same side of the budget.

# %% [markdown]
# ## Open questions, and what to check next
#
# Two open questions are from the paper's Limitations; the third the paper itself answers, citing
# earlier work. The short proof here is ours. A summary of the paper names three next checks: that
# people judge the policies, that the noise is of other kinds, and that other symmetric losses are
# tried. Each is answered by the claims of this companion that decide it, or is said to be
# unanswered. Hypotheses that were asked along the way, such as what the cost of a noise pattern is,
# stand above.

# %% tags=["hide-input"]
Markdown(figures.to_markdown(paper.answer_questions(verdicts), "lll"))

# %% tags=["hide-input"]
Markdown(paper.write_group(verdicts, "open question"))

# %% [markdown]
# What this means for anyone who trains a model: a sentence from each notebook that has one, with
# its numbers, which are those of its last run.

# %% tags=["hide-input"]
Markdown(paper.write_advice(profile))

# %% [markdown]
# ## Where this departs from the paper
#
# Every notebook that repeats an experiment lists what it does differently. Collected here, they are
# the reasons why a number may differ from the published one although nobody erred.

# %% tags=["hide-input"]
departures = paper.collect_departures()
Markdown(
    "\n\n".join(
        f"<details><summary>{paper.name_notebook(row.notebook)}</summary>\n\n{row.text}\n</details>"
        for row in departures.itertuples()
    )
)

# %% [markdown]
# ## How long each part takes
#
# *minutes* is what the profile says of each notebook on two cores; *training* is how long the runs
# behind the committed results trained, on whatever machine they did, from their provenance. Drawing
# every figure and table again from the committed data takes a minute or two and no torch:
# `make figures`.

# %% tags=["hide-input"]
minutes = paper.tabulate_minutes(profile)
named = minutes.assign(notebook=minutes.notebook.map(paper.name_notebook))
shown = named.map(lambda value: "–" if pd.isna(value) else value).astype(str)
known = minutes.minutes.notna().any()
total = f"Together: {minutes.minutes.sum():.0f} minutes" if known else "No minutes are known"
Markdown(f"{figures.to_markdown(shown, 'lrr')}\n{total} in profile {profile}.")

# %% [markdown]
# ## Every figure and table
#
# By the notebook that makes it, with the profile of which it is shown.

# %% tags=["hide-input"]
Markdown(paper.write_results(profile))

# %% [markdown]
# ## How to cite
#
# Please cite the paper, and this companion where you use its code (`CITATION.cff`).

# %% tags=["hide-input"]
Markdown(f"```bibtex\n{paper.cite()}\n```")

# %% [markdown]
# ## Provenance

# %% tags=["hide-output"]
figures.save_provenance("16_paper", profile=profile)
