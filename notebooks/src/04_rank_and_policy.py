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
# # 04 · Rank and policy
#
# You will see why learning the right *order* of answers is enough to improve a policy, why a
# symmetric loss learns that order from noisy labels, and why the logistic loss, which learns it
# from clean labels, may not.
#
# - Paper: Section 4: rank preservation (Theorem 2, in 4.2), policy improvement, the SymPO losses.
# - Reads → writes: nothing → `fig_t7_wrong_orders`, `fig_t8_improvement`, `fig_t9_gradients` with
#   the data behind them.
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
noise_rate = 0.4  # ε of the noisy examples, above 0 and below ½
problems = 1000  # random ranking problems in the search of T7
spread = 2.0  # standard deviation of the true rewards
# standard deviation of the logarithm of a pair's sampling weight; 0 samples all pairs alike
unevenness = 2.0
seed = 0

# %%
from itertools import product

import numpy as np
import pandas as pd
import sympy
import torch
from IPython.display import Markdown
from scipy.special import expit, logit, rel_entr, softmax
from torch.nn.functional import logsigmoid, relu

from sympo import losses
from sympo.book import figures, theory
from sympo.studies import profiles

count = 200 if profiles.resolve_profile(profile) == "smoke" else problems

# %% [markdown]
# ## T7 · Rank preservation
#
# A policy is trained to prefer answers with higher learned reward. It does not need to know *how
# much* better an answer is, as T8 below will show; but it must not believe that the worse one is
# better. So the question to put to a loss is: does its best reward put the answers in the true
# order, even when labels are noisy?
#
# Drop the prompt and take finitely many actions $a_1, \dots, a_n$ with true reward $r^*$. The pair
# $(a_i, a_j)$ is compared with probability $q_{ij}$ and $a_i$ wins with probability
# $\eta_{ij} = \sigma(r^*_i - r^*_j)$; labels then flip with probability $\varepsilon$, so that the
# data show $\tilde\eta = \varepsilon + (1-2\varepsilon)\,\eta$. With infinitely many labels a
# reward $r$ has the risk
#
# $$\tilde R(r) = \sum_{i<j} q_{ij}\,\bigl[\tilde\eta_{ij}\,\ell(g_{ij}) +
# (1-\tilde\eta_{ij})\,\ell(-g_{ij})\bigr], \qquad g_{ij} = r_i - r_j .$$
#
# **Statement (the paper's Theorem 2, for finite actions).** Suppose
#
# 1. $r^*$ takes different values on different actions;
# 2. every two actions that are neighbours in rank are compared: $q > 0$ for them;
# 3. the best margin of every pair is reachable at once: some $r$ has
#    $g_{ij} \in \arg\min_z \tilde\eta_{ij}\ell(z) + (1-\tilde\eta_{ij})\ell(-z)$ for all sampled
#    pairs.
#
# Then for every classification-calibrated $\ell$ (notebook 03) every minimiser of $\tilde R$ orders
# the actions as $r^*$ does, for every $\varepsilon < ½$.
#
# **Proof.** By 3 the least risk is the sum of the pairs' least risks, so a minimiser is best at
# every sampled pair. Best at a pair means, by calibration, that $g_{ij}$ has the sign of
# $2\tilde\eta_{ij}-1 = (1-2\varepsilon)(2\eta_{ij}-1)$, which is the sign of $r^*_i - r^*_j$. By 1
# and 2 this holds strictly for all neighbours in rank. Chain the neighbours: the order of $r$ is
# that of $r^*$. ∎
#
# Condition 3 carries the weight. It is about $\ell$, the noise, and the form $g = r(a_1)-r(a_2)$
# *together*; the rest of T7 is about who meets it. (The finite version, the explicit condition 3,
# the counterexamples and the search below are ours.)
#
# ### Ramp meets condition 3, sigmoid in the limit
#
# For a symmetric loss, $\ell(-z) = K - \ell(z)$. Then what a pair costs above its least possible
# risk is one factor times a function that noise does not enter. Let $z$ be the score that $r$ gives
# to the *better* of the two actions over the other, so that $\eta > ½$, and write $\inf\ell$ for
# the least value that the loss tends to. The claim is
#
# $$\tilde\eta\,\ell(z) + (1-\tilde\eta)\,\ell(-z) - \text{least}
# = (1-2\varepsilon)\,(2\eta-1)\,\bigl(\ell(z) - \inf\ell\bigr).$$
#
# The cell derives it with $\ell(z)$ and $\inf\ell$ as free symbols, and shows that without the
# symmetry the same claim is false.

# %% tags=["check", "claim-rank-preservation"]
z = sympy.Symbol("z", real=True)
t = sympy.Symbol("t", positive=True)
names = r"ell \inf\ell ell_- K eta varepsilon"
loss, least, mirrored, K, eta, epsilon = sympy.symbols(names, real=True)
noisy_eta = epsilon + (1 - 2 * epsilon) * eta
risk = noisy_eta * loss + (1 - noisy_eta) * mirrored
excess = risk.subs(mirrored, K - loss) - risk.subs(mirrored, K - loss).subs(loss, least)
claim = (1 - 2 * epsilon) * (2 * eta - 1) * (loss - least)
assert sympy.expand(excess - claim) == 0  # symmetric: noise is a common factor

logistic = losses.get("logistic").expr
at_2, at_1 = (risk.subs({loss: logistic(value), mirrored: logistic(-value)}) for value in (2, 1))
rest = at_2 - at_1 - claim.subs({loss: logistic(2), least: logistic(1)})
assert not abs(rest.subs({eta: 0.9, epsilon: 0.4}).evalf()) < 1e-6  # logistic: it is not
sympy.factor(excess)

# %% [markdown]
# Summed over pairs, the noisy risk exceeds its infimum by
# $(1-2\varepsilon)\sum q\,|2\eta-1|\,(\ell(z) - \inf\ell)$: a sum of terms that are not negative,
# zero exactly when every sampled pair has $\ell(z) = \inf\ell$. When can all terms be (nearly) zero
# together? Symmetry alone does not see to it: ½ − z/(1+z²) (notebook 03, exercise 4) is symmetric
# and calibrated, but wants exactly $z = 1$ from every pair, which a chain of three actions cannot
# have. What helps is that $\ell$ comes to its infimum at *every* large enough margin, as each
# non-increasing $\ell$ does, at least in the limit:
#
# - **Ramp**: $\ell(z) = \inf\ell = 0$ for every $z \ge 1$. Any $r$ that climbs by at least 1 from
#   each rank to the next attains it; the ranks $0, 1, \dots, n-1$ do.
# - **Sigmoid**: $\ell(z) > 0$ everywhere and $\ell \to 0$. Ranks scaled by $t$ attain the infimum
#   only in the limit $t\to\infty$. There *is* no minimiser; this is why rewards are clipped in
#   practice (the authors clip at ±20 on MNIST and ±10 for language models).

# %% tags=["check", "claim-rank-preservation"]
ramp, sigmoid = (losses.get(name).expr for name in ("ramp", "sigmoid"))
assert sympy.simplify(ramp(1 + t)) == 0  # every margin ≥ 1 is free of cost
assert ramp(sympy.Rational(99, 100)) > 0  # a step below 1 is not
assert sympy.limit(sigmoid(t), t, sympy.oo) == 0  # sigmoid gets there in the limit …
# … and nowhere before: no margin is free of cost
assert not sympy.solveset(sigmoid(z), z, sympy.S.Reals)

# %% [markdown]
# Now with numbers. The three formulas above, for many problems at once: the scores $g_{ij}$ of all
# pairs $i < j$, the noisy probability $\tilde\eta$, and the noisy risk $\tilde R(r)$. A best reward
# is one of least risk; how it is found is the business of `theory.fit_reward`, which has a solver
# for each of five losses.


# %%
def gaps(reward):
    """The scores r_i − r_j of all pairs i < j, row by row: (…, actions) to (…, pairs)."""
    first, second = np.triu_indices(reward.shape[-1], 1)
    return reward[..., first] - reward[..., second]


def noisy_preference(gap, noise_rate):
    """η̃ = ε + (1−2ε)·σ(gap)."""
    return noise_rate + (1 - 2 * noise_rate) * expit(gap)


def noisy_risk(loss, learned, problems, noise_rate):
    """Σ q·(η̃·ℓ(g) + (1−η̃)·ℓ(−g)) for each problem."""
    score = torch.from_numpy(gaps(learned))
    seen = noisy_preference(gaps(problems.reward), noise_rate)
    cost = seen * loss(score).numpy() + (1 - seen) * loss(-score).numpy()
    return (problems.sampling * cost).sum(axis=-1)


def best_reward(name, problems, noise_rate, *, clip=None):
    """The rewards of least noisy risk, (problems, actions)."""
    seen = noisy_preference(gaps(problems.reward), noise_rate)
    return theory.fit_reward(name, problems.sampling, seen, clip=clip)


# %% [markdown]
# Each row of `uneven` is a random problem with four actions, and pairs that are sampled very
# unevenly. The ramp risk is piecewise linear with kinks at $g = \pm1$, so some minimiser has
# integer entries between 0 and 3, and the solver finds it by trying *all* of them; there is no
# optimiser to mistrust. It must give the ranks themselves, at every noise rate.

# %% tags=["check", "claim-rank-preservation"]
uneven, even = (
    theory.draw_problems(
        count, spread=spread, unevenness=value, generator=np.random.default_rng(seed)
    )
    for value in (unevenness, 0)
)
assert np.array_equal(gaps(uneven.reward), theory.compute_gaps(uneven.reward))  # the solvers' order
ranks = uneven.reward.argsort(axis=1).argsort(axis=1)
for rate in (0.0, 0.2, noise_rate, 0.49):
    assert (best_reward("ramp", uneven, rate) == ranks).all()
# ε > ½: the labels say the opposite, and the loss obeys them
assert not (best_reward("ramp", uneven, 0.6) == ranks).any()
assert (best_reward("ramp", uneven, 0.6) == 3 - ranks).all()

# %% [markdown]
# ### Where a condition is dropped
#
# **Neighbours in rank that are never compared** (condition 2). Take $r^* = (3, 2, 1, 0)$ and list
# *all* integer rewards of least ramp risk. First with every pair sampled, then without the pair of
# extremes, then without a neighbouring pair. Only the last may harm: the extremes are ordered by
# the chain between them, but nothing else compares the two neighbours.

# %% tags=["check", "claim-rank-preservation"]
candidates = theory.list_integer_rewards(4)
true = np.array([[3.0, 2.0, 1.0, 0.0]])
left_out = {"no pair": None, "the extremes (a₁, a₄)": 2, "neighbours (a₂, a₃)": 3}
orders_kept = {}
for case, pair in left_out.items():
    sampling = np.array([[0.0 if index == pair else 1.0 for index in range(6)]])
    chain = theory.Problems(true, sampling / sampling.sum())
    risks = noisy_risk(losses.get("ramp").fn, candidates[:, None], chain, noise_rate)[:, 0]
    best = candidates[risks <= risks.min() + 1e-12]
    reversed_, tied = theory.find_order_errors(true, best)
    orders_kept[case] = not (reversed_ | tied).any()
assert orders_kept["no pair"]
assert orders_kept["the extremes (a₁, a₄)"]
assert not orders_kept["neighbours (a₂, a₃)"]
report = pd.Series(orders_kept, name="every minimiser has the true order")
report.rename_axis("never compared").to_frame()

# %% [markdown]
# ### The sharp question: logistic is calibrated too, so why not use it?
#
# The logistic loss passes every test of notebook 03: it is calibrated, it even recovers $\eta$. So
# does Theorem 2 not cover it?
#
# It does, *without* noise. The best logistic margin of a pair is the log-odds
# $\log\frac{\eta}{1-\eta}$, which under Bradley–Terry is $r^*_i - r^*_j$: additive along chains,
# $g_{ik} = g_{ij} + g_{jk}$, so $r = r^*$ reaches all pairs' best margins at once. With noise the
# best margin is
#
# $$\psi_\varepsilon(r^*_i - r^*_j), \qquad \psi_\varepsilon(u) =
# \log\frac{\tilde\eta}{1-\tilde\eta},\quad \tilde\eta = \varepsilon +
# (1-2\varepsilon)\,\sigma(u),$$
#
# and $\psi_\varepsilon(u + v) \ne \psi_\varepsilon(u) + \psi_\varepsilon(v)$: no reward $r$ gives
# all pairs what they want. Condition 3 fails, and with it the proof.

# %% tags=["check", "claim-logistic-reverses"]
u, v = sympy.symbols("u v", positive=True)
defects = {}
for rate in (sympy.Integer(0), sympy.Rational(2, 5)):
    seen = rate + (1 - 2 * rate) / (1 + sympy.exp(-z))
    wish = sympy.log(sympy.simplify(seen / (1 - seen)))
    defect = wish.subs(z, u) + wish.subs(z, v) - wish.subs(z, u + v)
    defects[rate] = sympy.simplify(sympy.exp(defect))
    ceiling = sympy.limit(wish, z, sympy.oo)
assert defects[0] == 1  # clean: the wishes of a chain add up
assert defects[sympy.Rational(2, 5)] != 1  # noisy: they do not
assert sympy.simplify(ceiling - sympy.log(sympy.Rational(3, 2))) == 0  # log((1−ε)/ε)
Markdown(
    f"At ε = 0.4 no pair wishes for a margin above {float(ceiling):.3f}, however far apart its "
    "rewards are."
)

# %% [markdown]
# Noise puts a ceiling of $\log\frac{1-\varepsilon}{\varepsilon}$ on every wish. Big differences are
# squeezed much more than small ones. So a chain of two big steps, $a \succ b \succ c$, wishes to
# climb nearly *twice* the ceiling in total, while the direct pair $(a, c)$ wishes for one. A reward
# must compromise, and *how often each pair is sampled decides whose wish counts*. An action reached
# by one often-sampled big step can land below another that is reached by a chain of two.
#
# We look for such a problem among those above. The logistic risk is convex: Newton's method with a
# gradient of zero has found the minimum, and the code raises an error unless every gradient is
# below $10^{-12}$. Shown is the problem in which a wrong pair is furthest apart in the learned
# reward.

# %%
true_gaps = gaps(uneven.reward)
clean = best_reward("logistic", uneven, 0.0)
learned = best_reward("logistic", uneven, noise_rate)
depth = -np.sign(true_gaps) * gaps(learned)  # how far a pair is the wrong way round
worst = depth.max(axis=1).argmax()
order = uneven.reward[worst].argsort()[::-1]
columns = {
    "true reward r*": uneven.reward,
    "logistic, ε = 0": clean,
    f"logistic, ε = {noise_rate:g}": learned,
    f"ramp, ε = {noise_rate:g}": best_reward("ramp", uneven, noise_rate),
}
exhibit = pd.DataFrame({name: rewards[worst] for name, rewards in columns.items()})
exhibit = exhibit.iloc[order].set_axis(["a₁", "a₂", "a₃", "a₄"])
(exhibit - exhibit.iloc[-1]).round(3)

# %% [markdown]
# Rows are sorted by true reward and every column is shifted so that the last action has 0: a column
# that does not fall from top to bottom is a wrong order. Below, the pairs of this problem: how
# often each is sampled, which margin it wishes for, and which margin it gets. Pairs that are
# sampled often get about what they wish; the reversed one is sampled too rarely to object.

# %%
first, second = np.triu_indices(4, 1)
# the two places of each pair, the better one first
place = np.sort(order.argsort()[[first, second]], axis=0)
pairs = pd.DataFrame({"better": exhibit.index[place[0]], "worse": exhibit.index[place[1]]})
sign = np.sign(true_gaps[worst])
pairs["sampled"] = uneven.sampling[worst]
pairs["true margin"] = sign * true_gaps[worst]
pairs["wish, noisy"] = sign * logit(noisy_preference(true_gaps[worst], noise_rate))
pairs["gets, noisy"] = sign * gaps(learned[worst])
pairs.sort_values("sampled", ascending=False).round(4).reset_index(drop=True)

# %% [markdown]
# Is this the loss, or a lazy optimiser? We ask three ways: the gradient at the solution, a second
# start far away, and the risk of the *true* order: the same learned values, put in the true order,
# must cost more. And the control: with $\varepsilon = 0$ the same solver on the same problems makes
# no wrong order.

# %% tags=["check", "claim-logistic-reverses"]
seen = noisy_preference(true_gaps, noise_rate)
gradient = np.abs(theory.compute_logistic_gradient(learned, uneven.sampling, seen)).max()
start = np.random.default_rng(seed + 1).normal(0, 5, uneven.reward.shape)
again = theory.fit_logistic(uneven.sampling, seen, start=start)
distance = np.abs(gaps(again) - gaps(learned)).max()
assert gradient < 1e-12
assert distance < 1e-6  # both starts end in one place

assert theory.find_order_errors(uneven.reward, learned)[0][worst]
true_order = np.take_along_axis(np.sort(learned, axis=1), ranks, axis=1)  # the same values
fn = losses.get("logistic").fn
wrong_cost = noisy_risk(fn, learned, uneven, noise_rate)[worst]
assert wrong_cost < noisy_risk(fn, true_order, uneven, noise_rate)[worst]  # the wrong order wins
assert not theory.find_order_errors(uneven.reward, clean)[0].any()  # clean: nothing is reversed
Markdown(f"Largest gradient {gradient:.1e}; largest distance between two starts {distance:.1e}.")

# %% [markdown]
# ### How often does it happen?
#
# One exhibit could be a curiosity. So we count, for every loss, the problems in which its best
# reward misorders the actions; with pairs sampled unevenly, and with all pairs sampled alike. Every
# fit is global:
#
# | loss | how its minimum is found |
# |---|---|
# | logistic | convex: Newton, gradient below $10^{-12}$ |
# | square | convex: a linear system |
# | hinge, ramp | linear between kinks at ±1: all integer rewards are tried |
# | sigmoid in $\lvert r\rvert \le C$ | not convex: a lattice, refined; a second one must agree |
#
# A learned *tie* between two actions is a wrong order too, since $r^*$ has none; we count ties
# apart, because a tie withholds information where a reversal misleads.
#
# **Expect** by the theory: ramp never wrong, sigmoid right in a wide box and not in a narrow one,
# both untouched by $\varepsilon$ (T3: the risk is only scaled). Logistic right at $\varepsilon=0$,
# wrong at $\varepsilon = 0.4$ when sampling is uneven. Square and hinge wrong at both, since their
# best margins ($2\tilde\eta-1$ and $\pm1$) are not additive even for clean labels. Any ramp bar, or
# a logistic bar at $\varepsilon=0$, would refute this.


# %%
def count_wrong_orders(name, problems, noise_rate, *, clip=None):
    """A row for the table: how often the best reward reverses a pair, and only ties one."""
    learned = best_reward(name, problems, noise_rate, clip=clip)
    reversed_, tied = (each.mean() for each in theory.find_order_errors(problems.reward, learned))
    row = {"loss": name, "clip": clip, "noise_rate": noise_rate, "problems": len(learned)}
    return row | {"reversed": reversed_, "tied": tied, "wrong": reversed_ + tied}


clips = {"sigmoid": (3, 10, 20)}  # the others need none
rows = []
for sampling, drawn in {"uneven": uneven, "even": even}.items():
    for name in ("logistic", "square", "hinge", "sigmoid", "ramp"):
        for rate, clip in product((0.0, noise_rate), clips.get(name, (None,))):
            counted = count_wrong_orders(name, drawn, rate, clip=clip)
            rows.append(counted | {"sampling": sampling})
table = pd.DataFrame(rows).astype({"clip": float})
figures.save(figures.fig_t7_wrong_orders(table), "fig_t7_wrong_orders", table, profile=profile)

# %% tags=["check", "claim-logistic-reverses"]
shares = table[table["sampling"] == "uneven"].set_index(["loss", "noise_rate", "clip"]).sort_index()
noisy = shares.xs(noise_rate, level="noise_rate").groupby("loss").first()
wrong = shares["wrong"]
assert (wrong["ramp"] == 0).all()
assert (wrong["sigmoid"].xs(20, level="clip") == 0).all()
assert (wrong["sigmoid"].xs(0.0) == wrong["sigmoid"].xs(noise_rate)).all()  # noise changes nothing
assert (wrong["logistic"].xs(0.0) == 0).all()
# the counterexample: calibrated, and wrong
assert not (wrong["logistic"].xs(noise_rate) == 0).all()
assert (table[table["sampling"] == "even"]["reversed"] == 0).all()  # even sampling reverses nothing

# %%
sigmoid_wrong = wrong["sigmoid", noise_rate]
Markdown(
    f"Of {count} unevenly sampled problems at ε = {noise_rate:g}, logistic misorders "
    f"{noisy.wrong['logistic']:.1%} (at ε = 0: {wrong['logistic', 0.0].item():.1%}) and square "
    f"{noisy.wrong['square']:.1%} (at ε = 0: {wrong['square', 0.0].item():.1%}). Hinge reverses "
    f"{noisy.reversed['hinge']:.1%} and ties another {noisy.tied['hinge']:.1%}. Ramp: "
    f"{noisy.wrong['ramp']:.1%}. Sigmoid: {sigmoid_wrong[3]:.1%} inside ±3, "
    f"{sigmoid_wrong[10]:.1%} inside ±10, {sigmoid_wrong[20]:.1%} inside ±20."
)

# %% [markdown]
# Two readings go beyond the paper.
#
# **Even sampling saves logistic and square.** Setting the gradient to zero with equal $q$ gives
# $\sum_j \sigma(r_i - r_j) = \sum_j \tilde\eta_{ij}$ for every action $i$. The left side is larger
# for the action with larger $r$, the right side for the one with larger $r^*$: the orders agree at
# any noise rate. So the defect of logistic needs *both* noise and uneven sampling. Real preference
# data has both: nobody compares all answers equally often.
#
# **Noise does not change the square loss's order at all**: its best margins are
# $2\tilde\eta - 1 = (1-2\varepsilon)(2\eta-1)$, scaled as a whole. It is wrong for its own reasons,
# and equally so at every $\varepsilon$. Hinge wants every margin to be ±1, which a chain of three
# already cannot have ($1 + 1 \ne 1$), and settles for few levels with many actions on each.
#
# ### What clipping costs
#
# The sigmoid risk is only right in the limit, so a box must cost something. With too little room,
# an action whose neighbour matters little is pressed against the wall beside it (a tie), or even
# past it (a reversal). The cell narrows the box, and checks the optimiser with a second lattice.
# The last column needs no optimiser: a reward that ties or reverses any pair pays at least
# $½\min q\,|2\eta-1|$, so wherever evenly spaced ranks cost less than this, *every* minimiser in
# the box has the true order. That is a proof for that share of the problems.

# %% tags=["check", "claim-rank-preservation"]
eta_true = noisy_preference(true_gaps, 0.0)
weight = uneven.sampling * np.abs(2 * eta_true - 1)
rows = []
for clip in (1, 3, 5, 10, 20):
    best, other = (
        theory.fit_sigmoid(uneven.sampling, eta_true, clip=clip, points=points)
        for points in (13, 10)
    )
    risks = [noisy_risk(losses.get("sigmoid").fn, r, uneven, 0.0) for r in (best, other)]
    assert np.abs(risks[0] - risks[1]).max() < 1e-9
    reversed_, tied = theory.find_order_errors(uneven.reward, best)
    wrong = reversed_ | tied
    evenly_spaced = clip * (2 * ranks / 3 - 1)
    cost = (weight * expit(-np.abs(gaps(evenly_spaced)))).sum(axis=1)
    proven = cost < weight.min(axis=1) / 2
    assert not (proven & wrong).any()
    rows.append([clip, reversed_.mean(), tied.mean(), 1 - wrong.mean(), proven.mean()])
assert rows[0][1] > 0  # a narrow box does reverse pairs: sigmoid needs the room
pd.DataFrame(rows, columns=["clip", "reversed", "only tied", "right", "proven right"]).round(3)

# %% [markdown]
# The ramp needs room too, but a definite amount: $n$ actions need a range of $n-1$, so a clip at
# ±20 serves up to 41 levels. The sigmoid loss has no such number. How much room it needs depends on
# the least weight $q\,|2\eta-1|$: rare and close pairs are the first to go.
#
# ### What finite data and large models add
#
# So far each pair had infinitely many labels. In practice a pair is labelled once, and a flip is
# then simply *the* label. What protects us is the form $g = r(a_1) - r(a_2)$: around every cycle of
# comparisons the margins must add up to zero, so a flip inside many cycles is outvoted. The number
# of independent cycles is (pairs − actions + connected parts). A *free* score, with one parameter
# per pair, has no such constraint, and nothing stops it from fitting every label, flips included,
# whichever loss is used.
#
# The cell labels all pairs of 30 actions once at the noise rate above and compares the free score
# with the best additive reward: how many of the noisy labels does each fit, and how many pairs does
# it order as $r^*$ does?


# %%
def compare_memorisation(problems, *, noise_rate, generator):
    """Label every pair once: what the free and the additive score agree with, over all pairs."""
    truth = gaps(problems.reward) > 0
    chance = noisy_preference(gaps(problems.reward), noise_rate)
    label = generator.random(truth.shape) < chance
    additive = gaps(theory.fit_logistic(problems.sampling, label.astype(float))) > 0
    scores = {"additive": additive, "free": label}  # free: each pair scored as it was labelled
    fits_labels = {name: (score == label).mean() for name, score in scores.items()}
    agrees = {name: (score == truth).mean() for name, score in scores.items()}
    return pd.DataFrame({"fits_labels": fits_labels, "agrees_with_truth": agrees})


# %% tags=["check"]
actions = 30
repeats = 50
generator = np.random.default_rng(seed)
drawn = theory.draw_problems(
    repeats, actions=actions, spread=spread, unevenness=0, generator=generator
)
means = compare_memorisation(drawn, noise_rate=noise_rate, generator=generator)
assert means.fits_labels["free"] == 1  # every flip is memorised
assert means.agrees_with_truth["additive"] > means.agrees_with_truth["free"]
assert not (means.fits_labels == 1).all()  # the additive form cannot memorise them
cycles = actions * (actions - 1) // 2 - actions + 1
print(f"{cycles} independent cycles; mean of {repeats} draws:")
means.round(3)

# %% [markdown]
# The additive form helps only where there *are* cycles. In the MNIST study of notebook 05 each
# image that is used appears in exactly one pair: the pairs form no cycle at all, and a network
# large enough to give each image its own reward is a free score. It *can* memorise every flip, with
# any loss, symmetric or not; notebook 05 measures how far it goes. The symmetry of a loss is a
# statement about the risk, not about the fit of one sample. What still differs between losses is
# how hard each *pulls* at a flipped label on the way, and that is T9.
#
# ## T8 · Rank preservation suffices for policy improvement
#
# Suppose the learned reward has only the right order, its steps being arbitrary. Is a policy
# trained on it any better? Let $J(\pi) = \mathbb E_{a\sim\pi}\, r^*(a)$ be the true reward of a
# policy, and
#
# $$\pi_r(a) \propto \pi_{\text{ref}}(a)\,e^{r(a)/\beta}$$
#
# the policy that KL-regularised training on $r$ aims at.
#
# **Statement.** If $r$ orders the actions as $r^*$ does, then $J(\pi_r) \ge J(\pi_{\text{ref}})$
# for every $\beta > 0$ and every reference policy, with equality only if $r$ or $r^*$ is constant
# on the support of $\pi_{\text{ref}}$. It holds prompt by prompt, hence on average over prompts.
#
# **Why.** With $w = e^{r/\beta}$ and all expectations under $\pi_{\text{ref}}$,
#
# $$J(\pi_r) - J(\pi_{\text{ref}}) = \frac{\mathbb E[r^* w]}{\mathbb E[w]} - \mathbb E[r^*]
# = \frac{\operatorname{Cov}(r^*, w)}{\mathbb E[w]}
# = \frac{\tfrac12\sum_{i,j} p_i p_j\,(r^*_i - r^*_j)(w_i - w_j)}{\mathbb E[w]} .$$
#
# The exponential is increasing, so $w$ is ordered as $r$, hence as $r^*$: each product is at least
# 0, and so is the sum. (If all products vanish while $r^*_i < r^*_j$ for some pair, then
# $w_i = w_j$; any third $k$ has $r^*_k \ne r^*_i$ or $r^*_k \ne r^*_j$, so $w_k$ equals them too:
# $w$ is constant.) sympy checks the identity for three actions, with a free reference policy,
# reward and weight.

# %% tags=["check", "claim-policy-improvement"]
p1, p2 = sympy.symbols("p1 p2", positive=True)
p = [p1, p2, 1 - p1 - p2]
r = sympy.symbols("r1:4", real=True)
w = sympy.symbols("w1:4", positive=True)
mean_weight = sum(a * b for a, b in zip(p, w, strict=True))
old = sum(a * b for a, b in zip(p, r, strict=True))
gain = sum(a * b * c for a, b, c in zip(p, r, w, strict=True)) / mean_weight - old
products = sum(p[i] * p[j] * (r[i] - r[j]) * (w[i] - w[j]) for i in range(3) for j in range(3))
assert sympy.simplify(gain - products / (2 * mean_weight)) == 0
# the ½ is needed: each pair is counted twice
assert sympy.simplify(gain - products / mean_weight) != 0

# %% [markdown]
# For the numbers we need the policy $\pi_r$, what it gains, and how far it is from
# $\pi_{\text{ref}}$, straight from their definitions. Logarithms keep the exponential from
# overflowing where $\beta$ is small.


# %%
def tilt_policy(reference, reward, beta):
    """π_r ∝ π_ref·exp(r/β); an action that π_ref never takes stays out."""
    with np.errstate(divide="ignore"):
        return softmax(np.log(reference) + np.asarray(reward) / beta, axis=-1)


def measure_improvement(reference, reward, learned, beta):
    """J(π_r) − J(π_ref): the gain in true reward of the policy tilted by the learned one."""
    return ((tilt_policy(reference, learned, beta) - reference) * reward).sum(axis=-1)


def measure_kl(policy, reference):
    """KL(π ‖ π_ref) in nats."""
    return rel_entr(policy, reference).sum(axis=-1)


# %% [markdown]
# Random references, random true rewards with five actions, and learned rewards that share their
# order and nothing else (the sorted values are drawn afresh), over a grid of $\beta$ that spans
# four decades. Then the equality cases.

# %% tags=["check", "claim-policy-improvement"]
generator = np.random.default_rng(seed)
reference = generator.dirichlet(np.ones(5), size=500)
reward = generator.normal(size=(500, 5))
values = np.sort(3 * generator.normal(size=(500, 5)), axis=1)
same_order = np.take_along_axis(values, reward.argsort(axis=1).argsort(axis=1), axis=1)
betas = np.logspace(-2, 2, 41)
every_beta = betas[:, None, None]
gains = measure_improvement(reference, reward, same_order, every_beta)
assert gains.shape == (41, 500)
assert gains.min() > 0  # strict: no two values are equal here
shuffled = generator.permuted(values, axis=1)
# another order may fail
assert not (measure_improvement(reference, reward, shuffled, every_beta) >= 0).all()

# %% tags=["check", "claim-policy-improvement"]
flat = np.ones_like(reward)
narrow = np.eye(5)[0]  # π_ref has one answer only, and nothing to choose from
equal = {
    "r constant": (reference, reward, flat),
    "r* constant": (reference, flat, same_order),
    "one answer": (narrow, reward, same_order),
}
for case, arguments in equal.items():
    assert np.abs(measure_improvement(*arguments, every_beta)).max() < 1e-12, case

# %% [markdown]
# ### Where a condition is dropped
#
# **One swapped pair can make $J$ fall.** Three answers with $r^* = (0, 1, 3)$; the reference
# already gives the best one 90%. A reward that is right but for the order of the top two moves mass
# from the best answer to the second. It can, but it need not: with the *bottom* two swapped, $J$
# still rises for this reference.
#
# **With a KL term inside $J$ the statement is false.** Training maximises
# $\mathbb E_\pi r - \beta\,\mathrm{KL}(\pi\,\|\,\pi_{\text{ref}})$, and one may wish the same of
# the true reward:
# $J_\beta(\pi) = \mathbb E_\pi r^* - \beta\,\mathrm{KL}(\pi\,\|\,\pi_{\text{ref}})$. But the KL
# term punishes steps that are too large, and rank preservation says nothing about the size of
# steps. The reward $4r^*$ has a perfect order and overshoots.


# %%
reference = np.array([0.05, 0.05, 0.9])
true = np.array([0.0, 1.0, 3.0])
rewards = {
    "r*": true,
    "4 r*": 4 * true,
    "top two swapped": true[[0, 2, 1]],
    "bottom two swapped": true[[1, 0, 2]],
}
parts = []
for name, chosen in rewards.items():
    gain = measure_improvement(reference, true, chosen, betas[:, None])
    kl = measure_kl(tilt_policy(reference, chosen, betas[:, None]), reference)
    ordered = (chosen.argsort() == true.argsort()).all()
    columns = {"reward": name, "keeps_order": ordered, "beta": betas}
    parts.append(pd.DataFrame({"objective": "J = E r*", **columns, "gain": gain}))
    if ordered:
        parts.append(pd.DataFrame({"objective": "J − β·KL", **columns, "gain": gain - betas * kl}))
improvement = pd.concat(parts, ignore_index=True)

# %% [markdown]
# **Expect** in the figure: on the left both solid lines (right order) above zero at every $\beta$,
# and the swap of the top two below zero. On the right $r^*$ itself stays above zero, since
# $\pi_{r^*}$ *maximises* $J_\beta$; $4r^*$, with the same order, does not.

# %%
figure = figures.fig_t8_improvement(improvement)
figures.save(figure, "fig_t8_improvement", improvement, profile=profile)

# %% tags=["check", "claim-policy-improvement"]
lowest = improvement.groupby(["objective", "reward"]).gain.min()
assert lowest["J = E r*", "r*"] > 0
assert lowest["J = E r*", "4 r*"] > 0  # any steps will do
assert not lowest["J = E r*", "top two swapped"] >= 0  # one swapped pair: J falls
assert not lowest["J − β·KL", "4 r*"] >= 0  # right order, and J with KL falls
overshooting = (improvement.objective == "J − β·KL") & (improvement.reward == "4 r*")
falls = improvement[overshooting & (improvement.gain < 0)]
Markdown(
    f"With the top two swapped, J falls by up to {-lowest['J = E r*', 'top two swapped']:.2f}; "
    f"with the right order its least gain on the grid is "
    f"{lowest['J = E r*'][['r*', '4 r*']].min():.1e}. With KL inside, 4 r* loses at {len(falls)} "
    f"of {len(betas)} values of β, at worst {-falls.gain.min():.2f}."
)

# %% [markdown]
# Put T3, T7 and T8 in a row and you have the paper's argument: a symmetric loss does not see
# symmetric noise; hence if it never increases, its best reward (for sigmoid: its limit, or a wide
# enough box) keeps the true order; hence the policy tilted by it is better than the reference. What
# the argument does *not* promise is a small KL, or an optimal policy: only an improvement in true
# reward.
#
# ## T9 · Gradient anatomy
#
# Preference optimisation moves the policy along $\nabla h$, where
# $h = \beta\,(\text{log-ratio of the chosen answer} - \text{log-ratio of the rejected one})$ is the
# margin of a pair. The methods differ only in how much *weight* a pair gets:
#
# $$-\nabla \ell(h) = \underbrace{-\ell'(h)}_{\text{weight}}\;\nabla h .$$
#
# So one curve per method tells everything that happens to a single pair. Large negative $h$ means:
# the model is sure of the opposite of this label. That is either a lesson to be learned or a
# flipped label, and the loss cannot know which.
#
# sympy differentiates the losses of every method in this repository: those of the registry, and
# SymPO with each of its symmetric losses. Two need a word. **Dr.DPO** takes $-\log$ of the batch
# mean $\bar s$ of $\sigma(h)$ ($\beta'=1$): pairs are *coupled* through $\bar s$. **RE-PO** weighs
# each pair with a confidence, its posterior probability that the label is right, which is computed
# from $h$ but held fixed in the derivative. So both enter after the derivative has been taken. The
# table shows the weights with ε = 0.2 told to cDPO and rDPO, β = 0.1 in IPO, $\bar s = ½$, and 0.9
# as RE-PO's prior share of right labels.


# %%
def derive_weight(method, h, *, noise_rate, beta, batch_mean=0.5):
    """−dℓ/dh of a method, with RE-PO's confidence and Dr.DPO's batch mean held fixed."""
    s = 1 / (1 + sympy.exp(-h))
    share = sympy.nsimplify(losses.REPO_START)
    held = {
        losses.CONFIDENCE: share * s / (share * s + (1 - share) * (1 - s)),
        losses.BATCH_MEAN: sympy.nsimplify(batch_mean),
    }
    loss = method.expr(h, noise_rate=noise_rate, beta=beta)
    return sympy.simplify(-loss.diff(h).subs(held))


h = sympy.Symbol("h", real=True)
settings = {"noise_rate": 0.2, "beta": 0.1}
methods = losses.pair_losses()
weights = {name: derive_weight(method, h, **settings) for name, method in methods.items()}
lines = ["| method | weight −dℓ/dh | at h = 0 |", "|---|---|---|"]
for name, weight in weights.items():
    at_zero = float(weight.subs(h, 0))
    lines.append(f"| {figures.label(name)} | ${sympy.latex(weight)}$ | {at_zero:.3g} |")
Markdown("\n".join(lines))

# %% [markdown]
# Do the formulas agree with what training computes? The cell writes each baseline again in torch,
# straight from its definition. Autograd then differentiates these definitions, and also the
# package's own functions, which train. (It has none for IPO and hinge: TRL's own code runs them.)
# Dr.DPO is a batch loss, coupling included; its weight is compared at this batch's own mean.

# %%
x = torch.linspace(-6, 6, 240, dtype=torch.float64, requires_grad=True)  # no point at a kink
s = torch.sigmoid(x)
right = -logsigmoid(x)
flipped = -logsigmoid(-x)
confidence = (0.9 * s / (0.9 * s + 0.1 * (1 - s))).detach()
batch = {
    "dpo": right,
    "cdpo": 0.8 * right + 0.2 * flipped,
    "rdpo": (0.8 * right - 0.2 * flipped) / 0.6,
    "ipo": (x / 0.1 - 1 / 0.2) ** 2,
    "hinge": relu(1 - x),
    "ropo": 4 * 14 / 15**2 * right + 4 * 14**2 / 15**2 * (1 - s),
    "repo": confidence * right + (1 - confidence) * flipped,
    "drdpo": -len(x) * torch.log(torch.exp(logsigmoid(x)).mean()),
    "holder": -3 * s**2 + 2 * s**3,
}
for name, loss in losses.LOSSES.items():
    if loss.symmetric:
        batch[f"sympo_{name}"] = loss.fn(x)

# %% tags=["check"]
assert set(batch) == set(methods)
for name, method in methods.items():
    exact = derive_weight(method, h, **settings, batch_mean=s.mean().item())
    weight = theory.tabulate_weights({name: exact}, h, x.detach().numpy()).weight
    (slope,) = torch.autograd.grad(batch[name].sum(), x, retain_graph=True)
    np.testing.assert_allclose(weight, -slope, rtol=1e-9, atol=1e-12)
    if name not in ("ipo", "hinge"):
        trained = method.fn(x, noise_rate=0.2, reliability=losses.REPO_START)
        (slope,) = torch.autograd.grad(trained.sum(), x)
        np.testing.assert_allclose(weight, -slope, rtol=1e-9, atol=1e-12)
(slope,) = torch.autograd.grad(batch["dpo"].sum(), x)
assert not np.allclose(weight, -slope)  # another method's slope: the comparison can fail

# %% [markdown]
# ### A symmetric loss is one whose weight is even
#
# Differentiate $\ell(z) + \ell(-z) = K$: $\ell'(z) = \ell'(-z)$. So a loss is symmetric exactly
# when its weight is an *even* function: a pair the model gets wrong by $|h|$ weighs the same as a
# pair it gets right by $|h|$. A flip never weighs more than an equally clear true label. sympy
# sorts the methods by this test.
#
# The list has two surprises. Hölder-DPO is on it (T5). And so is Dr.DPO, as long as its batch mean
# is held fixed: with $\beta'=1$ its loss is $-\log$ of one minus the *mean sigmoid loss*.
# Minimising it over the whole data set is minimising the sigmoid loss, and in a batch it is SymPO's
# gradient divided by the batch mean $\bar s$ of $\sigma(h)$. The last check is the derivative of a
# batch of three pairs. (This is our observation, not the paper's.)

# %% tags=["check"]
odd_parts = {name: weight - weight.subs(h, -h) for name, weight in weights.items()}
symmetric = [name for name, odd in odd_parts.items() if set(theory.split_pieces(odd, h)) == {0}]
assert symmetric == [n for n, method in methods.items() if method.symmetric or n == "drdpo"]
assert not {"dpo", "cdpo", "rdpo", "ipo", "hinge", "ropo", "repo"} & set(symmetric)

margins = sympy.symbols("h1:4", real=True)
batch_mean = sum(1 / (1 + sympy.exp(-margin)) for margin in margins) / 3
coupled = -3 * sympy.log(batch_mean)
sigmoid_losses = sum(sigmoid(margin) for margin in margins)
rest = coupled.diff(margins[0]) - sigmoid_losses.diff(margins[0]) / batch_mean
assert sympy.simplify(rest) == 0
# another pair's margin changes this weight
assert sympy.simplify(coupled.diff(margins[0], margins[1])) != 0
symmetric

# %% [markdown]
# ### The picture
#
# Each curve is divided by its own value at $h=0$, where training starts, so that only shapes are
# compared (the step size takes care of scale). Of the symmetric losses the figure shows the two
# that the paper trains with and two with other tails. **Expect** two groups, sorted by a number and
# not by hand: methods whose weight at $h=-6$ is still at least half of that at 0, and methods whose
# weight has faded by then. Dr.DPO lies under SymPO sigmoid: relative to $h = 0$ the two are equal.

# %%
shown = [*losses.PAIR_LOSSES, *(f"sympo_{name}" for name in ("sigmoid", "ramp", "erf", "cauchy"))]
curves = theory.tabulate_weights({n: weights[n] for n in shown}, h, np.linspace(-6, 6, 241))
far = curves[curves.margin == -6].set_index("method").relative
groups = far.map(lambda weight: f"{'still pulls' if weight >= 0.5 else 'has faded'} at h = −6")
curves["group"] = curves.method.map(groups)
assert (far[far.index.isin(symmetric)] < 0.5).all()  # symmetric ones are in the second group
figures.save(figures.fig_t9_gradients(curves), "fig_t9_gradients", curves, profile=profile)

# %% [markdown]
# **DPO weighs most where the label disagrees most: it chases flips.** Once the model has learned a
# pair, a true label of this pair has almost no weight left, and a flipped one has the full weight.
# Put a number on it: suppose the model is right about every pair, with $|h| = 3$, and 20% of the
# labels are flipped. Which share of the total weight do the flips take?
#
# $$\text{share} = \frac{\varepsilon\,|\text{weight}(-3)|}
# {\varepsilon\,|\text{weight}(-3)| + (1-\varepsilon)\,|\text{weight}(3)|}$$
#
# For an even weight the two are equal and the share is $\varepsilon$, no more: the flips are
# outvoted.

# %%
flip_rate = settings["noise_rate"]
ends = theory.tabulate_weights(weights, h, [-3, 3])
ends = ends.pivot_table(index="method", columns="margin", values="relative")
ends.columns = ["label flipped (h = −3)", "label true (h = 3)"]
pull_of_flips = flip_rate * ends["label flipped (h = −3)"].abs()
pull_of_true = (1 - flip_rate) * ends["label true (h = 3)"].abs()
ends["flips' share of the weight"] = pull_of_flips / (pull_of_flips + pull_of_true)
ends["symmetric"] = ends.index.isin(symmetric)
ends = ends.loc[figures.in_order(ends.index)]
ends.rename(index=figures.label).round(3)

# %% tags=["check"]
share = ends["flips' share of the weight"]
# ramp: both weights are 0 at |h| = 3, and the share is undefined
even_shares = share[ends.symmetric].dropna()
np.testing.assert_allclose(even_shares, flip_rate)
assert (share[~ends.symmetric] > flip_rate).all()
assert not share["dpo"] < 0.5  # the flips, a fifth of the labels, take most of DPO's gradient
Markdown(
    f"The flips are {flip_rate:.0%} of the labels. They take {share['dpo']:.0%} of the weight in "
    f"DPO, {share['ropo']:.0%} in ROPO, {share['repo']:.0%} in RE-PO, and "
    f"{even_shares.max():.0%} in each symmetric method that gives either side any weight here "
    "(ramp gives none)."
)

# %% [markdown]
# How to read the rest of the figure:
#
# - **cDPO** and **IPO** cross zero: they pull a margin *back* once it is large enough. This limits
#   how sure the model gets of anything, true labels included.
# - **rDPO** never reaches zero on the right: it keeps pushing learned pairs, and in return the pull
#   of flips is bounded by a mild factor. This is the price and the benefit of being told ε.
# - **ROPO** is a mixture of logistic and sigmoid, and keeps a small residue of DPO's pull at
#   $h \to -\infty$.
# - **RE-PO** has a bump that leans to the left: it still cares most for mild disagreement, and lets
#   go of strong disagreement.
# - **Ramp** has a window: beyond $|h| = 1$ a pair is out of the game, right or wrong. **Sigmoid**,
#   **Cauchy** and **erf** fade at different speeds; Cauchy's tail is the heaviest.
#
# The redescending weight has a price, too: a pair that is *truly* and strongly misjudged gets
# little gradient as well, and so learning can stall. Which effect wins is an empirical question;
# notebook 05 asks it on MNIST.
#
# ## Exercises
#
# **1.** The exhibit of T7 has four actions. Would three be enough for logistic to reverse a pair?
#
# <details><summary>Answer</summary>
#
# No. Let $a \succ b \succ c$. At the optimum the residuals $q\,(\tilde\eta - \sigma(g))$ sum to
# zero at every action, so on a triangle they form a flow around it: $\varphi$ on $(a,b)$ and
# $(b,c)$, $-\varphi$ on $(a,c)$. If $\varphi \le 0$, the margins of $(a,b)$ and $(b,c)$ are at
# least what they wish for, hence positive: the order is right. If $\varphi > 0$, the margin of
# $(a,c)$ exceeds its wish, which is above the wishes of $(a,b)$ and $(b,c)$, which exceed their
# margins: so $g_{ac} > g_{ab}$, that is $r_b > r_c$, and $g_{ac} > g_{bc}$, that is $r_a > r_b$.
# Try it: `theory.draw_problems(100_000, actions=3, …)`.
# </details>
#
# **2.** *A quick check question of the paper's summary:* how does a symmetric loss differ from the
# standard logistic loss in its robustness to label noise?
#
# <details><summary>Answer</summary>
#
# Noise scales the risk of a symmetric loss and adds a constant (T3), so its minimisers stay; it
# adds a penalty on large margins to the logistic risk, whose wishes then no longer fit together
# (T7). Pair by pair: the weight of a symmetric loss is even, so flips get their share ε of the
# gradient of a good model and no more; logistic gives them most of it (T9).
# </details>
#
# **3.** Rewards are clipped at ±10, as for language models. With how many levels of reward can the
# ramp loss still attain its least risk?
#
# <details><summary>Answer</summary>
#
# It needs steps of 1 in a range of 20: 21 levels. If there are more answers than that *per prompt*,
# all compared with each other, the best reward ties or compromises. In practice a prompt has two to
# a few answers.
# </details>
#
# **4.** In T8 let $\beta \to 0$. Which part of the order matters in the limit, and what does one
# swapped pair cost then?
#
# <details><summary>Answer</summary>
#
# $\pi_r$ puts everything on the top action of $r$ in the support of $\pi_{\text{ref}}$. Only the
# top matters: swapping the top two costs their difference in $r^*$, any other swap costs nothing.
# You can read this off the left end of the T8 figure.
# </details>
#
# **5.** Is the constant weight of the unhinged loss $1 - z$ robust in the sense of T9? Why is it
# not the end of the story?
#
# <details><summary>Answer</summary>
#
# A constant is even: flips take exactly ε. But it never fades on the right either, so margins grow
# without bound and the largest ones never stop moving; without clipping there is no minimiser (T5).
# </details>

# %%
figures.save_provenance("04_rank_and_policy", profile=profile)
