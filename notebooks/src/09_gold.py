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
# # 09 · Alignment in a world whose reward is known
#
# You will fine-tune language models on preferences that lie, and read off how much each policy
# really improved, because here the true reward is known.
#
# - Paper: Section 5.2 asks this of large models and a model judge (notebooks 10 and 11). This study
#   is ours.
# - Reads → writes: the section `gold` of the profile (in gpu also SmolLM2 and Anthropic HH) →
#   `fig3_gold_win_rate`, `fig4_gold_frontier`, `table_gold_win_rate`, `table_gold_contrasts`,
#   `table_gold_noise`, `table_gold_frontier`, with the data behind them.
# - Time: under a minute in smoke, about seven minutes on two cores in laptop; not timed on a GPU
#   yet.

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
overrides = {}

# %%
import tempfile

import numpy as np
import pandas as pd
from IPython.display import Markdown

from sympo import preferences, stats
from sympo.book import contrasts as compared
from sympo.book import figures
from sympo.studies import records
from sympo.studies.alignment import gold, training
from sympo.studies.profiles import study_config
from sympo.trainer import SymPOConfig, SymPOTrainer

config = study_config("gold", profile, **overrides)
config.table()

# %% [markdown]
# ## Why a known reward
#
# Whether a policy trained on noisy preferences is *better* depends on a reward that nobody can look
# up. The paper lets a language model judge. A judge has tastes of its own, and it cannot say
# whether a policy gained reward or merely moved far from where it began.
#
# So we build a world in which the truth can be computed. The **gold reward** $r^*$ of an answer is
# its sentiment according to VADER, a lexicon with rules: a number in $[-1, 1]$. It is not a sum
# over words, as negation and "but" show:

# %%
answers = [
    "the cake was good .",
    "the cake was very good .",
    "the cake was not good .",
    "the cake was plain .",
    "the cake was good but the staff was rude .",
    "the cake was rude but the staff was good .",
]
pd.DataFrame({"answer": answers, "gold reward": map(gold.reward, answers)})

# %% [markdown]
# The annotator of this world compares two answers $a_1, a_2$ by Bradley–Terry with temperature $T$,
# $$P(a_1 \succ a_2) = \sigma\!\left(\frac{r^*(a_1) - r^*(a_2)}{T}\right),$$
# and then each label is flipped with probability $\varepsilon$. The policy never sees $r^*$;
# afterwards $r^*$ itself judges the policy.
#
# In the laptop profile the language model is tiny: 2 layers, 128 wide, trained from scratch within
# seconds on reviews from a small grammar. The prompt names a place, a day and a companion, and the
# answer reviews the place. Good, neutral and bad words are equally frequent whatever the prompt, so
# before alignment the model (SFT) has no preference.

# %%
prompts = gold.list_prompts()
generator = np.random.default_rng(0)
shown = [prompts[i] for i in generator.integers(len(prompts), size=5)]
reviews = [gold.write_review(prompt, generator) for prompt in shown]
questions = [prompt[0]["content"] for prompt in shown]
pd.DataFrame({"prompt": questions, "review": reviews, "gold reward": map(gold.reward, reviews)})

# %% [markdown]
# Before training, we check three things about this world: labels follow Bradley–Terry, no
# evaluation prompt is a training prompt, and the flips at a low rate are a subset of those at a
# higher one, so that two noise rates differ in *how many* labels lie and not in which.

# %% tags=["check"]
better = 0.6  # the gold rewards of two answers
worse = 0.4
uniform = np.random.default_rng(0).random(20_000)
wins = gold.prefer_first(better, worse, uniform).sum()
share = stats.wilson(int(wins), len(uniform), level=0.999)
assert share.low < 1 / (1 + np.exp((worse - better) / gold.TEMPERATURE)) < share.high
Markdown(
    f"T = {gold.TEMPERATURE}: an answer that is better by {better - worse:.1f} is preferred in "
    f"{share.estimate:.1%} of the cases."
)

# %% tags=["check"]
train_prompts, held_out = gold.split_prompts(prompts, held_out=100)
assert not {p[0]["content"] for p in train_prompts} & {p[0]["content"] for p in held_out}

drawn = [
    (gold.write_review(prompt, generator), gold.write_review(prompt, generator))
    for prompt in train_prompts
]
pairs = gold.label_pairs(train_prompts, drawn, seed=0)
wrong = np.less(pairs["gold_chosen"], pairs["gold_rejected"]).mean()
Markdown(
    f"{wrong:.0%} of the *unflipped* labels already prefer the worse answer: Bradley–Terry is "
    "random by itself."
)

# %% tags=["check"]
few = np.array(preferences.flip_preferences(pairs, 0.2, seed=0)["is_flipped"])
many = np.array(preferences.flip_preferences(pairs, 0.4, seed=0)["is_flipped"])
assert many[few].all()
assert many.sum() > few.sum() > 0

# %% [markdown]
# ## The method, on 64 pairs
#
# Alignment reads the policy's log-ratios as rewards. The margin of a pair with the chosen answer
# $y_w$ and the rejected answer $y_l$ is
#
# $$h = \beta\log\frac{\pi(y_w\mid x)}{\pi_{\mathrm{ref}}(y_w\mid x)}
#   - \beta\log\frac{\pi(y_l\mid x)}{\pi_{\mathrm{ref}}(y_l\mid x)},$$
#
# and SymPO minimises the mean of $\ell(h)$ over the pairs with a symmetric loss $\ell$, here the
# sigmoid loss $\ell(h) = 1/(1 + e^h)$. `SymPOTrainer` is TRL's `DPOTrainer` with this loss: it
# takes the same model, tokenizer and data. Before the first step the policy *is* the reference, so
# that every margin is 0 and the loss is $\ell(0) = \tfrac12$, whatever the model.
#
# To see that, we train the tiny model, untrained as it is, on 64 of the pairs above for 10 steps,
# all 64 in each, with a fifth of the labels flipped.

# %%
sample = preferences.flip_preferences(pairs.select(range(64)), 0.2, seed=0)
tokenizer = gold.tiny_tokenizer()
policy = gold.tiny_model(tokenizer, seed=0)
reference = gold.tiny_model(tokenizer, seed=0)  # the same weights, which stay as they are

# %%
# `quietly` keeps the libraries' progress bars and logs off this page.
with training.quietly(), tempfile.TemporaryDirectory() as folder:
    arguments = SymPOConfig(
        output_dir=folder,
        loss_type="sympo_sigmoid",
        beta=0.1,
        learning_rate=1e-3,
        per_device_train_batch_size=64,
        max_steps=10,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,  # TRL's default would round the loss
    )
    data = {"train_dataset": sample, "processing_class": tokenizer}
    trainer = SymPOTrainer(policy, reference, arguments, **data)
    trainer.train()

# %% tags=["check"]
log = pd.DataFrame(trainer.state.log_history[:-1]).set_index("step")  # the last entry sums up
log = log[["loss", "margin_true", "accuracy_true", "flipped_fit"]]
before = log.iloc[0]  # of the forward pass that comes before the first update
after = log.iloc[-1]
assert before.loss == 0.5
assert before.margin_true == 0
assert after.loss < 0.5
assert after.margin_true > 0
log.iloc[[0, 1, 2, 4, 9]].round(4)

# %% [markdown]
# The first row was measured before the first update: the loss is ½ and the margin 0.
# (`accuracy_true` is 0 there, because a margin of exactly 0 counts as wrong.) After that the loss
# falls and the margin rises. `margin_true` and `accuracy_true` are taken on the labels *before* the
# flips, which the loss never sees; `flipped_fit` is the share of flipped labels that the policy has
# come to agree with.
#
# ## One run
#
# The study does the same with more pairs and a model that can write, and measures more. A run is
# five steps:
#
# 1. **SFT.** One model per seed, shared by every method and noise rate: the reference policy
#    $\pi_{\mathrm{ref}}$.
# 2. **Pairs.** Two answers of the SFT model itself to each training prompt (on-policy), labelled,
#    then flipped.
# 3. **Reference pass.** $\log\pi_{\mathrm{ref}}$ of every answer, once per seed. A flip only swaps
#    two columns, so one pass serves the whole sweep.
# 4. **Preference training** with one of the losses, from the SFT weights, all with the same budget:
#    pairs, order, learning rate, steps.
# 5. **Measurement** on prompts that nothing was trained on. The policy answers each of them several
#    times at temperature 1.
#    - *True win rate*: how often its answer has a higher $r^*$ than the SFT model's; a tie counts
#      ½, so that no change gives ½.
#    - *True reward*: the mean of $r^*$.
#    - *KL* to the SFT model, as below. Each step is exact and only the path is sampled, so the
#      estimate is unbiased and never negative.
#
# $$\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}) = \mathbb E_{y\sim\pi}\sum_t
#   \mathrm{KL}\big(\pi(\cdot\mid x, y_{<t})\,\|\,\pi_{\mathrm{ref}}(\cdot\mid x, y_{<t})\big)$$
#
# cDPO and rDPO are told the true noise rate, which nobody knows in practice. The others are not.
# The laptop's learning rate is tuned for no robust method: of {1e-4, 2e-4, 5e-4, 1e-3, 2e-3} it
# gives **DPO on clean labels** the highest value of what DPO maximises,
# $\mathbb E\,r^*/T - \beta\,\mathrm{KL}$, on two seeds that the study does not use. The win rate
# alone would have chosen a larger one, at which policies please the lexicon with text from outside
# the grammar. That was our first rule; we replaced it after we had seen part of a sweep with it.
#
# At $h = 0$ the gradient weight of SymPO sigmoid is ¼, half that of DPO and ramp (T9). Like the
# paper we do nothing about it: Adam divides a constant factor out, and as the gradient norm has no
# bound, none brings it back. (Our first sweep had the library's bound of 1, which cut every step of
# rDPO at the highest noise rate and few of the others.)

# %% [markdown]
# ## What to expect, before looking
#
# - Clean labels: all methods gain about the same. cDPO and rDPO, told $\varepsilon = 0$, *are* DPO.
# - Noise: every method falls towards ½, for there is less to learn from: a share $\varepsilon$ of
#   flips leaves a signal of $1 - 2\varepsilon$. The claim of the paper is that the SymPO losses
#   fall **less** than DPO.
# - The claim, fixed before the run: at the highest noise rate, the true win rate of each SymPO loss
#   minus that of DPO, paired by seed, with a 95% interval. We ask the same at every noise rate and
#   against cDPO, rDPO and ROPO; the p values of one rate are corrected for their number (Holm). The
#   verdict is *no difference larger than 0.02* if the interval lies inside ±0.02, else *reproduced*
#   if the difference is significantly above 0, *contradicted* if significantly below, else *not
#   seen at this scale*. Beside it stands what could have been seen: the true
#   difference at which a test of so many seeds, with such a spread, succeeds four times in five.
#   One or two seeds are no test, and get no interval.
# - What speaks against it here: one pass over the pairs leaves little time to memorise flips, and
#   memorised flips are what hurt the logistic loss most on MNIST (notebook 05). And the logistic
#   loss under noise carries a penalty on large margins (T3), which in alignment also acts as a
#   brake on the KL. A symmetric loss has no such brake.

# %%
runs = gold.run_study(config)
print(runs)

# %%
run = ["method", "noise_rate", "beta", "seed"]
win_rate = ["win_rate", "win_rate_low", "win_rate_high"]
reward = ["reward", "reward_sft"]
kl = ["kl", "kl_low", "kl_high"]
on_pairs = ["accuracy", "margin", "fit_flipped"]
table = records.metrics_table(runs.records)
table = table[[*run, *win_rate, *reward, *kl, *on_pairs, "length"]]
main = table[(table.beta == config.beta) & table.method.isin(config.methods)]
figures.save(figures.fig3_gold_win_rate(main), "fig3_gold_win_rate", main, profile=profile)

# %% [markdown]
# **Figure 3.** True win rate against the SFT model, at the paper's β. Small points are seeds, and
# bars are 95% t intervals over seeds where there are at least three. The paired differences below
# are the sharper instrument.
#
# Each run also has an interval of its own, over evaluation prompts (`win_rate_low`, `win_rate_high`
# in the data): it says how well *this* policy was measured, not how another seed would turn out.
# First, two sanity checks: cDPO and rDPO equal DPO where labels are clean, and no run is missing or
# counted twice.

# %% tags=["check"]
clean = main[main.noise_rate == 0].pivot(index="seed", columns="method", values="win_rate")
told = [method for method in ("cdpo", "rdpo") if method in clean]
gap = max((abs(clean[method] - clean.dpo).max() for method in told), default=0.0)
width = (main.win_rate_high - main.win_rate_low).mean()
# On a GPU two runs of the same loss round differently.
on_gpu = any(record["provenance"]["gpu"] for record in runs.records)
assert gap <= (width if on_gpu else 1e-6)
assert main.groupby(["method", "noise_rate", "seed"]).size().eq(1).all()
Markdown(
    f"Told ε = 0, {' and '.join(told)} differ from dpo by at most {gap:.2g}. "
    f"Mean width of a run's own 95% interval: {width:.3f}."
)

# %%
cell = ["method", "noise_rate"]
summary = figures.interval_table(main, by=cell, value="win_rate", proportion=True)
means = main.groupby(cell)[["reward", "kl", "accuracy", "length"]].mean().reset_index()
figures.save_table(summary.merge(means), "table_gold_win_rate", profile=profile)

# %% [markdown]
# `accuracy` is the share of held-out pairs that the implicit reward orders as $r^*$ does, and
# `length` is in tokens.
#
# ## The claim, tested

# %% tags=["check"]
highest = max(config.noise_rates)
contrasts = compared.contrast_policies(main, values=["win_rate"])
claimed = contrasts[(contrasts.noise_rate == highest) & (contrasts.baseline == "dpo")]
# no run was dropped
assert (claimed.n == main[main.noise_rate == highest].seed.nunique()).all()
contrasts = figures.save_table(contrasts, "table_gold_contrasts", profile=profile)
contrasts

# %% tags=["hide-input"]
claimed = contrasts.loc[claimed.index]  # with the verdicts as they were saved
Markdown(compared.describe_contrasts(claimed))

# %% [markdown]
# And what does noise cost each method? The win rate at the highest rate minus that at the lowest,
# which we expect to lie below 0 for all of them. Each method's cost is a question of its own, so
# the p values are not corrected for the other methods.

# %%
lowest = min(config.noise_rates)
costs = {
    method: stats.contrasts(
        rows, value="win_rate", method="noise_rate", methods=[highest], baselines=[lowest]
    )
    for method, rows in main.groupby("method")
}
costs = pd.concat(costs, names=["loss", None]).reset_index("loss")
costs = costs.set_axis(["method", "noise_rate", "against", *costs.columns[3:]], axis=1)
costs["verdict"] = [stats.verdict(row, expected=-1) for row in costs.itertuples()]
figures.save_table(costs, "table_gold_noise", profile=profile)

# %% [markdown]
# ## What the reward cost: the frontier
#
# A win rate alone can be bought: far enough from the SFT model, a lexicon can be pleased by text
# that nobody would write. β is the price of drifting, and the fair comparison is the whole curve:
# true reward against KL as β varies. At the highest noise rate we expect a small β to give more KL,
# and more reward only up to a point; beyond that lies over-optimisation. A method is better if its
# curve lies *above* another's at the same KL.
#
# If a policy writes one answer of the grammar and nothing else, its KL is the number of nats by
# which that answer surprises the SFT model. A mean KL far above that of any such answer says that
# the policy has left the language it was taught.

# %%
frontier = table[(table.noise_rate == highest) & table.method.isin(config.frontier_methods)]
frontier = frontier[frontier.seed < config.frontier_seeds]
figures.save(figures.fig4_gold_frontier(frontier), "fig4_gold_frontier", frontier, profile=profile)

# %% [markdown]
# **Figure 4.** True reward against KL to the SFT model at the highest noise rate; large points are
# means over seeds, small ones are single seeds.

# %%
shown = ["kl", "reward", "win_rate", "length"]
curve = frontier.groupby(["method", "beta"])[shown].mean().reset_index()
figures.save_table(curve, "table_gold_frontier", profile=profile)

# %% tags=["hide-input"]
best = curve.loc[curve.groupby("method").reward.idxmax()]
points = "; ".join(
    f"{row.method}: {row.reward:+.2f} at β = {row.beta:g}, for {row.kl:.1f} nats"
    for row in best.itertuples()
)
headline = main[main.noise_rate == highest]
cost = headline.groupby("method").kl.mean()
Markdown(
    f"Best mean true reward over β at ε = {highest:g} ({frontier.seed.nunique()} seeds, SFT "
    f"{frontier.reward_sft.mean():+.2f}): {points}. At the paper's β the KL is largest for "
    f"{cost.idxmax()} ({cost.max():.1f} nats) and smallest for {cost.idxmin()} ({cost.min():.1f})."
)

# %% [markdown]
# This comparison of best points is a description, not a test: the maximum over β was chosen after
# the fact, and there are few seeds.
#
# ## Do they memorise the flips?

# %%
fits = headline.groupby("method")[["fit_flipped", "accuracy", "kl", "win_rate"]].mean()
fits.sort_values("fit_flipped")

# %% [markdown]
# `fit_flipped` is the share of *flipped* training pairs whose wrong label the trained policy agrees
# with. A policy that knew the truth and nothing else would agree with few of them, one that knows
# its training set by heart with all, and a coin with half. On MNIST, where training goes on for
# many epochs, this number separates the losses (notebook 05).

# %% tags=["hide-input"]
verdicts = "; ".join(f"{row.method}: {row.verdict}" for row in claimed.itertuples())
steps = config.epochs * config.pairs // config.batch
low = fits.fit_flipped.min()
high = fits.fit_flipped.max()
win_rates = main.groupby(["noise_rate", "method"]).win_rate.mean()
nats = main[main.noise_rate == highest].groupby("method").kl.mean()
moved = ", ".join(f"{row.method} {nats[row.method]:.1f}" for row in claimed.itertuples())
caution = (
    f"Mean KL there: {moved}, dpo {nats['dpo']:.1f} nats. These are policies at equal β; a lead of "
    "whoever went farther says nothing yet about policies at equal KL."
)
Markdown(
    f"**Reading.** Profile {config.profile}, {steps} steps over {config.pairs} pairs. Claim that "
    f"SymPO beats DPO at ε = {highest:g}: {verdicts}. Flipped labels fitted: from {low:.0%} to "
    f"{high:.0%}, {high - low:.2f} apart. The mean of the methods' win rates goes from "
    f"{win_rates[lowest].mean():.2f} at ε = {lowest:g} to {win_rates[highest].mean():.2f} at "
    f"ε = {highest:g}. {caution}"
)

# %% [markdown]
# ## Where this differs from the paper
#
# The paper has no study with a known reward, so this is the distance to its experiments on HH and
# UltraFeedback. The authors' released code has two states (notebook 10 says which).
#
# | here | the authors' released code |
# |---|---|
# | the gold reward labels and judges | labels of the data sets, GPT-4o-mini judges |
# | the gold reward scores each answer alone | a pair is judged, the policy's answer second |
# | on-policy pairs, sampled from the SFT model | off-policy pairs of the data set |
# | win rate against every answer of the seed's SFT model | against the data set's chosen answer |
# | ties count one half | no ties; an unparsable reply is a loss, or dropped |
# | several training seeds, paired by seed | one training seed; ten sampling seeds in one rate |
# | laptop: a quarter of a million weights, trained from scratch | Llama-3.2-3B-Instruct |
# | gpu: SmolLM2-135M-Instruct | Llama-3.2-3B-Instruct |
# | laptop: prompts of the grammar; gpu: of HH | HH and UltraFeedback |
# | 4,096 pairs, one pass | 20,000 pairs at first, later all; one pass |
# | ε = 0, 0.2, 0.4 | ε = 0, 0.2, 0.3, 0.4 |
# | learning rate: laptop 5e-4, the best for DPO on clean labels; gpu 2e-5, not tuned | 5e-6 |
# | warm-up over a tenth of the steps | about 19 steps in effect, then cosine |
# | every loss is a mean over the batch | sums for baselines, means for SymPO |
# | the gradient norm has no bound | a bound of 5 on each shard |
# | SymPO clips rewards at ±10, baselines do not | no clipping at first, later ±10 by default |
# | rDPO corrects the loss | at first DPO times (1 − ε)/(1 − 2ε); later as here |
# | 32-bit weights; on a GPU products in TF32 | bf16 weights, in which most small steps vanish |
# | gpu: Dr. DPO couples the pairs of a micro-batch, as many as fit | of a batch |
# | β varied for the frontier | β = 0.1 |
#
# An answer that has not ended after `max_new_tokens` is cut there. In training, the chat template
# ends it like the others, chosen and rejected alike.
#
# ## Exercises
#
# 1. At ε = 0.5, what is the best win rate that any method could have?
#    <details><summary>Answer</summary>½ in expectation. The labels are coin tosses, so nothing
#    about r* can be learned from them (T3: the factor 1 − 2ε is 0).</details>
# 2. Under the Bradley–Terry model, what determines the probability of preferring one answer over
#    another, and why does the table of unflipped labels already show wrong ones?
#    <details><summary>Answer</summary>The difference of the two rewards, divided by the
#    temperature, through σ. Answers of nearly equal reward are preferred nearly at
#    random.</details>
# 3. How does DPO avoid a separate reward model, and what is its counterpart of the reward here?
#    <details><summary>Answer</summary>It reads β·log(π/π_ref) as the reward, because the policy
#    that maximises reward minus β·KL is π_ref·exp(r/β) up to a factor. `accuracy` above measures
#    that implicit reward.</details>
# 4. Why does the KL here sum exact divergences of single steps instead of averaging log π/π_ref?
#    <details><summary>Answer</summary>Both are unbiased. The first takes the expectation over the
#    next token in closed form and leaves less to chance; it is also never negative.</details>
# 5. Set `overrides = {"epochs": 3, "seeds": 1, "headline_seeds": 3, "frontier_seeds": 0}`, restart
#    and run all. Does DPO now fit more of the flipped labels than SymPO? (The claims are then those
#    of another experiment.)

# %%
weights = runs.records[0]["provenance"]["weights"]
figures.save_provenance(
    "09_gold", runs.records, profile=profile, overrides=overrides, weights=weights
)
