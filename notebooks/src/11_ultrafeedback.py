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
# # 11 · UltraFeedback: preferences of a large model
#
# You will see how the experiment of notebook 10 is run on labels that no person gave, and what
# changes when the annotator is a language model that gives scores; on a laptop only that the code
# runs.
#
# - Paper: Section 5.2 (Figure 6 and Table 3 here).
# - Reads → writes: UltraFeedback-binarized, the section `ultrafeedback` of the profile →
#   `fig6_ultrafeedback_win_rate`, `table_ultrafeedback_metrics`, `table_ultrafeedback_contrasts`,
#   `table_ultrafeedback_probe`, `table_ultrafeedback_settings`, `table_ultrafeedback_judged`, with
#   the data behind them. The study needs a GPU. Profile laptop trains a few steps and shows the
#   results of profile gpu, if this repository holds them; it writes no result.
# - Time: about a minute in smoke and laptop, after a download of 230 MB; not timed on a GPU yet.

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
import numpy as np
import pandas as pd
from IPython.display import Markdown

from sympo import preferences, stats
from sympo.book import contrasts as compared
from sympo.book import figures
from sympo.book import offline as results
from sympo.studies import profiles, records
from sympo.studies.alignment import offline
from sympo.studies.profiles import study_config

profile = profiles.resolve_profile(profile)
figures.use_readable_tables()
config = study_config("ultrafeedback", profile, **overrides)

# %% [markdown]
# The sizes of this run, from the profile (unfold to read):

# %% tags=["hide-output"]
config.table()

# %% [markdown]
# ## What differs from Anthropic HH
#
# Notebook 10 explains the experiment: a judge that is a reward model, `judge_accuracy` beside every
# win rate, two opponents, metrics that ask no judge. All of that holds here. The data differ in
# four ways.
#
# 1. **A model gave the labels.** Several models answered each prompt, and GPT-4 scored the answers.
#    The answer with the highest mean score became the chosen one, another the rejected one.
# 2. **Scores can tie.** Such a row names no winner.
# 3. **Answers are long**, and most prompts are a single turn: questions, exercises, whole tasks
#    with examples.
# 4. **The noise is of another kind.** People disagree: ask someone else, and some labels change. A
#    model asked again mostly says the same. Its errors are *tastes*: perhaps one for long or for
#    confident answers.
#
# The fourth matters for the theory. A symmetric loss forgives flips that hit a pair whichever
# answer won (T3). A taste is not like that: it reverses labels where the *disfavoured* answer won,
# and only there. Let the shorter answer be the better one in 60% of some kind of pair. The next
# cell reverses labels in two ways that hit equally many of them: at random, and by a taste for
# length that takes away 30% of the shorter answers' wins.

# %% tags=["check"]
generator = np.random.default_rng(0)
size = 400_000
better = 0.6  # share of pairs whose shorter answer is the better one
shorter_wins = generator.random(size) < better
taste = shorter_wins & (generator.random(size) < 0.3)  # the labels that a taste reverses
flips = generator.random(size) < 0.3 * better  # as many, at random
by_taste = (shorter_wins ^ taste).mean()
by_flips = (shorter_wins ^ flips).mean()
assert abs(taste.mean() - flips.mean()) < 0.005
assert by_taste < 0.5 < by_flips
Markdown(
    f"Labels reversed: {taste.mean():.1%} by taste, {flips.mean():.1%} by flips. Share of labels "
    f"that prefer the shorter answer: {by_taste:.1%} after taste, {by_flips:.1%} after flips."
)

# %% [markdown]
# Flips leave the majority where it was; a taste moves it across ½; and calibrated losses follow the
# majority. Where a model can tell such pairs apart, *every* one of these losses, symmetric or not,
# learns that the longer answer is better. The study below flips at random, on top of whatever
# tastes the labels have. So it tests robustness to flips and says nothing about tastes; the paper's
# second open question is noise that depends on the pair (notebook 13), of which they are the
# harmful kind.
#
# ## The pairs

# %%
split, became_of_rows = results.load_pairs(config)
Markdown(became_of_rows)

# %% [markdown]
# Where the file has scores, ties are counted above and dropped: a label for them would be the toss
# of a coin, which is noise of rate ½. `ties="keep"` takes the data as published. Here is a tie and
# a pair that is none, under both settings.

# %% tags=["check"]
pair = {"prompt": "2 + 2?", "chosen": "4", "rejected": "four", "score_rejected": 8.0}
rows = [{**pair, "score_chosen": 8.0}, {**pair, "score_chosen": 9.0}]
dropped = preferences.parse_rows(rows, ties="drop")
assert dropped.report.no_preference == {"score tie": 1}
assert len(dropped.dataset) == 1
kept = preferences.parse_rows(rows, ties="keep")
assert kept.report.noted == {"score tie": 1}
assert len(kept.dataset) == 2
Markdown(f"- drop: {dropped.report}\n- keep: {kept.report}")

# %% [markdown]
# Here is one pair, shortened: the first held-out one that asks about owls, a short one if there is
# one, or else the first of all. Which answer would you have chosen? The last column is what a flip
# would make of the label.

# %%
pair = results.show_pair(split, about="owls", width=400)
pair if len(pair) else None

# %% [markdown]
# The same checks as in notebook 10: the policies' pairs, the judge's and the test pairs share no
# prompt, and flips nest. Then the yardstick for any judge, the rule that the longer answer is
# better, and how long the answers are. What is the rule's share of the labels worth as a sign of a
# taste? More than half may be a taste, or longer answers may be better; less than half does not
# rule a taste out.

# %% tags=["check"]
if split:
    policies, for_judge = preferences.hold_out(split.train, fraction=config.judge_share, seed=0)
    assert results.share_no_prompt(policies, for_judge, split.test)

    some = split.train.select(range(min(500, len(split.train))))
    few = np.array(preferences.flip_preferences(some, 0.2, seed=0)["is_flipped"])
    many = np.array(preferences.flip_preferences(some, 0.4, seed=0)["is_flipped"])
    assert many[few].all()
    assert many.sum() > few.sum() > 0

# %%
parts = {"training": split.train, "test": split.test} if split else {}
rows = []
for name, part in parts.items():
    chosen, rejected = results.count_characters(part)
    share = stats.wilson(int((chosen > rejected).sum()), len(part))
    rows.append([name, *share, np.median(chosen), np.median(rejected)])
medians = ["median characters, chosen", "rejected"]
columns = ["pairs", "the longer is chosen", "low", "high", "n", *medians]
pd.DataFrame(rows, columns=columns).drop(columns="n") if rows else None

# %% [markdown]
# ## What to expect, before looking
#
# The same as in notebook 10, and the claim is the same too, fixed before the run: at the highest
# noise rate the **win rate** of each SymPO loss lies above that of DPO. Differences are paired by
# seed, with 95% intervals, and we ask the same at every rate, against cDPO, rDPO and ROPO as well,
# with Holm's correction for the tests of one rate. The verdict follows by the rule of notebook 09.
# We make the same tests on **accuracy**, and on **win_rate_chosen**, against the data set's chosen
# answers. These are GPT-4's favourites among several models' answers, which a small model hardly
# beats: expect the SFT model far below ½ there. A lead that shows against one opponent alone would
# speak against the claim.
#
# In profile gpu this is the weaker of the two experiments, for two reasons. It has only a few
# hundred pairs, since a machine without a network has no more than a sample of UltraFeedback: the
# judge learns from little, and accuracy is measured on few pairs. And answers are cut early, so
# that the judge reads only how they begin.

# %%
runs = offline.run_study(config) if split else records.Runs([], 0, 0)
print(runs)

# %% tags=["check"]
near = results.tabulate_first_steps(runs.records, config)
first_step = near[near.step == 1]
at_zero = first_step.method.map({"dpo": np.log(2), "sympo_sigmoid": 0.5})  # ℓ(0)
on_gpu = any(record["provenance"]["gpu"] for record in runs.records)
tolerance = 0.02 if on_gpu else 1e-4  # a GPU rounds more (TF32, or bfloat16)
assert (abs(first_step.loss - at_zero) < tolerance).all()
near if len(near) else None

# %% [markdown]
# These are the first steps of seed 0. In profiles smoke and laptop there are no others: an
# untrained model that reads bytes shows that the code runs on real pairs, and **nothing about the
# losses**. It is not drawn.
#
# ## The results
#
# (Until this study has been run on a GPU, what follows is empty, and its text says what to look
# for.)
#
# In profiles gpu and paper these are of the runs above. In profile laptop they are the committed
# results of profile gpu, with their origin in `figures/gpu/data/11_ultrafeedback.json`. In smoke
# the numbers mean nothing.

# %%
table, source = results.collect_results(runs.records, config, stem="fig6_ultrafeedback_win_rate")
missing = results.not_measured(source)
Markdown(results.describe_policies(table, source) if len(table) else missing)

# %%
figure = None
if len(table):
    figure = figures.fig6_ultrafeedback_win_rate(table)
    if config.profile == "laptop":  # what it shows is committed already
        figure = figures.find_figure("fig6_ultrafeedback_win_rate", profile=source) or figure
    else:
        figure = figures.save(figure, "fig6_ultrafeedback_win_rate", table, profile=profile)
figure

# %% [markdown]
# The intervals above are those of each method alone. The paired differences further down are the
# sharper instrument: the methods of one seed share their pairs, flips and prompts.

# %%
metrics = results.tabulate_metrics(table)
shown = ["estimate", "win_rate_chosen", "accuracy"]
names = {"estimate": "win rate, SFT", "win_rate_chosen": "win rate, chosen"}
means = metrics.pivot(index="method", columns="noise_rate", values=shown).rename(columns=names)
means if len(means) else None

# %% [markdown]
# **Table 3**, in part: mean win rates against the SFT model and against the chosen answers, and
# accuracy. `table_ultrafeedback_metrics` holds the whole table, with intervals,
# margin, agreement with flipped labels, reward, KL and length.
#
# ## The claim, tested

# %% tags=["check"]
measures = ["win_rate", "win_rate_chosen", "accuracy"]
contrasts = compared.contrast_policies(table, values=measures)
highest = table.noise_rate.max()
claimed = contrasts[(contrasts.noise_rate == highest) & (contrasts.baseline == "dpo")]
assert (claimed.n == table[table.noise_rate == highest].seed.nunique()).all()  # no run dropped
# what profile laptop shows is committed already
if config.profile != "laptop" and len(table):
    contrasts = figures.save_table(contrasts, "table_ultrafeedback_contrasts", profile=profile)

# %% [markdown]
# Of these contrasts, those with DPO at the highest rate carry the claim; the others are in the file
# of the table.

# %% tags=["hide-input"]
claimed = contrasts.loc[claimed.index]  # with the verdicts as they were saved
columns = ["value", "method", "baseline", "estimate", "low", "high", "n", "p_holm", "verdict"]
names = {"value": "measure", "estimate": "difference"}
shown = claimed[columns].rename(columns=names).assign(measure=claimed.value.str.replace("_", " "))
shown if len(shown) else None

# %% tags=["hide-input"]
warning = results.warn_of_judge(table, config, source)
Markdown(warning + (compared.describe_contrasts(claimed) or missing))

# %% [markdown]
# ## The same contrasts in two other settings
#
# One learning rate for all methods may suit one of them better, and the same $\beta$ does not mean
# the same step: flips shrink the margins of the logistic loss, and with them how far DPO moves
# (T9). So DPO and the two SymPO losses are also compared
#
# - **at each method's own learning rate**: on seeds that no other run has, a small grid is tried at
#   the lowest and the highest noise rate. Chosen is the rate with the best mean agreement with
#   *noisy* validation labels, which anyone has (T13);
# - **at a larger β**, at the highest rate.
#
# A method that wins while it is much further from the SFT model has bought its lead: the KL of both
# stands beside each difference.

# %%
probe = results.read_results(
    config, "table_ultrafeedback_probe", results.tabulate_probe(runs.records)
)
probe if len(probe) else Markdown("No learning rate was probed.")

# %% tags=["check"]
settings = results.read_results(
    config, "table_ultrafeedback_settings", results.contrast_settings(runs.records, config)
)
if config.profile != "laptop" and len(settings):
    seeds = results.count_seeds(runs.records, config)
    assert (settings.n == settings.setting.map(seeds)).all()  # every seed has both methods
    probe = figures.save_table(probe, "table_ultrafeedback_probe", profile=profile)
    settings = figures.save_table(settings, "table_ultrafeedback_settings", profile=profile)
shown = ["setting", "value", "noise_rate", "method", "baseline", "estimate", "low", "high"]
top = settings[settings.noise_rate == settings.noise_rate.max()] if len(settings) else settings
top[[*shown, "verdict"]].rename(columns={"estimate": "difference"}).head(12) if len(top) else None

# %% tags=["hide-input"]
Markdown(results.describe_settings(settings) or "No other setting was run.")

# %% [markdown]
# ## A language model as the judge
#
# As in notebook 10: `python -m sympo judge ultrafeedback` asks one about the stored answers, in
# both orders, after it has said how much that will be. Here a further doubt comes in. GPT-4 chose
# the labels, GPT-4o-mini is the paper's judge, and the two may share their tastes. A policy that
# learned such a taste wins twice by it, and no win rate would show that. Expected: differences from
# DPO with the signs of those in `win_rate_chosen`. Other signs would mean that one of the judges is
# misled.

# %%
verdicts = results.read_results(
    config, "table_ultrafeedback_judged", results.tabulate_judged(runs.records, config)
)
if config.profile != "laptop" and len(verdicts):
    verdicts = figures.save_table(verdicts, "table_ultrafeedback_judged", profile=profile)
verdicts.head(12) if len(verdicts) else None

# %% tags=["hide-input"]
Markdown(results.describe_judged(verdicts, config))

# %% [markdown]
# ## What could have been seen
#
# How large an effect could this study have seen? The accuracy of one policy on $n$ test pairs has a
# standard error of about $\sqrt{1/(4n)}$. Two methods share pairs and judge, so their difference is
# known better than that, but not by much where the policies order many pairs differently. What the
# spread over seeds leaves is the detectable difference: the true difference that a test of these
# seeds finds four times in five.

# %% tags=["hide-input"]
reading = missing
if len(table):
    shown = config if source == config.profile else study_config(config.study, source)
    error = np.sqrt(0.25 / shown.test_pairs)
    by_seed = table.drop_duplicates("seed")
    ranks = results.correlate_win_rate(table)
    beyond = results.tabulate_fits(table)["beyond 1 − accuracy"]
    reading = (
        f"**Reading.** Profile {source}. One accuracy has a standard error of {error:.3f}; "
        f"differences from DPO of {claimed.detectable.min():.3f} to "
        f"{claimed.detectable.max():.3f} could have been seen. The judge agrees with "
        f"{by_seed.judge_accuracy.mean():.1%} of the held-out labels, and gives the SFT model "
        f"{by_seed.sft_chosen.mean():.1%} against the chosen answers. Rank correlation of the "
        f"policies' win rates with accuracy {ranks.accuracy:+.2f}, with KL {ranks.kl:+.2f}, with "
        f"length {ranks.length:+.2f}. Flipped labels fitted beyond 1 − accuracy at "
        f"ε = {highest:g}: from {beyond.min():+.2f} to {beyond.max():+.2f}."
    )
Markdown(warning + reading)

# %%
# What profile laptop shows is committed already.
if config.profile != "laptop" and len(table):
    _ = figures.save_table(metrics, "table_ultrafeedback_metrics", profile=profile)

# %% [markdown]
# ## Where this differs from the paper
#
# The authors' released code has two states: the first release (29 May 2025, the date of the arXiv
# version) and what followed from 28 July 2025. Which of them made a published number is an
# inference from dates. First the sizes, of which those of profile gpu go with a sample of the data;
# profile paper has never been run.

# %% tags=["hide-input"]
results.tabulate_sizes("ultrafeedback")

# %% [markdown]
# And what is done differently, whatever the size:
#
# | here | the authors' released code |
# |---|---|
# | ties in scores are dropped, and counted | the data set as published, ties and equal pairs too |
# | pairs longer than `max_length` are left out, so answers are short | prompts cut at their end |
# | policy's and chosen answers are cut after as many tokens | the chosen ones earlier |
# | SymPO clips rewards at ±10, baselines do not | no clipping at first, later ±10 by default |
# | rDPO corrects the loss | at first DPO times (1 − ε)/(1 − 2ε); later as here |
# | 32-bit weights; gpu: products in TF32 | bf16 weights, in which most small steps vanish |
# | warm-up over a tenth of the steps | about 19 steps in effect, then cosine |
# | every loss is a mean over the batch | sums for baselines, means for SymPO |
# | the gradient norm has no bound | a bound of 5 on each shard |
# | Dr. DPO couples the pairs of a micro-batch, as many as fit | of a batch |
# | one chat template | one for training, another for sampling |
# | SFT on unflipped chosen answers, once for all noise rates | the same, an answer per prompt |
# | several training seeds, paired by seed | one training seed; ten sampling seeds in one rate |
# | opponents: the seed's SFT model, and the data set's chosen answer | the chosen answer |
# | a reward model scores each answer alone; no order | GPT-4o-mini, the policy always second |
# | a language model, if asked: one answer to each prompt, in both orders | all answers, one order |
# | it may call a tie, which counts one half | it has to choose |
# | a reply without a verdict is counted apart | it is a loss, or dropped |
#
# ## Exercises
#
# 1. The noise model of the paper flips every label with the same probability. Name a pair of
#    UltraFeedback where that is plausible, and one where it is not.
#    <details><summary>Answer</summary>
#
#    Plausible: two answers that score nearly alike for reasons of chance. Not: a short correct
#    answer against a long one that sounds sure; whether the label is right depends on who should
#    have won.
#    </details>
# 2. Could rDPO, told the true rate of our flips, undo the taste for length of the first check cell?
#    <details><summary>Answer</summary>
#
#    No. It corrects flips that do not depend on the winner, at the rate it is told. After the
#    correction the majority is still on the wrong side.
#    </details>
# 3. Why are ties worse than no data, even for a symmetric loss?
#    <details><summary>Answer</summary>
#
#    At ε = ½ the factor 1 − 2ε is 0: on average ties add nothing to the gradient, but they add to
#    its noise.
#    </details>
# 4. Look up one claim of each answer of the pair above. Is its label a flip, a taste, or right?
#    <details><summary>Answer</summary>
#
#    No flip of ours: test labels are never flipped. If the chosen answer is the less correct one,
#    confidence and courtesy have won over facts, and no noise rate that we set accounts for that.
#    </details>
# 5. The summary of the paper asks for human verification of win rates at high noise. Which column
#    here would you trust least without it?
#    <details><summary>Answer</summary>
#
#    The win rate: it comes from a reward model that learned GPT-4's tastes from few pairs, about
#    answers cut short, to prompts of another kind than people's own.
#    </details>
#
# ## Provenance

# %% tags=["hide-output"]
weights = sorted({record["provenance"]["weights"] for record in runs.records})
figures.save_provenance(
    "11_ultrafeedback", runs.records, profile=profile, overrides=overrides, weights=weights
)
