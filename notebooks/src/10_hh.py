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
# # 08 · Anthropic HH: preferences of people
#
# You will train language models on comparisons that people made, with a known share of the labels
# flipped, and see how far a judge that can itself be wrong tells the losses apart.
#
# - Paper: Section 6.2 (Figure 5 and Table 2 here).
# - Reads → writes: Anthropic HH, the section `hh` of the profile → `fig5_hh_win_rate`,
#   `table_hh_metrics`, `table_hh_contrasts`, with the data behind them. The study needs a GPU. In
#   profile laptop a few steps are trained, and the results of profile gpu are shown, if this
#   repository holds them; no result is written.
# - Time: about a minute in smoke and laptop; not timed on a GPU yet.

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
overrides = {}

# %%
import textwrap

import numpy as np
import pandas as pd
from IPython.display import Markdown

from sympo import preferences, stats
from sympo.book import figures
from sympo.studies import records, sources
from sympo.studies.alignment import offline
from sympo.studies.profiles import root, study_config

pd.options.display.max_colwidth = None  # dialogues are sentences
config = study_config("hh", profile, **overrides)
config.table()

# %% [markdown]
# ## Why real preferences are harder to judge
#
# In notebook 05 the reward of an image was its digit, and in notebook 07 a lexicon computed the
# reward of an answer. Anthropic HH has neither. A person chatted with an assistant, saw two
# answers, and took the more helpful one. What was *really* more helpful stands nowhere, so there
# are errors in three places, and we control only the second:
#
# 1. **The labels are noisy as they come.** Two people often disagree about such a pair. We call
#    unflipped labels *clean*, and they are clean only of flips of ours.
# 2. **We flip** a share $\varepsilon$ of the training labels, as the paper does. Test labels are
#    never flipped.
# 3. **The judge errs.** Whether a policy's answer is better than the SFT model's has to be
#    estimated. The paper asks GPT-4o-mini. Here a *reward model* decides: it is trained with the
#    logistic loss on unflipped pairs that no policy sees, and its own accuracy on held-out labels,
#    `judge_accuracy`, is in every record.
#
# The three are one kind of thing. Let a source of error turn a binary answer round with probability
# $e$, independently of everything else. It leaves a signal of $1 - 2e$: that is the factor of T3.
# Two such sources in a row multiply:
#
# $$1 - 2\,P(\text{turned once}) = (1 - 2e_1)(1 - 2e_2).$$
#
# So flips come on top of disagreement, and a judge pulls every win rate towards ½, by its own
# factor.

# %% tags=["check"]
# people: an example, HH does not say how often they err
generator, people = np.random.default_rng(0), 0.3
signals = []
for noise_rate in config.noise_rates:
    wrong = generator.random((2, 400_000)) < [[people], [noise_rate]]
    measured = 1 - 2 * (wrong[0] ^ wrong[1]).mean()
    signals.append(((1 - 2 * people) * (1 - 2 * noise_rate), measured))
    assert abs(measured - signals[-1][0]) < 0.01
pd.DataFrame(
    signals,
    columns=["product", "simulated"],
    index=[f"ε = {rate:g}" for rate in config.noise_rates],
).round(3)

# %% [markdown]
# If people erred in 30% of the labels, the highest rate would leave eight hundredths of the signal
# that perfect labels have. The formula needs *independent* errors. Those of a judge are not: it may
# like long answers, and a policy may have learned to give them. That is why length and KL stand
# beside every win rate below.
#
# ## How a row becomes a pair
#
# A row of HH is two whole dialogues as text, with `Human:` and `Assistant:` before the turns, which
# differ in the last answer. `sympo.preferences` cuts both where they part: the shared turns are the
# prompt. Answers may hold such words themselves, so this takes some care, and a row that cannot be
# cut in exactly one way is refused and **counted**. Two equal answers hold no preference and are
# counted too.

# %%
# gpu and paper fail without data
skipped = sources.AssetError if config.profile in ("smoke", "laptop") else ()
try:
    split, remedy = offline.load_split(config.study, config.train_files, config.test_files), ""
except skipped as error:
    split, remedy = None, str(error).splitlines()[-1]
Markdown(
    f"- Training files: {split.train_report}.\n- Test files: {split.test_report}.\n- Training pairs dropped because "
    f"their prompt is also a test prompt: {split.overlap}."
    if split
    else f"**Anthropic HH is not at hand, so no pair is shown and nothing is trained below.** {remedy}"
)

# %% [markdown]
# One pair, the first held-out one whose last question mentions bread, turns shortened. Cover the
# first column and decide which answer you would have chosen: that is all the information a label
# holds.

# %%
turns = []
if split:
    index = next(
        (i for i, prompt in enumerate(split.test["prompt"]) if "bread" in prompt[-1]["content"]), 0
    )
    row = split.test[index]
    turns = [(turn["role"], turn["content"]) for turn in row["prompt"]]
    turns += [(side, row[side][0]["content"]) for side in ("chosen", "rejected")]
pd.DataFrame([(who, textwrap.shorten(text, 200)) for who, text in turns], columns=["who", "text"])

# %% [markdown]
# Three checks before training. No prompt is shared between the policies' pairs, the judge's pairs
# and the test pairs; the flips at a low rate are a subset of those at a higher one; and a flip
# swaps the two answers and does nothing else.

# %% tags=["check"]
if split:
    parts = [split.test, *preferences.hold_out(split.train, fraction=config.judge_share, seed=0)]
    keys = [set(preferences.prompt_keys(part)) for part in parts]
    assert sum(map(len, keys)) == len(set.union(*keys)) and all(keys)
    some = split.train.select(range(min(500, len(split.train))))
    noisy = {rate: preferences.flip_preferences(some, rate, seed=0) for rate in (0.2, 0.4)}
    flips = {rate: np.array(pairs["is_flipped"]) for rate, pairs in noisy.items()}
    assert flips[0.4][flips[0.2]].all() and flips[0.4].sum() > flips[0.2].sum() > 0
    for before, after in zip(some, noisy[0.4], strict=True):
        kept = (
            ("prompt", "rejected", "chosen")
            if after["is_flipped"]
            else ("prompt", "chosen", "rejected")
        )
        assert [after[name] for name in kept] == [
            before[name] for name in ("prompt", "chosen", "rejected")
        ]

# %% [markdown]
# And one yardstick. A judge that knows nothing but the number of characters can prefer the longer
# answer. A judge that is worth anything beyond that must agree with more labels.

# %%
lengths = [
    [len(row[side][0]["content"]) for side in ("chosen", "rejected")]
    for row in (split.test if split else [])
]
longer = np.mean([chosen > rejected for chosen, rejected in lengths]) if lengths else np.nan
Markdown(
    f"“The longer answer is better” agrees with {longer:.1%} of the test labels." if split else ""
)

# %% [markdown]
# ## One run
#
# As in notebook 07, with recorded pairs in place of sampled ones. Per seed, once: the **judge**,
# from the same pretrained weights as the policies, on its own pairs; **SFT** on the chosen answers
# of the policies' pairs, unflipped, which gives the reference $\pi_{\mathrm{ref}}$; the **reference
# pass**. Per method and noise rate: flips, **preference training** for one pass over the pairs, and
# the **measurement**:
#
# - *accuracy*: the share of held-out pairs for which the implicit reward
#   $\beta\log(\pi/\pi_{\mathrm{ref}})$ prefers the chosen answer, and *margin*, its mean lead. No
#   judge is asked, and labels are as noisy as people.
# - *win rate*: each of the policy's answers to a held-out prompt against each of the SFT model's,
#   by the judge's rewards; a tie counts ½. It is what the paper reports. *reward*: the judge's
#   mean.
# - *fit_flipped*: the share of flipped training labels that the policy has come to agree with.
# - *KL* to the SFT model, in nats per answer, and *length* in tokens.
#
# ## What to expect, before looking
#
# - Every method falls towards ½ as $\varepsilon$ grows, in both panels.
# - The claim, fixed before the run: at the highest rate, the **win rate** of each SymPO loss lies
#   above that of DPO. Differences are paired by seed, with 95% intervals, and p values are
#   corrected for two tests (Holm). The claim is *reproduced* if the difference is significantly
#   above 0, *contradicted* if significantly below, else *not seen at this scale*. The same test on
#   **accuracy** stands beside it: if the two disagree, suspect the judge.
# - What speaks against it: one pass leaves little time to memorise flips, which is what hurts the
#   logistic loss most (notebooks 05 and 07); and a judge that is right in six of ten pairs shrinks
#   a difference to a fifth.

# %%
runs = offline.run_study(config) if split else records.Runs([], 0, 0)
print(runs)

# %% [markdown]
# ## The first steps, from near
#
# Two methods of seed 0 at the highest rate: loss, gradient norm, and on the batch's *true* labels
# accuracy and margin. A policy starts as its own reference, so all margins are 0 at first, and each
# loss must begin at $\ell(0)$: $\log 2$ for DPO, ½ for SymPO sigmoid. (With few steps every step is
# shown; else each row is a mean over several. A margin of exactly 0 counts as wrong, so that
# accuracy begins near 0 and not at ½.)

# %% tags=["check"]
columns = [
    "method",
    "noise_rate",
    "seed",
    "step",
    "loss",
    "grad_norm",
    "accuracy_true",
    "margin_true",
    "flipped_fit",
]
steps = records.history_table(runs.records).reindex(columns=columns)
near = steps[(steps.seed == 0) & (steps.noise_rate == max(config.noise_rates))]
near = near[near.method.isin(["dpo", "sympo_sigmoid"])].drop(columns=["noise_rate", "seed"])
first = near[near.step == 1]
# bfloat16 rounds
near_zero = 0.02 if any(record["provenance"]["gpu"] for record in runs.records) else 1e-4
assert (
    abs(first.loss - first.method.map({"dpo": np.log(2), "sympo_sigmoid": 0.5})) < near_zero
).all()
near.round(3)

# %%
measured = records.metrics_table(runs.records).reindex(columns=["accuracy", "judge_accuracy"])
Markdown(
    f"{len(runs.records)} policies of {config.epochs * config.pairs // config.batch} steps, model {config.model}, "
    f"accuracy {measured.accuracy.min():.2f} to {measured.accuracy.max():.2f}, judge "
    f"{measured.judge_accuracy.min():.2f} to {measured.judge_accuracy.max():.2f}; a coin has 0.50."
    if runs.records
    else ""
)

# %% [markdown]
# In profiles smoke and laptop the model reads single bytes and has never seen a word of English,
# and it gets a handful of steps. That shows that the code runs on real pairs, from the file to the
# metrics. It shows **nothing about the losses**, and it is not drawn.
#
# ## The results
#
# What follows is about full runs: in profile gpu (and paper) about those above, in profile laptop
# about the records of profile gpu that are committed here, as `figures/gpu/data/10_hh.json`
# describes them, through the same code. (In smoke it is drawn too, so that every line runs, and no
# number means anything.)

# %%
columns = [
    "method",
    "noise_rate",
    "seed",
    "model",
    "pairs",
    "win_rate",
    "win_rate_low",
    "win_rate_high",
    "accuracy",
]
columns += ["margin", "fit_flipped", "reward", "reward_sft", "kl", "length", "judge_accuracy"]
table = records.metrics_table(runs.records).reindex(columns=columns)
source, committed = config.profile, root() / "figures" / "gpu" / "data" / "fig5_hh_win_rate.csv"
if config.profile == "laptop":  # its few steps are no result
    source = "gpu"
    table = pd.read_csv(committed) if committed.is_file() else table.iloc[:0]
missing = f"**Not measured**: there are no {source} records of this study yet, so nothing is claimed about it."
Markdown(f"Shown: {len(table)} policies of profile {source}." if len(table) else missing)

# %%
figure = figures.fig5_hh_win_rate(table) if len(table) else Markdown("Figure 5: not measured.")
figure

# %% [markdown]
# **Figure 5.** Above: the judge's win rate against the SFT model. Below: accuracy of the implicit
# reward on held-out pairs, with the judge's own. Small points are seeds, and bars are 95% t
# intervals over seeds where there are at least three. The paired differences below are the sharper
# instrument.

# %%
cell = ["method", "noise_rate"]
others = table.groupby(cell)[
    ["accuracy", "margin", "fit_flipped", "reward", "reward_sft", "kl", "length"]
].mean()
win_rates = figures.interval_table(table, by=cell, value="win_rate").set_index(cell)
metrics = pd.concat([win_rates, others], axis=1).reset_index()
metrics.pivot(index="method", columns="noise_rate", values=["estimate", "accuracy"]).round(3)

# %% [markdown]
# **Table 2**, in part: mean win rate (`estimate`) and accuracy. `table_hh_metrics` holds all of it,
# with intervals, margin, `fit_flipped`, reward, KL and length.
#
# ## The claim, tested

# %% tags=["check"]
highest = table.noise_rate.max()
headline = table[table.noise_rate == highest]
ours = [method for method in figures.in_order(headline.method) if method.startswith("sympo_")]
compared = {"method": "method", "methods": ours, "baselines": ["dpo"] if ours else []}
found = {
    value: stats.contrasts(headline, value=value, **compared) for value in ("win_rate", "accuracy")
}
contrasts = pd.concat(found, names=["value", None]).reset_index("value").assign(noise_rate=highest)
contrasts["verdict"] = [stats.verdict(row) for row in contrasts.itertuples()]
assert (contrasts.n == headline.seed.nunique()).all()  # no run was dropped
contrasts

# %%
Markdown("\n".join(
    f"- At ε = {highest:g}, {row.value.replace('_', ' ')} of {row.method} − {row.baseline} = {row.estimate:+.3f} (95% "
    f"interval {row.low:+.3f} to {row.high:+.3f}, n = {row.n}, Holm p = {row.p_holm:.2g}): **{row.verdict}**."
    for row in contrasts.itertuples()
) or missing)  # fmt: skip

# %% [markdown]
# ## Do they memorise the flips?
#
# A policy that learned only what holds in general agrees with a *flipped* label about as often as
# it is wrong on held-out pairs: in a share 1 − accuracy. What it fits beyond that, it has
# memorised. (Roughly: the training pairs come from other subsets of HH than the test pairs, and are
# not equally hard.) We expect little of it after one pass.

# %%
fits = headline.groupby("method")[["win_rate", "accuracy", "fit_flipped", "kl", "length"]].mean()
fits["beyond 1 − accuracy"] = fits.fit_flipped - (1 - fits.accuracy)
fits.sort_values("fit_flipped", ascending=False).round(3)

# %% [markdown]
# ## What the judge can see
#
# If the judge's errors said nothing about the method, a true lead of a policy would be shrunk by
# the factor $2q - 1$, with $q$ the share of pairs the judge gets right. We know its agreement with
# held-out labels only. Where these are wrong themselves, $q$ is higher. And if policies with longer
# answers, or further from the SFT model, have the higher win rates, while accuracy does not follow,
# the judge may be rewarding that.

# %%
judged = table.drop_duplicates("seed").judge_accuracy
clean = table[table.noise_rate == 0].groupby("method")[["win_rate"]].mean()
ranks = (
    table[["win_rate", "accuracy", "kl", "length"]].astype(float).corr(method="spearman").win_rate
)
Markdown(
    f"**Reading.** Profile {source}. The judge agrees with {judged.mean():.1%} of the held-out labels "
    f"({judged.min():.1%} to {judged.max():.1%} over {len(judged)} seeds), a factor of {2 * judged.mean() - 1:.2f}. "
    f"Rank correlation of the policies' win rates with accuracy {ranks.accuracy:+.2f}, with KL {ranks.kl:+.2f}, with "
    f"length {ranks.length:+.2f}. Mean of the methods' win rates: {clean.win_rate.mean():.3f} "
    f"without flips, {fits.win_rate.mean():.3f} at ε = {highest:g}. Fitted beyond 1 − accuracy there: from "
    f"{fits.iloc[:, -1].min():+.2f} to {fits.iloc[:, -1].max():+.2f}."
    if len(table)
    else missing
)

# %%
if config.profile != "laptop" and len(table):
    figures.save(figure, "fig5_hh_win_rate", table, profile=profile)
    figures.save_table(metrics, "table_hh_metrics", profile=profile)
    figures.save_table(contrasts, "table_hh_contrasts", profile=profile)

# %% [markdown]
# ## Where this differs from the paper
#
# | here | the paper |
# |---|---|
# | gpu: SmolLM2-135M-Instruct (profile paper, never run here: Llama-3.2-3B-Instruct) | Llama-3.2-3B-Instruct |
# | a reward model scores each answer alone | GPT-4o-mini compares two answers |
# | the judge's accuracy is reported | the policy is always shown second; an unparsable verdict is a loss |
# | gpu: trained on *test* files of two other subsets | train files (profile paper here, too) |
# | a few thousand pairs at a larger learning rate, answers cut after `max_new_tokens` | all pairs, 5e-6 |
# | pairs longer than `max_length` are left out | length 512, prompt 256 |
# | SFT on unflipped chosen answers: one reference for all noise rates | SFT, then preference training |
# | warm-up over a tenth of the steps | 150 steps, which may be more than all of these |
# | every loss is a mean over the batch, and no gradient is cut | means for SymPO, sums for the others; one bound |
# | a batch is cut into micro-batches, of which Dr. DPO couples the pairs of each | it couples the pairs of a batch |
# | win rate: every answer against every answer of the SFT model of the same seed | one verdict per prompt |
#
# Why test files: those of helpful-online and helpful-rejection-sampled are small enough to take to
# a machine without network. Nothing is measured on them. helpful-base, on which all is measured,
# stays unseen by every model.
#
# The judge was trained on whole answers and reads cut ones here, as it does for the SFT model.
# `sympo.judge` has the paper's kind of judge too, asked in both orders, for any endpoint.
#
# ## Exercises
#
# 1. How does a symmetric loss differ from the logistic loss in its robustness to label noise, and
#    why need one pass over HH not show it?
#    <details><summary>Answer</summary>Flips change the risk of a symmetric loss by a factor and a
#    constant, so that its minimisers stay; the logistic loss gets a penalty on large margins, and
#    pulls hardest at labels that look wrong (T3, T9). In one pass with a small learning rate the
#    margins stay near 0, where all these losses are nearly straight lines, and a straight line is
#    symmetric.</details>
# 2. People err in 30% of the labels, and you flip 40%. Which signal is left, and how many times
#    more labels would you need than with perfect ones?
#    <details><summary>Answer</summary>(1 − 2·0.3)(1 − 2·0.4) = 0.08. The bound of T10 depends on n
#    times the square of the signal: about 156 times as many.</details>
# 3. The true win rate is 0.70 and the judge is right in 60% of the pairs, whatever the method. What
#    does it report?
#    <details><summary>Answer</summary>½ + 0.2·0.2 = 0.54. A difference of two methods shrinks by
#    the same factor, and its noise does not.</details>
# 4. A policy learns to write longer answers, and the judge likes them. Which numbers of Table 2
#    would tell you?
#    <details><summary>Answer</summary>`length`, and a win rate that rises while `accuracy`, which
#    no judge touches, does not. To be sure, ask people, or a judge that was trained on pairs of
#    equal length.</details>
# 5. Why is the judge not simply trained on the policies' pairs? There would be more of them.
#    <details><summary>Answer</summary>It would share what they memorised: accidents of those pairs
#    would look like quality to both. Disjoint prompts do not cure what they share beyond that, such
#    as their pretrained weights.</details>
# 6. Set `overrides = {"pairs": 256, "noise_rates": [0.0, 0.4]}`, restart and run all. The laptop
#    now trains sixteen steps, with and without flips. What may you conclude from a difference?
#    <details><summary>Answer</summary>Nothing about the losses: the model cannot read, and two
#    seeds are two values.</details>

# %%
weights = sorted({record["provenance"]["weights"] for record in runs.records})
figures.save_provenance(
    "10_hh", runs.records, profile=profile, overrides=overrides, weights=weights
)
