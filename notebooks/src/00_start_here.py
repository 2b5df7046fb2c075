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

# %% tags=["bootstrap"]
# Colab only: fetch this repository and install the package beside Colab's own torch. It does
# nothing elsewhere.
import sys

repository = ""  # `make badges REPO=owner/name` writes the address here
if "google.colab" in sys.modules:
    import os
    import subprocess
    from importlib.metadata import version

    assert repository, "write this repository's GitHub address, owner/name, into `repository`"
    subprocess.run(
        f"git clone --depth=1 --branch=v0.1.0 https://github.com/{repository} companion".split(),
        check=True,
    )
    pins = [f"{name}=={version(name)}" for name in ("torch", "numpy", "pandas", "pyarrow")]
    open("pins.txt", "w").write("\n".join(pins))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "-c", "pins.txt", "./companion"], check=True
    )
    os.chdir("companion/notebooks")

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
# A wrong label turns $z$ into $-z$. With a symmetric loss it costs $K - \ell(z)$ instead of
# $\ell(z)$, and on average over wrong and right labels only a factor and a constant are left of the
# noise: the minimisers stay where they were. Here is that sentence as a computation, for two losses
# and labels of which 40% lie.

# %% tags=["check"]
margins = torch.linspace(-4, 4, 9, dtype=torch.float64)
noise_rate = 0.4
table = pd.DataFrame({"z": margins})
for name in ("sigmoid", "logistic"):
    loss = losses.get(name).fn
    table[f"{name}, clean"] = loss(margins)
    table[f"{name}, noisy"] = (1 - noise_rate) * loss(margins) + noise_rate * loss(-margins)
change = {
    name: table[f"{name}, noisy"] - (1 - 2 * noise_rate) * table[f"{name}, clean"]
    for name in ("sigmoid", "logistic")
}
assert change["sigmoid"].max() - change["sigmoid"].min() < 1e-12  # a constant
# not a constant: a pull towards z = 0
assert change["logistic"].max() - change["logistic"].min() > 1
table.round(3)

# %% [markdown]
# The noisy sigmoid column is a shrunken, shifted copy of the clean one: it still falls all the way.
# The noisy logistic column turns up again at the right: certainty is punished. The rest of the
# paper builds on this:
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
Markdown(
    f"In profile {profile}: "
    + ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    + "."
)

# %% [markdown]
# *not measured*: the study needs a GPU, and this repository holds no records of it yet. Where it
# does, a laptop shows those of profile gpu.
#
# ## The map
#
# | notebook | question |
# |---|---|
# | [01 Preferences as classification](01_preferences_as_classification.ipynb) | Why is a comparison a label? (T1) |
# | [02 Noise equivalence](02_noise_equivalence.ipynb) | When is one-sided noise harmless? (T2–T4) |
# | [03 Symmetric losses](03_symmetric_losses.ipynb) | Which losses are symmetric, and what is their price? (T5, T6) |
# | [04 Rank and policy](04_rank_and_policy.ipynb) | Why is the order enough? (T7–T9) |
# | [05 MNIST: losses](05_mnist_losses.ipynb) | Which losses survive noise in a real network? |
# | [06 MNIST: noise](06_mnist_noise.ipynb) | Does Lemma 1 hold in a real network, and where does it end? |
# | [07 A known reward](09_gold.ipynb) | Does an aligned policy gain more where the truth can be computed? |
# | [08 Anthropic HH](10_hh.ipynb) | And on comparisons that people made? |
# | [09 UltraFeedback](11_ultrafeedback.ipynb) | And on comparisons that a large model made? |
#
# Short of time? Read 02. Every figure and table, and the notebook that makes it:

# %%
results = claims.list_results(profile)
results

# %% [markdown]
# The figure that the paper's first experiment comes down to, if it has been made: reward accuracy
# on clean test pairs against the share of wrong training labels.

# %%
figure = profiles.figures_folder(profile) / "fig1_mnist_losses.png"
Image(figure, width=600) if figure.is_file() else Markdown(
    f"`{figure.name}` has not been made in profile {profile}."
)

# %%
figures.save_provenance("00_start_here", profile=profile)
