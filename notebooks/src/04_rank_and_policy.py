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
noise_rate = 0.4  # ε of the noisy examples, above 0 and below ½
problems = 1000  # random ranking problems in the search of T7
spread = 2.0  # standard deviation of the true rewards
# standard deviation of the logarithm of a pair's sampling weight; 0 samples all pairs alike
unevenness = 2.0
seed = 0

# %%
import numpy as np
import pandas as pd
import sympy
import torch
from IPython.display import Markdown
from scipy.special import expit, logit
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
# risk is one factor times a function that noise does not enter. Write
# $s = \operatorname{sign}(2\eta-1)$ and $m = \inf \ell$; the claim, for $\eta > ½$ (for $\eta<½$
# swap the pair), is
#
# $$\tilde\eta\,\ell(z) + (1-\tilde\eta)\,\ell(-z) - \text{least}
# = (1-2\varepsilon)\,(2\eta-1)\,\bigl(\ell(z) - m\bigr).$$
#
# The cell derives it with $\ell(z)$ and $m$ as free symbols, and shows that without the symmetry
# the same claim is false.

# %% tags=["check"]
z, t = sympy.Symbol("z", real=True), sympy.Symbol("t", positive=True)
loss, least, mirrored, K, eta, epsilon = sympy.symbols("ell m ell_- K eta epsilon", real=True)
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
# $(1-2\varepsilon)\sum q\,|2\eta-1|\,(\ell(s\,g) - m)$: a sum of terms that are not negative, zero
# exactly when every sampled pair has $\ell(s\,g) = m$. When can all terms be (nearly) zero
# together? Symmetry alone does not see to it: ½ − z/(1+z²) (notebook 03, exercise 4) is symmetric
# and calibrated, but wants exactly $z = 1$ from every pair, which a chain of three actions cannot
# have. What helps is that $\ell$ comes to its infimum at *every* large enough margin, as each
# non-increasing $\ell$ does, at least in the limit:
#
# - **Ramp**: $\ell(z) = m = 0$ for every $z \ge 1$. Any $r$ that climbs by at least 1 from each
#   rank to the next attains it; the ranks $0, 1, \dots, n-1$ do.
# - **Sigmoid**: $\ell(z) > 0$ everywhere and $\ell \to 0$. Ranks scaled by $t$ attain the infimum
#   only in the limit $t\to\infty$. There *is* no minimiser; this is why rewards are clipped in
#   practice (the authors clip at ±20 on MNIST and ±10 for language models).

# %% tags=["check"]
ramp, sigmoid = (losses.get(name).expr for name in ("ramp", "sigmoid"))
assert sympy.simplify(ramp(1 + t)) == 0  # every margin ≥ 1 is free of cost
assert ramp(sympy.Rational(99, 100)) > 0  # a step below 1 is not
assert sympy.limit(sigmoid(t), t, sympy.oo) == 0  # sigmoid gets there in the limit …
# … and nowhere before: no margin is free of cost
assert not sympy.solveset(sigmoid(z), z, sympy.S.Reals)

# %% [markdown]
# Now with numbers. Each row of `uneven` is a random problem with four actions, and pairs that are
# sampled very unevenly. The ramp risk is piecewise linear with kinks at $g = \pm1$, so some
# minimiser has integer entries between 0 and 3 and `fit_reward` finds it by trying *all* of them;
# there is no optimiser to mistrust. It must give the ranks themselves, at every noise rate.

# %% tags=["check"]
uneven, even = (
    theory.draw_problems(
        count, spread=spread, unevenness=value, generator=np.random.default_rng(seed)
    )
    for value in (unevenness, 0)
)
ranks = uneven.reward.argsort(axis=1).argsort(axis=1)
for rate in (0.0, 0.2, noise_rate, 0.49):
    assert (theory.fit_reward("ramp", uneven, rate) == ranks).all()
# ε > ½: the labels say the opposite
assert not (theory.fit_reward("ramp", uneven, 0.6) == ranks).any()
assert (theory.fit_reward("ramp", uneven, 0.6) == 3 - ranks).all()  # and the loss obeys them

# %% [markdown]
# ### Where a condition is dropped
#
# **Neighbours in rank that are never compared** (condition 2). Take $r^* = (3, 2, 1, 0)$ and list
# *all* integer rewards of least ramp risk. First with every pair sampled, then without the pair of
# extremes, then without a neighbouring pair. Only the last may harm: the extremes are ordered by
# the chain between them, but nothing else compares the two neighbours.

# %% tags=["check"]
candidates = theory.list_integer_rewards(4)
true = np.array([[3.0, 2.0, 1.0, 0.0]])
orders_kept = {}
for left_out, pair in {
    "no pair": None,
    "the extremes (a₁, a₄)": 2,
    "neighbours (a₂, a₃)": 3,
}.items():
    sampling = np.array([[0.0 if index == pair else 1.0 for index in range(6)]])
    chain = theory.Problems(true, sampling / sampling.sum())
    risks = theory.compute_risk("ramp", candidates[:, None], chain, noise_rate)[:, 0]
    best = candidates[risks <= risks.min() + 1e-12]
    reversed_, tied = theory.find_order_errors(true, best)
    orders_kept[left_out] = not (reversed_ | tied).any()
assert orders_kept["no pair"]
assert orders_kept["the extremes (a₁, a₄)"]
assert not orders_kept["neighbours (a₂, a₃)"]
pd.Series(orders_kept, name="every minimiser has the true order").rename_axis(
    "never compared"
).to_frame()

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
# $$f_\varepsilon(r^*_i - r^*_j), \qquad f_\varepsilon(u) =
# \log\frac{\tilde\eta}{1-\tilde\eta},\quad \tilde\eta = \varepsilon +
# (1-2\varepsilon)\,\sigma(u),$$
#
# and $f_\varepsilon(u + v) \ne f_\varepsilon(u) + f_\varepsilon(v)$: no reward $r$ gives all pairs
# what they want. Condition 3 fails, and with it the proof.

# %% tags=["check"]
u, v = sympy.symbols("u v", positive=True)
defects = {}
for rate in (sympy.Integer(0), sympy.Rational(2, 5)):
    seen = rate + (1 - 2 * rate) / (1 + sympy.exp(-z))
    wish = sympy.log(sympy.simplify(seen / (1 - seen)))
    defects[rate] = sympy.simplify(
        sympy.exp(wish.subs(z, u) + wish.subs(z, v) - wish.subs(z, u + v))
    )
    ceiling = sympy.limit(wish, z, sympy.oo)
assert defects[0] == 1  # clean: the wishes of a chain add up
assert defects[sympy.Rational(2, 5)] != 1  # noisy: they do not
assert sympy.simplify(ceiling - sympy.log(sympy.Rational(3, 2))) == 0  # log((1−ε)/ε)
Markdown(
    f"At ε = 0.4 no pair wishes for a margin above {float(ceiling):.3f}, however far apart its rewards are."
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
true_gaps = theory.compute_gaps(uneven.reward)
wishes = {rate: theory.compute_noisy_preference(true_gaps, rate) for rate in (0.0, noise_rate)}
learned = {rate: theory.fit_logistic(uneven.sampling, wish) for rate, wish in wishes.items()}
depth = -np.sign(true_gaps) * theory.compute_gaps(learned[noise_rate])
worst = depth.max(axis=1).argmax()
order = uneven.reward[worst].argsort()[::-1]
exhibit = pd.DataFrame(
    {"true reward r*": uneven.reward[worst], "logistic, ε = 0": learned[0.0][worst]}
)
exhibit[f"logistic, ε = {noise_rate:g}"] = learned[noise_rate][worst]
exhibit[f"ramp, ε = {noise_rate:g}"] = theory.fit_reward("ramp", uneven, noise_rate)[worst]
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
pairs["wish, noisy"] = sign * logit(wishes[noise_rate][worst])
pairs["gets, noisy"] = sign * theory.compute_gaps(learned[noise_rate][worst])
pairs.sort_values("sampled", ascending=False).round(4).reset_index(drop=True)

# %% [markdown]
# Is this the loss, or a lazy optimiser? We ask three ways: the gradient at the solution, a second
# start far away, and the risk of the *true* order: the same learned values, put in the true order,
# must cost more. And the control: with $\varepsilon = 0$ the same solver on the same problems makes
# no wrong order.

# %% tags=["check"]
gradient = theory.compute_logistic_gradient(
    learned[noise_rate], uneven.sampling, wishes[noise_rate]
)
start = np.random.default_rng(seed + 1).normal(0, 5, uneven.reward.shape)
again = theory.fit_logistic(uneven.sampling, wishes[noise_rate], start=start)
distance = np.abs(theory.compute_gaps(again) - theory.compute_gaps(learned[noise_rate])).max()
assert np.abs(gradient).max() < 1e-12
assert distance < 1e-6  # both starts end in one place
assert theory.find_order_errors(uneven.reward, learned[noise_rate])[0][worst]
# the same values, true order
corrected = np.take_along_axis(np.sort(learned[noise_rate], axis=1), ranks, axis=1)
wrong_cost = theory.compute_risk("logistic", learned[noise_rate], uneven, noise_rate)[worst]
# it prefers the wrong order
assert wrong_cost < theory.compute_risk("logistic", corrected, uneven, noise_rate)[worst]
# clean labels: no order is reversed
assert not theory.find_order_errors(uneven.reward, learned[0.0])[0].any()
Markdown(
    f"Largest gradient {np.abs(gradient).max():.1e}; largest distance between two starts {distance:.1e}."
)

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
# | sigmoid in $\lvert r\rvert \le C$ | not convex: a lattice over the box, refined; a second lattice must agree |
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
names = ("logistic", "square", "hinge", "sigmoid", "ramp")
parts = []
for sampling, drawn in {"uneven": uneven, "even": even}.items():
    part = theory.tabulate_wrong_orders(
        drawn, noise_rates=(0.0, noise_rate), clips=(3, 10, 20), names=names
    )
    parts.append(part.assign(sampling=sampling))
table = pd.concat(parts, ignore_index=True)
figures.save(figures.fig_t7_wrong_orders(table), "fig_t7_wrong_orders", table, profile=profile)

# %% tags=["check"]
shares = table[table["sampling"] == "uneven"].set_index(["loss", "noise_rate", "clip"]).sort_index()
wrong, unclipped = (
    shares["wrong"],
    shares.xs(noise_rate, level="noise_rate").groupby("loss").first(),
)
assert (wrong["ramp"] == 0).all()
assert (wrong["sigmoid"].xs(20, level="clip") == 0).all()
assert (wrong["sigmoid"].xs(0.0) == wrong["sigmoid"].xs(noise_rate)).all()  # noise changes nothing
assert (wrong["logistic"].xs(0.0) == 0).all()
# the counterexample: calibrated, and wrong
assert not (wrong["logistic"].xs(noise_rate) == 0).all()
assert (table[table["sampling"] == "even"]["reversed"] == 0).all()  # even sampling reverses nothing

# %%
Markdown(
    f"Of {count} unevenly sampled problems at ε = {noise_rate:g}, logistic misorders {unclipped.wrong['logistic']:.1%} "
    f"(at ε = 0: {wrong['logistic', 0.0].item():.1%}) and square {unclipped.wrong['square']:.1%} (at ε = 0: "
    f"{wrong['square', 0.0].item():.1%}). Hinge reverses {unclipped.reversed['hinge']:.1%} and ties another "
    f"{unclipped.tied['hinge']:.1%}. Ramp: {unclipped.wrong['ramp']:.1%}. Sigmoid: "
    f"{wrong['sigmoid', noise_rate, 3]:.1%} inside ±3, {wrong['sigmoid', noise_rate, 10]:.1%} inside ±10, "
    f"{wrong['sigmoid', noise_rate, 20]:.1%} inside ±20."
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

# %% tags=["check"]
weight, rows = uneven.sampling * np.abs(2 * wishes[0.0] - 1), []
for clip in (1, 3, 5, 10, 20):
    best, other = (
        theory.fit_sigmoid(uneven.sampling, wishes[0.0], clip=clip, points=points)
        for points in (13, 10)
    )
    risks = [theory.compute_risk("sigmoid", reward, uneven, 0.0) for reward in (best, other)]
    assert np.abs(risks[0] - risks[1]).max() < 1e-9
    reversed_, tied = theory.find_order_errors(uneven.reward, best)
    spaced = clip * (2 * ranks / 3 - 1)
    proven = (weight * expit(-np.abs(theory.compute_gaps(spaced)))).sum(axis=1) < weight.min(
        axis=1
    ) / 2
    assert not (proven & (reversed_ | tied)).any()
    rows.append([clip, reversed_.mean(), tied.mean(), 1 - (reversed_ | tied).mean(), proven.mean()])
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
# The cell labels all pairs of 30 actions once at $\varepsilon=0.4$ and compares the free score with
# the best additive reward.

# %% tags=["check"]
runs = theory.compare_memorisation(
    actions=30,
    spread=spread,
    noise_rate=noise_rate,
    repeats=50,
    generator=np.random.default_rng(seed),
)
means = runs.groupby("score").mean()
assert means.fits_labels["free"] == 1  # every flip is memorised
assert means.agrees_with_truth["additive"] > means.agrees_with_truth["free"]
assert not (means.fits_labels == 1).all()  # the additive form cannot memorise them
print(f"{30 * 29 // 2 - 30 + 1} independent cycles; mean of {len(runs) // 2} draws:")
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

# %% tags=["check"]
p1, p2 = sympy.symbols("p1 p2", positive=True)
p = [p1, p2, 1 - p1 - p2]
r, w = sympy.symbols("r1:4", real=True), sympy.symbols("w1:4", positive=True)
mean_weight = sum(a * b for a, b in zip(p, w, strict=True))
old = sum(a * b for a, b in zip(p, r, strict=True))
gain = sum(a * b * c for a, b, c in zip(p, r, w, strict=True)) / mean_weight - old
products = sum(p[i] * p[j] * (r[i] - r[j]) * (w[i] - w[j]) for i in range(3) for j in range(3))
assert sympy.simplify(gain - products / (2 * mean_weight)) == 0
# the ½ is needed: each pair is counted twice
assert sympy.simplify(gain - products / mean_weight) != 0

# %% [markdown]
# Numerically, with nothing but the definition of $J$: random references, random true rewards with
# five actions, and learned rewards that share their order and nothing else (the sorted values are
# drawn afresh), over a grid of $\beta$ that spans four decades. Then the equality cases.

# %% tags=["check"]
generator = np.random.default_rng(seed)
reference = generator.dirichlet(np.ones(5), size=500)
reward = generator.normal(size=(500, 5))
values = np.sort(3 * generator.normal(size=(500, 5)), axis=1)
same_order = np.take_along_axis(values, reward.argsort(axis=1).argsort(axis=1), axis=1)
betas = np.logspace(-2, 2, 41)
every_beta = betas[:, None, None]
gains = theory.compute_improvement(reference, reward, same_order, every_beta)
assert gains.shape == (41, 500)
assert gains.min() > 0  # strict: no two values are equal here
shuffled = generator.permuted(values, axis=1)
# another order may fail
assert not (theory.compute_improvement(reference, reward, shuffled, every_beta) >= 0).all()

# %% tags=["check"]
# narrow: π_ref has one answer only, and nothing to choose from
flat, narrow = np.ones_like(reward), np.eye(5)[0]
equal = {"r constant": (reference, reward, flat), "r* constant": (reference, flat, same_order)}
equal["one answer"] = (narrow, reward, same_order)
for case, (start, truth, chosen) in equal.items():
    assert np.abs(theory.compute_improvement(start, truth, chosen, every_beta)).max() < 1e-12, case

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
reference, true = np.array([0.05, 0.05, 0.9]), np.array([0.0, 1.0, 3.0])
rewards = {
    "r*": true,
    "4 r*": 4 * true,
    "top two swapped": true[[0, 2, 1]],
    "bottom two swapped": true[[1, 0, 2]],
}
parts = []
for name, learned_reward in rewards.items():
    gain = theory.compute_improvement(reference, true, learned_reward, betas[:, None])
    divergence = theory.compute_kl(
        theory.tilt_policy(reference, learned_reward, betas[:, None]), reference
    )
    ordered = (learned_reward.argsort() == true.argsort()).all()
    objectives = {"J = E r*": gain} | ({"J − β·KL": gain - betas * divergence} if ordered else {})
    for objective, values in objectives.items():
        row = {
            "objective": objective,
            "reward": name,
            "keeps_order": ordered,
            "beta": betas,
            "gain": values,
        }
        parts.append(pd.DataFrame(row))
improvement = pd.concat(parts, ignore_index=True)

# %% [markdown]
# **Expect** in the figure: on the left both solid lines (right order) above zero at every $\beta$,
# and the swap of the top two below zero. On the right $r^*$ itself stays above zero, since
# $\pi_{r^*}$ *maximises* $J_\beta$; $4r^*$, with the same order, does not.

# %%
figures.save(
    figures.fig_t8_improvement(improvement), "fig_t8_improvement", improvement, profile=profile
)

# %% tags=["check"]
lowest = improvement.groupby(["objective", "reward"]).gain.min()
assert lowest["J = E r*", "r*"] > 0
assert lowest["J = E r*", "4 r*"] > 0  # any steps will do
assert not lowest["J = E r*", "top two swapped"] >= 0  # one swapped pair: J falls
assert not lowest["J − β·KL", "4 r*"] >= 0  # right order, and J with KL falls
falls = improvement[
    (improvement.objective == "J − β·KL") & (improvement.reward == "4 r*") & (improvement.gain < 0)
]
Markdown(
    f"With the top two swapped, J falls by up to {-lowest['J = E r*', 'top two swapped']:.2f}; with the right order "
    f"its least gain on the grid is {lowest['J = E r*'][['r*', '4 r*']].min():.1e}. With KL inside, 4 r* loses at "
    f"{len(falls)} of {len(betas)} values of β, at worst {-falls.gain.min():.2f}."
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
# sympy differentiates the losses of every method in this repository. Two need a word. **Dr.DPO**
# takes $-\log$ of the batch mean $m$ of $\sigma(h)$ ($\beta'=1$): pairs are *coupled* through $m$.
# **RE-PO** weighs each pair with a confidence $w$ that is computed from $h$ but held fixed in the
# derivative. The table shows the weights with ε = 0.2 told to cDPO and rDPO, β = 0.1 in IPO,
# $m = ½$ and RE-PO's η = 0.9.

# %%
h = sympy.Symbol("h", real=True)
settings = {"noise_rate": 0.2, "beta": 0.1}
formulas = theory.build_preference_losses(h, **settings)
weights = theory.derive_weights(h, **settings)
lines = ["| method | weight −dℓ/dh | at h = 0 |", "|---|---|---|"]
for name, weight in weights.items():
    lines.append(
        f"| {figures.METHODS[name].label} | ${sympy.latex(weight)}$ | {float(weight.subs(h, 0)):.3g} |"
    )
Markdown("\n".join(lines))

# %% [markdown]
# Do the formulas agree with what training would compute? The cell writes each loss again in torch,
# in its numerically stable form and straight from its definition, and lets autograd differentiate.
# Dr.DPO is written as a batch loss, coupling included; its weight is compared at this batch's own
# mean.

# %%
x = torch.linspace(-6, 6, 240, dtype=torch.float64, requires_grad=True)  # no point at a kink
right, wrong_side, s = -logsigmoid(x), -logsigmoid(-x), torch.sigmoid(x)
confidence = (0.9 * s / (0.9 * s + 0.1 * (1 - s))).detach()
batch = {
    "dpo": right, "cdpo": 0.8 * right + 0.2 * wrong_side, "rdpo": (0.8 * right - 0.2 * wrong_side) / 0.6,
    "ipo": (x / 0.1 - 1 / 0.2) ** 2, "hinge": relu(1 - x),
    "ropo": 4 * 14 / 15**2 * right + 4 * 14**2 / 15**2 * (1 - s),
    "repo": confidence * right + (1 - confidence) * wrong_side,
    "drdpo": -len(x) * torch.log(torch.exp(logsigmoid(x)).mean()), "holder": -3 * s**2 + 2 * s**3,
    **{f"sympo_{name}": losses.get(name).fn(x) for name in ("sigmoid", "ramp", "erf", "cauchy")},
}  # fmt: skip

# %% tags=["check"]
in_batch = theory.derive_weights(h, **settings, batch_mean=s.mean().item())
curves = theory.tabulate_weights(in_batch, h, x.detach().numpy())
assert set(batch) == set(curves.method)
for name, rows in curves.groupby("method"):
    (slope,) = torch.autograd.grad(batch[name].sum(), x, retain_graph=True)
    np.testing.assert_allclose(rows.weight, -slope, rtol=1e-9, atol=1e-12)
(slope,) = torch.autograd.grad(batch["dpo"].sum(), x)
# the comparison can fail
assert not np.allclose(curves.weight[curves.method == "sympo_sigmoid"], -slope)

# %% [markdown]
# ### A symmetric loss is one whose weight is even
#
# Differentiate $\ell(z) + \ell(-z) = K$: $\ell'(z) = \ell'(-z)$. So a loss is symmetric exactly
# when its weight is an *even* function: a pair the model gets wrong by $|h|$ weighs the same as a
# pair it gets right by $|h|$. A flip never weighs more than an equally clear true label. sympy
# sorts the methods by this test.
#
# The list has two surprises. Hölder-DPO is on it (T5). And so is Dr.DPO, as long as its batch mean
# stands still: with $\beta'=1$ its loss is $-\log$ of one minus the *mean sigmoid loss*. Minimising
# it over the whole data set is minimising the sigmoid loss, and in a batch it is SymPO's gradient
# divided by the batch mean $m$ of $\sigma(h)$. The last check is the derivative of a batch of three
# pairs. (This is our observation, not the paper's.)

# %% tags=["check"]
differences = {name: weight - weight.subs(h, -h) for name, weight in weights.items()}
symmetric = [
    name
    for name, difference in differences.items()
    if set(theory.split_pieces(difference, h)) == {0}
]
assert symmetric == ["drdpo", "holder", "sympo_sigmoid", "sympo_ramp", "sympo_erf", "sympo_cauchy"]
assert not {"dpo", "cdpo", "rdpo", "ipo", "hinge", "ropo", "repo"} & set(symmetric)

margins = sympy.symbols("h1:4", real=True)
scores = [1 / (1 + sympy.exp(-margin)) for margin in margins]
coupled = -3 * sympy.log(sum(scores) / 3)
sigmoid_losses = sum(sigmoid(margin) for margin in margins)
assert (
    sympy.simplify(coupled.diff(margins[0]) - sigmoid_losses.diff(margins[0]) / (sum(scores) / 3))
    == 0
)
# another pair's margin changes this weight
assert sympy.simplify(coupled.diff(margins[0], margins[1])) != 0
symmetric

# %% [markdown]
# ### The picture
#
# Each curve is divided by its own value at $h=0$, where training starts, so that only shapes are
# compared (the step size takes care of scale). **Expect** two groups, sorted by a number and not by
# hand: methods whose weight at $h=-6$ is still at least half of that at 0, and methods whose weight
# has faded by then. Dr.DPO lies under SymPO sigmoid: relative to $h = 0$ the two are equal.

# %%
grid = np.linspace(-6, 6, 241)
curves = theory.tabulate_weights(weights, h, grid)
far = curves[curves.margin == -6].set_index("method").relative
groups = np.where(far >= 0.5, "still pulls at h = −6", "has faded at h = −6")
curves["group"] = curves.method.map(dict(zip(far.index, groups, strict=True)))
assert (far[symmetric] < 0.5).all()  # every symmetric method is in the second group
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
ends = theory.tabulate_weights(weights, h, [-3, 3]).pivot_table(
    index="method", columns="margin", values="relative"
)
ends.columns = ["label flipped (h = −3)", "label true (h = 3)"]
pull = (
    settings["noise_rate"] * ends.iloc[:, 0].abs(),
    (1 - settings["noise_rate"]) * ends.iloc[:, 1].abs(),
)
ends["flips' share of the weight"] = pull[0] / (pull[0] + pull[1])
ends["symmetric"] = ends.index.isin(symmetric)
ends = ends.loc[figures.in_order(ends.index)].rename(index=lambda name: figures.METHODS[name].label)
ends.round(3)

# %% tags=["check"]
share = ends["flips' share of the weight"]
# ramp: both weights are 0 at |h| = 3, and the share is undefined
even_shares = share[ends.symmetric].dropna()
np.testing.assert_allclose(even_shares, settings["noise_rate"])
assert (share[~ends.symmetric] > settings["noise_rate"]).all()
assert not share["DPO"] < 0.5  # the flips, a fifth of the labels, take most of DPO's gradient
Markdown(
    f"The flips are {settings['noise_rate']:.0%} of the labels. They take {share['DPO']:.0%} of the weight in DPO, "
    f"{share['ROPO']:.0%} in ROPO, {share['RE-PO']:.0%} in RE-PO, and {even_shares.max():.0%} in each symmetric method "
    "that gives either side any weight here (ramp gives none)."
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
