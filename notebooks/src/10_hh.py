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
# # 10 · Anthropic HH: preferences of people
#
# You will see how language models are trained on comparisons that people made, with a known share
# of the labels flipped, and how far a judge that can itself be wrong tells the losses apart; on a
# laptop only that the code runs.
#
# - Paper: Section 5.2 (Figure 5 and Table 2 here).
# - Reads → writes: Anthropic HH, the section `hh` of the profile → `fig5_hh_win_rate`,
#   `table_hh_metrics`, `table_hh_contrasts`, `table_hh_probe`, `table_hh_settings`,
#   `table_hh_judged`, with the data behind them. The study needs a GPU. Profile laptop trains a few
#   steps and shows the results of profile gpu, if this repository holds them; it writes no result.
# - Time: about a minute in smoke and laptop; not timed on a GPU yet.

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

from sympo import judge, preferences
from sympo.book import contrasts as compared
from sympo.book import figures
from sympo.book import offline as results
from sympo.studies import profiles, records
from sympo.studies.alignment import offline
from sympo.studies.profiles import study_config

profile = profiles.resolve_profile(profile)
figures.use_readable_tables()
config = study_config("hh", profile, **overrides)

# %% [markdown]
# The sizes of this run, from the profile (unfold to read):

# %% tags=["hide-output"]
config.table()

# %% [markdown]
# ## One comparison
#
# A person chatted with an assistant, saw two answers, and picked the more helpful one. Here is such
# a comparison. It was picked by a rule and not by hand: the first held-out pair whose last question
# mentions bread and whose texts are all short, or else the first about bread. Cover the last two
# columns and decide which answer you would have chosen: that is all the information that a label
# holds.

# %%
split, became_of_rows = results.load_pairs(config)
pair = results.show_pair(split, about="bread", width=240)
pair if len(pair) else Markdown("The pairs are not at hand, so none is shown.")

# %% [markdown]
# A flip leaves the texts as they are and exchanges the two labels, as in the last column: the
# policy is then told that the person preferred the other answer, and nothing in the pair gives the
# lie away. (This pair is a test pair, whose label stays.)
#
# ## Why real preferences are harder to judge
#
# In notebook 05 the reward of an image was its digit, and in notebook 09 a lexicon computed the
# reward of an answer. Anthropic HH has neither. Which of two answers *really* was more helpful is
# recorded nowhere, so errors enter in three places, and we control only the second:
#
# 1. **The labels are noisy as they come.** Two people often disagree about such a pair. We call
#    unflipped labels *clean*, but they are clean only of our own flips.
# 2. **We flip** a share $\varepsilon$ of the training labels, as the paper does. Test labels are
#    never flipped.
# 3. **The judge errs.** Whether a policy's answer is better than another has to be estimated. Here
#    a *reward model* decides: it is trained with the logistic loss on unflipped pairs that no
#    policy sees, and its own accuracy on held-out labels, `judge_accuracy`, is in every record. The
#    paper asks GPT-4o-mini; so can you, about the answers that the records keep (below).
#
# All three act alike. Let a source of error reverse a binary answer with probability $\rho$,
# independently of everything else. It leaves a signal of $1 - 2\rho$, the factor of T3. Two such
# sources in a row leave the product of their signals, since the answer ends up wrong only if
# exactly one of them reverses it:
#
# $$1 - 2\,P(\text{reversed once}) = (1 - 2\rho_1)(1 - 2\rho_2).$$
#
# So flips come on top of disagreement, and a judge pulls every win rate towards ½ by a factor of
# its own.

# %% tags=["check"]
people = 0.3  # an example: HH does not say how often its annotators err
generator = np.random.default_rng(0)
signals = []
for noise_rate in config.noise_rates:
    reversed_by = generator.random((2, 400_000)) < [[people], [noise_rate]]
    simulated = 1 - 2 * (reversed_by[0] ^ reversed_by[1]).mean()
    product = (1 - 2 * people) * (1 - 2 * noise_rate)
    assert abs(simulated - product) < 0.01
    signals.append({"ε": noise_rate, "product": product, "simulated": simulated})
pd.DataFrame(signals).set_index("ε")

# %% [markdown]
# If people erred in 30% of the labels, the highest rate would leave eight hundredths of the signal
# that perfect labels have. The formula needs *independent* errors, and those of a judge are not: it
# may like long answers, and a policy may have learned to give them. That is why length and KL are
# reported with every win rate below.
#
# ## How a row becomes a pair
#
# A row of HH is two whole dialogues, as text with `Human:` and `Assistant:` before the turns, which
# differ in the last answer. `sympo.preferences` cuts both where they part: the shared turns are the
# prompt. Answers may contain these words themselves, so this takes some care, and a row that cannot
# be cut in exactly one way is refused and **counted**. Two equal answers express no preference and
# are counted too.

# %% tags=["hide-input"]
Markdown(became_of_rows)

# %% [markdown]
# Three checks before training. No prompt is shared between the policies' pairs, the judge's pairs
# and the test pairs; the flips at a low rate are a subset of those at a higher one; and a flip
# swaps the two answers and does nothing else.

# %% tags=["check"]
if split:
    policies, for_judge = preferences.hold_out(split.train, fraction=config.judge_share, seed=0)
    assert results.share_no_prompt(policies, for_judge, split.test)

    some = split.train.select(range(min(500, len(split.train))))
    noisy = preferences.flip_preferences(some, 0.4, seed=0)
    few = np.array(preferences.flip_preferences(some, 0.2, seed=0)["is_flipped"])
    many = np.array(noisy["is_flipped"])
    assert many[few].all()
    assert many.sum() > few.sum() > 0

    for before, after in zip(some, noisy, strict=True):
        sides = ("rejected", "chosen") if after["is_flipped"] else ("chosen", "rejected")
        assert after["prompt"] == before["prompt"]
        assert [after[side] for side in sides] == [before["chosen"], before["rejected"]]

# %% [markdown]
# And one yardstick. A judge that can do nothing but count characters can prefer the longer answer.
# A judge that is worth more than that must agree with more of the labels.

# %% tags=["hide-input"]
sentence = ""
if split:
    chosen, rejected = results.count_characters(split.test)
    longer = (chosen > rejected).mean()
    sentence = f"“The longer answer is better” agrees with {longer:.1%} of the test labels."
Markdown(sentence)

# %% [markdown]
# ## One run
#
# As in notebook 09, with recorded pairs in place of sampled ones. Once per seed: the **judge**,
# trained from the same pretrained weights as the policies, on its own pairs; **SFT** on the chosen
# answers of the policies' pairs, unflipped, which gives the reference $\pi_{\mathrm{ref}}$; and the
# **reference pass**. For each method and noise rate: flips, **preference training** for `epochs`
# passes over the pairs, and the **measurement**:
#
# - *accuracy*: the share of held-out pairs for which the implicit reward
#   $\beta\log(\pi/\pi_{\mathrm{ref}})$ prefers the chosen answer, and *margin*, its mean lead. No
#   judge is asked, and labels are as noisy as people.
# - *win rate*: each of the policy's answers to a held-out prompt against each of the SFT model's,
#   by the judge's rewards; a tie counts ½. *reward* is the mean of the judge's rewards.
# - *win_rate_chosen*: the same answers against the data set's chosen answer to the prompt, cut as
#   the model's own are. This is the opponent of the paper. How the SFT model fares against it,
#   *sft_chosen*, says from where a policy started.
# - *fit_flipped*: the share of flipped training labels that the policy has come to agree with.
# - *KL* to the SFT model, in nats per answer, and *length* in tokens.
#
# Profile paper draws answers as the paper does, at a temperature below 1 and from the likeliest
# tokens alone (top-p); the other profiles, from the whole distribution. The KL is always that of
# the whole distributions, on answers drawn from them: of two truncated ones it may be infinite,
# because one gives nothing to a token that the other draws.
#
# ## What to expect, before looking
#
# - Every method falls towards ½ as $\varepsilon$ grows, in win rate and in accuracy.
# - The claim, fixed before the run: at the highest rate, the **win rate** of each SymPO loss lies
#   above that of DPO. Differences are paired by seed, with 95% intervals. We ask the same at every
#   rate, against cDPO, rDPO and ROPO as well; the p values of one rate are corrected for their
#   number (Holm). The verdict follows by the rule of notebook 09. We make the same tests on
#   **accuracy**: if the two disagree, suspect the judge.
# - And the same on **win_rate_chosen**. The SFT model imitates the chosen answers, so it should
#   start below ½, and the level differs from that of the win rate. The *order* of the methods
#   should not: a method that leads against one opponent alone owes its lead to whom it met, and
#   that would speak against the claim.
# - What speaks against it: few passes leave little time to memorise flips, which is what hurts the
#   logistic loss most (notebooks 05 and 09); and a judge that is right in six of ten pairs shrinks
#   a difference to a fifth.

# %%
runs = offline.run_study(config) if split else records.Runs([], 0, 0)
print(runs)

# %% [markdown]
# ## The first steps, up close
#
# Two methods of seed 0 at the highest rate: loss and gradient norm, and accuracy and margin on the
# batch's *true* labels. A policy starts as its own reference, so all margins are 0 at first, and
# each loss must begin at $\ell(0)$: $\log 2$ for DPO, ½ for SymPO sigmoid. (Short runs show every
# step; in longer ones each row is a mean over several. A margin of exactly 0 counts as wrong, so
# accuracy begins near 0 and not at ½.)

# %% tags=["check"]
near = results.tabulate_first_steps(runs.records, config)
first_step = near[near.step == 1]
at_zero = first_step.method.map({"dpo": np.log(2), "sympo_sigmoid": 0.5})  # ℓ(0)
on_gpu = any(record["provenance"]["gpu"] for record in runs.records)
tolerance = 0.02 if on_gpu else 1e-4  # a GPU rounds more (TF32, or bfloat16)
assert (abs(first_step.loss - at_zero) < tolerance).all()
near if len(near) else None

# %% tags=["hide-input"]
sentence = ""
if runs.records:
    measured = records.metrics_table(runs.records)
    accuracy = f"{measured.accuracy.min():.2f} to {measured.accuracy.max():.2f}"
    judged = f"{measured.judge_accuracy.min():.2f} to {measured.judge_accuracy.max():.2f}"
    steps = config.epochs * config.pairs // config.batch
    sentence = (
        f"{len(measured)} policies of {steps} steps, model {config.model}: accuracy {accuracy}, "
        f"that of the judge {judged}; a coin has 0.50."
    )
Markdown(sentence)

# %% [markdown]
# In profiles smoke and laptop the model reads single bytes, has never seen a word of English, and
# trains for a handful of steps. That shows that the code runs on real pairs, from the file to the
# metrics. It shows **nothing about the losses**, and it is not drawn.
#
# ## The results
#
# (Until this study has been run on a GPU, what follows is empty, and its text says what to look
# for.)
#
# From here on we look at full runs, if there are any. In profiles gpu and paper they are those
# above. In profile laptop they are the runs of profile gpu whose results are committed here, with
# their origin in `figures/gpu/data/10_hh.json`; the code is the same. (Smoke draws its few steps,
# so that every line runs, and its numbers mean nothing.)

# %%
table, source = results.collect_results(runs.records, config, stem="fig5_hh_win_rate")
missing = results.not_measured(source)
Markdown(results.describe_policies(table, source) if len(table) else missing)

# %%
figure = None
if len(table):
    figure = figures.fig5_hh_win_rate(table)
    if config.profile == "laptop":  # what it shows is committed already
        figure = figures.find_figure("fig5_hh_win_rate", profile=source) or figure
    else:
        figure = figures.save(figure, "fig5_hh_win_rate", table, profile=profile)
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
# **Table 2**, in part: mean win rates against the SFT model and against the chosen answers, and
# accuracy. `table_hh_metrics` holds the whole table, with intervals, margin,
# agreement with flipped labels, reward, KL and length.
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
    contrasts = figures.save_table(contrasts, "table_hh_contrasts", profile=profile)

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
probe = results.read_results(config, "table_hh_probe", results.tabulate_probe(runs.records))
probe if len(probe) else Markdown("No learning rate was probed.")

# %% tags=["check"]
settings = results.read_results(
    config, "table_hh_settings", results.contrast_settings(runs.records, config)
)
if config.profile != "laptop" and len(settings):
    seeds = results.count_seeds(runs.records, config)
    assert (settings.n == settings.setting.map(seeds)).all()  # every seed has both methods
    probe = figures.save_table(probe, "table_hh_probe", profile=profile)
    settings = figures.save_table(settings, "table_hh_settings", profile=profile)
shown = ["setting", "value", "noise_rate", "method", "baseline", "estimate", "low", "high"]
top = settings[settings.noise_rate == settings.noise_rate.max()] if len(settings) else settings
top[[*shown, "verdict"]].rename(columns={"estimate": "difference"}).head(12) if len(top) else None

# %% tags=["hide-input"]
Markdown(results.describe_settings(settings) or "No other setting was run.")

# %% [markdown]
# ## A language model as the judge
#
# The paper's judge is GPT-4o-mini: it reads two answers, the policy's always as the second, and
# names the more helpful one. A judge like that often has a taste for a *place*, too. So we ask
# about every pair in both orders: a win is a win in both, and a verdict that changes with the order
# counts ½. Here is the worst case: a judge that always takes the second answer, asked in the
# paper's order and in both.


# %% tags=["check"]
def take_second(prompts, firsts, seconds):
    return [judge.Reply(0.0) for _ in prompts]  # the score of the answer shown first


replies = judge.ask_both_orders(take_second, ["?"] * 10, ["policy"] * 10, ["chosen"] * 10)
papers_order = np.mean([1 - reply.b_first.score for reply in replies])
both_orders = judge.tally(replies)
assert papers_order == 1
assert both_orders.win_rate.estimate == 0.5
assert both_orders.position_bias == -0.5

# %% tags=["hide-input"]
Markdown(
    f"Win rate of the policy with its answer second: {papers_order:g}; in both orders: "
    f"{both_orders.win_rate.estimate:g}."
)

# %% [markdown]
# In the paper's order this judge lets every policy win everything. In both orders it decides
# nothing, and `position_bias` (0 for a judge that ignores the order) gives it away.
#
# Asking costs money and needs a network, and the machine that trains may have none. So it is a step
# of its own: `python -m sympo judge hh` reads the answers in the records, the first one to each
# prompt, says how many requests and tokens that will be, and asks after you have confirmed. What
# comes back is kept, and no pair is judged twice. Expected, before anyone has asked: the signs of
# the differences from DPO are those of `win_rate_chosen`. If they are not, one of the two judges is
# misled, and a person should read the answers. `win_rate_second` is the win rate in the paper's
# order.

# %%
verdicts = results.read_results(
    config, "table_hh_judged", results.tabulate_judged(runs.records, config)
)
if config.profile != "laptop" and len(verdicts):
    verdicts = figures.save_table(verdicts, "table_hh_judged", profile=profile)
verdicts.head(12) if len(verdicts) else None

# %% tags=["hide-input"]
Markdown(results.describe_judged(verdicts, config))

# %% [markdown]
# ## Do they memorise the flips?
#
# A policy that has learned only what holds in general agrees with a *flipped* label about as often
# as it is wrong on held-out pairs: for a share of 1 − accuracy. What it fits beyond that, it has
# memorised. (Only roughly: most training pairs come from other subsets of HH than the test pairs,
# and are not equally hard.) The more passes, the more of it there may be.

# %%
fits = results.tabulate_fits(table)
fits.sort_values("fit_flipped", ascending=False) if len(fits) else None

# %% [markdown]
# ## What the judge can see
#
# If the judge's errors had nothing to do with the method, they would shrink a policy's true lead by
# the factor $1 - 2\rho$, where $\rho$ is the share of pairs that the judge gets wrong. All we know
# is how often it disagrees with the held-out labels; where these are wrong themselves, $\rho$ is
# lower. And if
# policies with longer answers, or further from the SFT model, have higher win rates without higher
# accuracy, the judge may be rewarding just that.

# %% tags=["hide-input"]
reading = missing
if len(table):
    by_seed = table.drop_duplicates("seed")
    judged = by_seed.judge_accuracy
    ranks = results.correlate_win_rate(table)
    clean = table[table.noise_rate == 0].groupby("method").win_rate.mean()
    at_zero = f"{clean.mean():.3f}" if len(clean) else "not measured"
    beyond = fits["beyond 1 − accuracy"]
    reading = (
        f"**Reading.** Profile {source}. The judge agrees with {judged.mean():.1%} of the held-out "
        f"labels ({judged.min():.1%} to {judged.max():.1%} over {len(judged)} seeds), a factor of "
        f"{2 * judged.mean() - 1:.2f}. By its rewards the SFT model wins "
        f"{by_seed.sft_chosen.mean():.1%} of the comparisons with the chosen answers. "
        f"Rank correlation of the policies' win rates with accuracy "
        f"{ranks.accuracy:+.2f}, with KL {ranks.kl:+.2f}, with length {ranks.length:+.2f}. Mean of "
        f"the methods' win rates: {at_zero} without flips, {fits.win_rate.mean():.3f} at "
        f"ε = {highest:g}. Fitted beyond 1 − accuracy there: from {beyond.min():+.2f} to "
        f"{beyond.max():+.2f}."
    )
Markdown(warning + reading)

# %%
# What profile laptop shows is committed already.
if config.profile != "laptop" and len(table):
    _ = figures.save_table(metrics, "table_hh_metrics", profile=profile)

# %% [markdown]
# ## Where this differs from the paper
#
# The authors' released code has two states: the first release (29 May 2025, the date of the arXiv
# version) and what followed from 28 July 2025. Which of them made a published number is an
# inference from dates. First the sizes; profile paper has never been run.

# %% tags=["hide-input"]
results.tabulate_sizes("hh")

# %% [markdown]
# And what is done differently, whatever the size:
#
# | here | the authors' released code |
# |---|---|
# | gpu: trained on *test* files of the helpful subsets | train files (as in profile paper) |
# | SymPO clips rewards at ±10, baselines do not | no clipping at first, later ±10 by default |
# | rDPO corrects the loss | at first DPO times (1 − ε)/(1 − 2ε); later as here |
# | 32-bit weights; gpu: products in TF32 | bf16 weights, in which most small steps vanish |
# | warm-up over a tenth of the steps | about 19 steps in effect, then cosine |
# | every loss is a mean over the batch | sums for baselines, means for SymPO |
# | the gradient norm has no bound | a bound of 5 on each shard |
# | Dr. DPO couples the pairs of a micro-batch, as many as fit | of a batch |
# | pairs longer than `max_length` are left out | prompts cut at their end |
# | one chat template | one for training, another for sampling |
# | SFT on unflipped chosen answers, once for all noise rates | the same, an answer per prompt |
# | several training seeds, paired by seed | one training seed; ten sampling seeds in one rate |
# | opponents: the seed's SFT model, and the data set's chosen answer | the chosen answer |
# | a reward model scores each answer alone; no order | GPT-4o-mini, the policy always second |
# | a language model, if asked: one answer to each prompt, in both orders | all answers, one order |
# | it may call a tie, which counts one half | it has to choose |
# | a reply without a verdict is counted apart | it is a loss, or dropped |
# | either judge reads the whole conversation | its first turn; all subsets as if helpful |
# | policy's and chosen answers are cut after as many tokens | the chosen ones earlier |
# | ties in the data are dropped, and counted | ties and identical pairs stay |
#
# Why test files? They are small enough to take to a machine without a network. Win rate and
# accuracy are measured on prompts of helpful-base that no model sees. In profile gpu the other
# prompts of helpful-base train as well (`test_share`), and harmless-base does not: pairs that
# contradict what is tested, or say nothing about it, leave policies and judge at chance.
#
# The judge was trained on whole answers but reads answers that were cut, the policy's and its
# opponents' alike.
#
# ## Exercises
#
# 1. How does a symmetric loss differ from the logistic loss in its robustness to label noise, and
#    why might a single pass over HH not show it?
#    <details><summary>Answer</summary>
#
#    Flips change the risk of a symmetric loss by a factor and a constant, so that its minimisers
#    stay; the logistic loss gets a penalty on large margins, and pulls hardest at labels that look
#    wrong (T3, T9). In one pass with a small learning rate the margins stay near 0, where all these
#    losses are nearly straight lines, and a straight line is symmetric itself.
#    </details>
# 2. People err in 30% of the labels, and you flip 40%. Which signal is left, and how many times
#    more labels would you need than with perfect ones?
#    <details><summary>Answer</summary>
#
#    (1 − 2·0.3)(1 − 2·0.4) = 0.08. Bounds on the error depend on n times the square of the signal:
#    1/0.08², about 156 times as many.
#    </details>
# 3. The true win rate is 0.70 and the judge is right in 60% of the pairs, whatever the method. What
#    does it report?
#    <details><summary>Answer</summary>
#
#    ½ + 0.2·0.2 = 0.54. A difference of two methods shrinks by the same factor, and its noise does
#    not.
#    </details>
# 4. A policy learns to write longer answers, and the judge likes them. Which numbers of Table 2
#    would tell you?
#    <details><summary>Answer</summary>
#
#    `length`, and a win rate that rises while `accuracy`, which no judge touches, does not. To be
#    sure, ask people, or a judge that was trained on pairs of equal length.
#    </details>
# 5. Why is the judge not simply trained on the policies' pairs? There would be more of them.
#    <details><summary>Answer</summary>
#
#    It would share what they memorised: accidents of those pairs would look like quality to both.
#    Disjoint prompts do not cure what they share beyond that, such as their pretrained weights.
#    </details>
# 6. Set `overrides = {"pairs": 256, "noise_rates": [0.0, 0.4]}`, restart and run all. The laptop
#    now trains sixteen steps, with and without flips. What may you conclude from a difference?
#    <details><summary>Answer</summary>
#
#    Nothing about the losses: the model cannot read, and two seeds are two values.
#    </details>
#
# ## Provenance

# %% tags=["hide-output"]
weights = sorted({record["provenance"]["weights"] for record in runs.records})
figures.save_provenance(
    "10_hh", runs.records, profile=profile, overrides=overrides, weights=weights
)
