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
# You will fine-tune hundreds of small language models on preferences that lie, read off how much
# each policy really improved, and ask what it paid for it.
#
# - Paper: Section 5.2 asks this of large models and a model judge (notebooks 10 and 11). This study
#   is ours.
# - Reads → writes: the section `gold_grammar` of the profile → `fig3_gold_win_rate`,
#   `fig4_gold_frontier`, `table_gold_win_rate`, `table_gold_contrasts`, `table_gold_noise`,
#   `table_gold_frontier`, `table_gold_budgets`, `table_gold_falls`, `table_gold_answers`, with the
#   data behind them; and, on a GPU, the section `gold` with SmolLM2 and Anthropic HH →
#   `table_gold_smollm2`, `table_gold_smollm2_contrasts`.
# - Time: under a minute in smoke, about fourteen minutes on two cores in laptop; with SmolLM2 not
#   timed on a GPU yet.

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
from collections import Counter

import numpy as np
import pandas as pd
from IPython.display import Markdown

from sympo import preferences, stats
from sympo.book import contrasts as compared
from sympo.book import figures, retold
from sympo.book.smollm2 import find_policies
from sympo.studies import records
from sympo.studies.alignment import gold, grammar, training
from sympo.studies.profiles import study_config
from sympo.trainer import SymPOConfig, SymPOTrainer

config = study_config("gold_grammar", profile, **overrides)
figures.use_readable_tables()

# %% [markdown]
# The sizes of this run, from the profile (unfold to read):

# %% tags=["hide-output"]
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
    "cake good and staff plain",
    "cake very good and staff plain",
    "cake not good and staff plain",
    "cake plain and staff plain",
    "cake good but staff bad",
    "cake bad but staff good",
]
pd.DataFrame({"answer": answers, "gold reward": map(gold.reward, answers)})

# %% [markdown]
# The annotator of this world compares two answers $a_1, a_2$ by Bradley–Terry with temperature
# $T_\text{label}$,
# $$P(a_1 \succ a_2) = \sigma\!\left(\frac{r^*(a_1) - r^*(a_2)}{T_\text{label}}\right),$$
# and then each label is flipped with probability $\varepsilon$. The policy never sees $r^*$;
# afterwards $r^*$ itself judges the policy.
#
# The language model is tiny: a Llama of one layer, 64 wide, trained from scratch within seconds on
# telegraphic reviews from a small grammar. The prompt names a place and a day, and the answer
# reviews the place. Good, neutral and bad words are equally frequent whatever the prompt, so before
# alignment the model (SFT) has no preference. What a model this small can still do is write: most
# of its answers are reviews that the grammar could have made, and we count the others.

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

# %% tags=["hide-input"]
Markdown(
    f"At a temperature of {gold.TEMPERATURE} an answer that is better by {better - worse:.1f} is "
    f"preferred in {share.estimate:.1%} of the cases."
)

# %% tags=["check"]
train_prompts, held_out = gold.split_prompts(prompts, held_out=config.prompts)
assert not {p[0]["content"] for p in train_prompts} & {p[0]["content"] for p in held_out}

asked = train_prompts * 5
drawn = [(gold.write_review(p, generator), gold.write_review(p, generator)) for p in asked]
pairs = gold.label_pairs(asked, drawn, seed=0)
few = np.array(preferences.flip_preferences(pairs, 0.2, seed=0)["is_flipped"])
many = np.array(preferences.flip_preferences(pairs, 0.4, seed=0)["is_flipped"])
assert many[few].all()
assert many.sum() > few.sum() > 0

wrong = np.less(pairs["gold_chosen"], pairs["gold_rejected"]).mean()

# %% tags=["hide-input"]
Markdown(
    f"{wrong:.0%} of the *unflipped* labels already prefer the worse answer: Bradley–Terry is "
    "random by itself."
)

# %% [markdown]
# ## The method, on 64 pairs
#
# Alignment reads the policy's log-ratios as rewards. The margin of a pair with the chosen answer
# $a_w$ and the rejected answer $a_l$ is
#
# $$h = \beta\log\frac{\pi(a_w\mid x)}{\pi_{\mathrm{ref}}(a_w\mid x)}
#   - \beta\log\frac{\pi(a_l\mid x)}{\pi_{\mathrm{ref}}(a_l\mid x)},$$
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
# The first row was measured before the first update: the loss is ½ and the margin 0. (The true
# accuracy is 0 there, because a margin of exactly 0 counts as wrong.) After that the loss falls and
# the margin rises. True margin and true accuracy are taken on the labels *before* the flips, which
# the loss never sees; the last column is the share of flipped labels that the policy has come to
# agree with.
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
#    pairs, order, learning rate, steps. In one **regime** every pair is fresh, seen once; in the
#    other there are few pairs, each seen many times, so that a wrong label can be learned by heart.
#    Both take the same number of steps.
# 5. **Measurement** on prompts that nothing was trained on. The policy answers each of them many
#    times at temperature 1.
#    - *True win rate*: how often its answer has a higher $r^*$ than the SFT model's; a tie counts
#      ½, so that no change gives ½.
#    - *KL* to the SFT model, as below. Each step is exact and only the path is sampled, so the
#      estimate is unbiased and never negative.
#    - *Accuracy*: the share of held-out pairs that the implicit reward orders as $r^*$ does.
#
# $$\mathrm{KL}(\pi\,\|\,\pi_{\mathrm{ref}}) = \mathbb E_{y\sim\pi}\sum_t
#   \mathrm{KL}\big(\pi(\cdot\mid x, y_{<t})\,\|\,\pi_{\mathrm{ref}}(\cdot\mid x, y_{<t})\big)$$
#
# A step of a model this small takes less time than what a trainer does around it, so the study has
# a bare training loop of its own; a test holds it to SymPOTrainer, weight by weight. cDPO and rDPO
# are told the true noise rate, which nobody knows in practice.
#
# ## Three ways to compare
#
# Earlier versions of this study compared methods at one β, and a method that went ten times as far
# from the SFT model looked better. Why it goes far is known: noise shrinks what the logistic loss
# asks for. If a clean label asks for the margin $u$, a noisy one asks for
# $2\,\mathrm{artanh}((1-2\varepsilon)\tanh(u/2))$ (notebook 04), so under noise DPO behaves as if
# its β were larger, and a symmetric loss does not. Distance is something that anybody can buy, by a
# smaller β. So each pair of methods meets three times:
#
# - at **the paper's β**;
# - at **its own β**: of the grid, the one with the best accuracy on *noisy* validation pairs. No
#   clean label is needed for this choice (T13). For each seed it is made on the other seeds;
# - at **equal KL**: each method may go as far as the same budget of nats. Seeds count in which
#   both have a policy that went less far and one that went farther; where these are fewer than
#   half, the comparison is *not measured*.


# %%
BUDGET = 0.25  # nats


def choose_beta(rows, seed):
    """The β whose policies agree best with noisy validation labels, over the other seeds."""
    agreement = rows[rows.seed != seed].groupby("beta").validation.mean()
    return agreement.idxmax()


# %% [markdown]
# Between two values of β we interpolate along $\sqrt{\mathrm{KL}}$ and not along the KL. Near the
# reference, where β is large, the policy gains about $\mathrm{Var}(r)/\beta$ for a KL of about
# $\mathrm{Var}(r)/(2\beta^2)$ (T8, T12), so the gain grows like the root: a straight line in the KL
# would put whoever has no policy near the budget too low. We check the root on a policy over 100
# answers, where both sides are sums:

# %% tags=["check"]
rewards = np.random.default_rng(1).normal(size=100)


def tilt(beta):
    """Gain in expected reward and KL of p ∝ exp(r/β), against the uniform distribution."""
    p = np.exp(rewards / beta)
    p /= p.sum()
    return p @ rewards - rewards.mean(), p @ np.log(100 * p)


(near, near_kl), (far, far_kl), (half, half_kl) = map(tilt, (10, 1.25, 2.5))
by_root = np.interp(np.sqrt(half_kl), np.sqrt([near_kl, far_kl]), [near, far])
by_kl = np.interp(half_kl, [near_kl, far_kl], [near, far])
assert abs(near / np.sqrt(2 * near_kl * rewards.var()) - 1) < 0.02
assert abs(by_root - half) < 0.03 * half < abs(by_kl - half)

# %% [markdown]
# ## What to expect, before looking
#
# - Clean labels: all methods gain about the same at the paper's β, and the reward is learned: an
#   accuracy of at least 0.75 for DPO on fresh pairs. Without that, nothing below means anything.
# - Noise: every method falls towards ½, for there is less to learn from. The claim of the paper has
#   two readings: under noise SymPO wins more often than DPO, and from clean labels to noisy ones
#   it falls *less*. The first is refuted if DPO wins as often or more, the second if SymPO falls as
#   far or farther. A lead that is there on clean labels already says nothing about noise.
# - At the paper's β we expect SymPO ahead, and farther away. At equal KL, with fresh pairs, we
#   expect *no* advantage: with every pair seen once there are no flips to memorise, the logistic
#   loss is calibrated (T7), and its smaller margins are undone by a smaller β. Where pairs are
#   seen many times, a symmetric loss may be ahead at equal KL too, since it lets go of labels that
#   it cannot fit (T9).
# - The contrasts: the true win rate of each SymPO loss minus that of DPO, paired by seed, with a
#   95% interval, in both regimes, at each noise rate above 0, in the three comparisons above; the
#   budget of the third is a quarter of a nat, which every method of the pilots spent. They were
#   written down before any result was looked at, but committed with the results. Holm corrects the
#   two p values of each. The verdict is *no difference larger than
#   0.02* if the interval lies inside ±0.02, else *reproduced* if the difference is significantly
#   above 0, *contradicted* if significantly below, else *not seen at this scale*. Beside it stands
#   what could have been seen four times in five: at most 0.03, for which the study was made.
# - Added after a first look at the results: the contrast of the falls, those at ε = 0, and those of
#   accuracy in words. And a first version corrected the p values of all baselines together, which
#   is not what stands here; now the methods beside DPO are a family of their own. It also took a
#   method without a policy near enough on a line from the SFT model to its nearest one, and a
#   method that stopped short where it stopped. What that rule said stands below, with how far such
#   a line errs; it passes no verdict any more.
# - The learning rate and the grid of β come from pilots on the seeds 50 and 100 to 102; the study
#   has other seeds. The first pilots used a learning rate of 1e-3, at which some SymPO policies
#   left the grammar altogether.

# %%
runs = grammar.run_study(config)
print(runs)

# %%
run = ["regime", "method", "noise_rate", "beta", "seed"]
win_rate = ["win_rate", "win_rate_low", "win_rate_high"]
worth = ["reward", "reward_sft", "kl", "kl_low", "kl_high", "length", "reviews", "reviews_sft"]
on_pairs = ["accuracy", "validation", "margin", "fit_flipped", "fit_clean"]
table = records.metrics_table(runs.records)[[*run, *win_rate, *worth, *on_pairs]]
at_paper = table[table.beta == config.betas[0]]
main = at_paper[at_paper.method.isin(config.methods)]
drawn = figures.fig3_gold_win_rate(at_paper)
figures.save(drawn, "fig3_gold_win_rate", at_paper, profile=profile)

# %% [markdown]
# The intervals are those of each method alone. The paired differences below are the
# sharper instrument, and they ask what this figure cannot: at what distance?

# %%
cell = ["regime", "noise_rate", "method"]
summary = figures.interval_table(at_paper, by=cell, value="win_rate", proportion=True)
shown = ["reward", "kl", "accuracy", "fit_flipped", "fit_clean"]
means = at_paper.groupby(cell)[shown].mean().reset_index()
figures.save_table(summary.merge(means), "table_gold_win_rate", profile=profile)

# %% tags=["check"]
lowest = min(config.noise_rates)
highest = max(config.noise_rates)
assert table.groupby(run).size().eq(1).all()
clean = at_paper[(at_paper.noise_rate == lowest) & (at_paper.method == "dpo")]
learned = clean.groupby("regime").accuracy.mean()
# smoke trains too little to learn anything
assert config.profile == "smoke" or learned["fresh"] >= 0.75

# %% tags=["hide-input"]
Markdown(
    f"Was the reward learned? Accuracy of DPO on clean labels: {learned['fresh']:.2f} with fresh "
    f"pairs, {learned['memorised']:.2f} with memorised ones."
)

# %% [markdown]
# ## What the win rate cost: the frontier
#
# A win rate can be bought with distance. The fair comparison is the whole curve, win rate against
# KL as β varies: a method is better if its curve lies *above* another's at the same KL.

# %%
noisy = table[(table.noise_rate > lowest) & table.method.isin(config.methods)]
drawn = noisy.assign(budget=BUDGET)
figures.save(figures.fig4_gold_frontier(drawn), "fig4_gold_frontier", drawn, profile=profile)

# %%
shown = ["kl", "win_rate", "accuracy", "reviews"]
curve = noisy.groupby([*cell, "beta"])[shown].mean().reset_index()
figures.save_table(curve, "table_gold_frontier", profile=profile)

# %% [markdown]
# ## The claim, tested three times

# %%
# each method's own β, for each seed by the others
own = [
    rows[(rows.seed == seed) & (rows.beta == choose_beta(rows, seed))]
    for _, rows in noisy.groupby(cell)
    for seed in rows.seed.unique()
]
others = at_paper[(at_paper.noise_rate == highest) & (at_paper.method != "dpo")]
comparisons = {
    "the paper's β": main,
    "the paper's β, other methods": others,
    "its own β": pd.concat(own),
}
at_budget = {
    ("equal KL", regime): compared.contrast_at_budget(rows, budget=BUDGET)
    for regime, rows in noisy.groupby("regime")
}

# %% tags=["check"]
names = ["comparison", "regime"]
at_beta = {
    (name, regime): group
    for name, rows in comparisons.items()
    for regime, group in rows.groupby("regime")
}
at_beta = compared.contrast_comparisons(at_beta, names=names)
# no run was dropped
assert (at_beta.n[at_beta.baseline == "dpo"] == config.seeds).all()
at_budget = pd.concat(at_budget, names=names).reset_index(names)
contrasts = pd.concat([at_beta, at_budget], ignore_index=True)
against_dpo = contrasts[contrasts.baseline == "dpo"]
contrasts = figures.save_table(contrasts, "table_gold_contrasts", profile=profile)
contrasts.drop(columns="p")

# %% tags=["hide-input"]
against_dpo = contrasts.loc[against_dpo.index]  # with the verdicts as they were saved
by_value = dict(list(against_dpo.groupby("value")))


def describe(rows):
    """A list per comparison and regime."""
    groups = rows.groupby(["comparison", "regime"], sort=False)
    return "\n\n".join(
        f"**{name}, {regime} pairs.**\n\n{compared.describe_contrasts(group)}"
        for (name, regime), group in groups
    )


Markdown(describe(by_value["win_rate"]))

# %% [markdown]
# Accuracy asks for the order of held-out pairs and not for answers. If a symmetric loss learned the
# order better from noisy labels, it would show here:

# %% tags=["hide-input"]
Markdown(describe(by_value["accuracy"]))

# %% [markdown]
# What could have been seen? A study that sees nothing has said something only about differences
# larger than that.

# %% tags=["check"]
headline = by_value["win_rate"]
headline = headline[headline.noise_rate > lowest]
known = headline.dropna(subset="detectable")
detectable = known.groupby(["comparison", "regime"], sort=False).detectable.max()
powerful = detectable <= 0.03

# %% tags=["hide-input"]
Markdown(
    f"The smallest true difference that would have been seen four times in five is at most 0.03 in "
    f"{powerful.sum()} of {len(powerful)} measured combinations of comparison and regime, and "
    f"{detectable.max():.3f} in the worst ({', '.join(detectable.idxmax())}). The aim of 0.03 was "
    f"{'reached' if powerful.all() else 'missed in the others'}."
)

# %% [markdown]
# How much hangs on the budget? Large values of β turned out to be a poor way of staying near for a
# symmetric loss: most of its policies went farther than the budget; and with much larger budgets it
# is DPO that never went so far. The budgets below other than the first were chosen after the figure
# was seen: a description, without a verdict.

# %%
reach = noisy.groupby([*cell, "seed"]).kl.agg(["min", "max"])
rows = []
for budget in (BUDGET, 0.5, 1, 2):
    beyond = (reach["min"] > budget).groupby(cell).mean().rename("all beyond")
    nearer = (reach["max"] < budget).groupby(cell).mean().unstack("method").dpo
    for regime, policies in noisy.groupby("regime"):
        leads = compared.contrast_at_budget(policies, budget=budget)
        leads = leads.assign(regime=regime, budget=budget).join(beyond, on=cell)
        rows.append(leads.join(nearer.rename("DPO, all nearer"), on=cell[:2]))
shown = [*cell, "budget", "estimate", "low", "high", "n", "all beyond", "DPO, all nearer"]
budgets = pd.concat(rows)[shown].sort_values(cell, kind="stable").reset_index(drop=True)
figures.save_table(budgets, "table_gold_budgets", profile=profile)

# %% [markdown]
# The estimate is the mean win rate of the method minus that of DPO at the budget over the `n` seeds
# in which both can be placed there, *all beyond* the share of seeds in which all policies of the
# method went farther than the budget, *DPO, all nearer* the share in which none of DPO's went so
# far.

# %% tags=["hide-input"]
placed = budgets.dropna(subset="estimate").sort_values("estimate")
ends = pd.concat([placed.head(1), placed.tail(1)])
named = [
    f"{row.estimate:+.3f} ({figures.label(row.method)}, {row.regime} pairs, "
    f"ε = {row.noise_rate:g}, {row.budget:g} nats, n = {row.n})"
    for row in ends.itertuples()
]
Markdown(
    f"Of these {len(budgets)} rows {len(placed)} can be measured; their leads go from "
    f"{' to '.join(named) or 'nothing to nothing'}."
)

# %% [markdown]
# Could one not draw a line from the SFT model, which wins half of the time, to the nearest policy?
# DPO has policies on both sides: without its larger β, what would its curve have said of them?

# %% tags=["hide-input"]
dpo = noisy[(noisy.method == "dpo") & noisy.beta.isin(config.betas[:2])]
pairs_of_beta = dpo.pivot(index=["regime", "noise_rate", "seed"], columns="beta")
small, large = config.betas[:2]
reached = pairs_of_beta.kl[large] < pairs_of_beta.kl[small]
root = np.sqrt(pairs_of_beta.kl[large] / pairs_of_beta.kl[small])
line = 0.5 + (pairs_of_beta.win_rate[small] - 0.5) * root
missed = (line - pairs_of_beta.win_rate[large])[reached].groupby(["regime", "noise_rate"]).mean()
misses = ", ".join(
    f"{value:+.3f} ({name} pairs, ε = {rate:g})" for (name, rate), value in missed.items()
)
Markdown(
    f"At the KL of β = {large:g} the line from the SFT model to β = {small:g} misses DPO's own win "
    f"rate by {misses}. A curve that bends is put too low by such a line."
)

# %% tags=["hide-input"]
start = noisy.drop_duplicates([*cell, "seed"]).assign(kl=0.0, win_rate=0.5)
lines = pd.concat([noisy, start]).groupby([*cell, "seed"])[["kl", "win_rate"]]
lines = lines.apply(compared.spend, BUDGET).unstack("method")
lines = lines.drop(columns="dpo").sub(lines.dpo, axis=0).groupby(["regime", "noise_rate"]).mean()
by_line = "; ".join(
    f"{name} pairs, ε = {rate:g}: "
    + ", ".join(f"{figures.label(method)} {lead:+.3f}" for method, lead in row.items())
    for (name, rate), row in lines.iterrows()
)
Markdown(
    f"With such lines for whoever has no policy near enough, the leads at {BUDGET} nats would be: "
    f"{by_line}. At this budget the lines are SymPO's, for DPO has policies near it."
)

# %% [markdown]
# And what does noise cost each method? The win rate at the highest rate minus that at the lowest,
# at the paper's β, which we expect to lie below 0 for all of them. Each method's cost is a question
# of its own, so the p values are not corrected for the other methods.

# %%
costs = {
    key: stats.contrasts(
        rows, value="win_rate", method="noise_rate", methods=[highest], baselines=[lowest]
    )
    for key, rows in main.groupby(["regime", "method"])
}
costs = pd.concat(costs, names=["regime", "loss"]).reset_index(["regime", "loss"])
names = ["regime", "method", "noise_rate", "against"]
costs = costs.set_axis([*names, *costs.columns[4:]], axis=1).reset_index(drop=True)
costs["verdict"] = [stats.verdict(row, expected=-1) for row in costs.itertuples()]
figures.save_table(costs, "table_gold_noise", profile=profile)

# %% [markdown]
# Does a symmetric loss fall *less*? The fall of each SymPO loss minus that of DPO, seed by seed;
# above 0 it has lost less. That is in points of win rate. But a policy that has learned nothing
# wins half of the time, so that who starts higher has more to lose; so we also ask which share of
# the gain over ½ is left.

# %% tags=["check"]
# noise takes most of the gain, whatever the loss
assert config.profile == "smoke" or retold.share_kept(main).max(axis=None) < 0.5
falls = main.pivot(index=["regime", "method", "seed"], columns="noise_rate", values="win_rate")
falls = (falls[highest] - falls[lowest]).rename("fall").reset_index().assign(noise_rate=highest)
spared = compared.contrast_comparisons(
    dict(list(falls.groupby("regime"))), names=["regime"], values=["fall"]
)
spared = figures.save_table(spared, "table_gold_falls", profile=profile)
spared

# %% tags=["hide-input"]
clean_lead = by_value["win_rate"][by_value["win_rate"].noise_rate == lowest]
listed = "; ".join(
    f"{row.regime} pairs, {figures.label(row.method)} {row.estimate:+.3f}"
    for row in clean_lead.itertuples()
)
alike = clean_lead.verdict.str.startswith("no difference").all()
lost = "; ".join(
    f"{row.regime} pairs, {figures.label(row.method)} {row.estimate:+.3f}, {row.verdict}"
    for row in spared.itertuples()
)
Markdown(
    f"Lead over DPO on clean labels, at the paper's β: {listed}; the expectation that all gain "
    f"about the same {'held' if alike else 'did not hold'}. Lost less than DPO between "
    f"ε = {lowest:g} and {highest:g}: {lost}.\n\n{retold.describe_kept(main)}"
)

# %% [markdown]
# ## Do they memorise the flips, and do they still write reviews?
#
# *Agreement with flipped labels*, in the table of win rates, is the share of the flipped training
# pairs whose wrong label the policy agrees with. A policy that knew the truth and nothing else
# would agree with few of them, one that knows its training set by heart with all, and a coin with
# half; the last column is the same for the right labels. If a policy's order does not depend on
# which labels lie, the two add up to 1, and what they exceed it by was learned by heart.
#
# A lexicon can be pleased by text that nobody would write. A policy has **left the grammar** if
# fewer than half as many of its answers are reviews as of its SFT model's. Such policies stay in
# every mean above; here they are counted, and below stands what is left of the leads at the
# paper's β where both policies of a seed stayed.

# %%
left = table.assign(left=table.reviews < table.reviews_sft / 2)
counted = left.groupby([*cell, "beta"]).left.agg(["sum", "count"]).reset_index()
counted = counted[counted.method.isin(config.methods)].rename(columns={"sum": "left"})
figures.save_table(counted, "table_gold_answers", profile=profile)

# %%
stayed = left[~left.left & (left.beta == config.betas[0]) & left.method.isin(config.methods)]
stayed = stayed.pivot(index=["regime", "noise_rate", "seed"], columns="method", values="win_rate")
leads = stayed.drop(columns="dpo").sub(stayed.dpo, axis=0)
leads = leads.groupby(["regime", "noise_rate"]).agg(["mean", "count"])
leads

# %% tags=["hide-input"]
gone = counted[counted.beta == config.betas[0]]
means, seeds = leads.xs("mean", axis=1, level=1), leads.xs("count", axis=1, level=1)
Markdown(
    f"{retold.describe_left(gone)} Where both policies of a seed stayed, SymPO's leads are "
    f"{means.min(axis=None):+.3f} to {means.max(axis=None):+.3f}: means of {seeds.min(axis=None)} "
    f"to {seeds.max(axis=None)} seeds that are left over, and no verdict."
)

# %% [markdown]
# What policies write, before and after: the first answers of seed 0 to three prompts that nothing
# was trained on, at the highest noise rate, memorised pairs and the paper's β.

# %%
first = {"regime": "memorised", "noise_rate": highest, "beta": config.betas[0], "seed": 0}
written = {}
for record in runs.records:
    if all(record["config"][name] == value for name, value in first.items()):
        answers = record["metrics"]["generations"][:3]
        written["before"] = [answer["sft"] for answer in answers]
        written[record["config"]["method"]] = [answer["policy"] for answer in answers]
pd.DataFrame(written, index=[answer["prompt"] for answer in answers]).T

# %% tags=["hide-input"]
worst = headline[headline.noise_rate == highest]
signed = worst.estimate.map("{:+.3f}, ".format).where(worst.estimate.notna(), "") + worst.verdict
by = ["comparison", "regime"]
told = worst.assign(told=signed).pivot(index=by, columns="method", values="told")
told = told.loc[list(dict.fromkeys(zip(worst.comparison, worst.regime, strict=True)))]
told = told.rename(columns=lambda method: f"{figures.label(method)} − DPO").reset_index()
Markdown(
    f"**Reading.** Profile {config.profile}, {config.seeds} seeds, ε = {highest:g}, win rates:\n\n"
    + figures.to_markdown(told, "l" * told.shape[1])
)

# %% tags=["hide-input"]
at_highest = main[main.noise_rate == highest]
own_highest = pd.concat(own).query("noise_rate == @highest").groupby(["regime", "method"])
liked = own_highest.beta.agg(
    lambda values: ", ".join(f"{beta:g} ({n})" for beta, n in sorted(Counter(values).items()))
)
spent = at_highest.groupby(["regime", "method"]).kl.mean().map("{:.2f}".format)
distance = spent + " / " + own_highest.kl.mean().map("{:.2f}".format) + "; β = " + liked
distance = distance.unstack("method").rename(columns=figures.label).reset_index()
excess = at_highest.eval("fit_flipped + fit_clean - 1").groupby(at_highest.regime).mean()
Markdown(
    "What the policies spend at the paper's β / at their own, nats, and how often noisy validation "
    "chose which β:\n\n"
    + figures.to_markdown(distance, "l" * distance.shape[1])
    + f"\n\nLearned by heart, beyond what an order explains: {excess['memorised']:.2f} of the "
    f"labels with memorised pairs, {excess['fresh']:.2f} with fresh ones. Policies that left the "
    f"grammar, at every β: {counted.left.sum()} of {counted['count'].sum()}."
)

# %% [markdown]
# A lead at the paper's β with more KL says that the loss behaves as if β were smaller. A lead at a
# method's own β says something about the choice as well: noisy validation asks who orders pairs
# best, and a larger β may order as well, move less and so win less; where validation hardly tells
# the β apart, the choice is luck, and the interval holds for this choice alone. Only a lead at
# equal KL compares what was learned at the same distance. The paper compares at one β and makes no
# claim about distance; the question is ours. Read the three verdicts in this order, the last one
# beside the table of budgets, and all of them beside the falls and the accuracy, where noise itself
# is compared. What this world cannot say: its answers have eight words, its reward is a lexicon's,
# and a model of one layer may memorise, and drift, unlike a large one.
#
# ## The same question with SmolLM2
#
# On a GPU the study `gold` asks it of a model that people use, SmolLM2-135M-Instruct, with prompts
# of Anthropic HH, all methods, and TRL's trainer; the annotator and the judge are VADER, as here.

# %%
smollm2, source = find_policies(profile)
if len(smollm2):
    figures.save_table(smollm2, "table_gold_smollm2", profile=profile)
    contrasts = compared.contrast_policies(smollm2, values=["win_rate", "accuracy"])
    figures.save_table(contrasts, "table_gold_smollm2_contrasts", profile=profile)
Markdown(source)

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
# | a Llama of one layer, 64 wide, trained from scratch | Llama-3.2-3B-Instruct |
# | prompts of the grammar | HH and UltraFeedback |
# | two regimes: fresh pairs, and few pairs seen often | 20,000 pairs at first, later all; once |
# | ε as in the table at the top | ε = 0, 0.2, 0.3, 0.4 |
# | a learning rate from pilots | 5e-6 |
# | warm-up over a tenth of the steps | about 19 steps in effect, then cosine |
# | every loss is a mean over the batch | sums for baselines, means for SymPO |
# | the gradient norm has no bound | a bound of 5 on each shard |
# | SymPO clips rewards at ±10, baselines do not | no clipping at first, later ±10 by default |
# | rDPO corrects the loss | at first DPO times (1 − ε)/(1 − 2ε); later as here |
# | 32-bit weights | bf16 weights, in which most small steps vanish |
# | β varied, and chosen on noisy validation | β = 0.1 |
#
# An answer that has not ended after `max_new_tokens` is cut there. In training, the chat template
# ends it like the others, chosen and rejected alike. At $h = 0$ the gradient weight of SymPO
# sigmoid is ¼, half that of DPO and ramp (T9). Like the paper we do nothing about it: Adam divides
# a constant factor out, and as the gradient norm has no bound, none brings it back.
#
# ## Exercises
#
# 1. At ε = 0.5, what is the best win rate that any method could have?
#    <details><summary>Answer</summary>
#
#    ½ in expectation. The labels are coin tosses, so nothing about r* can be learned from them (T3:
#    the factor 1 − 2ε is 0).
#    </details>
# 2. Under the Bradley–Terry model, what determines the probability of preferring one answer over
#    another, and why are some of the unflipped labels above already wrong?
#    <details><summary>Answer</summary>
#
#    The difference of the two rewards, divided by the temperature, through σ. Answers of nearly
#    equal reward are preferred nearly at random.
#    </details>
# 3. How does DPO avoid a separate reward model, and what is its counterpart of the reward here?
#    <details><summary>Answer</summary>
#
#    It reads β·log(π/π_ref) as the reward, because the policy that maximises reward minus β·KL is
#    π_ref·exp(r/β) up to a factor. `accuracy` above measures that implicit reward.
#    </details>
# 4. Why does the KL here sum exact divergences of single steps instead of averaging log π/π_ref?
#    <details><summary>Answer</summary>
#
#    Both are unbiased. The first takes the expectation over the next token in closed form and
#    leaves less to chance; it is also never negative.
#    </details>
# 5. You are told that a method wins 55% against the SFT model at β = 0.1 and another 52%. What else
#    do you ask?
#    <details><summary>Answer</summary>
#
#    The KL of both. If the first went four times as far, the root law says that the second would
#    win about 54% at that distance.
#    </details>
# 6. Set `overrides = {"noise_rates": [0.0, 0.45], "seeds": 4, "other_seeds": 0}`, restart and run
#    all. Which of the three comparisons moves most? (The claims are then those of another
#    experiment.)
#
# ## Provenance

# %% tags=["hide-output"]
figures.save_provenance("09_gold", runs.records, profile=profile, overrides=overrides)
