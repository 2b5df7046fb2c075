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
# # 02 · Noise equivalence
#
# You will see that an annotator who errs more often in one position than in the other does no more
# harm than one who errs evenly, when this fails, and why a symmetric loss can ignore such errors
# without being told how frequent they are.
#
# - Paper: Section 3.1 (Lemma 1), Section 4 (symmetric losses, SymPO); rDPO is the baseline of
#   Chowdhury et al. 2024.
# - Reads → writes: nothing → `fig_t2_tree`, `fig_t2_tied_order`, `fig_t3_logistic_penalty`,
#   `fig_t4_wrong_rate` and their data.
# - Time: under a minute in every profile.

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
rate_pos = 0.1  # how often a label +1 is flipped
rate_neg = 0.4  # how often a label −1 is flipped
prior = 0.3  # share of pairs that are written down with the better answer first
first_rate = 0.9  # T2 (b): how often the longer answer is written first
noise_rate = 0.3  # ε of T3 and T4, below ½
draws = 200_000  # Monte Carlo sample size
problems = 400  # T4: random ranking problems (50 in the smoke profile)
seed = 0

# %%
import math
from itertools import product

import numpy as np
import pandas as pd
import sympy
import torch
from IPython.display import Markdown
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from sympo import losses, noise
from sympo.book import explorables, figures, story, theory
from sympo.studies import profiles

profile = profiles.resolve_profile(profile)
figures.use_readable_tables()
problems = 50 if profile == "smoke" else problems

# %% [markdown]
# ## The setting, in a minute
#
# Two answers to one prompt are written down as a pair $(a_1, a_2)$. The *true label* is $y = +1$ if
# $a_1$ is the winner and $y = -1$ if $a_2$ is. A reward model $r$ gives the pair the *score*
# $g(a_1, a_2) = r(a_1) - r(a_2)$, and a *margin loss* charges $\ell(z)$ for the *margin*
# $z = y \cdot g = r(\text{winner}) - r(\text{loser})$. A pair can be written in two ways, and the
# margin is the same in both ([notebook 01](01_preferences_as_classification.ipynb), Figure T1). (T1
# to T15 number the statements of this book, and its figures go by them. A cell of checks that
# prints nothing has found that they hold; otherwise it would stop the notebook.)
#
# Training a language model by DPO (direct preference optimisation) or SymPO is a case of this: the
# reward $r$ of an answer is then β times how much more probable the model makes it than a reference
# model does, as a logarithm. What follows holds for any $r$.
#
# Three losses are enough for now. In all of this $\sigma(t) = 1/(1 + e^{-t})$.
#
# | loss | $\ell(z)$ | who uses it |
# | --- | --- | --- |
# | logistic | $\log(1 + e^{-z})$ | DPO: it takes each label at its word |
# | sigmoid | $\sigma(-z) = 1/(1 + e^{z})$ | SymPO, the paper's method |
# | ramp | $\tfrac12 - \tfrac z2$, clipped to $[0, 1]$ | SymPO |
#
# A fourth, of T4, is the logistic loss *corrected* for noise. It is called rDPO (robust DPO), and
# must be told how frequent the noise is. SymPO is told nothing.
#
# **The noise.** We do not see $y$ but a *noisy label* $\tilde y$ that is sometimes flipped. So
# instead of the *clean risk* $R = \mathbb{E}\,\ell(y\,g)$ we can only minimise the *noisy risk*
# $\tilde R = \mathbb{E}\,\ell(\tilde y\,g)$. The paper's noise has two rates,
#
# $$P(\tilde y = -1 \mid y = +1) = \varepsilon_p, \qquad P(\tilde y = +1 \mid y = -1) =
# \varepsilon_n, \qquad \varepsilon_p + \varepsilon_n < 1,$$
#
# with p for a positive label and n for a negative one; in the code they are `rate_pos` and
# `rate_neg`. A label says *which position* won, so two different rates describe an annotator who
# favours a position. Ours has $\varepsilon_p = 0.1$ and $\varepsilon_n = 0.4$: a winner in
# first place is nearly always recognised, and one in second place often is not. This annotator
# likes what comes first. The noise is *symmetric* when both rates are equal to one $\varepsilon$.
#
# **The example.** As in notebook 00 somebody asks: *My bread is stale after a day. What can I do?*
# The annotator is the one of that notebook as well, but now slips depend on the position. Of the
# four answers there, a to d, we take the last three.

# %%
answers = story.tabulate_answers().iloc[1:].reset_index(drop=True)
answers

# %% [markdown]
# Who wins is decided by Bradley–Terry: $a$ beats $a'$ with probability $\sigma(r^*(a) - r^*(a'))$.
# Only the difference of the two true rewards counts; a pair without one is a coin toss, and a close
# pair nearly is. The margins come from learned rewards, here of a model that still puts $d$ above
# $c$. The next table is the whole population: each pair is drawn equally often, and either answer
# may win. With six outcomes and their probabilities, a risk is a sum and needs no sampling.


# %%
def list_pairs(rewards, scores):
    """Every (winner, loser) with its probability and its margin r(winner) − r(loser)."""
    winner, loser = np.nonzero(~np.eye(len(rewards), dtype=bool))
    probability = expit(rewards[winner] - rewards[loser]) / math.comb(len(rewards), 2)
    margin = scores[winner] - scores[loser]
    columns = {"winner": winner, "loser": loser, "probability": probability, "margin": margin}
    return pd.DataFrame(columns)


names = answers.answer.to_numpy()
rewards = answers["true reward"].to_numpy()
learned = np.array([1.1, -0.2, 0.4])
pairs = list_pairs(rewards, learned)
pairs.assign(winner=names[pairs.winner], loser=names[pairs.loser])

# %% [markdown]
# **From a pair to its noisy label.** The annotation splits each of these rows in four. First, the
# winner is written in first place, with probability $\pi$, in the code `prior`, or in second. Then
# the label is kept or flipped: $+1$ is flipped at $\varepsilon_p$, $-1$ at $\varepsilon_n$. The
# figure follows the first row of the table.


# %%
def annotate(pairs, rate_pos, rate_neg, *, prior):
    """Each pair four times: label +1 with probability `prior`, one for all or one per row, or −1;
    kept or flipped.
    """
    noise.check_rates(rate_pos, rate_neg)
    outcomes = []
    for label, written, rate in ((1, prior, rate_pos), (-1, 1 - prior, rate_neg)):
        for noisy, share in ((label, 1 - rate), (-label, rate)):
            columns = {"label": label, "noisy": noisy, "score": label * pairs.margin}
            probability = pairs.probability * written * share
            outcomes.append(pairs.assign(probability=probability, **columns))
    return pd.concat(outcomes, ignore_index=True)


outcomes = annotate(pairs, rate_pos, rate_neg, prior=prior)
first = outcomes[(outcomes.winner == 0) & (outcomes.loser == 1)]
tree = first[["label", "noisy"]].assign(winner=names[0], loser=names[1])
tree["probability"] = first.probability / first.probability.sum()
figures.save(figures.fig_t2_tree(tree), "fig_t2_tree", tree, profile=profile)

# %% [markdown]
# ## T2 (a) · Asymmetric noise is symmetric noise in disguise
#
# **Why it matters.** Most of what is known about wrong labels is known for symmetric noise, and
# real annotators have favourite positions. The paper's Lemma 1 says that for preferences this makes
# no difference.
#
# **Statement.** Let the written order be independent of who wins and who loses, with the winner
# first with probability $\pi$, and let the two rates be the same for every pair. Then for every
# margin loss the noisy risk is the one under symmetric noise of rate
#
# $$\varepsilon = \pi\,\varepsilon_p + (1 - \pi)\,\varepsilon_n .$$
#
# Moreover, if a fair coin decides for each pair whether to swap it, together with its noisy label,
# then no risk changes and the label noise itself becomes symmetric with this $\varepsilon$.
#
# The paper proves the second part. That the risks agree before anything is swapped is a small
# sharpening of ours: nobody has to do the swap.
#
# **Why it is true.** Look at the column "the loss sees" of Figure T2. Swapping a pair turns both
# the label and the score around, so the loss sees $z$ if the label was kept and $-z$ if it was
# flipped, and *that is all it sees*. All that remains of the two rates is how often a flip happens
# on the whole.
#
# **Derivation.** sympy adds up the four branches of the tree, for an arbitrary loss. In the same
# loop it tosses the coin, and collects how often each label occurs and is wrong. The output is the
# factor before $\ell(-z)$, once the sum has been found to have it.

# %% tags=["check", "claim-noise-equivalence"]
e_p, e_n, pi, z = sympy.symbols("varepsilon_p varepsilon_n pi z", real=True)
ell = sympy.Function("ell")
half = sympy.Rational(1, 2)
risk = 0
written_as = {+1: 0, -1: 0}  # after the coin: P(y), and of this P(ỹ ≠ y)
flipped_as = {+1: 0, -1: 0}
for y, written, rate in ((+1, pi, e_p), (-1, 1 - pi, e_n)):
    g = y * z  # the score in the written order
    for noisy, share in ((y, 1 - rate), (-y, rate)):
        risk += written * share * ell(noisy * g)
        for turned, coin in ((y, half), (-y, 1 - half)):
            written_as[turned] += coin * written * share
            flipped_as[turned] += coin * written * share if noisy != y else 0
equivalent = pi * e_p + (1 - pi) * e_n
assert sympy.expand(risk - ((1 - equivalent) * ell(z) + equivalent * ell(-z))) == 0
for y in (+1, -1):
    assert sympy.simplify(flipped_as[y] / written_as[y] - equivalent) == 0
sympy.Eq(sympy.Symbol("varepsilon"), equivalent)

# %% [markdown]
# ### The check: three kinds of noise, one risk
#
# A risk is a sum over a table of outcomes, and the coin of the lemma doubles the table: a swapped
# pair has the opposite labels and, as the score is antisymmetric, the opposite score.


# %%
def swap_half(outcomes):
    """The outcomes after a fair coin has decided whether to swap each pair with its labels."""
    opposite = {name: -outcomes[name] for name in ("label", "noisy", "score")}
    both = pd.concat([outcomes, outcomes.assign(**opposite)], ignore_index=True)
    return both.assign(probability=both.probability / 2)


def measure_risk(outcomes, loss, *, label="noisy"):
    """E ℓ(ỹ·g); with label="label" the clean risk E ℓ(y·g)."""
    margins = torch.tensor((outcomes[label] * outcomes.score).to_numpy(), dtype=torch.float64)
    return float(outcomes.probability.to_numpy() @ loss(margins).numpy())


def measure_rates(outcomes, *, by="label"):
    """P(ỹ ≠ y) given each value of the column `by` that can occur."""
    outcomes = outcomes[outcomes.probability > 0]
    flipped = outcomes.probability.where(outcomes.noisy != outcomes.label, 0.0)
    return flipped.groupby(outcomes[by]).sum() / outcomes.probability.groupby(outcomes[by]).sum()


# %% [markdown]
# Expect three equal columns. The rates given the label must be `rate_pos` and `rate_neg` before the
# swap and equal after it. All losses of the package are checked, and six are shown.

# %% tags=["check", "claim-noise-equivalence"]
epsilon = noise.equivalent_rate(rate_pos, rate_neg, prior)
tables = {
    "two rates": outcomes,
    "symmetric": annotate(pairs, epsilon, epsilon, prior=prior),
    "two rates, half swapped": swap_half(outcomes),
}
fns = [loss.fn for loss in losses.LOSSES.values()]
risks = pd.DataFrame(index=pd.Index(losses.LOSSES, name="loss"))
for how, table in tables.items():
    risks[how] = [measure_risk(table, fn) for fn in fns]
assert np.allclose(risks["two rates"], risks["symmetric"], rtol=0, atol=1e-12)
assert np.allclose(risks["two rates"], risks["two rates, half swapped"], rtol=0, atol=1e-12)
assert np.allclose(measure_rates(outcomes), [rate_neg, rate_pos])
assert np.allclose(measure_rates(tables["two rates, half swapped"]), epsilon)
risks.loc[["logistic", "hinge", "square", "sigmoid", "ramp", "unhinged"]].reset_index()

# %% [markdown]
# The table could share a mistake with the derivation. `noise.flip`, which makes the noise of every
# study here, shares nothing with it. Its sample means must lie within four standard errors of the
# exact risks.

# %% tags=["check", "claim-noise-equivalence"]
generator = np.random.default_rng(seed)
margins = pairs.margin.to_numpy()[generator.choice(len(pairs), draws, p=pairs.probability)]
labels = np.where(generator.random(draws) < prior, 1, -1)
sampled = {
    "two rates": noise.flip(labels, rate_pos, rate_neg, generator) * labels * margins,
    "symmetric": noise.flip(labels, epsilon, epsilon, generator) * labels * margins,
}
for name in ("logistic", "ramp"):
    for noisy_margins in sampled.values():
        cost = losses.get(name).fn(torch.tensor(noisy_margins)).numpy()
        assert abs(cost.mean() - risks.loc[name, "symmetric"]) < 4 * cost.std() / np.sqrt(draws)

# %% [markdown]
# ### Where it fails: a score with a bonus for the first place
#
# The argument used that the score is antisymmetric, $g(a_2, a_1) = -g(a_1, a_2)$. Give the answer
# written first a bonus, as a model that reads both answers in one text may do, and the risks part.

# %% tags=["check", "claim-noise-equivalence"]
bonus = 0.5
ramp = losses.get("ramp").fn
with_bonus = {how: table.assign(score=table.score + bonus) for how, table in tables.items()}
parted = {how: measure_risk(table, ramp) for how, table in with_bonus.items()}
assert not np.isclose(parted["two rates"], parted["symmetric"], rtol=0, atol=1e-3)
assert not np.isclose(parted["two rates"], parted["two rates, half swapped"], rtol=0, atol=1e-3)

# %% tags=["hide-input"]
Markdown(
    f"**Reading.** Flips at {rate_pos:g} and {rate_neg:g}, with the winner written first in "
    f"{prior:.0%} of the pairs, act exactly like symmetric flips at ε = {epsilon:.2f}. With a "
    f"bonus for the first place the ramp risks are {parted['two rates']:.3f} and "
    f"{parted['symmetric']:.3f}, and the equivalence is gone."
)

# %% [markdown]
# ### Draw the order before the annotation
#
# The equivalent rate depends on $\pi$. Suppose the better answer always stands first, as when noise
# is *added* to a file that stores the chosen answer first. Then $\pi = 1$, every true label is
# $+1$, and $\varepsilon = \varepsilon_p$. For the annotators' own errors, however, what counts is
# the order in which they *saw* the pair, and not how it was filed afterwards. The condition
# $\varepsilon_p + \varepsilon_n < 1$ does not help: with rates $(0.6, 0.3)$ it holds, and noisy
# labels are wrong more often than not. It guarantees $\varepsilon < \tfrac12$ only at
# $\pi = \tfrac12$. Elsewhere, if somebody errs only where the winner stands in the more common
# position, a rate of $1/(2\max(\pi, 1-\pi)) < 1$ is enough for $\varepsilon = \tfrac12$.
#
# And $\pi = \tfrac12$ can be had for nothing: draw the order of each pair by a coin *before* the
# annotator sees it. Then $\varepsilon = (\varepsilon_p + \varepsilon_n)/2$, and the order is
# independent of the pair, as the statement asks, for any data.
#
# `noise.equivalent_rate` refuses a rate of ½ or more. The check confirms that it is right to: at
# $\pi = 1$ the noisy ramp risk prefers the three answers ranked upside down.

# %% tags=["check", "claim-noise-equivalence"]
refusal = ""
try:
    noise.equivalent_rate(0.6, 0.3, prior=1.0)
except ValueError as error:
    refusal = str(error)
assert "rate 0.6 ≥ ½" in refusal
assert equivalent.subs({pi: 1, e_p: 0.6, e_n: 0.3}) == 0.6
# the sum of the rates is below 1, and the equivalent rate is ½
assert equivalent.subs({e_n: 0, e_p: 1 / (2 * pi)}) == half
assert sympy.simplify(equivalent.subs({e_p: 0, e_n: 1 / (2 * (1 - pi))})) == half
assert sympy.expand(equivalent.subs(pi, half) - (e_p + e_n) / 2) == 0
preferred = {}
for chance in (1.0, 0.5):
    table = annotate(list_pairs(rewards, rewards), 0.6, 0.3, prior=chance)
    upright = measure_risk(table, ramp)
    upside_down = measure_risk(table.assign(score=-table.score), ramp)
    preferred[chance] = "upright" if upright < upside_down else "upside down"
assert preferred == {1.0: "upside down", 0.5: "upright"}
assert np.isclose(noise.equivalent_rate(0.6, 0.3, prior=0.5), 0.45)

# %% [markdown]
# > **Takeaway from T2 (a).** The loss sees $z$ or $-z$, nothing else, so that two rates act like
# > the one rate $\varepsilon = \pi\,\varepsilon_p + (1-\pi)\,\varepsilon_n$. This takes an
# > antisymmetric score, rates that are the same for every pair, and an order that is independent of
# > the pair; draw it by a coin before the annotation, and it is. To be harmless, ε must be below ½.
# > (Where close pairs are flipped more often, each pair has a rate of its own: notebook 13.)
#
# **Quick check.** An annotator has rates $(0.05, 0.55)$. Is anything lost? Does it matter how the
# pairs were ordered?
#
# <details><summary>Answer</summary>
#
# The sum is 0.6, so with a random order $\varepsilon = 0.3$: no minimiser of a symmetric loss is
# lost (T3), but signal is. If the better answer stood second in more than 90% of the pairs
# ($\pi < 0.1$), $\varepsilon = 0.55 - 0.5\pi$ would exceed ½ and the ranking would be learned
# upside down. And if the order hangs on which answers these are, T2 (b) applies.
# </details>

# %% [markdown]
# ## T2 (b) · An order that is tied to the answers ranks close pairs wrongly
#
# **Why it matters.** Files have orders of their own. The longer answer may come first, or the one
# from the newer model. Then the written order is not independent of *which answers* these are, and
# the lemma has lost its condition. This part goes beyond the paper.
#
# **Statement.** Let the longer answer of a pair be written first with probability $\lambda$. If it
# wins, the label is $+1$ when it stands first, $-1$ when it stands second, and the pair is flipped
# at the rate $\varepsilon_+$. If it loses, the labels are the other way round, and the rate is
# $\varepsilon_-$:
#
# $$\varepsilon_+ = \lambda\,\varepsilon_p + (1-\lambda)\,\varepsilon_n, \qquad
# \varepsilon_- = (1-\lambda)\,\varepsilon_p + \lambda\,\varepsilon_n .$$
#
# These rates are no longer about positions but about *answers*: $\varepsilon_p$ and $\varepsilon_n$
# belong to a label, $\varepsilon_+$ and $\varepsilon_-$ to the longer answer. (Other texts write
# $\varepsilon_\pm$ for the former.) Let the longer one truly win with probability $\eta$. The noisy
# labels say so with probability $\tilde\eta$, and this passes through ½ not at $\eta = \tfrac12$
# but at a threshold $\eta_0$:
#
# $$\tilde\eta = \eta\,(1 - \varepsilon_+) + (1 - \eta)\,\varepsilon_-, \qquad
# \eta_0 = \frac{1/2 - \varepsilon_-}{1 - \varepsilon_+ - \varepsilon_-} .$$
#
# Every pair with an $\eta$ between $\eta_0$ and ½ is *mis-ranked*: the noisy majority is for the
# worse answer.
#
# **Derivation.** sympy lists who wins, who stands first and whether the label flips, adds up the
# outcomes that speak for the longer answer, and solves for the threshold. At
# $\lambda = \tfrac12$ it must return to ½, for any rates.

# %% tags=["check", "claim-tied-order"]
lam, eta = sympy.symbols("lambda eta", real=True)
says_longer = 0
for longer_wins, chance in ((True, eta), (False, 1 - eta)):
    for longer_first, written in ((True, lam), (False, 1 - lam)):
        # the label is +1 where the winner stands first
        rate = e_p if longer_wins == longer_first else e_n
        says_longer += chance * written * ((1 - rate) if longer_wins else rate)
plus = lam * e_p + (1 - lam) * e_n
minus = (1 - lam) * e_p + lam * e_n
assert sympy.expand(says_longer - (eta * (1 - plus) + (1 - eta) * minus)) == 0
(threshold,) = sympy.solve(sympy.Eq(says_longer, half), eta)
assert sympy.simplify(threshold - (half - minus) / (1 - plus - minus)) == 0
assert sympy.simplify(threshold.subs(lam, half)) == half

# %% [markdown]
# ### A pair that is mis-ranked
#
# Answer $c$ beats $d$ by half a unit of reward. Say that somebody has spun $d$ out: it is now the
# longer answer, and no better than before. Our annotator likes what comes first, and the longer
# answer usually does. We enumerate all outcomes of this one pair, and draw the same with
# `noise.flip_tied`. The one change against T2 (a): `prior`, the probability that the winner is
# written first, now depends on which answer wins.

# %% tags=["check", "claim-tied-order"]
at = {e_p: rate_pos, e_n: rate_neg, lam: first_rate}
two = rewards[1:]  # answer 0 is the short one, c, and 1 the long one, d
true_eta = expit(two[1] - two[0])
pair = list_pairs(two, two)
winner_first = np.where(pair.winner == 1, first_rate, 1 - first_rate)
tied = annotate(pair, rate_pos, rate_neg, prior=winner_first)

# The noisy label speaks for the long answer if that wins and the label was kept, or the reverse.
for_long = (tied.winner == 1) == (tied.noisy == tied.label)
seen = tied.probability[for_long].sum()
assert np.isclose(seen, float(says_longer.subs(at | {eta: true_eta})))

truth = np.where(generator.random(draws) < true_eta, 1, -1)  # +1: the long answer wins
noisy = noise.flip_tied(truth, np.ones(draws), rate_pos, rate_neg, generator, first_rate=first_rate)
assert abs((noisy > 0).mean() - seen) < 4 * 0.5 / np.sqrt(draws)
assert (true_eta > 0.5) != (seen > 0.5)  # mis-ranked
shares = {"d, the longer, truly wins": true_eta, "the noisy label says so": seen}
pd.Series(shares, name="probability").to_frame()

# %% [markdown]
# ### Swapping afterwards does not repair it, randomising before does
#
# Now Lemma 1's coin is tossed over the finished data. The rates *given the label* come out equal,
# as promised, so a look at the labels alone suggests symmetric noise. But the rates *given who
# wins*, $\varepsilon_+$ and $\varepsilon_-$, stay apart: the flips had already been drawn, and a
# swap moves a pair together with its flip. Each loss still prefers the wrong order.
#
# With the order drawn before the annotation, $\lambda = \tfrac12$, the same annotator errs at one
# rate whoever wins, and every loss ranks the pair as it should be.

# %% tags=["check", "claim-tied-order"]
cases = {
    "longer mostly first": tied,
    "half swapped afterwards": swap_half(tied),
    "order drawn before": annotate(pair, rate_pos, rate_neg, prior=0.5),
}
by_label = ["flipped if y = +1", "if y = −1"]
by_winner = ["flipped if d wins (ε₊)", "if c wins (ε₋)"]
right = f"losses (of {len(fns)}) that rank it rightly"
report = pd.DataFrame(index=pd.Index(cases, name="the data"))
for how, table in cases.items():
    report.loc[how, by_label] = measure_rates(table)[[1, -1]].tolist()
    report.loc[how, by_winner] = measure_rates(table, by="winner")[[1, 0]].tolist()
    turned = table.assign(score=-table.score)  # the scores of `table` are r* itself
    report.loc[how, right] = sum(measure_risk(table, fn) < measure_risk(turned, fn) for fn in fns)
late, before = (report.loc[how] for how in list(cases)[1:])
assert np.isclose(*late[by_label])  # it looks symmetric …
assert np.allclose(late[by_winner], [float(plus.subs(at)), float(minus.subs(at))])  # … and is not
assert np.isclose(*before[by_winner])
assert [late[right], before[right]] == [0, len(fns)]
report.reset_index()

# %% [markdown]
# ### The whole range of pairs
#
# What to expect of the figure: a straight line through the centre where the order was drawn by a
# coin, and a higher one, which crosses ½ too early, where the longer answer stands first. If the
# shaded strip had no width, T2 (b) would be refuted.

# %%
grid = np.linspace(0, 1, 401)
noisy_eta = says_longer.subs({e_p: rate_pos, e_n: rate_neg})
parts = []
for order, chance in {"drawn before annotation": half, "longer first": first_rate}.items():
    line = sympy.lambdify(eta, noisy_eta.subs(lam, chance))(grid)
    parts.append(pd.DataFrame({"eta": grid, "order": order, "noisy_eta": line}))
table = pd.concat(parts)
figures.save(figures.fig_t2_tied_order(table), "fig_t2_tied_order", table, profile=profile)

# %% tags=["hide-input"]
low = float(threshold.subs(at))
Markdown(
    f"**Reading.** With the longer answer first in {first_rate:.0%} of the pairs, every pair whose "
    f"longer answer truly wins between {low:.0%} and 50% of the time is ranked the wrong way "
    f"round, that is, up to a reward gap of {abs(logit(low)):.2f}. More data does not help: the "
    "majority itself is wrong."
)

# %% [markdown]
# **Try it.** Put λ at ½ and move the two error rates: the lines tilt, and no strip opens. Then set
# λ to 1: now the strip opens as soon as the two rates differ, and the more they differ the wider.
# In a viewer without scripts (such as GitHub's) only a description stands here, and the figure
# above shows the same for fixed values.

# %% tags=["hide-input"]
explorables.t2_tied_order()

# %% [markdown]
# > **Takeaway from T2 (b).** A position bias together with an order that is tied to the
# > answers becomes a bias for an answer, and close pairs are learned the wrong way round, by every
# > loss. Swapping the finished data hides this and repairs nothing. Drawing the order before the
# > annotation prevents it.
#
# **Quick check.** Set $\varepsilon_p = \varepsilon_n$. Is a tied order still harmful?
#
# <details><summary>Answer</summary>
#
# No: $\varepsilon_+ = \varepsilon_- = \varepsilon_p$ whatever $\lambda$ is. An annotator without a
# favourite position cannot be misled by positions. It takes both, a position bias and an order that
# is tied to the answers.
# </details>

# %% [markdown]
# ## T3 · Symmetric losses do not see symmetric noise
#
# **Why it matters.** With the order drawn by a coin we may think of one rate
# $\varepsilon < \tfrac12$ (T2). What does minimising
# $\tilde R$ instead of $R$ do to the solution? It depends on one property of the loss.
#
# **Statement.** For any loss,
#
# $$\tilde R = (1 - 2\varepsilon)\,R + \varepsilon\;\mathbb{E}\big[\ell(z) + \ell(-z)\big].$$
#
# A loss is *symmetric* if $\ell(z) + \ell(-z) = K$ for every $z$. Then
# $\tilde R = (1 - 2\varepsilon)\,R + \varepsilon K$: the same minimisers, and gradients that are
# $1 - 2\varepsilon$ times as long and point the same way. At $\varepsilon = \tfrac12$, and not
# before, everything is lost.
#
# **Derivation.** A pair of clean margin $z$ whose label is flipped with probability $\varepsilon$
# costs $(1-\varepsilon)\,\ell(z) + \varepsilon\,\ell(-z)$ on average: a function of $z$, and so a
# loss again.


# %%
def add_noise(loss, noise_rate):
    """z ↦ (1−ε)·ℓ(z) + ε·ℓ(−z): what a pair of clean margin z costs if its label may be flipped."""
    return lambda z: (1 - noise_rate) * loss(z) + noise_rate * loss(-z)


def logistic_loss(z):
    return sympy.log(1 + sympy.exp(-z))


def sigmoid_loss(z):
    return 1 / (1 + sympy.exp(z))


# %% [markdown]
# The rest is algebra: for an arbitrary loss, for a symmetric one, and for these two. Only the
# logistic loss gets a gradient of its own from the noise. The output is what a symmetric loss
# becomes.

# %% tags=["check", "claim-same-minimisers"]
eps, K = sympy.symbols("varepsilon K", real=True)
noisy_loss = add_noise(ell, eps)(z)
# for any loss
assert sympy.expand(noisy_loss - ((1 - 2 * eps) * ell(z) + eps * (ell(z) + ell(-z)))) == 0

symmetric_loss = noisy_loss.subs(ell(-z), K - ell(z))
line = (1 - 2 * eps) * ell(z) + eps * K
assert sympy.expand(symmetric_loss - line) == 0
assert sympy.expand(sympy.diff(symmetric_loss, z) - (1 - 2 * eps) * sympy.diff(ell(z), z)) == 0

for loss, name in ((logistic_loss, "logistic"), (sigmoid_loss, "sigmoid")):
    assert sympy.simplify(loss(z) - losses.get(name).expr(z)) == 0  # the package's loss is this one
    extra = sympy.diff(add_noise(loss, eps)(z) - (1 - 2 * eps) * loss(z), z)
    assert (sympy.simplify(extra) == 0) == (name == "sigmoid")  # logistic: a gradient of its own
sympy.Eq(noisy_loss, line)

# %% [markdown]
# ### The check: which rewards have the least risk?
#
# We try all rewards on a grid with $r(d) = 0$ and ask which have the least risk, clean and noisy.
# For a symmetric loss the noisy risk must be $(1 - 2\varepsilon)R + \varepsilon K$ everywhere, with
# the same winners. At $\varepsilon = \tfrac12$ it must be flat, and just below it must not be.
# **The counterexample is the logistic loss**: no $K$ fits, and its winner moves.

# %% tags=["check", "claim-same-minimisers"]
# only differences count, so r(d) = 0
candidates = np.array([(b, c, 0.0) for b, c in product(np.linspace(-4, 4, 257), repeat=2)])
margins_of = torch.tensor(candidates[:, pairs.winner] - candidates[:, pairs.loser])
best = pd.DataFrame(columns=["on clean labels: r(b), r(c), r(d)", "on noisy labels"])
for name in ("logistic", "sigmoid", "ramp", "unhinged"):
    loss = losses.get(name)
    clean, noisy, nearly_blind, blind = (
        (pairs.probability.to_numpy() * add_noise(loss.fn, rate)(margins_of).numpy()).sum(axis=1)
        for rate in (0, noise_rate, 0.499, 0.5)
    )
    rest = noisy - (1 - 2 * noise_rate) * clean  # ε·K, if there is a K
    assert (np.ptp(rest) < 1e-12) == loss.symmetric
    assert not loss.symmetric or np.allclose(rest, noise_rate * loss.constant)
    assert (np.ptp(blind) < 1e-12) == loss.symmetric
    assert np.ptp(nearly_blind) > 1e-4
    winners = [np.flatnonzero(risk < risk.min() + 1e-12) for risk in (clean, noisy)]
    assert np.array_equal(*winners) == loss.symmetric
    best.loc[name] = [candidates[least[0]] for least in winners]
assert np.array_equal(best.iloc[0, 0], rewards)  # logistic, clean: the true ones
assert all(reward[1] < reward[2] for reward in best.loc["unhinged"])  # c below d
best

# %% [markdown]
# On clean labels the logistic loss finds the true rewards, and under noise it shrinks them, the
# large step more than the small one. The symmetric losses do not move, but none of them knows *how
# much* better an answer is. The ramp loss is content with any steps of at least 1 (the first of its
# many winners is shown), and the sigmoid loss would like steps without end: b stands at the bound
# of the grid, and c where the pulls of b and d balance. That is the price of ignoring noise, and
# [notebook 03](03_symmetric_losses.ipynb) proves that it must be paid.
#
# The unhinged loss, $1 - z$, is a warning. It is symmetric, hence unmoved by noise, but has no
# lower bound: it pushes each answer to the end of the grid on the side of its wins minus its
# losses, and so puts $c$ below $d$ on clean labels too. ($d$ is held at 0 while $c$ may go to −4;
# in a box for all three they would tie. Real reversals: [notebook 04](04_rank_and_policy.ipynb),
# which says which symmetric losses order rightly.)
#
# Which losses have the property? The spread of $\ell(z) + \ell(-z)$ over the margins tells.

# %% tags=["check", "claim-same-minimisers"]
table = theory.tabulate_losses(losses.LOSSES, np.linspace(-5, 5, 101))
spread = table.groupby("loss", sort=False)["sum"].agg(np.ptp)
assert all((spread[name] < 1e-9) == losses.get(name).symmetric for name in spread.index)
kinds = {"constant": spread < 1e-9, "not constant": spread >= 1e-9}
rows = {
    kind: [[figures.label(name) for name in spread.index[which]]] for kind, which in kinds.items()
}
pd.DataFrame.from_dict(rows, orient="index", columns=["losses"]).rename_axis(
    "ℓ(z) + ℓ(−z)"
).reset_index()

# %% [markdown]
# ### What noise does to the logistic loss: a penalty on every margin
#
# The term $\varepsilon\,\mathbb{E}[\ell(z) + \ell(-z)]$ is an added penalty. For the logistic loss,
# which is DPO's,
#
# $$\ell(z) + \ell(-z) = \log(2 + 2\cosh z), \qquad \text{slope } \tanh\tfrac z2, \qquad
# \text{curvature } \tfrac12 \operatorname{sech}^2\tfrac z2 > 0 .$$
#
# It is least at 0, grows like $z^2/4$ near it, as weight decay does, and like $|z|$ far
# out. It pulls *every* margin to 0, the right ones too. How far? Take a pair that is always won,
# for which clean labels ask for an infinite margin. Under noise its minimum lies at
# $z = \log\frac{1-\varepsilon}{\varepsilon}$.

# %% tags=["check", "claim-same-minimisers"]
penalty = logistic_loss(z) + logistic_loss(-z)
raised = sympy.expand(sympy.exp(penalty)) - (2 + 2 * sympy.cosh(z)).rewrite(sympy.exp)
assert sympy.simplify(raised) == 0
slope = sympy.diff(penalty, z) - sympy.tanh(z / 2)
assert sympy.simplify(slope.rewrite(sympy.exp)) == 0
curvature = sympy.diff(penalty, z, 2) - sympy.sech(z / 2) ** 2 / 2
assert sympy.simplify(curvature.rewrite(sympy.exp)) == 0
assert sympy.series(penalty, z, 0, 4).removeO() == 2 * sympy.log(2) + z**2 / 4

# Far out the penalty minus z tends to 0, that is, its exponential to 1.
far = sympy.expand(sympy.exp(penalty) * sympy.exp(-z))
assert sympy.limit(far, z, sympy.oo) == 1

noisy_slope = sympy.diff(add_noise(logistic_loss, eps)(z), z)
assert sympy.simplify(noisy_slope.subs(z, sympy.log((1 - eps) / eps))) == 0
assert sympy.simplify(sigmoid_loss(z) + sigmoid_loss(-z)) == 1  # a constant, and no penalty

# %% [markdown]
# What to expect of the figure: a bowl for the logistic loss and a flat line for the sigmoid loss.
# On the right, no minimum without noise, and minima that move towards 0 as the rate grows. Were the
# logistic loss as robust as the sigmoid loss, the dots would not be there.

# %%
span = np.linspace(-2, 5, 701)
shown = [("logistic", rate) for rate in (0.0, 0.1, 0.2, 0.3, 0.4)]
parts = []
for name, rate in [*shown, ("sigmoid", 0.4)]:
    value, mirror = (losses.get(name).fn(torch.tensor(side)).numpy() for side in (span, -span))
    part = pd.DataFrame({"loss": name, "noise_rate": rate, "margin": span})
    parts.append(part.assign(clean=(1 - 2 * rate) * value, penalty=rate * (value + mirror)))
table = pd.concat(parts, ignore_index=True)
table["risk"] = table.clean + table.penalty
figure = figures.fig_t3_logistic_penalty(table)
figures.save(figure, "fig_t3_logistic_penalty", table, profile=profile)

# %% tags=["check", "claim-same-minimisers"]
logistic_rows = table[table.loss == "logistic"]
best_rows = logistic_rows.loc[logistic_rows.groupby("noise_rate").risk.idxmin()]
lowest = best_rows.set_index("noise_rate").margin
rates = lowest.index[1:].to_numpy()  # without noise there is no minimum: the end of the axis
assert np.allclose(lowest[rates], -logit(rates), atol=span[1] - span[0])  # log((1−ε)/ε)
assert lowest[0.0] == span[-1]

# %% tags=["hide-input"]
Markdown(
    f"**Reading.** With noise of 0.1 the logistic loss wants a margin of {lowest[0.1]:.2f} for a "
    f"pair that is always won, and with noise of 0.4 one of {lowest[0.4]:.2f}. The sign is still "
    "right: on a single pair the penalty only shrinks. Trouble starts when pairs share rewards and "
    "are shrunk unevenly, and when a flexible model fits each flipped label on its own (notebooks "
    "04 and 05)."
)

# %% [markdown]
# **Try it.** Raise ε from 0. The minimum of the logistic loss comes in from the right and moves on
# towards 0, while those of sigmoid and ramp stay where they are: their curves only flatten, and at
# ε = ½ they would be flat.

# %% tags=["hide-input"]
explorables.t3_noisy_losses()

# %% [markdown]
# > **Takeaway from T3.** For a symmetric loss, symmetric noise is a factor $1 - 2\varepsilon$
# > on the gradient, and the minimisers stay. For the logistic loss it is also a penalty that pulls
# > every margin to 0, so that the minimiser depends on the noise rate.
#
# **Quick check.** How does a symmetric loss differ from a standard logistic loss in its robustness
# to label noise?
#
# <details><summary>Answer</summary>
#
# Under flips at rate $\varepsilon$ its risk becomes $(1-2\varepsilon)R + \varepsilon K$, with the
# same minimisers. The logistic risk becomes
# $(1-2\varepsilon)R + \varepsilon\,\mathbb{E}\log(2 + 2\cosh z)$, whose second term pulls margins
# to 0, so that its minimiser depends on the noise rate.
# </details>

# %% [markdown]
# ## T4 · A symmetric loss is its own correction
#
# **Why it matters.** There is another way to deal with noise: know its rate and undo it. rDPO does
# this for the logistic loss. SymPO is the case in which the correction needs no rate.
#
# **Statement.** The *corrected loss*
#
# $$\ell_\varepsilon(z) = \frac{(1-\varepsilon)\,\ell(z) - \varepsilon\,\ell(-z)}{1 -
# 2\varepsilon} = \frac{\ell(z) - \varepsilon\,\big(\ell(z) + \ell(-z)\big)}{1 -
# 2\varepsilon}$$
#
# is *unbiased*: its average over flips at rate $\varepsilon$ is $\ell(z)$, for every loss. For a
# symmetric loss the sum in the second form is $K$, so that $\ell_\varepsilon$ is the same loss
# scaled and shifted, and minimising $\ell$ minimises $\ell_\varepsilon$ *for every $\varepsilon$
# at once*. For all other losses the sum is a function of $z$, and the rate matters.
#
# With the logistic loss it is rDPO.


# %%
def correct(loss, assumed_rate):
    """z ↦ ((1−ε)·ℓ(z) − ε·ℓ(−z)) / (1−2ε): the loss whose average over flips at rate ε is ℓ(z)."""
    scale = 1 - 2 * assumed_rate
    return lambda z: ((1 - assumed_rate) * loss(z) - assumed_rate * loss(-z)) / scale


# %% [markdown]
# **Derivation.** Where does the formula come from? We look for two numbers, the corrected losses at
# $z$ and at $-z$, whose averages over the flip are $\ell(z)$ and $\ell(-z)$. Two equations, two
# unknowns: sympy solves them, so the correction is the only one there is. The output is what it
# becomes for a symmetric loss.

# %% tags=["check", "claim-correction"]
plain, mirrored = sympy.symbols("A B")  # the corrected loss at z and at −z
equations = [
    (1 - eps) * plain + eps * mirrored - ell(z),
    (1 - eps) * mirrored + eps * plain - ell(-z),
]
solution = sympy.solve(equations, [plain, mirrored], dict=True)[0]
corrected = correct(ell, eps)(z)
assert sympy.simplify(solution[plain] - corrected) == 0
assert sympy.simplify(add_noise(correct(ell, eps), eps)(z) - ell(z)) == 0  # unbiased
told = losses.pair_losses()["rdpo"].expr(z, noise_rate=sympy.Rational(3, 10))
gap = told - correct(logistic_loss, sympy.Rational(3, 10))(z)
assert all(abs(gap.subs(z, at).evalf(30)) < 1e-15 for at in (-3, 0, 2))  # the package's rDPO

general = (ell(z) - eps * (ell(z) + ell(-z))) / (1 - 2 * eps)
assert sympy.simplify(corrected - general) == 0
affine = (ell(z) - eps * K) / (1 - 2 * eps)
assert sympy.simplify(corrected.subs(ell(-z), K - ell(z)) - affine) == 0  # where ℓ(z) + ℓ(−z) = K
sympy.Eq(sympy.Function(r"\ell_\varepsilon")(z), affine)

# %% [markdown]
# **Numeric check.** For every loss of the package and three rates: is the correction unbiased, and
# does it differ from $\ell/(1-2\varepsilon)$ by a constant only? The second must be so for the
# symmetric losses, and **fails for all others**. Then by sampling: the mean corrected logistic loss
# on *flipped* labels must meet the mean plain one on *true* labels. Without the correction it does
# not.

# %% tags=["check", "claim-correction"]
axis = torch.linspace(-5, 5, 101, dtype=torch.float64)
for rate in (0.1, 0.3, 0.45):
    for loss in losses.LOSSES.values():
        fixed = correct(loss.fn, rate)
        assert torch.allclose(add_noise(fixed, rate)(axis), loss.fn(axis))
        rest = fixed(axis) - loss.fn(axis) / (1 - 2 * rate)
        assert bool(torch.allclose(rest, rest[:1])) == loss.symmetric

fn = losses.get("logistic").fn
flips = noise.flip(labels, noise_rate, noise_rate, generator) * labels
seen_margins = torch.tensor(flips * margins)
told = correct(fn, noise_rate)(seen_margins)
target = measure_risk(outcomes, fn, label="label")
error = told.std().item() / np.sqrt(draws)
assert abs(told.mean().item() - target) < 4 * error
assert not abs(fn(seen_margins).mean().item() - target) < 4 * error

# %% [markdown]
# ### What noise costs both: signal and scatter
#
# Unbiased is not free. The gradient that a pair sends to its margin pushes the right way if the
# label was kept, and the wrong way if it was flipped. The mean push is the *signal*, and its
# standard deviation over the flips is the *scatter*. Their ratio decides what can be learned from a
# number of pairs: with half the ratio, it takes four times as many. For a pair of clean margin $z$
# it is
#
# $$\text{rDPO: } \frac{1-2\varepsilon}{\sqrt{\varepsilon(1-\varepsilon)}}\;\sigma(-z), \qquad
# \text{symmetric, where it has a slope: }
# \frac{1-2\varepsilon}{\sqrt{\varepsilon(1-\varepsilon)}} \cdot \frac12 .$$
#
# Both go to 0 as $\varepsilon \to \tfrac12$: nobody gets around that. They agree at $z = 0$, where
# training starts, since $\sigma(0) = \tfrac12$. rDPO is the clearer one on pairs that the model
# still has wrong ($z < 0$, up to twice as clear), SymPO on pairs that it has right. (This
# comparison is ours.)
#
# **Derivation.** The gradient takes two values: that of $\ell(z)$ with probability $1-\varepsilon$
# and that of $\ell(-z)$ with probability $\varepsilon$. So its mean and variance are sums of two
# terms. sympy also finds that a factor on the loss, such as the correction's $1/(1-2\varepsilon)$,
# leaves the ratio alone and multiplies the variance: **a comparison of variances would call the
# same method noisier**.


# %% tags=["check", "claim-correction"]
def find_moments(kept, flipped, noise_rate):
    """Mean and variance of a gradient that is `kept` with probability 1−ε, else `flipped`."""
    mean = (1 - noise_rate) * kept + noise_rate * flipped
    deviations = (1 - noise_rate) * (kept - mean) ** 2 + noise_rate * (flipped - mean) ** 2
    return mean, deviations


common = (1 - 2 * eps) ** 2 / (eps * (1 - eps))
squared_ratio = {"symmetric": common / 4, "rDPO": common * sigmoid_loss(z) ** 2}  # σ(−z)

corrected_logistic = correct(logistic_loss, eps)
costs = {
    "symmetric": (ell(z), K - ell(z)),  # whatever the loss, if ℓ(z) + ℓ(−z) = K
    "rDPO": (corrected_logistic(z), corrected_logistic(-z)),
}
for method, (kept, flipped) in costs.items():
    slopes = [sympy.diff(cost, z) for cost in (kept, flipped)]
    mean, variance = find_moments(*slopes, eps)
    assert sympy.simplify(mean**2 / variance - squared_ratio[method]) == 0
    scaled_mean, scaled_variance = find_moments(*(3 * slope for slope in slopes), eps)
    assert sympy.simplify(scaled_mean**2 / scaled_variance - mean**2 / variance) == 0
    assert sympy.simplify(scaled_variance - variance) != 0

# %% [markdown]
# **Numeric check.** The derivation could misread what a gradient is. So we flip labels, let
# autograd differentiate the losses that train, and compare the ratio of what comes back with the
# formula, to within the few parts in a hundred that this many draws allow.

# %% tags=["check", "claim-correction"]
rows = []
for rate in (0.1, 0.3, 0.45):
    signs = torch.tensor(noise.flip(np.ones(draws), rate, rate, generator))
    methods = {
        "symmetric": losses.get("sigmoid").fn,
        "rDPO": correct(losses.get("logistic").fn, rate),
    }
    for (method, fn), margin in product(methods.items(), (-2.0, 0.0, 2.0)):
        margins_now = torch.full((draws,), margin, dtype=torch.float64, requires_grad=True)
        (slopes,) = torch.autograd.grad(fn(signs * margins_now).sum(), margins_now)
        sampled = abs(slopes.mean().item()) / slopes.std().item()
        exact = math.sqrt(squared_ratio[method].subs({eps: rate, z: margin}))
        assert abs(sampled - exact) < 5 / math.sqrt(draws) + 0.03 * exact
        rows.append([rate, method, margin, exact, sampled])
table = pd.DataFrame(rows, columns=["ε", "loss", "z", "derived", "sampled"])
table.pivot_table(index=["loss", "z"], columns="ε", sort=False)

# %% [markdown]
# ### What a wrong rate costs rDPO
#
# rDPO has to be *told* the rate, and nobody knows it. Let the truth be $\varepsilon$ and let it be
# told $\hat\varepsilon$. Then what it minimises is the plain loss under noise of the *residual
# rate*
#
# $$\varepsilon' = \frac{\varepsilon - \hat\varepsilon}{1 - 2\hat\varepsilon}.$$
#
# Told too little, $\varepsilon' > 0$: some noise is left, and with it some of the penalty of T3.
# Told too much, $\varepsilon' < 0$: the penalty changes sign and *pushes margins apart*. A residual
# rate below 0 makes a pair won with probability $\eta$ look like one won with probability
# $\tfrac12 + \frac{1-2\varepsilon}{1-2\hat\varepsilon}(\eta - \tfrac12)$, which may exceed 1. Then
# no finite margin is large enough. (The formula and the figure are ours.)
#
# For a symmetric loss the residual rate does what any rate does, which is nothing.

# %% tags=["check", "claim-correction"]
hat = sympy.Symbol(r"\hat{\varepsilon}", real=True)
minimised = add_noise(correct(ell, hat), eps)(z)
residual = (eps - hat) / (1 - 2 * hat)
assert sympy.simplify(minimised - add_noise(ell, residual)(z)) == 0
assert sympy.simplify(minimised.subs(hat, eps) - ell(z)) == 0
assert sympy.simplify(minimised - ell(z)) != 0  # a wrong rate is not unbiased

# A symmetric loss keeps a positive factor, hence its minimisers.
shrunk = sympy.diff(minimised.subs(ell(-z), K - ell(z)), z) / sympy.diff(ell(z), z)
assert sympy.simplify(shrunk - (1 - 2 * eps) / (1 - 2 * hat)) == 0

# %% [markdown]
# To check the formula, `fit_margin` minimises what the noisy labels of a pair cost, without using
# it.


# %%
def looks_like(gap, *, noise_rate, assumed_rate):
    """The win probability of a pair of true reward gap `gap` as rDPO sees it; may exceed 1."""
    return 0.5 + (1 - 2 * noise_rate) / (1 - 2 * assumed_rate) * (expit(gap) - 0.5)


def fit_margin(gap, *, noise_rate, assumed_rate, bound=30.0):
    """The margin at which the noisy labels of a pair of true reward gap `gap` cost rDPO least."""
    told = correct(losses.get("logistic").fn, assumed_rate)
    # won and kept, or lost and flipped
    wins = (1 - noise_rate) * expit(gap) + noise_rate * expit(-gap)

    def risk(margin):
        score = torch.tensor(margin, dtype=torch.float64)
        return float(wins * told(score) + (1 - wins) * told(-score))

    return minimize_scalar(risk, bounds=(-bound, bound), options={"xatol": 1e-9}).x


def count_wrong_orders(problems, *, noise_rate, assumed_rate, clip):
    """The shares of problems in which rDPO's best rewards reverse a pair, or only tie one."""
    gaps = theory.compute_gaps(problems.reward)
    belief = looks_like(gaps, noise_rate=noise_rate, assumed_rate=assumed_rate)
    learned = theory.fit_logistic(problems.sampling, belief, clip=clip)
    return [errors.mean() for errors in theory.find_order_errors(problems.reward, learned)]


# %% [markdown]
# What to expect of the figure. First, for three pairs, the margin that rDPO learns, by the formula
# and fitted: the truth at the true rate, and a steep rise beyond it. Where the formula sees no
# finite margin, the fit must run to the end of its range.
#
# Second, random problems with four answers, infinite data and unevenly sampled pairs. The best rDPO
# rewards, kept within ±20 as in the paper's MNIST experiments, may reverse a pair or tie it at the
# bounds, since pairs that share answers are shrunk or stretched unevenly (notebook 04 has an
# example with four answers). Only at the true rate expect neither. The ramp loss is told nothing
# and has one value: zero, for T3 leaves its clean minimisers as they are, and those order rightly
# (T7, notebook 04).

# %%
told_rates = np.unique([*np.linspace(0, 0.48, 49).round(2), noise_rate])
generator = np.random.default_rng(seed)
worlds = theory.draw_problems(problems, spread=2.0, unevenness=1.5, generator=generator)
counts = [
    count_wrong_orders(worlds, noise_rate=noise_rate, assumed_rate=told, clip=20.0)
    for told in told_rates
]
orders = pd.DataFrame(counts, index=told_rates, columns=["reversed", "tied"])

seen = looks_like(theory.compute_gaps(worlds.reward), noise_rate=noise_rate, assumed_rate=0)
by_ramp = theory.fit_integer("ramp", worlds.sampling, seen)
ramp_wrong = sum(errors.mean() for errors in theory.find_order_errors(worlds.reward, by_ramp))

# %% tags=["hide-input"]
series = {
    ("order", "rDPO: reversed"): orders.reversed.to_numpy(),
    ("order", "rDPO: tied"): orders.tied.to_numpy(),
    ("order", "ramp: wrong"): ramp_wrong,
}
for gap in (0.5, 1.0, 2.0):
    probability = looks_like(gap, noise_rate=noise_rate, assumed_rate=told_rates)
    # Where it reaches 1 no finite margin is large enough, and the line ends.
    series["margin", f"{gap:g}"] = logit(np.where(probability < 1, probability, np.nan))
    series["fitted", f"{gap:g}"] = [
        fit_margin(gap, noise_rate=noise_rate, assumed_rate=told) for told in told_rates
    ]
parts = []
for (panel, name), value in series.items():
    key = {"panel": panel, "series": name, "noise_rate": noise_rate, "assumed_rate": told_rates}
    parts.append(pd.DataFrame({**key, "value": value}))
table = pd.concat(parts)
figures.save(figures.fig_t4_wrong_rate(table), "fig_t4_wrong_rate", table, profile=profile)

# %% tags=["check", "claim-correction"]
by_panel = table[table.panel != "order"].pivot_table(
    "value", index=["series", "assumed_rate"], columns="panel", dropna=False
)
finite = by_panel.margin.notna()
assert np.allclose(by_panel.fitted[finite], by_panel.margin[finite], rtol=0, atol=1e-3)
assert (by_panel.fitted[~finite] > 29).all()  # no margin is large enough
assert (~finite).any()
assert orders.loc[noise_rate].tolist() == [0, 0]
assert ramp_wrong == 0
assert orders.reversed.iloc[0] > 0  # told 0, rDPO is DPO

# %% tags=["hide-input"]
highest = orders.iloc[-1]
caveat = f"*{profiles.caveat(profile)}* " if profiles.caveat(profile) else ""
Markdown(
    f"{caveat}**Reading.** Of {problems} problems with a true rate of {noise_rate:g}, rDPO that is "
    f"told 0 (that is, DPO) reverses some pair in {orders.reversed.iloc[0]:.1%}, and rDPO that is "
    f"told {orders.index[-1]:g} in {highest.reversed:.1%}, with a tie at the bounds in another "
    f"{highest.tied:.1%}. Told the truth, it orders all of them rightly, and so does the ramp "
    "loss, which is told nothing."
)

# %% [markdown]
# A word of fairness. Told the truth, rDPO recovers the *size* of the rewards as well, which no
# symmetric loss does. And the problems of the right panel were drawn uneven on purpose: most of
# them are ordered rightly by plain DPO too.
#
# > **Takeaway from T4.** Correcting a loss undoes the noise if the rate is right. Told too
# > little, rDPO shrinks margins; told too much, it lets some grow for ever; wrong orders follow
# > from both. A symmetric loss is its own correction, for every rate.
#
# **Quick check.** You run rDPO with $\hat\varepsilon = 0.2$, and the labels turn out to be clean.
# What does it minimise?
#
# <details><summary>Answer</summary>
#
# The plain logistic loss under noise of the residual rate $\varepsilon' = -0.2/0.6 = -\tfrac13$.
# The penalty of T3 has the opposite sign: margins are pushed apart. A pair that is truly won with
# probability $\eta = 0.9$ looks as if it were won with probability
# $0.5 + 0.4/0.6 = 1.17$, so that its margin has no bound.
# </details>
#
# ## What to do with it
#
# - **Draw the order of each pair by a coin before annotators see it.** Swapping afterwards does not
#   help: where the order was tied to the answers, it is too late.
# - **Keep the score antisymmetric.** A reward model's is, and so is DPO's margin; a bonus for the
#   first place is not.
# - **Rate unknown:** a symmetric loss with a lower bound, such as sigmoid or ramp. It learns the
#   order of the answers and not how far apart they are.
# - **Rate well known, and the sizes of rewards needed:** rDPO.
# - **Either way noise costs pairs.** [Notebook 14](14_finite_sample.ipynb) counts how many.
#
# ## Exercises
#
# **1.** Show that the corrected logistic loss is
# $\log(1 + e^{-z}) - \frac{\varepsilon}{1-2\varepsilon}\,z$. Is it convex? Is it bounded below?
#
# <details><summary>Answer</summary>
#
# Use $\log(1 + e^{z}) = z + \log(1 + e^{-z})$. It is convex, a convex function plus a line, but
# falls without bound as $z \to \infty$. As long as flipped labels show up with rate $\varepsilon$
# at every pair, their large cost holds it back. A model that memorises each label meets no such
# resistance, and its margins grow for ever, even with the true rate.
# </details>
#
# **2.** Set `rate_neg` to the value of `rate_pos` above and run all. Which check stops the
# notebook, and is it right to? Comment its line out: which is next?
#
# <details><summary>Answer</summary>
#
# The first counterexample: with equal rates there is nothing to symmetrise, so the risks under two
# rates and under their equivalent are the same, even with the bonus for the first place. (The
# swapped table still differs: with the bonus it matters who is written first, and a swap changes
# that.) Next the mis-ranked pair, by the quick check of T2 (b). A check that cannot fail would not
# be worth running.
# </details>
#
# ## Provenance

# %% tags=["hide-output"]
figures.save_provenance("02_noise_equivalence", profile=profile)
