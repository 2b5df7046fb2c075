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
# # 00 · Start here
#
# You will meet the idea in five minutes: what goes wrong when people who compare answers err, what
# the paper proposes, what came of it here, and where to read on.
#
# **The problem.** Somebody asks a language model: “My bread is stale after a day. What can I do?”
# Several answers are possible. To teach the model which ones are good, an annotator is shown two of
# them and says which is better, and thousands of such *preferences* train the model. Some are
# wrong: the annotator was tired, misread an answer, or clicked on the wrong side. The usual
# training takes every label at its word. It even pulls hardest at the labels that contradict what
# it has learned so far, and among those the wrong ones gather.
#
# **The idea.** Use a loss that charges for a label and for its opposite, taken together, always the
# same. Wrong labels then make the signal weaker, but they do not change which model is best. Such a
# loss learns the *order* of the answers and not how far apart they are, and the order is enough to
# improve on the policy that one started from.
#
# **What came of it** is counted below, from the data behind the figures.
#
# - Paper: *On Symmetric Losses for Robust Policy Optimization with Noisy Preferences*, arXiv
#   2505.24709. We worked from a summary of the paper and from the authors' released code; section
#   numbers are the summary's.
# - Reads → writes: the tables and the executed notebooks of the profile → `fig_t0_story`,
#   `table0_claims`.
# - Time: seconds.

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

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
import torch
from IPython.display import Markdown

from sympo import losses
from sympo.book import claims, figures, paper, retold, story, theory
from sympo.studies import profiles

profile = profiles.resolve_profile(profile)
figures.use_readable_tables()

# %% [markdown]
# ## One annotator, one question, four answers
#
# This example stays with us up to notebook 04. Each answer has a *true reward*, which says how good
# it is. Nobody ever sees it; here we write it down.

# %%
story.tabulate_answers()

# %% [markdown]
# The annotator is shown two of the four and prefers one. The usual model of this is
# **Bradley–Terry**: of two answers with true rewards $r^*(a_1)$ and $r^*(a_2)$, the first is
# preferred with probability $\sigma(r^*(a_1) - r^*(a_2))$, where
#
# $$\sigma(t) = \frac{1}{1 + e^{-t}}$$
#
# is the *sigmoid function*: ½ at $t = 0$, near 1 where the first answer is much better, near 0
# where it is much worse. So an honest annotator may well prefer d to c, which are almost equally
# good, but hardly ever d to a.
#
# On top of that there are slips. With probability $\varepsilon$, the **noise rate**, the label says
# the opposite of what the annotator prefers. Here are eight labels, with a noise rate so high that
# you can see it at work.

# %%
noise_rate = 0.4
labels = story.draw_labels(8, noise_rate=noise_rate, seed=11)
headings = {"first": "shown first", "second": "shown second"}
headings |= {"preferred": "annotator prefers", "recorded": "label says"}
labels.rename(columns=headings)

# %% tags=["hide-input"]
Markdown(
    f"Of these {len(labels)} labels, {labels.slip.sum()} are slips. Training sees neither the "
    "column of the slips nor what the annotator preferred. It has the pair and the label."
)

# %% [markdown]
# ## A wrong label pulls
#
# Write the label as $y = +1$ if it names the answer shown first and $y = -1$ if it names the
# second, and what a model thinks of the pair as a *score* $r(a_1) - r(a_2)$ of its own rewards $r$.
# The product of the two is the **margin** $z$. It is positive where model and label agree, and
# training lowers a loss $\ell(z)$ of it. Three losses carry the argument:
#
# $$\ell_\text{logistic}(z) = \log\bigl(1 + e^{-z}\bigr), \qquad
# \ell_\text{sigmoid}(z) = \frac{1}{1 + e^{z}},$$
#
# $$\ell_\text{ramp}(z) = \min\Bigl(1, \max\bigl(0, \tfrac12 - \tfrac z2\bigr)\Bigr).$$
#
# The **logistic loss** is the usual one; with it, training a language model on preferences is
# called DPO. The **sigmoid** and the **ramp loss** are SymPO's, the method of the paper. The figure
# shows what slips do to the labels, and how hard each loss pulls at a label.

# %%
pairs = story.tabulate_pairs(noise_rate)
pulls = theory.tabulate_losses(["logistic", "sigmoid", "ramp"], np.linspace(-4, 4, 321))
drawn = figures.fig_t0_story(pairs, pulls)
figures.save(drawn, "fig_t0_story", {"pairs": pairs, "pulls": pulls}, profile=profile)

# %% [markdown]
# **Reading.** On the left, slips bring every pair nearer to a tie, but the better answer keeps the
# majority: the truth is still in the labels. On the right you see what a loss makes of them. Once a
# model has learned that a is far better than d, a label that says the opposite has a margin far
# left. There the logistic loss pulls with almost its full force; sigmoid and ramp hardly pull at
# all. (That has a price, which notebook 03 is about.)
#
# ## Why a symmetric loss is not moved
#
# A loss is **symmetric** when
#
# $$\ell(z) + \ell(-z) = K \quad\text{for every } z.$$
#
# A wrong label turns $z$ into $-z$. With a symmetric loss it costs $K - \ell(z)$ instead of
# $\ell(z)$, and on average over right and wrong labels
#
# $$(1 - \varepsilon)\,\ell(z) + \varepsilon\,\ell(-z)
# = (1 - 2\varepsilon)\,\ell(z) + \varepsilon K.$$
#
# Only a factor and a constant are left of the noise, and as long as $\varepsilon < ½$ neither moves
# a minimum. Here are the losses in code, and then this sentence as a computation.


# %%
def logistic_loss(z):
    return torch.log(1 + torch.exp(-z))


def sigmoid_loss(z):
    return 1 / (1 + torch.exp(z))


def ramp_loss(z):
    return torch.clip(1 / 2 - z / 2, 0, 1)


# %% tags=["check"]
margins = torch.linspace(-4, 4, 9, dtype=torch.float64)
table = pd.DataFrame({"margin z": margins})
spread = {}
for name, loss in {"sigmoid": sigmoid_loss, "ramp": ramp_loss, "logistic": logistic_loss}.items():
    clean = loss(margins)
    noisy = (1 - noise_rate) * clean + noise_rate * loss(-margins)
    rest = noisy - (1 - 2 * noise_rate) * clean  # what noise adds beside the factor 1 − 2ε
    spread[name] = (rest.max() - rest.min()).item()
    table[f"{name}, clean"] = clean
    table[f"{name}, noisy"] = noisy
    assert torch.allclose(clean, losses.get(name).fn(margins))  # the package's loss is this one
assert max(spread["sigmoid"], spread["ramp"]) < 1e-12  # a constant
assert spread["logistic"] > 1  # no constant: a pull towards z = 0
table

# %% [markdown]
# The noisy columns of sigmoid and ramp are shrunken, shifted copies of the clean ones: they still
# fall, ramp over the same stretch, from −1 to 1. The noisy logistic column rises again at the
# right: certainty is punished. The rest of the paper builds on this:
#
# 1. noise that errs more in one direction is symmetric noise in disguise, as long as the order in
#    which a pair is written says nothing about the pair (notebook 02);
# 2. so a bounded symmetric loss that never increases and is not constant keeps the *order* of
#    rewards under it, where all neighbours in rank are compared, with labels enough and rewards
#    that are free to take any value (03, 04), though not their size;
# 3. and the order is enough to improve on the *policy*, that is, the model that writes answers,
#    that one started from (04).
#
# ## What came of it
#
# Every claim of the paper, and every statement that we add, has a verdict. What the words of the
# verdicts mean is said [further down](00_start_here.ipynb#The-verdicts,-counted).

# %% tags=["hide-input"]
verdicts = claims.judge_claims(profile)
saved = verdicts.drop(columns="decided by").assign(profile=profile)
saved = figures.save_table(saved, "table0_claims", profile=profile)
caveat = profiles.caveat(profile)
no_verdict = Markdown(f"No verdicts here ({caveat}).")
summary = paper.summarise(saved.verdict)
counted = Markdown(f"In profile {profile}: {summary}. {paper.say_whose(saved)}")
no_verdict if caveat else counted

# %% [markdown]
# This is the figure that the paper's first experiment comes down to. Watch how the solid lines, the
# symmetric losses, and the dashed ones part as the noise rate rises. Notebook 05 says which of the
# differences are significant.

# %% tags=["hide-input"]
missing = Markdown(f"It has not been drawn in profile {profile}: run notebook 05.")
figures.find_figure("fig1_mnist_losses", profile=profile) or missing

# %% tags=["hide-input"]
Markdown(retold.retell_full_grid())

# %% [markdown]
# Language models are the other half of the paper. The studies of this repository that are about
# policies compare symmetric losses with others in two ways: at the same β, the setting that says
# how near a policy should stay to the *reference* it started from, or at the same distance from the
# reference, measured by the Kullback–Leibler divergence (KL).

# %% tags=["hide-input"]
evidence = [
    ("exact policies of rewards learned on MNIST (07)", "equal KL", r"policy-kl-\d"),
    ("exact policies of rewards learned on MNIST (07)", "equal β", r"policy-beta-1"),
    ("small language models, the reward known (09)", "equal KL", r"gold-equal-kl"),
    ("small language models, the reward known (09)", "each at its own β", r"gold-own-beta"),
    ("small language models, the reward known (09)", "DPO at the paper’s β", r"gold-(fresh|mem)"),
    ("small language models, the reward known (09)", "its kin at the paper’s β", r"gold-told"),
    ("small language models, the reward known (09)", "falls less", r"gold-falls-less"),
    ("small language models, the reward known (09)", "accuracy", r"gold-accuracy"),
    ("reward heads on real comparisons (08)", "accuracy", r"text-(helpful|harmless|ultra).*-0\.4"),
    ("language models on HH and UltraFeedback (10, 11)", "win rate", r"(hh|ultrafeedback)-sympo"),
]
words = {"reproduced": "ahead", "contradicted": "behind", "not seen at this scale": "open"}
words["no difference larger than 0.02"] = "equal"
rows = []
for what, comparison, pattern in evidence:
    decided = list(saved.verdict[saved.id.str.match(pattern)].replace(words))
    rows.append([what, comparison, len(decided), *map(decided.count, words.values())])
told = pd.DataFrame(rows, columns=["evidence", "comparison", "rows", *words.values()])
told = told.assign(**{"not measured": told.rows - told[[*words.values()]].sum(axis=1)})

# %% tags=["hide-input"]
(mnist, gold, heads, large) = dict.fromkeys(what for what, _, _ in evidence)
counts = told.set_index(["evidence", "comparison"])
won = told[told.evidence.isin([mnist, gold]) & ~told.comparison.isin(["accuracy", "falls less"])]
sums = won.assign(at=won.comparison.str.replace(r".*β", "β", regex=True)).groupby("at").sum()
at_beta, at_kl = sums.loc["β"], sums.loc["equal KL"]
small = counts.loc[(gold, "equal KL")]
known = at_kl.rows - at_kl["not measured"]
put_together = Markdown(
    f"**Put together**: where the win rate is compared at a β, symmetric losses are ahead in "
    f"{at_beta.ahead} of {at_beta.rows} comparisons and behind in {at_beta.behind}; at the same "
    f"distance from the reference they are ahead in {at_kl.ahead} of the {known:g} that could be "
    f"measured and behind in {at_kl.behind}. Of a language model {small['not measured']} of "
    f"{small.rows} could not be, for in most seeds no policy of a method lies near enough (09): "
    "whether its leads at a β are more than distance is open. A lead that is gone at the same "
    "distance only says that the policy has moved farther from the reference, and not that its "
    "order is better."
)
no_verdict if caveat else put_together

# %% [markdown]
# So much for five minutes. What follows is where to read on, and after that the verdicts in detail.
#
# ## Where to read on
#
# T1, T2 and so on number the statements that the notebooks derive.
#
# | notebook | question |
# |---|---|
# | [01 Preferences as classification][01] | Why is a comparison a label? (T1) |
# | [02 Noise equivalence][02] | When is one-sided noise harmless? (T2–T4) |
# | [03 Symmetric losses][03] | Which losses are symmetric, and what is their price? (T5, T6) |
# | [04 Rank and policy][04] | Why is the order enough? (T7–T9) |
# | [05 MNIST: losses][05] | Which losses survive noise in a real network? (T13) |
# | [06 MNIST: noise][06] | Does Lemma 1 hold in a real network, and where does it end? |
# | [07 MNIST: policies][07] | Does a better order make a better policy? (T8, exactly) |
# | [08 Real text][08] | Which losses order real comparisons best? |
# | [09 A known reward][09] | Does an aligned policy gain more where the truth can be computed? |
# | [10 Anthropic HH][10] | And on comparisons that people made? |
# | [11 UltraFeedback][11] | And on comparisons that a large model made? |
# | [12 The family of losses][12] | Which symmetric loss, and at what temperature? (T5, T15) |
# | [13 Noise patterns][13] | What of noise that depends on the pair, or on who wins? (T11, T14) |
# | [14 Finite samples][14] | How many pairs does noise cost? (T10) |
# | [15 Your own preferences][15] | How noisy are yours, and what to train with? |
# | [16 The paper on a page][16] | What came of every claim? |
#
# [01]: 01_preferences_as_classification.ipynb
# [02]: 02_noise_equivalence.ipynb
# [03]: 03_symmetric_losses.ipynb
# [04]: 04_rank_and_policy.ipynb
# [05]: 05_mnist_losses.ipynb
# [06]: 06_mnist_noise.ipynb
# [07]: 07_mnist_policy.ipynb
# [08]: 08_real_text.ipynb
# [09]: 09_gold.ipynb
# [10]: 10_hh.ipynb
# [11]: 11_ultrafeedback.ipynb
# [12]: 12_loss_family.ipynb
# [13]: 13_noise_patterns.ipynb
# [14]: 14_finite_sample.ipynb
# [15]: 15_your_data.ipynb
# [16]: 16_paper.ipynb
#
# Short of time? Read 02, and then 16. With preferences of your own, go to 15. If you want to build
# on this, 12 to 14 take up what the paper leaves open.
#
# The [glossary](../docs/glossary.md) explains every term and symbol.
#
# ## The argument on one map
#
# The map leads from what is assumed to what is proved, from there to the cells that check the
# proof, and on to the experiments. It is drawn in notebook 16, the whole paper on a page, where a
# table says for every assumption what breaks without it.

# %% tags=["hide-input"]
missing = Markdown(f"The map has not been drawn in profile {profile}: run notebook 16.")
figures.find_figure("fig16_map", profile=profile) or missing

# %% [markdown]
# ## The verdicts, counted
#
# The claims come in groups: the paper's key results, the mechanisms behind them, the trade-offs,
# what failure looks like, the experiments it would do first, its open questions, and what this
# companion adds ("beyond the paper"). [Notebook 16](16_paper.ipynb) has them one by one, with
# numbers and figures. The verdicts are computed, by these rules:
#
# | verdict | what it says |
# |---|---|
# | *derived* | proved, or shown by simulation where the claim says so; all its check cells passed |
# | *reproduced* | significant, as claimed, after Holm's correction for what is tested together |
# | *contradicted* | significant in the other direction, or a check cell failed |
# | *no difference larger than 0.02* | the whole interval lies inside ±0.02 |
# | *not seen at this scale* | not significant, nor inside ±0.02; or fewer than three seeds |
# | *not checked*, *not measured* | nothing here has decided it yet |
#
# A difference that is shown to be too small to matter is no replication, however significant: that
# rule comes before *reproduced*. Two things that a claim says are the *same* are judged the other
# way round: *reproduced* if the interval of their difference lies inside ±0.02 and both have
# learned something, *contradicted* if it lies outside. In notebook 16 the evidence is the mean
# difference over n seeds with its 95% interval, or the number of checks; the last column leads to
# the cells or the table that decide, and to the figure. Where the paper column says *summary*, the
# summary of the paper names no section for the claim. Claims that rest on the same row are counted
# each.

# %% tags=["hide-input"]
order = ["reproduced", "derived", "no difference larger than 0.02"]
order += ["not seen at this scale", "contradicted"]
tally = saved.groupby(["group", "verdict"], sort=False).size().unstack(fill_value=0)
tally = tally.reindex(columns=[*order, *sorted({*tally} - {*order})], fill_value=0)
no_verdict if caveat else tally.rename_axis(columns=None).reset_index()

# %% [markdown]
# *not measured*: most often the study needs a GPU, and this repository holds no records of it yet.
# Once it holds them, a laptop shows those of profile gpu. Of the comparisons at equal KL in 09 it
# says that in most seeds a method has no policy on the near side of the budget, or none beyond it.
#
# ## What small studies say about alignment
#
# The second half of the paper is about language models. This is what smaller studies say about it,
# from the most exact evidence to the most real. In each row a symmetric loss is compared with one
# that is not, at a noise rate of 0.3 or more (*falls less*: from clean labels to the noisiest).
# *Ahead* is the verdict *reproduced*, *behind* is *contradicted*, *equal* says that no difference
# is larger than 0.02, and *open* that the study could not tell.

# %% tags=["hide-input"]
shown = told.rename(columns={"rows": "claims"})
shown["evidence"] = shown.evidence.mask(shown.evidence.duplicated(), "")  # once is enough
no_verdict if caveat else shown


# %% tags=["hide-input"]
def tell(*key):
    row = counts.loc[key]
    parts = [f"{row[word]} {word}" for word in [*words.values(), "not measured"] if row[word]]
    return f"{', '.join(parts) or 'nothing measured'} (of {row.rows})"


said = Markdown(
    "**What this says**, of symmetric losses against the others. Policies of rewards learned on "
    f"MNIST, at the same KL: {tell(mnist, 'equal KL')}; some of the seeds had been seen in a "
    "pilot, and 07 says what is left without them. Small language models trained on preferences, "
    f"against DPO at the paper’s β: {tell(gold, 'DPO at the paper’s β')}; against its kin cDPO, "
    f"rDPO and ROPO there: {tell(gold, 'its kin at the paper’s β')}; against DPO, each at its own "
    f"β: {tell(gold, 'each at its own β')}; at the same, small KL: {tell(gold, 'equal KL')} (09 "
    "shows how far the curves reach, and the leads on clean labels); points of win rate lost to "
    f"noise: {tell(gold, 'falls less')}; order of held-out pairs: {tell(gold, 'accuracy')}. "
    f"{retold.retell_known_reward(profile)}\n\nLinear heads on features of real "
    f"comparisons, each loss with its own settings: {tell(heads, 'accuracy')}."
)
no_verdict if caveat else said

# %% [markdown]
# **What it cannot say.** No row here but the last is the paper's own experiment. On MNIST the
# reward model is a network of the paper's, but a policy is a sum over images. The language models
# of 09 have one layer and write eight words. The heads of 08 are linear, on features that were
# learned elsewhere, and are judged by labels that people wrote with errors of their own. Whether a
# large model that is trained with a symmetric loss on real, noisy preferences writes answers that
# people prefer, at the same distance from where it began, needs a GPU and a judge: notebooks 10 and
# 11 are ready for both, and until they have run the last row is undecided.
#
# ## Failure signatures
#
# When preference training goes wrong, what do you see, and what helps? Each symptom belongs to a
# claim above, whose verdict stands beside it: a symptom that was not seen here is still one to look
# for.

# %% tags=["hide-input"]
signatures = [
    ("Accuracy ends below a symmetric loss's, while training labels fit ever better",
     "falls-behind-ramp-logistic-0.45-final",
     "a symmetric loss; stop where accuracy on noisy held-out pairs is highest"),
    ("Noise takes most of the gain, whatever the loss",
     "poor-policy-fresh-dpo", "more pairs: the signal shrinks by 1 − 2ε, whatever the loss"),
    ("The largest gradients come from labels that contradict the model",
     "gradient", "a loss that lets go of them: sigmoid, ramp"),
    ("Two answers come out in the wrong order, and more data does not help",
     "logistic-reverses", "a symmetric loss; even sampling, where one ε holds for all pairs"),
    ("The loss is symmetric, and nothing is learned",
     "not-calibrated", "a loss that is lower for some right margin than for any wrong one"),
    ("Even on clean labels a symmetric loss stays behind",
     "harder-to-optimise-ramp-logistic-final", "a tail (sigmoid), more epochs"),
    ("rDPO is worse than DPO", "correction", "a loss that need not be told the noise rate"),
    ("Labels favour one kind of answer, and no loss helps",
     "tied-order", "draw the written order at random before the annotation"),
    ("Rewards have the right order, but their sizes mean nothing",
     "no-magnitudes", "a logistic fit on clean pairs, where sizes are needed"),
]  # fmt: skip

# %% tags=["hide-input"]
by_id = saved.set_index("id").join(verdicts.set_index("id")["decided by"])
rows = pd.DataFrame(signatures, columns=["symptom", "id", "remedy"]).set_index("id")
rows = rows.join(by_id[["verdict", "decided by"]])
rows = rows.rename(columns={"decided by": "see"})[["symptom", "remedy", "verdict", "see"]]
Markdown(figures.to_markdown(rows, "llll"))

# %% [markdown]
# ## Provenance

# %% tags=["hide-output"]
figures.save_provenance("00_start_here", profile=profile)
