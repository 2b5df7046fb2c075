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
# # 01 · Preferences as classification
#
# You will see that fitting a reward to preferences is binary classification with one odd feature:
# every example can be written down in two ways. That oddity is what the rest of the paper lives on.
#
# - Paper: Section 2.2 (reward modelling as binary classification).
# - Reads → writes: nothing → `fig_t1_margin_losses`, `fig_t1_two_ways`.
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
comparisons = 4000  # simulated comparisons
first_bonus = 0.5  # what a biased score adds to the answer written first
beta = 0.1  # DPO's β
seed = 0

# %%
from itertools import permutations
from math import comb

import numpy as np
import pandas as pd
import statsmodels.api as sm
import sympy
import torch
from IPython.display import Markdown
from scipy.special import expit
from torch.nn import functional

from sympo import losses
from sympo.book import figures, story, theory
from sympo.studies import profiles

profile = profiles.resolve_profile(profile)
figures.use_readable_tables()

# %% [markdown]
# ## T1 · Reward modelling is binary classification
#
# **Why it matters.** Nobody can say that an answer is worth 2.7. People can say which of two
# answers is better, so that is what is collected, and a *reward model* $r$ is fitted to it. If that
# fit is a classification problem, then all that is known about classification with wrong labels can
# be put to work on wrong preferences, and this is what the paper does.
#
# ### The words
#
# A *pair* $(a_1, a_2)$ is two answers to one prompt, in the order in which they are written down.
# Its *label* is $y = +1$ when $a_1$ is preferred and $y = -1$ when $a_2$ is. The *score* of a pair
# is $g(a_1, a_2) = r(a_1) - r(a_2)$, and its *margin* is
#
# $$z = y \cdot g(a_1, a_2) = r(\text{chosen}) - r(\text{rejected}).$$
#
# A positive margin means that the reward model agrees with the label. A *margin loss* $\ell(z)$
# charges for small margins, and the *risk* is its average, $R(g) = \mathbb{E}\,\ell(z)$. Training
# looks for the rewards of the least risk.
#
# Our example is that of notebook 00: four answers to “My bread is stale after a day. What can I
# do?”, with true rewards that we know because we made them up.

# %%
story.tabulate_answers()

# %% [markdown]
# Take a and b. Under the true rewards the label “a is better”, which is right, has the margin
# $r^*(a) - r^*(b)$; the label “b is better”, which is wrong, has minus that. What does a loss
# charge for each? The *0–1 loss* $\mathbb{1}[z \le 0]$ counts wrong labels, but it is flat, so that
# nothing can be learned from its slope. *Logistic*, $\log(1 + e^{-z})$, *hinge*,
# $\max(0, 1 - z)$, and *sigmoid*, $1/(1 + e^{z})$, have a slope.

# %%
margins = np.linspace(-4.5, 4.5, 361)
table = theory.tabulate_losses(["logistic", "hinge", "sigmoid"], margins)
zero_one = pd.DataFrame({"loss": "zero_one", "margin": margins, "value": 1.0 * (margins <= 0)})
table = pd.concat([zero_one, table[["loss", "margin", "value"]]], ignore_index=True)
gap = story.REWARDS["a"] - story.REWARDS["b"]
table["label"] = table.margin.round(9).map({gap: "right", -gap: "wrong"}).fillna("")
drawn = figures.fig_t1_margin_losses(table)
figures.save(drawn, "fig_t1_margin_losses", table, profile=profile)

# %% [markdown]
# Which of them should it be? Below we find the usual one, logistic, by asking where labels come
# from. Notebook 03 asks again, for labels that may be wrong.
#
# ### Where labels come from
#
# The usual model is **Bradley–Terry**: each answer has a true reward $r^*$, and $a_1$ is preferred
# with probability
#
# $$\eta(a_1, a_2) = \frac{e^{r^*(a_1)}}{e^{r^*(a_1)} + e^{r^*(a_2)}} = \sigma\big(r^*(a_1) -
# r^*(a_2)\big), \qquad \sigma(t) = \frac{1}{1 + e^{-t}}.$$
#
# (The function $\sigma$ is the *sigmoid*; the sigmoid loss is $\sigma(-z)$.) In the table, the
# answer of a row beats that of a column with the probability in the cell. Before you look: what is
# the sum of two entries that mirror each other in the diagonal?

# %%
rewards = pd.Series(story.REWARDS)
gaps = rewards.to_numpy()[:, None] - rewards.to_numpy()
wins = pd.DataFrame(expit(gaps), index=rewards.index, columns=rewards.index)
wins

# %% [markdown]
# Each mirrored couple sums to 1: somebody must win. That is $\sigma(-t) = 1 - \sigma(t)$, and the
# only thing about $\sigma$ that most of the theory needs. The paper allows any increasing $F$ with
# $F(-t) = 1 - F(t)$ in its place.
#
# ### Statement 1: the Bradley–Terry likelihood is the logistic loss of the margin
#
# $$-\log P(y \mid a_1, a_2) = \log\big(1 + e^{-z}\big), \qquad z = y\,\big(r(a_1) - r(a_2)\big).$$
#
# So maximising the likelihood of the labels, the classical way to fit Bradley–Terry, *is* training
# a binary classifier with the logistic loss, the loss of logistic regression. The derivation takes
# each label in turn and writes $e^{r_1}$ and $e^{r_2}$ as positive numbers. It compares
# exponentials: $-\log P = \ell$ says that $e^{\ell} \cdot P = 1$.

# %% tags=["check", "claim-classification"]
e1, e2 = sympy.symbols("e1 e2", positive=True)  # e^{r(a₁)}, e^{r(a₂)}
r1, r2 = sympy.log(e1), sympy.log(e2)
probability = {+1: e1 / (e1 + e2), -1: e2 / (e1 + e2)}  # Bradley–Terry
for y in (+1, -1):
    logistic = losses.get("logistic").expr(y * (r1 - r2))
    assert sympy.simplify(sympy.exp(logistic) * probability[y]) == 1

# %% [markdown]
# **Numeric check.** Anyone would train a classifier with the two classes "first" and "second" and
# the two rewards as its outputs with `cross_entropy`. PyTorch's own implementation must give the
# logistic loss of our registry, on random rewards and random labels.
#
# **Counterexample.** The statement hangs on Bradley–Terry. Under Thurstone's model the probability
# is $\Phi(r^*(a_1) - r^*(a_2))$ with the normal distribution function $\Phi$. Its likelihood is a
# margin loss too, but not the logistic one, and the same comparison fails.

# %% tags=["check", "claim-classification"]
generator = torch.Generator().manual_seed(seed)
outputs = 3 * torch.randn(1000, 2, dtype=torch.float64, generator=generator)  # r(a₁), r(a₂)
chosen = torch.randint(2, (1000,), generator=generator)
margins = (1 - 2 * chosen) * (outputs[:, 0] - outputs[:, 1])
logistic = losses.get("logistic").fn(margins)
assert torch.allclose(functional.cross_entropy(outputs, chosen, reduction="none"), logistic)

thurstone = -torch.special.log_ndtr(margins)
assert not torch.allclose(thurstone, logistic)

# %% [markdown]
# ### What it means in practice: logistic regression without an intercept
#
# Describe each pair by a row with $+1$ for the answer written first, $-1$ for the one written
# second, and 0 elsewhere. Then $g = r(a_1) - r(a_2)$ is a linear function of that row, with the
# rewards as weights. So any program for logistic regression can fit rewards. We simulate
# comparisons of the four answers and hand them to `statsmodels`, which has never heard of
# preferences.
#
# Two things to expect. The rewards come out right only *up to a constant*: adding 5 to every reward
# changes no difference, hence no probability. (In linear algebra: the columns of the table sum to
# zero, so one of them is redundant. We drop d, which fixes its reward at 0.) And the estimates
# miss by about their standard errors, which the regression reports.

# %% tags=["check", "claim-classification"]
numbers = np.random.default_rng(seed)
ordered = np.array(list(permutations(range(len(rewards)), 2)))
first, second = ordered[numbers.integers(len(ordered), size=comparisons)].T
labels = np.where(numbers.random(comparisons) < wins.to_numpy()[first, second], 1, -1)
table = np.eye(len(rewards))[first] - np.eye(len(rewards))[second]
assert np.linalg.matrix_rank(table) == len(rewards) - 1  # four answers, three free rewards
fit = sm.Logit(labels > 0, table[:, :-1]).fit(disp=0)
true = rewards.iloc[:-1]
assert (abs(fit.params - true.to_numpy()) < 4 * fit.bse).all()
fitted = pd.DataFrame({"true": true, "fitted": fit.params, "standard error": fit.bse})
fitted.rename_axis("reward of").reset_index()

# %% tags=["hide-input"]
worst = np.max(abs(fit.params - true.to_numpy()) / fit.bse)
Markdown(
    f"**Reading.** From {comparisons} comparisons and not a single rating, the rewards are "
    f"recovered to within {worst:.1f} standard errors, relative to the answer that was set to 0."
)

# %% [markdown]
# ### Statement 2: how a pair is written down does not matter
#
# The score is *antisymmetric*: $g(a_2, a_1) = -g(a_1, a_2)$. Swapping the two answers turns "first
# is better" into "second is better", so the label flips as well. Two minus signs cancel:
#
# $$z' = (-y) \cdot g(a_2, a_1) = (-y) \cdot \big(-g(a_1, a_2)\big) = z.$$
#
# The margin is unchanged, and with it *every* margin loss and *every* risk, whichever pairs are
# swapped. Here are both labels of a and b, each written in both ways.

# %%
two_ways = story.write_two_ways("a", "b")
drawn = figures.fig_t1_two_ways(two_ways)
figures.save(drawn, "fig_t1_two_ways", two_ways, profile=profile)

# %% [markdown]
# In ordinary classification nothing of the kind holds: there is no way to rewrite the
# picture of a cat as a picture of a dog.
#
# sympy knows nothing about the function $r$ or the loss $\ell$ below, so the assertion covers all
# of them. A score that is not antisymmetric gives a different margin, and the difference names the
# culprit.

# %% tags=["check", "claim-classification"]
a1, a2, y, b = sympy.symbols("a1 a2 y b", real=True)
r, loss = sympy.Function("r"), sympy.Function("ell")
written = y * (r(a1) - r(a2))
swapped = (-y) * (r(a2) - r(a1))
assert sympy.expand(written - swapped) == 0
assert loss(sympy.expand(written)) == loss(sympy.expand(swapped))  # whatever the loss

biased_written = y * (r(a1) - r(a2) + b)  # the answer written first gets a bonus b
biased_swapped = (-y) * (r(a2) - r(a1) + b)
assert sympy.expand(biased_written - biased_swapped) == 2 * b * y
sympy.expand(biased_written - biased_swapped)

# %% [markdown]
# **Numeric check.** We store the simulated comparisons with the chosen answer first, as many data
# sets do, so that every label is $+1$. Then we swap a random half of them and flip the labels of
# that half. The risk of some arbitrary rewards must not change, whatever the loss. It must change
# once a bonus for the answer written first enters the score.

# %% tags=["check", "claim-classification"]
learned = np.array([0.4, -0.2, 1.1, 0.3])  # any rewards will do
gap = labels * (learned[first] - learned[second])  # r(chosen) − r(rejected)
# −1 where the chosen answer is moved to second place
y = np.where(numbers.random(comparisons) < 0.5, -1, 1)
margins = {
    "chosen first": gap,
    "half swapped": y * (y * gap),
    "bonus": gap + first_bonus,
    "bonus, half swapped": y * (y * gap + first_bonus),
}
risks = pd.DataFrame(index=list(losses.LOSSES), columns=list(margins), dtype=float)
for how, z in margins.items():
    risks[how] = [loss.fn(torch.tensor(z)).mean().item() for loss in losses.LOSSES.values()]
assert np.allclose(risks["chosen first"], risks["half swapped"], rtol=0, atol=1e-12)
assert not np.isclose(risks["bonus"], risks["bonus, half swapped"], rtol=0, atol=1e-3).any()
risks.loc[["logistic", "hinge", "sigmoid", "ramp"]].rename_axis("loss").reset_index()

# %% [markdown]
# A bonus for the first place is no invention. A reward model that reads both answers in one text,
# or a judge that is shown both, has exactly this freedom, and position bias is its best known
# fault. Subtracting two rewards removes the freedom by construction.
#
# The same holds for the intercept of a logistic regression: an intercept *is* such a bonus. That is
# why the regression above had none.
#
# ### What is counted in the end: reward accuracy is one minus the 0–1 risk
#
# The studies report *reward accuracy*, the share of pairs whose better answer gets the higher
# reward. In these words it is $P(z > 0)$ on clean labels, that is, one minus the risk of the 0–1
# loss $\mathbb{1}[z \le 0]$. It depends on the *order* of the learned rewards and on nothing else:
# doubling all rewards, or cubing them, leaves it as it is. With Bradley–Terry labels even the true
# rewards do not reach accuracy 1, for the label itself is a throw of the dice.
#
# With four answers the accuracy is a sum over the table of wins: each of the six pairs is drawn
# equally often, and a win counts where the guessed rewards agree with it.


# %%
def reward_accuracy(wins, guess):
    """P(z > 0) where `wins[i, j]` is the probability that answer i beats answer j."""
    agrees = guess[:, None] > guess
    return wins[agrees].sum() / comb(len(guess), 2)


# %% tags=["check", "claim-classification"]
guesses = {
    "true": rewards,
    "cubed": rewards**3,
    "c and d exchanged": rewards.iloc[[0, 1, 3, 2]],
}
accuracy = {
    name: reward_accuracy(wins.to_numpy(), guess.to_numpy()) for name, guess in guesses.items()
}
assert accuracy["true"] == accuracy["cubed"]  # the order is the same
orders = {order: np.array(order) for order in permutations(range(len(rewards)))}
by_order = {order: reward_accuracy(wins.to_numpy(), guess) for order, guess in orders.items()}
assert max(by_order, key=by_order.get) == (3, 2, 1, 0)  # no other order does better
drawn = (gaps[first, second] * labels > 0).mean()  # the true rewards on the simulated labels
assert abs(drawn - accuracy["true"]) < 4 * 0.5 / np.sqrt(comparisons)
pd.DataFrame({"rewards": [*accuracy], "reward accuracy P(z > 0)": [*accuracy.values()]})

# %% tags=["hide-input"]
cost = accuracy["true"] - accuracy["c and d exchanged"]
Markdown(
    f"**Reading.** Of labels drawn from Bradley–Terry, the true rewards agree with "
    f"{accuracy['true']:.1%}; no other rewards do better. One exchanged pair of ranks costs "
    f"{cost:.1%} of all pairs. (The MNIST studies compare with the true order instead of drawn "
    "labels, so there the best is 100%.)"
)

# %% [markdown]
# ### The same for language models: DPO's margin is a score too
#
# A language model gives probabilities $\pi(a \mid x)$ to answers, not rewards. The policy that is
# best for a reward $r$ while staying close to a reference $\pi_\text{ref}$ (in the sense of a KL
# penalty with weight $\beta$) is
#
# $$\pi_r(a \mid x) = \frac{1}{Z(x)}\,\pi_\text{ref}(a \mid x)\,e^{r(x, a)/\beta}.$$
#
# Read backwards, every policy *is* a reward:
# $r(x, a) = \beta \log\frac{\pi(a \mid x)}{\pi_\text{ref}(a \mid x)} + \beta \log Z(x)$. The
# unpleasant normaliser $Z(x)$ depends on the prompt alone, so in the difference of two answers to
# one prompt it cancels:
#
# $$h = \beta \log\frac{\pi(a_1 \mid x)}{\pi_\text{ref}(a_1 \mid x)}
# - \beta \log\frac{\pi(a_2 \mid x)}{\pi_\text{ref}(a_2 \mid x)}
# = r(x, a_1) - r(x, a_2).$$
#
# So this is an antisymmetric score, and all of the above applies: DPO is the logistic loss of this
# margin, and the paper's method, SymPO, puts a *symmetric* loss (notebook 03) in its place. The
# check computes the left side from $\pi_r$, normaliser and all, and expects the right side. Its
# counterexample compares answers to two *different* prompts, where the normalisers do not cancel.

# %% tags=["check", "claim-classification"]
beta_symbol = sympy.Symbol("beta", positive=True)
r = sympy.symbols("r1:4", real=True)  # rewards of three answers to one prompt
reference = sympy.symbols("q1:4", positive=True)  # π_ref of the three
weights = [q * sympy.exp(reward / beta_symbol) for q, reward in zip(reference, r, strict=True)]
policy = [weight / sum(weights) for weight in weights]
assert sympy.simplify(sum(policy)) == 1
implicit = [beta_symbol * sympy.log(p / q) for p, q in zip(policy, reference, strict=True)]
h = sympy.expand_log(implicit[0] - implicit[1], force=True)
assert sympy.simplify(h - (r[0] - r[1])) == 0  # log Z has cancelled

other_weights = 2 * weights[0] + weights[1]  # of another prompt's answers: another normaliser
other_implicit = beta_symbol * sympy.log(weights[1] / other_weights / reference[1])
remains = beta_symbol * sympy.log(other_weights / sum(weights))
gap = implicit[0] - other_implicit - (r[0] - r[1]) - remains
assert sympy.simplify(sympy.expand_log(gap, force=True)) == 0
values = dict(zip((*r, *reference), (0.1, 0.2, 0.3, 0.2, 0.3, 0.5), strict=True))
assert abs(remains.subs(values | {beta_symbol: beta})) > 1e-3

# %% [markdown]
# ## Takeaways
#
# 1. Fitting a reward to preferences is binary classification, usually with the logistic loss.
# 2. Nothing forces that loss. Any margin loss may stand in its place, and notebook 03 asks which
#    should.
# 3. Pairs may be swapped freely. Notebook 02 uses this freedom to turn any position-dependent label
#    noise into symmetric noise.
#
# Points 1 and 3 are the paper's (Sections 2.2 and 3.1), and so is the question of point 2. The
# reading as a regression without intercept and the counterexamples are ours.
#
# ## Exercises
#
# **1.** Under the Bradley–Terry model, what determines the probability of preferring one action
# over another?
#
# <details><summary>Answer</summary>
#
# The difference of their rewards, through $\sigma(r^*(a_1) - r^*(a_2))$, and nothing else: not the
# size of the rewards, nor the other actions, nor the order in which the two are shown. Notebook 02
# is about annotators for whom that last point is not true.
# </details>
#
# **2.** How does Direct Preference Optimization (DPO) avoid the need for a separate reward model?
#
# <details><summary>Answer</summary>
#
# A policy and its reference determine a reward up to a term that depends on the prompt alone, and
# that term cancels in the margin of a pair. So the logistic loss can be written in the policy's own
# log-probabilities, and the policy is trained as the classifier.
# </details>
#
# **3.** Which of these scores are antisymmetric: $r(a_1)^3 - r(a_2)^3$; $r(a_1)\,r(a_2)$;
# $\tanh(r(a_1) - r(a_2))$; $r(a_1) - 2\,r(a_2)$?
#
# <details><summary>Answer</summary>
#
# The first and the third. The second does not change sign, and the fourth gives the answer written
# first an advantage that depends on the rewards. Note that $\tanh(r(a_1) - r(a_2))$ is
# antisymmetric without being a difference of two rewards: rewards are one way to get antisymmetry,
# and notebook 04 shows why the difference matters as well.
# </details>
#
# **4.** All labels of a data set are $+1$, because it stores the chosen answer first. Can one train
# a classifier on it?
#
# <details><summary>Answer</summary>
#
# Yes, if its score is antisymmetric: the risk is the one of the same data with half of the pairs
# swapped, where both classes are equally frequent. A score with a bonus for the first place would
# learn to say "first" and be done. Try it: multiply the rows of `table` by their labels, set all
# labels to $+1$, and fit again, with and without a column of ones. With it, the fit runs away and
# `statsmodels` warns of perfect separation.
# </details>
#
# ## Provenance

# %% tags=["hide-output"]
figures.save_provenance("01_preferences_as_classification", profile=profile)
