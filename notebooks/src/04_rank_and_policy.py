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
# You will see that a policy needs only the right *order* of its answers to improve, that a
# symmetric loss learns this order from noisy labels, and that the logistic loss, which learns it
# from clean labels, may not.
#
# - Paper: Section 4.2, rank preservation (Theorem 2) and policy improvement. T9 is ours.
# - Reads → writes: nothing → `fig_t7_four_actions`, `fig_t7_wrong_orders`, `fig_t8_policies`,
#   `fig_t8_improvement`, `fig_t9_gradients` with the data behind them.
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
from IPython.display import Markdown, Math
from scipy.special import expit, logit, rel_entr, softmax
from torch.nn.functional import logsigmoid, relu

from sympo import losses
from sympo.book import explorables, figures, story, theory
from sympo.studies import profiles

profile = profiles.resolve_profile(profile)
figures.use_readable_tables()
count = 200 if profile == "smoke" else problems

# %% [markdown]
# ## Four answers, three questions
#
# These are the four answers of notebooks 00 to 03 to the question: *My bread is stale after a day.
# What can I do?* An annotator has compared them in pairs, and some labels are wrong.

# %% tags=["hide-input"]
story.tabulate_answers()

# %% [markdown]
# A loss turns the labels into a learned reward, and the learned reward into a policy. So we ask:
#
# 1. **T7.** Which losses put a before b before c before d, although labels are wrong?
# 2. **T8.** Is the right order enough for a better policy, when the steps between the answers are
#    learned wrong?
# 3. **T9.** What does a single wrong label do during training?
#
# (T1 to T15 number the statements of this book. A cell of checks that prints nothing has found
# that they hold; otherwise it would stop the notebook.)

# %% [markdown]
# ## T7 · A symmetric loss learns the right order
#
# A policy is trained to prefer answers with a higher learned reward. It need not know by how much
# they are better (T8), but it must not mistake the worse for the better. So the question to put to
# a loss is: does its best reward have the true order, even where labels are noisy?
#
# Drop the prompt and take finitely many actions $a_1, \dots, a_n$ with true reward $r^*$. A
# pair $(a_i, a_j)$ is compared with probability $q_{ij}$ and $a_i$ wins with probability
# $\eta_{ij} = \sigma(r^*_i - r^*_j)$, where $\sigma(t) = 1/(1+e^{-t})$: only the difference of the
# two rewards counts. This is the **Bradley–Terry model**. Labels then flip with probability
# $\varepsilon < ½$, so that the data show $\tilde\eta = \varepsilon + (1-2\varepsilon)\,\eta$. With
# infinitely many labels a reward $r$ has the risk
#
# $$\tilde R(r) = \sum_{i<j} q_{ij}\,\bigl[\tilde\eta_{ij}\,\ell(g_{ij}) +
# (1-\tilde\eta_{ij})\,\ell(-g_{ij})\bigr], \qquad g_{ij} = r_i - r_j ,$$
#
# where $g_{ij}$ is the **score** of the pair. It is never below $R_{\min}$, the sum of the least
# risks that the pairs have one by one.
#
# **Statement (the paper's Theorem 2, for finite actions).** Suppose
#
# 1. $r^*$ takes different values on different actions;
# 2. every two actions that are neighbours in rank are compared: $q > 0$ for them;
# 3. the best margins of all sampled pairs can be reached, or approached, by one reward:
#    $\inf_r \tilde R(r) = R_{\min}$.
#
# Then for a symmetric loss, $\ell(z) + \ell(-z) = K$, that is continuous, non-increasing, bounded
# and not constant, as ramp and sigmoid are, every reward with $\tilde R(r) = R_{\min}$ has the
# **true order**: $r_i > r_j$ exactly where $r^*_i > r^*_j$. And if no reward has that risk, every
# sequence of rewards whose risk tends to $R_{\min}$ has the true order from some point on.
#
# Condition 3 carries the weight. It is about the loss, the noise, and the form $g = r(a_1)-r(a_2)$
# *together*. The losses of the statement meet it by themselves, unless rewards are held in a box;
# under noise the logistic loss does not. (The explicit condition 3, the sequences, the
# counterexamples and the search below are ours.)
#
# **Proof.** For a symmetric loss, $\ell(-z) = K - \ell(z)$. Let $z$ be the score that $r$ gives to
# the *better* of two actions over the other, so that $\eta > ½$, and write $\inf\ell$ for the least
# value that the loss tends to. Then what the pair costs above its least risk is
#
# $$\tilde\eta\,\ell(z) + (1-\tilde\eta)\,\ell(-z) - \text{least}
# = (1-2\varepsilon)\,(2\eta-1)\,\bigl(\ell(z) - \inf\ell\bigr):$$
#
# noise is one common factor (T3). A pair that is tied or reversed has $z \le 0$, hence $\ell(z) \ge
# \ell(0) = K/2$, and a loss that is not constant has $K/2 > \inf\ell$. So a reward with a wrong
# order costs at least
#
# $$\Delta = (1-2\varepsilon)\,\bigl(\tfrac K2 - \inf\ell\bigr)
# \min_{\text{neighbours}} q\,(2\eta-1) > 0$$
#
# more than $R_{\min}$, since at least one pair of rank neighbours is wrong: if all of these were
# right, so would be all pairs, along the chain. Whatever comes closer than $\Delta$ has the true
# order. ∎
#
# Of Bradley–Terry the proof needs only that the better action wins more often. So any preferences
# will do in which the noisy majority of every sampled pair agrees with $r^*$.
#
# ### Bounded symmetric losses meet condition 3: large margins fit together
#
# Every pair must come to its least cost at once. Symmetry alone does not see to it: ½ − z/(1+z²)
# (notebook 03, exercise 4) is symmetric and calibrated, but wants exactly $z = 1$ from every pair,
# which a chain of three actions cannot have.
#
# A loss that never increases comes to its infimum at *every* large enough margin, at least in the
# limit. And large margins do fit together:
#
# - **Ramp**: $\ell(z) = \inf\ell = 0$ for every $z \ge 1$. Any $r$ that climbs by at least 1 from
#   each rank to the next attains $R_{\min}$; the ranks $0, 1, \dots, n-1$ do.
# - **Sigmoid**: $\ell(z) > 0$ everywhere and $\ell \to 0$. Ranks scaled by $t$ come to $R_{\min}$
#   only as $t\to\infty$: there *is* no minimiser. Clipping the rewards supplies one. (The authors
#   clip at ±20 on MNIST; for language models at ±10 in their current code, and not at all in its
#   first release.)
#
# The cell derives the excess with $\ell(z)$ and $\inf\ell$ as free symbols, shows that for the
# logistic loss the same formula is false, and where ramp and sigmoid come to their infimum.

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

ramp, sigmoid = (losses.get(name).expr for name in ("ramp", "sigmoid"))
assert sympy.simplify(ramp(1 + t)) == 0  # every margin ≥ 1 is free of cost
assert ramp(sympy.Rational(99, 100)) > 0  # a step below 1 is not
assert sympy.limit(sigmoid(t), t, sympy.oo) == 0  # sigmoid gets there in the limit …
# … and nowhere before: no margin is free of cost
assert not sympy.solveset(sigmoid(z), z, sympy.S.Reals)
Math(r"\text{cost above the least} = " + sympy.latex(claim))

# %% [markdown]
# Now with numbers, for many problems at once. The cell defines the scores $g_{ij}$ of all pairs
# $i < j$, the noisy probability $\tilde\eta$, and the noisy risk $\tilde R(r)$. A best reward is
# one of least risk; how it is found is the business of `theory.fit_reward`, which has a solver for
# each of five losses.


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
# Each row of `uneven` is a random problem with four actions, and pairs that are compared very
# unevenly often. The ramp's risk is piecewise linear with kinks at $g = \pm1$, so some minimiser
# has integer entries between 0 and 3. The solver tries *all* of them, so there is no optimiser to
# mistrust. It must give the ranks themselves, at every noise rate below ½. (That their steps are
# exactly 1 is the solver's choice; larger ones cost the ramp no less.)

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
assert (best_reward("ramp", uneven, 0.6) == 3 - ranks).all()

# %% [markdown]
# And the rest of the family? Take every bounded symmetric loss of the registry, and all integer
# rewards from 0 to 3, ties included, at a scale where the tails no longer matter. Two things must
# hold: the ranks come as close to $R_{\min}$ as one likes, and whatever comes closer than $\Delta$
# has the true order. Nor can $\Delta$ be improved: a thousandth more, and in every problem a wrong
# order slips through.

# %% tags=["check", "claim-rank-preservation"]
candidates = theory.list_integer_rewards(4)
wrong_order = np.any(theory.find_order_errors(uneven.reward, candidates[:, None]), axis=0)
# a convex symmetric loss is a straight line, and has no lower bound
bounded = [loss for loss in losses.LOSSES.values() if loss.symmetric and not loss.convex]
eta_noisy = noisy_preference(gaps(uneven.reward), noise_rate)
weight = uneven.sampling * np.abs(2 * eta_noisy - 1)  # q·|2η̃ − 1|
rarest = weight.min(axis=1, where=np.abs(gaps(ranks)) == 1, initial=np.inf)  # of rank neighbours
far = torch.tensor([1e12], dtype=torch.float64)
for loss in bounded:
    infimum = loss.fn(far).item()
    sure = np.maximum(eta_noisy, 1 - eta_noisy)
    least = (uneven.sampling * (sure * infimum + (1 - sure) * loss.fn(-far).item())).sum(axis=1)
    excess = noisy_risk(loss.fn, 1e12 * candidates[:, None], uneven, noise_rate) - least
    needed = rarest * (loss.constant / 2 - infimum)
    assert (noisy_risk(loss.fn, 1e12 * ranks, uneven, noise_rate) - least).max() < 1e-12
    assert not wrong_order[excess < 0.999 * needed].any()
    assert (wrong_order & (excess < 1.001 * needed)).any(axis=0).all()
Markdown(f"This holds for {', '.join(loss.label for loss in bounded)}.")

# %% [markdown]
# ### Neighbours in rank must be compared (condition 2)
#
# Take $r^* = (3, 2, 1, 0)$ and list *all* integer rewards of least ramp risk: first with every pair
# sampled, then without the pair of extremes, then without a pair of neighbours. Only the last may
# harm. The extremes are ordered by the chain between them; two neighbours have no chain between
# them, and nothing else compares them.

# %% tags=["check", "claim-rank-preservation"]
true = np.array([[3.0, 2.0, 1.0, 0.0]])
left_out = {"no pair": None, "the extremes a and d": 2, "the neighbours b and c": 3}
orders_kept = {}
for case, pair in left_out.items():
    sampling = np.array([[0.0 if index == pair else 1.0 for index in range(6)]])
    chain = theory.Problems(true, sampling / sampling.sum())
    risks = noisy_risk(losses.get("ramp").fn, candidates[:, None], chain, noise_rate)[:, 0]
    best = candidates[risks <= risks.min() + 1e-12]
    reversed_, tied = theory.find_order_errors(true, best)
    orders_kept[case] = not (reversed_ | tied).any()
assert orders_kept["no pair"]
assert orders_kept["the extremes a and d"]
assert not orders_kept["the neighbours b and c"]
report = {"never compared": [*orders_kept], "every best reward in true order": orders_kept.values()}
pd.DataFrame(report)

# %% [markdown]
# ### The loss must have a lower bound
#
# The unhinged loss $1 - z$ is symmetric, but $\inf\ell = -\infty$ and $R_{\min}$ means nothing. The
# rewards must be held in a set, and the set decides.
#
# The risk is $1 - \sum_i r_i W_i$, where $W_i = \sum_j q_{ij}(2\tilde\eta_{ij} - 1)$ are the *net
# wins* of an action: how much more often it wins than loses.
#
# - In a box $|r_i| \le C$ the best reward has only two levels, $C$ where $W_i > 0$ and $-C$
#   elsewhere. So of three actions or more some always tie.
# - In a ball it is $r \propto W$. That has no ties, but the order of net wins: an action that is
#   compared often and seldom loses wins more than a better one that is seldom compared.

# %% tags=["check", "claim-rank-preservation"]
# a pair counts for its first action and against its second
net_wins = (uneven.sampling * (2 * eta_noisy - 1)) @ gaps(np.eye(4)).T
unhinged = losses.get("unhinged").fn
risks = noisy_risk(unhinged, candidates[:, None], uneven, noise_rate)
in_box = candidates[risks.argmin(axis=0)]  # the box from 0 to 3, every corner tried
assert np.array_equal(in_box, 3.0 * (net_wins > 0))
reversed_, tied = theory.find_order_errors(uneven.reward, in_box)
assert (reversed_ | tied).all()  # not one order of four actions is right
assert reversed_.any()

in_ball = net_wins / np.linalg.norm(net_wins, axis=1, keepdims=True)
others = np.random.default_rng(seed).normal(size=(100, *in_ball.shape))
others /= np.linalg.norm(others, axis=-1, keepdims=True)
best_risk = noisy_risk(unhinged, in_ball, uneven, noise_rate)
assert (best_risk <= noisy_risk(unhinged, others, uneven, noise_rate)).all()
swapped = theory.find_order_errors(uneven.reward, in_ball, tolerance=0)[0]
assert swapped.any()

# %% tags=["hide-input"]
Markdown(
    f"Unhinged, of {count} problems: in a box {(reversed_ | tied).mean():.0%} are wrong "
    f"({reversed_.mean():.1%} reverse a pair, the others only tie); in a ball {swapped.mean():.1%} "
    "reverse a pair."
)

# %% [markdown]
# > **Takeaway.** A bounded symmetric loss sees noise as a factor, and its wish, "every margin
# > large", can be granted to all pairs at once. So its best reward has the true order.
#
# ### The logistic loss wants exact margins, which noise puts at odds
#
# Logistic passes every test of notebook 03: for a single pair its best margin has the right sign
# (it is *calibrated*), and even recovers $\eta$. Why not use it?
#
# *Without* noise it keeps the order by theorem. The best logistic margin of a pair is its log-odds,
# which under Bradley–Terry is $r^*_i - r^*_j$. These margins add up along chains,
# $g_{ik} = g_{ij} + g_{jk}$, so $r = r^*$ gives every pair its best margin at once; and where the
# sampled pairs connect all actions nothing else does.
#
# *With* noise the best margin of a pair with true gap $u$, its **wish**, is $f_\varepsilon(u) =
# \log\frac{\tilde\eta}{1-\tilde\eta}$. No label is surer than $1-\varepsilon$, so no wish exceeds
# $\log\frac{1-\varepsilon}{\varepsilon}$, however large the gap: noise cuts down large gaps more
# than small ones.
#
# <details><summary>To be exact: the law of a wish, and why no chain can fulfil it</summary>
#
# Since $\tanh\frac u2 = 2\sigma(u) - 1$, and symmetric noise multiplies $2\eta - 1$ by
# $k = 1 - 2\varepsilon$, the wish obeys a **tanh law**:
#
# $$\tanh\frac{f_\varepsilon(u)}2 = k\,\tanh\frac u2, \qquad
# f_\varepsilon(u) = 2\operatorname{artanh}\Bigl(k\tanh\frac u2\Bigr),$$
#
# $$f'_\varepsilon(u) = \frac{k}{1 + (1-k^2)\sinh^2\frac u2} .$$
#
# The slope falls with $u > 0$, so $f_\varepsilon$ is strictly concave there; with
# $f_\varepsilon(0) = 0$ it is strictly *subadditive*:
# $f_\varepsilon(u+v) < f_\varepsilon(u) + f_\varepsilon(v)$.
# </details>
#
# In words: two steps of a chain together wish to climb further than the direct pair does. No reward
# gives all three pairs their wish, at any $\varepsilon$ in $(0, ½)$. Condition 3 fails.

# %% tags=["check", "claim-logistic-reverses"]
u, x, y = sympy.symbols("u x y", positive=True)
k = sympy.Symbol("k", positive=True)
noisy_sigma = noisy_eta.subs({eta: 1 / (1 + sympy.exp(-u)), epsilon: (1 - k) / 2})
assert sympy.simplify(2 * noisy_sigma - 1 - k * sympy.tanh(u / 2).rewrite(sympy.exp)) == 0
wish = 2 * sympy.atanh(k * sympy.tanh(u / 2))
slope = k / (1 + (1 - k**2) * sympy.sinh(u / 2) ** 2)
assert sympy.simplify((wish.diff(u) - slope).rewrite(sympy.exp)) == 0
falls = slope.diff(u) * (1 + (1 - k**2) * sympy.sinh(u / 2) ** 2) ** 2
some_noise = 1 / (1 + t)  # k strictly between 0 and 1
assert sympy.factor(falls.subs(k, some_noise)).is_negative  # strictly concave
assert sympy.simplify(falls.subs(k, 1)) == 0  # no noise: a straight line

# the same by the addition theorem of tanh, with x = tanh(u/2) and y = tanh(v/2)
chain = (k * x + k * y) / (1 + k * x * k * y)
direct = k * (x + y) / (1 + x * y)
assert sympy.factor((chain - direct).subs(k, some_noise)).is_positive  # strictly subadditive
rest = k * x * y * (1 - k**2) * (x + y) / ((1 + x * y) * (1 + k**2 * x * y))
assert sympy.simplify(chain - direct - rest) == 0
Math(r"\text{chain} - \text{direct} = " + sympy.latex(rest))

# %% [markdown]
# ### Four answers and 1% of noise: logistic reverses two of them
#
# Back to the bread. From a to d the gaps are 3, 3 and ½. Suppose that three pairs are compared
# often: (a, b), (b, c) and (a, d). The other three are a thousand times rarer and hardly count.
#
# The three frequent pairs form no cycle, so a reward can give each of them what it wishes. And
# then:
#
# - c hangs below a by *two steps of 3*. Noise shortens each of them a little.
# - d hangs below a by *one step of 6.5*. Noise shortens it a lot, to less than the two steps of 3
#   together.
#
# So c, which is better, ends up further below a than d does. The pair (c, d) itself would object,
# if it were compared more often.
#
# **Expect** in the figure: for logistic at 1% noise the lines of c and d cross, for ramp they do
# not. In the table below it the frequent pairs get what they wish, and the rare ones do not.

# %%
pairs = story.tabulate_pairs(0)[["better", "worse"]]
heavy = (pairs.better + pairs.worse).isin(["ab", "bc", "ad"])
pairs["sampling"] = np.where(heavy, 1, 1e-3) / np.where(heavy, 1, 1e-3).sum()
true = np.array([*story.REWARDS.values()])
graph = theory.Problems(true[None], pairs.sampling.to_numpy()[None])
slight = 0.01
fits = {
    "true reward": true,
    f"logistic, ε = {slight:g}": best_reward("logistic", graph, slight)[0],
    f"ramp, ε = {slight:g}": best_reward("ramp", graph, slight)[0],
}
pairs["wish"] = logit(noisy_preference(gaps(graph.reward), slight))[0]
pairs["gets"] = gaps(fits[f"logistic, ε = {slight:g}"])
# only differences of rewards mean anything: d is put at 0
learned = pd.DataFrame(fits, index=[*story.REWARDS]).apply(lambda fit: fit - fit["d"])
rewards = learned.rename_axis("action").reset_index().melt("action", None, "series", "reward")
figure = figures.fig_t7_four_actions(pairs, rewards)
figures.save(figure, "fig_t7_four_actions", {"pairs": pairs, "rewards": rewards}, profile=profile)

# %% tags=["check", "claim-logistic-reverses"]
clean = best_reward("logistic", graph, 0.0)[0]
np.testing.assert_allclose(clean - clean[3], true, atol=1e-6)  # clean: r* itself
_, by_logistic, by_ramp = (learned[series] for series in fits)
assert list(by_logistic.sort_values().index) == ["c", "d", "b", "a"]  # c and d reversed
assert list(by_ramp.sort_values().index) == ["d", "c", "b", "a"]
np.testing.assert_allclose(pairs.gets[heavy], pairs.wish[heavy], atol=0.05)
# the risk is convex, so the optimiser is not to blame: c and d in the true order cost more
fn = losses.get("logistic").fn
best, unswapped = by_logistic.to_numpy()[None], by_logistic.to_numpy()[None, [0, 1, 3, 2]]
assert noisy_risk(fn, best, graph, slight) < noisy_risk(fn, unswapped, graph, slight)
# labels without noise, of another link than Bradley–Terry's: F(u) = ½ + arctan(u)/π
cauchy = 0.5 + np.arctan(gaps(graph.reward)) / np.pi
linked = theory.fit_reward("logistic", graph.sampling, cauchy)[0]
assert linked[2] < linked[3]
columns = {"pair": pairs.better + ", " + pairs.worse, "true gap": gaps(true), "wish": pairs.wish}
pd.DataFrame({**columns, "learned": pairs.gets, "compared": np.where(heavy, "often", "seldom")})

# %% tags=["hide-input"]
Markdown(
    f"At ε = {slight:g} logistic learns "
    + ", ".join(f"{name} = {value:.2f}" for name, value in by_logistic.items()).replace("-", "−")
    + f". With clean labels of the Cauchy link c lies {linked[3] - linked[2]:.2f} below d."
)

# %% [markdown]
# **Try it.** Start at ε = 0, where logistic learns the true rewards. One step to the right, at 1%,
# the lines of c and d cross. Now compare the rare pairs more often, with the second slider: from
# some point on the order is right at every ε. Then choose ramp, and nothing that you do reverses a
# pair. In a viewer without scripts (such as GitHub's) only a description stands here, and the
# figure above shows the same for fixed values.

# %% tags=["hide-input"]
explorables.t7_four_actions()

# %% [markdown]
# It is not only noise. The *link* is the function that makes a preference out of a gap, σ in
# Bradley–Terry. Under another one, uneven sampling alone reverses the same pair: the log-odds of a
# Cauchy link are subadditive too, and nobody knows the link of human judgement.
#
# <details><summary><b>Quick check.</b> Would logistic reverse c and d if all six pairs were
# compared equally often?</summary>
#
# No: the pair (c, d) then has a say, and so have all others. Below it is shown for every problem
# with one noise rate.
# </details>
#
# ### It happens in random problems, too
#
# One graph could be a curiosity. So we count, for every loss, the random problems in which its best
# reward misorders the actions; with pairs compared unevenly often, and with all alike. Every fit is
# global:
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
# **Expect** by the theory:
#
# - **Ramp** is never wrong. **Sigmoid** is right in a wide box and not in a narrow one. Neither
#   moves with $\varepsilon$ (T3: the risk is only scaled).
# - **Logistic** is right at $\varepsilon=0$, and in some problems wrong at the noisy rate when
#   sampling is uneven.
# - **Square** is wrong in the *same* problems at every $\varepsilon$: its best margins
#   $2\tilde\eta - 1 = (1-2\varepsilon)(2\eta-1)$ do not add up even for clean labels, and noise
#   only shrinks its solution.
# - **Hinge** wants every margin to be ±1, which a chain of three cannot have ($1 + 1 \ne 1$), and
#   settles for few levels with many actions on each.
#
# Any ramp bar, or a logistic bar at $\varepsilon=0$, would refute this.


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

# %% tags=["check", "claim-rank-preservation", "claim-logistic-reverses"]
shares = table[table["sampling"] == "uneven"].set_index(["loss", "noise_rate", "clip"]).sort_index()
noisy = shares.xs(noise_rate, level="noise_rate").groupby("loss").first()
wrong = shares["wrong"]
assert (wrong["ramp"] == 0).all()
assert (wrong["sigmoid"].xs(20, level="clip") == 0).all()
assert (wrong["sigmoid"].xs(0.0) == wrong["sigmoid"].xs(noise_rate)).all()  # noise changes nothing
assert (wrong["logistic"].xs(0.0) == 0).all()  # by theorem
assert not (wrong["logistic"].xs(noise_rate) == 0).all()  # the counterexample, found at random
assert (table[table["sampling"] == "even"]["reversed"] == 0).all()  # even sampling reverses nothing
at_rates = [best_reward("square", uneven, rate) for rate in (0.0, 0.2, noise_rate)]
misled = [theory.find_order_errors(uneven.reward, learned)[0] for learned in at_rates]
assert misled[0].any()
assert all((each == misled[0]).all() for each in misled)  # square: the same problems

# %% tags=["hide-input"]
Markdown(
    f"Of {count} unevenly sampled problems at ε = {noise_rate:g}, logistic misorders "
    f"{noisy.wrong['logistic']:.1%} (at ε = 0 none) and square {noisy.wrong['square']:.1%}, the "
    f"same ones as at ε = 0. Hinge reverses {noisy.reversed['hinge']:.1%} and ties another "
    f"{noisy.tied['hinge']:.1%}. Ramp: none. Sigmoid: "
    + ", ".join(f"{share:.1%} inside ±{clip:g}" for clip, share in wrong["sigmoid", 0.0].items())
)

# %% [markdown]
# ### Even sampling saves logistic, until some pairs are noisier than others
#
# As long as all pairs share one $\varepsilon$, even sampling keeps logistic and square right.
# Setting the gradient to zero with equal $q$ gives $\sum_j \sigma(r_i - r_j) = \sum_j
# \tilde\eta_{ij}$ for every action $i$. The left side is larger for the action with larger $r$, the
# right side for the one with larger $r^*$: the orders agree.
#
# Real preference data offers neither. Nobody compares all answers equally often, and some
# pairs are misjudged more often than others. Let $\varepsilon_{ij} < ½$ differ by pair: then even
# sampling reverses logistic and square too, with three actions. For ramp it only reweights the
# pairs, and no majority turns. The cell takes gaps of 0.2 and 1, and noise in (a, c) alone.

# %% tags=["check", "claim-pair-dependent-noise"]
three = theory.Problems(np.array([[1.2, 1.0, 0.0]]), np.full((1, 3), 1 / 3))  # gaps 0.2 and 1
a_c_noisy = np.array([[0.0, 0.45, 0.0]])
rows = {}
for name in ("logistic", "square", "ramp"):
    a, b, c = best_reward(name, three, a_c_noisy)[0]
    assert (a > b > c) == (name == "ramp")
    assert np.all(np.diff(best_reward(name, three, 0.45)) < 0)  # as noisy everywhere: no harm
    rows[name] = {"a": a - c, "b": b - c, "c": 0.0, "a above b": a > b}
by_pair = np.random.default_rng(seed).uniform(0, 0.49, uneven.sampling.shape)
assert (best_reward("ramp", uneven, by_pair) == ranks).all()
pd.DataFrame(rows).T.rename_axis("loss")

# %% [markdown]
# ### Sigmoid needs room: what clipping costs
#
# In a box $|r| \le C$ not every step can be large, and condition 3 fails for the sigmoid loss. It
# spends the room where it pays most: on pairs that are compared often, and whose winner is clear.
# For a pair that is rare or close little room is left. Two neighbours may then both end up at the
# same wall of the box, where they tie; or their comparisons with *others* place them, in either
# order.
#
# The cell narrows the box, and checks the optimiser with a second lattice. The last column needs no
# optimiser: wherever evenly spaced ranks cost less than $\Delta$, *every* best reward in the box
# has the true order. That is a proof for that share of the problems.

# %% tags=["check", "claim-rank-preservation"]
eta_true = noisy_preference(gaps(uneven.reward), 0.0)
weight = uneven.sampling * np.abs(2 * eta_true - 1)
rarest = weight.min(axis=1, where=np.abs(gaps(ranks)) == 1, initial=np.inf)
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
    proven = (weight * expit(-np.abs(gaps(evenly_spaced)))).sum(axis=1) < rarest / 2
    assert not (proven & wrong).any()
    rows.append([clip, reversed_.mean(), tied.mean(), wrong.mean(), proven.mean()])
assert rows[0][1] > 0  # a narrow box does reverse pairs: sigmoid needs the room
assert rows[-1][4] > 0.5  # and in a wide one the proof covers most problems
pd.DataFrame(rows, columns=["clip C", "reversed", "only tied", "wrong", "proven right"])

# %% [markdown]
# The ramp needs room too, but a definite amount: $n$ actions need a range of $n-1$, so a clip at
# ±20 serves up to 41 levels. The sigmoid loss has no such number. How much room it needs depends on
# the least weight $q\,|2\eta-1|$: rare and close pairs are the first to go.
#
# > **Takeaway from T7.** Ramp has the true order whenever neighbours in rank are compared, and
# > sigmoid if it has room. Logistic has it on clean Bradley–Terry labels, or if all pairs are
# > compared and misjudged alike. What it wishes for a single pair always has the right sign;
# > added up along chains, these wishes can mislead.
#
# ### One label per pair: cycles outvote flips, chains do not
#
# So far each pair had infinitely many labels. In practice a pair is labelled once, and a flip is
# then simply *the* label. What protects us is the form $g = r(a_1) - r(a_2)$: around every cycle of
# comparisons the margins must add up to zero, so a flip inside many cycles is outvoted.
#
# The number of independent cycles is (pairs − actions + connected parts). Where there is none,
# nothing stops a reward from fitting every label, flips included, whichever loss is used.
#
# The cell labels each pair of 30 actions once, at the noise rate above: all pairs, or only those of
# a chain, which has no cycle. How many of the labels does the best reward fit, and how many pairs
# does it order as $r^*$ does? (Fewer labels than $1 - \varepsilon$ agree with $r^*$: under
# Bradley–Terry the worse answer wins at times without any flip.)


# %%
def compare_memorisation(problems, *, noise_rate, generator):
    """Label every sampled pair once: what the labels and the best logistic reward agree with."""
    sampled = problems.sampling > 0
    truth = gaps(problems.reward) > 0
    chance = noisy_preference(gaps(problems.reward), noise_rate)
    label = generator.random(truth.shape) < chance
    reward = theory.fit_logistic(problems.sampling, label.astype(float), clip=20)
    learned = gaps(reward) > 0
    return {
        "labels agree with r*": (label == truth)[sampled].mean(),
        "reward fits labels": (learned == label)[sampled].mean(),
        "reward agrees with r*": (learned == truth)[sampled].mean(),
    }


# %% tags=["check"]
actions = 30
generator = np.random.default_rng(seed)
drawn = theory.draw_problems(50, actions=actions, spread=spread, unevenness=0, generator=generator)
first, second = np.triu_indices(actions, 1)
neighbours = np.where(second - first == 1, 1 / (actions - 1), 0.0)
rows = {}
for case, sampling in {"all": drawn.sampling, "a chain": np.tile(neighbours, (50, 1))}.items():
    cycles = (sampling[0] > 0).sum() - actions + 1
    labelled = theory.Problems(drawn.reward, sampling)
    means = compare_memorisation(labelled, noise_rate=noise_rate, generator=generator)
    rows[case] = {"cycles": cycles, **means}
table = pd.DataFrame(rows).T.rename_axis("pairs")
assert table["reward fits labels"]["a chain"] == 1  # every flip is memorised
assert table["reward fits labels"]["all"] < 0.9  # cycles forbid it …
assert table["reward agrees with r*"]["all"] > table["labels agree with r*"]["all"] + 0.1
table

# %% [markdown]
# In the MNIST study of notebook 05 each image appears in exactly one pair, so there is no cycle at
# all. A network that is large enough to give each image its own reward *can* memorise every flip,
# with any loss, symmetric or not; notebook 05 measures how far it goes.
#
# The symmetry of a loss is a statement about the risk, not about the fit of one sample. What still
# differs between losses is how hard each *pulls* at a flipped label on the way, and that is T9.

# %% [markdown]
# ## T8 · The right order is enough to improve a policy
#
# Suppose the learned reward has the right order, and its steps are arbitrary. Is a policy trained
# on it any better? First, which policy is that?
#
# ### The trained policy is the reference, tilted by the reward (T12)
#
# KL-regularised training on a reward $r$ maximises
# $J^r_\beta(\pi) = \mathbb E_{a\sim\pi}\, r(a) - \beta\,\mathrm{KL}(\pi\,\|\,\pi_{\text{ref}})$:
# β is the price of leaving the reference policy. Let
#
# $$\pi_r(a) = \frac{\pi_{\text{ref}}(a)\,e^{r(a)/\beta}}{Z},
# \qquad Z = \sum_a \pi_{\text{ref}}(a)\,e^{r(a)/\beta} .$$
#
# Then $r = \beta\log\frac{\pi_r}{\pi_{\text{ref}}} + \beta\log Z$, and with this in the objective
#
# $$J^r_\beta(\pi) = \beta\,\mathbb E_\pi\Bigl[\log\frac{\pi_r}{\pi_{\text{ref}}} -
# \log\frac{\pi}{\pi_{\text{ref}}}\Bigr] + \beta\log Z
# = \beta\log Z - \beta\,\mathrm{KL}(\pi\,\|\,\pi_r) .$$
#
# The divergence is 0 at $\pi = \pi_r$ and positive elsewhere: $\pi_r$ is the one maximiser. Only
# $r/\beta$ counts in it: rewards twice as large are a price half as high.
#
# For the numbers we need $\pi_r$, what it gains in true reward, and KL, straight from their
# definitions. Logarithms keep the exponential from overflowing where $\beta$ is small.


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


def measure_objective(policy, reference, reward, beta):
    """E_π r − β·KL(π ‖ π_ref): what training on the reward maximises."""
    return (policy * reward).sum(axis=-1) - beta * measure_kl(policy, reference)


# %% [markdown]
# The derivation in sympy, for three actions.

# %% tags=["check", "claim-policy-origin"]
beta, pi1, pi2, p1, p2 = sympy.symbols("beta pi1 pi2 p1 p2", positive=True)
pi, p = [pi1, pi2, 1 - pi1 - pi2], [p1, p2, 1 - p1 - p2]
r = sympy.symbols("r1:4", real=True)
Z = sum(b * sympy.exp(c / beta) for b, c in zip(p, r, strict=True))
kl = sum(a * sympy.log(a / b) for a, b in zip(pi, p, strict=True))
kl_to_tilted = sum(
    a * sympy.log(a * Z / (b * sympy.exp(c / beta))) for a, b, c in zip(pi, p, r, strict=True)
)
trained = sum(a * c for a, c in zip(pi, r, strict=True)) - beta * kl
for sign in (1, -1):
    rest = trained - (beta * sympy.log(Z) - sign * beta * kl_to_tilted)
    is_zero = sympy.simplify(sympy.expand_log(rest, force=True)) == 0
    assert is_zero == (sign == 1)

# %% [markdown]
# <details><summary><b>Quick check.</b> DPO trains no reward model. How can it do without?</summary>
#
# Read the formula backwards: a policy $\pi$ is optimal for the reward $\beta\log
# \frac{\pi}{\pi_{\text{ref}}}$, up to a constant per prompt. In the difference of two answers the
# constant cancels. So the policy is its own reward model, and a loss on reward differences trains
# it directly.
# </details>
#
# With numbers: random policies, references and rewards, over a grid of $\beta$ from a tenth to a
# thousand. The identity must hold, at the tilted policy and elsewhere. And $\pi_r$ must beat its
# own mixture with 1% of another policy, and the policy that takes $2\beta$ for $\beta$.
#
# At the ends, far outside the grid, it must be what its formula says: as $\beta \to 0$ everything
# on the best action of $r$, as $\beta \to \infty$ the reference.

# %% tags=["check", "claim-policy-origin"]
generator = np.random.default_rng(seed)
policy, reference = generator.dirichlet(np.ones(5), (2, 500))
reward = generator.normal(size=(500, 5))
betas = np.logspace(-1, 3, 41)
each, every = betas[:, None, None], betas[:, None]  # a policy has one axis more than its value
tilted = tilt_policy(reference, reward, each)
log_z = np.log((reference * np.exp(reward / each)).sum(axis=-1))
for chosen in (policy, tilted):
    trained = measure_objective(chosen, reference, reward, every)
    identity = every * (log_z - measure_kl(chosen, tilted))
    np.testing.assert_allclose(trained, identity, rtol=1e-12, atol=1e-12)
mixture = 0.99 * tilted + 0.01 * policy
for rival in (mixture, tilt_policy(reference, reward, 2 * each), policy, reference):
    assert (measure_objective(rival, reference, reward, every) < trained).all()

greedy = np.eye(5)[reward.argmax(axis=1)]
np.testing.assert_allclose(tilt_policy(reference, reward, 1e-6), greedy, atol=1e-12)
np.testing.assert_allclose(tilt_policy(reference, reward, 1e9), reference, atol=1e-8)

# %% [markdown]
# ### Right order, higher true reward
#
# **Statement (T8).** Let $J(\pi) = \mathbb E_{a\sim\pi}\, r^*(a)$ be the true reward of a policy,
# with no KL term. If $r$ puts no two actions in the wrong order (it may tie some), then
# $J(\pi_r) \ge J(\pi_{\text{ref}})$ for every $\beta > 0$ and every reference policy, with equality
# only if $r$ or $r^*$ is constant on the support of $\pi_{\text{ref}}$. It holds prompt by prompt,
# hence on average over prompts.
#
# **Why.** A policy gains if it moves probability from worse answers to better ones, and a reward in
# the right order moves it no other way. In formulas, with $w = e^{r/\beta}$ and all expectations
# under $\pi_{\text{ref}}$,
#
# $$J(\pi_r) - J(\pi_{\text{ref}}) = \frac{\mathbb E[r^* w]}{\mathbb E[w]} - \mathbb E[r^*]
# = \frac{\operatorname{Cov}(r^*, w)}{\mathbb E[w]}
# = \frac{\tfrac12\sum_{i,j} p_i p_j\,(r^*_i - r^*_j)(w_i - w_j)}{\mathbb E[w]} .$$
#
# The exponential is increasing, so $w$ rises with $r$, and no pair is ordered by $w$ against $r^*$:
# each product is at least 0, and so is the sum. (If all products vanish while $r^*_i < r^*_j$ for
# some pair, then $w_i = w_j$; any third $k$ has $r^*_k \ne r^*_i$ or $r^*_k \ne r^*_j$, so $w_k$
# equals them too: $w$ is constant.) sympy checks the identity for three actions, with a free
# reference policy, reward and weight.

# %% tags=["check", "claim-policy-improvement"]
w = sympy.symbols("w1:4", positive=True)
mean_weight = sum(a * b for a, b in zip(p, w, strict=True))
old = sum(a * b for a, b in zip(p, r, strict=True))
gain = sum(a * b * c for a, b, c in zip(p, r, w, strict=True)) / mean_weight - old
products = sum(p[i] * p[j] * (r[i] - r[j]) * (w[i] - w[j]) for i in range(3) for j in range(3))
assert sympy.simplify(gain - products / (2 * mean_weight)) == 0
# the ½ is needed: each pair is counted twice
assert sympy.simplify(gain - products / mean_weight) != 0

# %% [markdown]
# Learned rewards that share the true order and nothing else (the sorted values are drawn afresh)
# must gain at every $\beta$; rewards in another order need not. Then the equality cases.

# %% tags=["check", "claim-policy-improvement"]
values = np.sort(3 * generator.normal(size=(500, 5)), axis=1)
same_order = np.take_along_axis(values, reward.argsort(axis=1).argsort(axis=1), axis=1)
gains = measure_improvement(reference, reward, same_order, each)
assert gains.min() > 0  # strict: no two values are equal here
shuffled = generator.permuted(values, axis=1)
# another order may fail
assert not (measure_improvement(reference, reward, shuffled, each) >= 0).all()

flat = np.ones_like(reward)
narrow = np.eye(5)[0]  # π_ref has one answer only, and nothing to choose from
equal = {
    "r constant": (reference, reward, flat),
    "r* constant": (reference, flat, same_order),
    "one answer": (narrow, reward, same_order),
}
for case, arguments in equal.items():
    assert np.abs(measure_improvement(*arguments, each)).max() < 1e-12, case

# %% [markdown]
# ### The four answers again
#
# The reference policy likes a already: it gives it 70%, and the others 10% each. It is tilted, with
# $\beta = 1$, by three rewards: the true one; what ramp learned of noisy labels in T7, which shares
# only the order with it; and the true one with a and b swapped.
#
# **Expect** a higher $J$, which is the expected true reward, for the first two, and no promise for
# the third.

# %%
start = np.array([0.7, 0.1, 0.1, 0.1])  # the reference's probabilities of a, b, c, d
swapped = true[[1, 0, 2, 3]]
tilts = {"true rewards r*": true, "only the order": by_ramp, "a and b swapped": swapped}
policies = {"reference": start}
for name, chosen in tilts.items():
    policies[name] = tilt_policy(start, chosen, 1.0)
parts = []
for name, chosen in policies.items():
    columns = {"policy": name, "answer": [*story.REWARDS]}
    parts.append(pd.DataFrame({**columns, "probability": chosen, "value": chosen @ true}))
tilted_policies = pd.concat(parts, ignore_index=True)
figure = figures.fig_t8_policies(tilted_policies)
figures.save(figure, "fig_t8_policies", tilted_policies, profile=profile)

# %% [markdown]
# **Try it.** Look for a setting at which a reward in the right order loses: there is none. Then
# make the one with a and b swapped lose, with a small β and a reference that mostly gives a, and
# let it gain again with a larger β. In a viewer without scripts (such as GitHub's) only a
# description stands here, and the figure above shows the same for fixed values.

# %% tags=["hide-input"]
explorables.t8_improvement()

# %% [markdown]
# ### What the statement does not say
#
# **One swapped pair can make $J$ fall.** The swap above moves mass from the best answer to the
# second. It can harm, but it need not: with c and d swapped $J$ still rises for this reference.
#
# **T8 is silent about answers that no pair ever ranked.** It asks for the order of *all* answers
# that $\pi_{\text{ref}}$ can give, and condition 2 of T7 for comparisons of all rank neighbours. An
# answer that no annotator saw may land anywhere in the learned order, and the swap above is what
# that can do.
#
# **It is about the exact $\pi_r$.** A policy that is trained on finitely many pairs comes near it
# at best.
#
# **The training objective of the true reward, $J - \beta\,\mathrm{KL}$, may fall.** Its KL term
# punishes steps that are too large, and the right order says nothing about the size of steps. The
# reward $4r^*$ has a perfect order and overshoots: it acts like $r^*$ at a quarter of the price.
#
# **Expect** in the figure, on the left: both solid lines (right order) above zero at every $\beta$.
# Where $\beta$ is small, every line comes to what the best answer of its reward gains, and so the
# swap of a and b falls below zero; where $\beta$ is large, to nothing. In between even that swap
# may gain, since it also moves mass away from c and d. On the right $r^*$ itself stays above zero,
# since $\pi_{r^*}$ *maximises* that objective (T12); $4r^*$ does not.

# %%
rewards = {
    "r*": true,
    "4 r*": 4 * true,
    "a and b swapped": swapped,
    "c and d swapped": true[[0, 1, 3, 2]],
}
betas = np.logspace(-1, 4, 51)
parts = []
for name, chosen in rewards.items():
    ordered = (chosen.argsort() == true.argsort()).all()
    columns = {"reward": name, "keeps_order": ordered, "beta": betas}
    gain = measure_improvement(start, true, chosen, betas[:, None])
    parts.append(pd.DataFrame({"objective": "J = E r*", **columns, "gain": gain}))
    if ordered:
        policy = tilt_policy(start, chosen, betas[:, None])
        gain = measure_objective(policy, start, true, betas) - start @ true
        parts.append(pd.DataFrame({"objective": "J − β·KL", **columns, "gain": gain}))
improvement = pd.concat(parts, ignore_index=True)
figure = figures.fig_t8_improvement(improvement)
figures.save(figure, "fig_t8_improvement", improvement, profile=profile)

# %% tags=["check", "claim-policy-improvement"]
lowest = improvement.groupby(["objective", "reward"]).gain.min()
for name in ("r*", "4 r*", "c and d swapped"):
    assert lowest["J = E r*", name] > 0  # any steps will do
assert lowest["J = E r*", "a and b swapped"] < 0  # one swapped pair: J falls
assert lowest["J − β·KL", "r*"] > 0
assert lowest["J − β·KL", "4 r*"] < 0  # right order, and J with KL falls
for name, chosen in rewards.items():
    gain = improvement[(improvement.objective == "J = E r*") & (improvement.reward == name)].gain
    assert abs(gain.iloc[0] - (true[chosen.argmax()] - start @ true)) < 1e-2  # greedy
    assert abs(gain.iloc[-1]) < 1e-2 < abs(gain.iloc[0])  # the reference
# what logistic learned in T7, with c and d reversed: it depends on the reference
only_c_and_d = np.array([0, 0, 0.5, 0.5])
assert (measure_improvement(start, true, by_logistic, betas[:, None]) > 0).all()
assert (measure_improvement(only_c_and_d, true, by_logistic, betas[:, None]) < 0).all()
overshooting = (improvement.objective == "J − β·KL") & (improvement.reward == "4 r*")
falls = improvement[overshooting & (improvement.gain < 0)]

# %% tags=["hide-input"]
Markdown(
    f"With a and b swapped, J falls by up to {-lowest['J = E r*', 'a and b swapped']:.2f}; "
    f"with the right order its least gain on the grid is "
    f"{lowest['J = E r*'][['r*', '4 r*']].min():.4f}. With KL inside, 4 r* loses at {len(falls)} "
    f"of {len(betas)} values of β, at worst {-falls.gain.min():.2f}."
)

# %% [markdown]
# > **Takeaway.** Put T3, T7 and T8 in a row and you have the paper's argument. A symmetric loss
# > does not see symmetric noise, $\tilde R = (1-2\varepsilon)R + \varepsilon K$ (T3). If it is
# > bounded and never increases, its best reward keeps the true order (T7; for sigmoid: in the
# > limit, or a wide enough box). And a policy tilted by a reward in the true order is better than
# > the reference (T8). *Not* promised are a small KL, or an optimal policy: only an improvement in
# > true reward.
#
# <details><summary><b>Quick check.</b> Logistic learned c and d in the wrong order (T7). Must its
# policy be worse than the reference?</summary>
#
# No. The right order is enough, and not necessary. A reference that likes a gains from this reward
# at every β, since mass goes to a; one that gives only c and d loses at every β. The check above
# tries both.
# </details>
#
# <details><summary><b>Quick check.</b> Does the reward (3, 2, 1, 0) lose anything against (6.5,
# 3.5, 0.5, 0), when both have the same order?</summary>
#
# It has lost by how much a is better. So it cannot say how far to move from the reference: at the
# same β it tilts less towards a. T8 promises that it moves in the right direction.
# </details>
#
# ## T9 · Who pulls at a wrong label
#
# T12, read backwards, makes a policy its own reward model: $\beta\log\frac{\pi}{\pi_{\text{ref}}}$
# is its reward, up to a constant that cancels in a difference. Of a pair with the chosen answer
# $a_w$ and the rejected one $a_l$ the margin is then
#
# $$h = \beta\log\frac{\pi(a_w)}{\pi_{\text{ref}}(a_w)} -
# \beta\log\frac{\pi(a_l)}{\pi_{\text{ref}}(a_l)} ,$$
#
# and a loss $\ell(h)$ trains the policy directly. **DPO** takes the logistic loss,
# $-\log\sigma(h)$; **SymPO**, the paper's method, a symmetric one, such as sigmoid or ramp. Others
# have been proposed against noise or overfitting: cDPO and rDPO are told ε, IPO aims at a fixed
# margin, ROPO mixes DPO with the sigmoid loss, and so on. (Their formulas are in the second cell
# below.)
#
# The methods differ only in how much *weight* a pair gets:
#
# $$-\nabla \ell(h) = \underbrace{-\ell'(h)}_{\text{weight}}\;\nabla h .$$
#
# So one curve per method tells everything that happens to a single pair. A large negative $h$ means
# that the model is sure of the opposite of this label. That is either a lesson to be learned or a
# flipped label, and the loss cannot know which.
#
# sympy differentiates the losses of every method in this repository. Two need a word, because part
# of the weight enters after the derivative has been taken:
#
# - **Dr.DPO** takes $-\log$ of the batch mean $\bar s$ of $\sigma(h)$ ($\beta'=1$): pairs are
#   *coupled* through $\bar s$.
# - **RE-PO** weighs each pair with a confidence, its posterior probability that the label is right.
#   It is computed from $h$, but held fixed in the derivative.
#
# The table shows the weights with ε = 0.2 told to cDPO and rDPO, β = 0.1 in IPO, $\bar s = ½$, and
# 0.9 as RE-PO's prior share of right labels. Of the symmetric losses it shows the two that the
# paper trains with and two with other tails; the checks take all.


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
shown = [*losses.PAIR_LOSSES, *(f"sympo_{name}" for name in ("sigmoid", "ramp", "erf", "cauchy"))]
lines = ["| method | weight −dℓ/dh | at h = 0 |", "|---|---|---|"]
for name in shown:
    formula = sympy.latex(weights[name]).replace("|", r"\vert ")
    lines.append(f"| {figures.label(name)} | ${formula}$ | {float(weights[name].subs(h, 0)):.3g} |")
Markdown("\n".join(lines))

# %% [markdown]
# Do the formulas agree with what training computes? The next cell writes each baseline again in
# torch, straight from its definition. Autograd then differentiates these definitions, and also the
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
# gradient divided by $\bar s$. The last check is the derivative of a batch of three pairs. (This is
# our observation, not the paper's.)

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
Markdown(f"Even weights: {', '.join(figures.label(name) for name in symmetric)}.")

# %% [markdown]
# ### Which methods still pull at a label that the model finds absurd?
#
# Each curve is divided by its own value at $h=0$, where training starts, so that only shapes are
# compared (the step size takes care of scale). **Expect** two groups, told apart by a number:
# methods whose weight at $h=-6$ is still at least half of that at 0, and methods whose weight has
# faded by then. All even weights must be in the second group; they have a panel of their own.
# Dr.DPO and SymPO sigmoid share a curve: relative to $h = 0$ the two are equal.

# %%
curves = theory.tabulate_weights({n: weights[n] for n in shown}, h, np.linspace(-6, 6, 241))
far = curves[curves.margin == -6].set_index("method").relative
groups = far.map(lambda weight: f"{'still pulls' if weight >= 0.5 else 'has faded'} at h = −6")
curves["group"] = curves.method.map(groups)
assert (far[far.index.isin(symmetric)] < 0.5).all()  # symmetric ones are in the second group
figures.save(figures.fig_t9_gradients(curves), "fig_t9_gradients", curves, profile=profile)

# %% [markdown]
# **DPO weighs most where the label disagrees most: it chases flips.** Once the model has learned a
# pair, a true label of this pair has almost no weight left, and a flipped one has the full weight.
#
# Put a number on it. Suppose the model is right about every pair, with $|h| = 3$, and 20% of the
# labels are flipped. Which share of the total weight do the flips take?
#
# $$\text{share} = \frac{\varepsilon\,\text{weight}(-3)}
# {\varepsilon\,\text{weight}(-3) + (1-\varepsilon)\,\text{weight}(3)}$$
#
# For an even weight the two are equal and the share is $\varepsilon$, no more: the flips are
# outvoted. It is no share where a method pulls true labels *back*, as cDPO and IPO do at $h = 3$.

# %%
flip_rate = settings["noise_rate"]
ends = theory.tabulate_weights(weights, h, [-3, 3])
ends = ends.pivot_table(index="method", columns="margin", values="relative")
ends.columns = ["label flipped (h = −3)", "label true (h = 3)"]
pull_of_flips = flip_rate * ends["label flipped (h = −3)"]
pull_of_true = (1 - flip_rate) * ends["label true (h = 3)"]
share = pull_of_flips / (pull_of_flips + pull_of_true)
ends["flips' share of the weight"] = share.where(pull_of_true >= 0)
ends["symmetric"] = ends.index.isin(symmetric)
ends.loc[figures.in_order(shown)].rename(index=figures.label)

# %% tags=["check"]
share = ends["flips' share of the weight"]
# ramp: both weights are 0 at |h| = 3, and the share is undefined
even_shares = share[ends.symmetric].dropna()
np.testing.assert_allclose(even_shares, flip_rate)
assert set(share.index[pull_of_true < 0]) == {"cdpo", "ipo"}
assert (share[~ends.symmetric].dropna() > flip_rate).all()
assert not share["dpo"] < 0.5  # the flips, a fifth of the labels, take most of DPO's gradient
# what the figure shows besides, for the reading below
at = curves.pivot(index="margin", columns="method", values="relative")
assert (at.loc[6, ["cdpo", "ipo"]] < 0).all()
assert sympy.limit(weights["rdpo"], h, sympy.oo) > 0
assert 0 < sympy.limit(weights["ropo"], h, -sympy.oo) < weights["ropo"].subs(h, 0) / 2
assert at["repo"].idxmax() < 0
assert at.loc[-6].filter(like="sympo_").idxmax() == "sympo_cauchy"

# %% tags=["hide-input"]
Markdown(
    f"The flips are {flip_rate:.0%} of the labels. They take {share['dpo']:.0%} of the weight in "
    f"DPO, {share['ropo']:.0%} in ROPO, {share['repo']:.0%} in RE-PO, and "
    f"{even_shares.max():.0%} in each symmetric method that gives either side any weight here "
    "(ramp gives none)."
)

# %% [markdown]
# <details><summary>How to read the rest of the figure</summary>
#
# - **cDPO** and **IPO** cross zero: they pull a margin *back* once it is large enough. This limits
#   how sure the model gets of anything, true labels included.
# - **rDPO** never reaches zero on the right: it keeps pushing learned pairs, and in return the pull
#   of flips is bounded by a mild factor. This is the price and the benefit of being told ε.
# - **ROPO** is a mixture of logistic and sigmoid, and keeps a small residue of DPO's pull at $h \to
#   -\infty$.
# - **RE-PO** has a bump that leans to the left: it still cares most for mild disagreement, and lets
#   go of strong disagreement.
# - **Ramp** has a window: beyond $|h| = 1$ a pair is out of the game, right or wrong. **Sigmoid**,
#   **Cauchy** and **erf** fade at different speeds; Cauchy's tail is the heaviest.
# </details>
#
# Letting go has a price, too: a pair that is *truly* and strongly misjudged also gets little
# gradient, and learning can stall. Which effect wins is an empirical question; notebook 05 asks it
# on MNIST.
#
# > **Takeaway from T9.** A symmetric loss weighs both sides of 0 alike, so flips get their
# > share of the gradient and no more. DPO gives a well-trained model's gradient mostly to flips (if
# > all pairs' $\nabla h$ are of like size).
#
# ## Exercises
#
# **1.** *A quick check question of the paper's summary:* how does a symmetric loss differ from the
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
# **2.** Rewards are clipped at ±10, as for language models. With how many levels of reward can the
# ramp loss still attain its least risk?
#
# <details><summary>Answer</summary>
#
# It needs steps of 1 in a range of 20: 21 levels. If there are more answers than that *per prompt*,
# all compared with each other, the best reward ties or compromises. In practice a prompt has two to
# a few answers.
# </details>
#
# **3.** In T8 let $\beta \to 0$. Which part of the order matters in the limit, and what does one
# swapped pair cost then?
#
# <details><summary>Answer</summary>
#
# $\pi_r$ puts everything on the top action of $r$ in the support of $\pi_{\text{ref}}$. Only the
# top matters: a swap that puts another action there costs the difference of the two in $r^*$, and
# one that leaves the top alone costs nothing. The left end of the T8 figure shows both.
# </details>
#
# **4.** Is the constant weight of the unhinged loss $1 - z$ robust in the sense of T9? Why is it
# not the end of the story?
#
# <details><summary>Answer</summary>
#
# A constant is even: flips take exactly ε. But it never fades on the right either, so margins grow
# without bound; and held in a box, the best reward has two levels and ties the rest (T7).
# </details>
#
# ## Provenance

# %% tags=["hide-output"]
figures.save_provenance("04_rank_and_policy", profile=profile)
