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
# You will see the whole companion on one page: what the paper claims, where each claim is derived
# or tested, and what came out. Every verdict below is computed from the data behind the figures.
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
from sympo.book import claims, figures
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
# Two losses carry the argument. The **logistic loss** is DPO's: it punishes a wrong label more the
# more certain the model is, without limit. The **sigmoid loss** is SymPO's: a wrong label costs at
# most 1.
#
# $$\ell_\text{logistic}(z) = \log\bigl(1 + e^{-z}\bigr), \qquad
# \ell_\text{sigmoid}(z) = \frac{1}{1 + e^{z}}.$$


# %%
def logistic_loss(z):
    return torch.log(1 + torch.exp(-z))


def sigmoid_loss(z):
    return 1 / (1 + torch.exp(z))


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
for name, loss in {"sigmoid": sigmoid_loss, "logistic": logistic_loss}.items():
    clean = loss(margins)
    noisy = (1 - noise_rate) * clean + noise_rate * loss(-margins)
    rest = noisy - (1 - 2 * noise_rate) * clean  # what noise adds beside the factor 1 − 2ε
    spread[name] = (rest.max() - rest.min()).item()
    table[f"{name}, clean"] = clean
    table[f"{name}, noisy"] = noisy
    assert torch.allclose(clean, losses.get(name).fn(margins))  # the package's loss is this one
assert spread["sigmoid"] < 1e-12  # a constant
assert spread["logistic"] > 1  # no constant: a pull towards z = 0
table.round(3)

# %% [markdown]
# The noisy sigmoid column is a shrunken, shifted copy of the clean one: it still falls all the way.
# The noisy logistic column rises again at the right: certainty is punished. The rest of the paper
# builds on this:
#
# 1. noise that errs more in one direction is symmetric noise in disguise, as long as the order in
#    which a pair is written says nothing about the pair (notebook 02);
# 2. so symmetric losses that never increase keep the *order* of rewards under it (03, 04), though
#    not their size;
# 3. and the order is enough to improve a policy (04).
#
# ## The claims and their verdicts
#
# *derived*: proved step by step, and every check cell of the notebook passes (the evidence is per
# notebook: claims of one notebook share it). *reproduced*, *contradicted*, *not seen
# at this scale*: measured, by the rules of `sympo.stats.verdict` and `verdict_agreement`, with the
# difference and its 95% interval as evidence.

# %%
verdicts = claims.judge_claims(profile)
figures.save_table(verdicts.assign(profile=profile), "table0_claims", profile=profile)

# %%
counts = verdicts.verdict.value_counts()
summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
Markdown(f"In profile {profile}: {summary}.")

# %% [markdown]
# *not measured*: the study needs a GPU, and this repository holds no records of it yet. Once it
# holds them, a laptop shows those of profile gpu.
#
# ## The map
#
# | notebook | question |
# |---|---|
# | [01 Preferences as classification][01] | Why is a comparison a label? (T1) |
# | [02 Noise equivalence][02] | When is one-sided noise harmless? (T2–T4) |
# | [03 Symmetric losses][03] | Which losses are symmetric, and what is their price? (T5, T6) |
# | [04 Rank and policy][04] | Why is the order enough? (T7–T9) |
# | [05 MNIST: losses][05] | Which losses survive noise in a real network? |
# | [06 MNIST: noise][06] | Does Lemma 1 hold in a real network, and where does it end? |
# | [09 A known reward][09] | Does an aligned policy gain more where the truth can be computed? |
# | [10 Anthropic HH][10] | And on comparisons that people made? |
# | [11 UltraFeedback][11] | And on comparisons that a large model made? |
#
# [01]: 01_preferences_as_classification.ipynb
# [02]: 02_noise_equivalence.ipynb
# [03]: 03_symmetric_losses.ipynb
# [04]: 04_rank_and_policy.ipynb
# [05]: 05_mnist_losses.ipynb
# [06]: 06_mnist_noise.ipynb
# [09]: 09_gold.ipynb
# [10]: 10_hh.ipynb
# [11]: 11_ultrafeedback.ipynb
#
# Short of time? Read 02. These are all figures and tables, each with the notebook that makes it:

# %%
results = claims.list_results(profile)
results

# %% [markdown]
# The figure that the paper's first experiment comes down to, if it has been made: reward accuracy
# on clean test pairs against the share of wrong training labels.

# %%
figure = profiles.figures_folder(profile) / "fig1_mnist_losses.png"
missing = Markdown(f"`{figure.name}` has not been made in profile {profile}.")
Image(figure, width=600) if figure.is_file() else missing

# %%
figures.save_provenance("00_start_here", profile=profile)
