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
# You will meet the idea in five minutes, see what the paper claims and what came of it, and find
# out where to read on. Every verdict below is computed from the data behind the figures.
#
# - Paper: *On Symmetric Losses for Robust Policy Optimization with Noisy Preferences*, arXiv
#   2505.24709.
# - Reads → writes: the tables and the executed notebooks of the profile → `table0_claims`.
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

# %%
import pandas as pd
import torch
from IPython.display import Image, Markdown

from sympo import losses
from sympo.book import claims, figures, paper
from sympo.studies import profiles

profile = profiles.resolve_profile(profile)
pd.options.display.max_colwidth = None  # claims are sentences

# %% [markdown]
# ## The idea in five minutes
#
# A reward model learns from comparisons: shown two answers, an annotator says which is better.
# Annotators err. The standard loss, the logistic one behind DPO, takes every label at its word, and
# the more wrong a label looks to it, the harder it pulls.
#
# Write a comparison as a label $y \in \{-1, +1\}$ on a pair, and the model's opinion as a score
# $r(a_1) - r(a_2)$. Their product, the *margin* $z$, is positive where the two agree. A loss is
# *symmetric* when
#
# $$\ell(z) + \ell(-z) = K \quad\text{for every } z.$$
#
# Three losses carry the argument. The **logistic loss** is DPO's: it punishes a wrong label more
# the more certain the model is, without limit. The **sigmoid** and the **ramp loss** are SymPO's: a
# wrong label costs at most 1.
#
# $$\ell_\text{logistic}(z) = \log\bigl(1 + e^{-z}\bigr), \qquad
# \ell_\text{sigmoid}(z) = \frac{1}{1 + e^{z}}, \qquad
# \ell_\text{ramp}(z) = \min\Bigl(1, \max\bigl(0, \tfrac12 - \tfrac z2\bigr)\Bigr).$$


# %%
def logistic_loss(z):
    return torch.log(1 + torch.exp(-z))


def sigmoid_loss(z):
    return 1 / (1 + torch.exp(z))


def ramp_loss(z):
    return torch.clip(1 / 2 - z / 2, 0, 1)


# %% [markdown]
# A wrong label turns $z$ into $-z$. With a symmetric loss it costs $K - \ell(z)$ instead of
# $\ell(z)$, and on average over wrong and right labels only a factor and a constant are left of the
# noise: the minimisers stay where they were. Here is that sentence as a computation, with labels of
# which 40% are wrong.

# %% tags=["check"]
margins = torch.linspace(-4, 4, 9, dtype=torch.float64)
noise_rate = 0.4
table = pd.DataFrame({"z": margins})
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
table.round(3)

# %% [markdown]
# The noisy columns of sigmoid and ramp are shrunken, shifted copies of the clean ones: they still
# fall, ramp over the same stretch, from −1 to 1. The noisy logistic column rises again at the
# right: certainty is punished. The rest of the paper builds on this:
#
# 1. noise that errs more in one direction is symmetric noise in disguise, as long as the order in
#    which a pair is written says nothing about the pair (notebook 02);
# 2. so a bounded symmetric loss that never increases keeps the *order* of rewards under it, where
#    all neighbours in rank are compared (03, 04), though not their size;
# 3. and the order is enough to improve a policy (04).
#
# ## The argument, and what came of it
#
# The map leads from what is assumed to what is proved, from there to the cells that check the
# proof, and on to the experiments. It is drawn in notebook 16, the whole paper on a page, where a
# table says for every assumption what breaks without it.

# %%
figure = profiles.find_result(profile, "fig16_map.png")
missing = Markdown(f"The map has not been drawn in profile {profile}: run notebook 16.")
Image(figure, width=700) if figure else missing

# %% [markdown]
# ## The verdicts
#
# Every claim of the paper has a verdict: its key results, the mechanisms behind them, the
# trade-offs, what failure looks like, the experiments it would do first, its open questions, and
# last what this companion adds. Here they are counted by group; [notebook 16](16_paper.ipynb) has
# them one by one, with numbers and figures, and `table0_claims` has them all. They are computed, by
# these rules:
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
# learned something, *contradicted* if it lies outside. A claim of a size ("15 points") is compared
# with the interval. The evidence is the mean difference over n seeds with its 95% interval, or the
# number of checks; the last column leads to the cells or the table that decide, and to the figure.
# Where the paper column says *summary*, we know the claim from a summary of the paper that names no
# section. Claims that rest on the same row are counted each.

# %%
verdicts = claims.judge_claims(profile)
table = verdicts.drop(columns="decided by").assign(profile=profile)
saved = figures.save_table(table, "table0_claims", profile=profile)
saved.groupby(["group", "verdict"], sort=False).size().unstack(fill_value=0)

# %%
Markdown(f"In profile {profile}: {paper.summarise(saved.verdict)}.")

# %% [markdown]
# *not measured*: most often the study needs a GPU, and this repository holds no records of it yet.
# Once it holds them, a laptop shows those of profile gpu.
#
# ## What small studies say about alignment
#
# The second half of the paper is about language models. This is what smaller studies say about it,
# from the most exact evidence to the most real. In each row a symmetric loss is compared with one
# that is not, at a noise rate of 0.3 or more (*falls less*: from clean labels to the noisiest).
# *Ahead* is the verdict *reproduced*, *behind* is *contradicted*, *equal* says that no difference
# is larger than 0.02, and *open* that the study could not tell.

# %%
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
told.assign(**{"not measured": told.rows - told[[*words.values()]].sum(axis=1)})

# %% tags=["hide-input"]
counts = told.set_index(["evidence", "comparison"])
(mnist, gold, heads, large) = dict.fromkeys(what for what, _, _ in evidence)


def tell(*key):
    row = counts.loc[key]
    parts = [f"{row[word]} {word}" for word in words.values() if row[word]]
    return f"{', '.join(parts) or 'nothing measured'} (of {row.rows})"


Markdown(
    "**What this says**, of symmetric losses against the others. Policies of rewards learned on "
    f"MNIST, at the same KL: {tell(mnist, 'equal KL')}; some of the seeds had been seen in a "
    "pilot, and 07 says what is left without them. Small language models trained on preferences, "
    f"against DPO at the paper’s β: {tell(gold, 'DPO at the paper’s β')}; against its kin cDPO, "
    f"rDPO and ROPO there: {tell(gold, 'its kin at the paper’s β')}; against DPO, each at its own "
    f"β: {tell(gold, 'each at its own β')}; at the same, small KL: {tell(gold, 'equal KL')} (09 "
    "shows how far the curves reach, and the leads on clean labels); loss of win rate to noise: "
    f"{tell(gold, 'falls less')}; "
    f"order of held-out pairs: {tell(gold, 'accuracy')}. Linear heads on features of real "
    f"comparisons, each loss with its own settings: {tell(heads, 'accuracy')}."
)

# %% tags=["hide-input"]
won = told[told.evidence.isin([mnist, gold]) & ~told.comparison.isin(["accuracy", "falls less"])]
sums = won.assign(at=won.comparison.str.replace(r".*β", "β", regex=True)).groupby("at").sum()
at_beta, at_kl = sums.loc["β"], sums.loc["equal KL"]
small = counts.loc[(gold, "equal KL")]
Markdown(
    f"**Put together**: where the win rate is compared at a β, symmetric losses are ahead in "
    f"{at_beta.ahead} of {at_beta.rows} comparisons and behind in {at_beta.behind}; at the same "
    f"distance from the reference they are ahead in {at_kl.ahead} of {at_kl.rows} and behind in "
    f"{at_kl.behind}, and of those leads {small.ahead or 'none'} are a language model’s. A lead at "
    "a β that is gone at the same distance only says that the policy has moved farther from the "
    "reference, and not that its order is better."
)

# %% [markdown]
# **What it cannot say.** No row here but the last is the paper's own experiment. On MNIST the
# reward model is a network of the paper's, but a policy is a sum over images. The language models
# of 09 have one layer and write eight words. The heads of 08 are linear, on features that were
# learned elsewhere, and are judged by labels that people wrote with errors of their own. Whether a
# large model that is trained with a symmetric loss on real, noisy preferences writes answers that
# people prefer, at the same distance from where it began, needs a GPU and a judge: notebooks 10 and
# 11 are ready for both, and until they have run the last row is empty.
#
# ## Failure signatures
#
# When preference training goes wrong, what do you see, and what helps? Each symptom belongs to a
# claim above, whose verdict stands beside it: a symptom that was not seen here is still one to look
# for.

# %%
signatures = [
    ("Accuracy ends below a symmetric loss's, while training labels fit ever better",
     "falls-behind-ramp-logistic-0.45-final",
     "a symmetric loss; stop where accuracy on noisy held-out pairs is highest"),
    ("The policy hardly improves on the reference where labels are noisy",
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
by_id = verdicts.set_index("id")
rows = pd.DataFrame(signatures, columns=["symptom", "id", "remedy"]).set_index("id")
rows = rows.join(by_id[["verdict", "decided by"]])[["symptom", "decided by", "verdict", "remedy"]]
Markdown(figures.to_markdown(rows.rename(columns={"decided by": "see"}), "llll"))

# %% [markdown]
# ## How to read on
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
# The figure that the paper's first experiment comes down to, if it has been made: reward accuracy
# on clean test pairs against the share of wrong training labels.

# %%
figure = profiles.find_result(profile, "fig1_mnist_losses.png")
missing = Markdown(f"Figure 1 has not been made in profile {profile}.")
Image(figure, width=600) if figure else missing

# %%
figures.save_provenance("00_start_here", profile=profile)
