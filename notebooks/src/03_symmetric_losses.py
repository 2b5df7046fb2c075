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
# # 03 · Symmetric losses
#
# You will blur the 0–1 error into a family of losses that label noise cannot bend, prove that the
# family is complete, and see what such a loss can learn (which answer is better) and what it never
# can (by how much).
#
# - Paper: Section 4 (symmetric losses), 4.2 (calibration), 4.3 (why reward magnitudes are lost),
#   open question 3.
# - Reads → writes: nothing → `fig_t5_blur`, `fig_t5_losses`, `fig_t6_minimisers` with the data
#   behind them.
# - Before: [notebook 01](01_preferences_as_classification.ipynb) (margins and losses) and
#   [notebook 02](02_noise_equivalence.ipynb) (flips, T3).
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
noise_rate = 0.4  # ε of the noisy examples, below ½
bound = 4.0  # scores are clipped to [−bound, bound], as the paper clips rewards
draws = 20_000  # Monte Carlo sample size
seed = 0

# %%
from itertools import product

import numpy as np
import pandas as pd
import scipy.stats
import sympy
import torch
from IPython.display import Markdown, Math
from scipy.special import beta, betainc, expit
from scipy.stats import binom
from sympy.stats import Beta, Cauchy, Laplace, Logistic, Normal, StudentT, Uniform, cdf, density

from sympo import losses, noise
from sympo.book import explorables, figures, story, theory
from sympo.studies import profiles

profile = profiles.resolve_profile(profile)
figures.use_readable_tables()
z = sympy.Symbol("z", real=True)

# %% [markdown]
# ## The idea: the 0–1 error, blurred
#
# We want few pairs in the wrong order. For one pair this is the *0–1 error* of its margin $z$: 1 if
# $z < 0$ and 0 if $z > 0$. Nobody can train with it. It is flat on both sides of 0, so a small
# change of the model changes nothing, and there is no gradient to follow.
#
# The remedy is a hand that shakes. Before we ask on which side of 0 the margin lies, we add a
# random *tremor* $X$ to it, and charge the probability of ending up on the wrong side:
#
# $$\ell(z) = P(z + X \le 0).$$
#
# A pair far on the right side costs next to nothing, a pair far on the wrong side costs nearly 1,
# and in between the cost falls gradually. If the tremor is logistic, that is,
# $P(X \le t) = \sigma(t) = 1/(1 + e^{-t})$, we get
#
# $$\ell(z) = \sigma(-z) = \frac{1}{1 + e^{z}},$$
#
# the **sigmoid loss**, the paper's main choice. With $p = \sigma(z)$, the Bradley–Terry probability
# of the label, it is $1 - p$: SymPO with the sigmoid loss minimises $1 - p$ where DPO minimises
# $-\log p$.
#
# **What to expect.** Three laws of the tremor, each narrow and wide. Below, the narrow one must
# hug the step. The share that is shaded above is integrated from the density; it must be the height
# of the dot below, which is the loss.

# %%
tremors = {"uniform": "ramp", "logistic": "sigmoid", "Cauchy": "cauchy"}
parts = []
for (law, name), width in product(tremors.items(), (0.25, 1.0)):
    # the tremor is `width` times as wide: ℓ(z/width), with the density f(z/width)/width
    at = theory.tabulate_losses([name], np.linspace(-5, 5, 201) / width)
    columns = {"margin": at.margin * width, "value": at.value, "density": at.weight / width}
    parts.append(pd.DataFrame({"law": law, "loss": name, "width": width, **columns}))
blurred = pd.concat(parts, ignore_index=True)
figures.save(figures.fig_t5_blur(blurred), "fig_t5_blur", blurred, profile=profile)

# %% [markdown]
# **Reading.** Each loss is the step, averaged over the tremor; in the words of analysis, the step
# *convolved* with the tremor's density. The law of the tremor is the only thing to choose.
#
# <details><summary><b>Quick check.</b> What does a pair with z = 0 cost, and for which tremors?
# </summary>
#
# One half, for every tremor that is as likely to push up as down (and never leaves the margin at
# exactly 0). This is the symmetry that all of T5 is about.
# </details>

# %% [markdown]
# ## T5 · Right and wrong add up to a constant
#
# A label that is flipped turns the margin $z$ into $-z$, so noise mixes $\ell(-z)$ into the risk
# (notebook 02). If $\ell(z) + \ell(-z)$ is the same number whatever $z$, then all that the noise
# adds is a constant, and no minimiser moves.
#
# **Definition.** A loss is *symmetric* when $\ell(z) + \ell(-z) = K$ for every $z$.
#
# In words: what a pair costs when it is right and what it costs when it is equally wrong add up to
# the same amount. Of the sigmoid loss and the logistic loss $\log(1 + e^{-z})$, which DPO uses,
# only one has a sum that stands still:

# %%
margins = torch.linspace(0, 3, 4, dtype=torch.float64)
sigmoid, logistic = (losses.get(name).fn for name in ("sigmoid", "logistic"))
sides = {
    "z": margins,
    "sigmoid ℓ(z)": sigmoid(margins),
    "sigmoid ℓ(−z)": sigmoid(-margins),
    "sigmoid sum": sigmoid(margins) + sigmoid(-margins),
    "logistic ℓ(z)": logistic(margins),
    "logistic ℓ(−z)": logistic(-margins),
    "logistic sum": logistic(margins) + logistic(-margins),
}
pd.DataFrame(sides)

# %% [markdown]
# ### Every symmetric tremor gives a symmetric loss
#
# **Statement.** Let the law of $X$ be symmetric about 0 ($X$ and $-X$ have the same law) and let
# its distribution function $F(z) = P(X \le z)$ be continuous. Then $\ell(z) = P(z + X \le 0) =
# F(-z)$ is symmetric with $K = 1$.
#
# **Why.** $P(X \le -z) = P(X \ge z)$, because $X$ and $-X$ have the same law, and $P(X \le z) +
# P(X \ge z) = 1$, because no single number has any mass.
#
# In calculus: where there is a density $f$, the slope of $F(z) + F(-z)$ is $f(z) - f(-z) = 0$. The
# check has sympy derive this for a density that is even and otherwise unknown: a function of $t^2$,
# $f(t) = \phi(t^2)$. Without evenness, $f(t) = \phi(t)$, the sum must move.

# %% tags=["check", "claim-symmetric-family"]
t = sympy.Symbol("t", real=True)
phi = sympy.Function("phi", positive=True)
even = sympy.Integral(phi(t**2), (t, -sympy.oo, z))
assert sympy.diff(even + even.subs(z, -z), z).doit() == 0  # the sum is constant, whatever φ is

any_density = sympy.Integral(phi(t), (t, -sympy.oo, z))
slope = sympy.diff(any_density + any_density.subs(z, -z), z).doit()
# without evenness the sum moves
assert sympy.simplify(slope - (phi(z) - phi(-z))) == 0
Math(rf"\text{{without evenness:}}\quad \frac{{d}}{{dz}}\,[F(z) + F(-z)] = {sympy.latex(slope)}")

# %% [markdown]
# ### Six textbook laws, six losses
#
# Each row below takes a law from `sympy.stats`, which knows nothing of our losses, forms $F(-z)$,
# and demands that it be the loss that this package trains with. The paper uses the first two; the
# others are ours, by the same recipe.
#
# The last column is the **weight** $-\ell'(z)$, by which the gradient of a pair is multiplied.
# Differentiating $\ell(z) = F(-z)$ gives $-\ell'(z) = f(-z) = f(z)$: the weight of a pair is the
# density of the tremor at its margin. A law that often jumps far, such as Cauchy's, keeps some
# weight for pairs far from 0. A uniform law drops them altogether.

# %% tags=["check", "claim-symmetric-family"]
laws = {
    "sigmoid": Logistic("X", 0, 1),
    "ramp": Uniform("X", -1, 1),
    "erf": Normal("X", 0, 1),
    "cauchy": Cauchy("X", 0, 1),
    "laplace": Laplace("X", 0, 1),
    "student_t2": StudentT("X", 2),
}
rows = []
for name, law in laws.items():
    loss = losses.get(name).expr(z)
    assert set(theory.split_pieces(cdf(law)(-z) - loss, z)) == {0}  # ℓ(z) = F(−z)
    slope_gaps = theory.split_pieces(sympy.diff(loss, z) + density(law)(z), z)
    assert {sympy.simplify(gap) for gap in slope_gaps} == {0}  # −ℓ′(z) = f(z)
    formulas = [sympy.latex(each).replace("|", r"\vert ") for each in (loss, density(law)(z))]
    rows.append([figures.label(name), *(rf"$\displaystyle {text}$" for text in formulas)])
table = pd.DataFrame(rows, columns=["loss", "ℓ(z) = F(−z)", "weight −ℓ′(z) = f(z)"])
Markdown(figures.to_markdown(table, "lll"))

# %% [markdown]
# ### The same, counted
#
# That the loss is the probability of an error can be tested without any formula: draw tremors,
# count errors. A count may stray from the loss by a few standard errors and no more. A tremor of
# the wrong law must be caught by the same count.

# %% tags=["check", "claim-symmetric-family"]
generator = np.random.default_rng(seed)
grid = np.linspace(-2, 2, 9)
scipy_laws = {
    "sigmoid": scipy.stats.logistic(),
    "ramp": scipy.stats.uniform(-1, 2),
    "erf": scipy.stats.norm(),
    "cauchy": scipy.stats.cauchy(),
    "laplace": scipy.stats.laplace(),
    "student_t2": scipy.stats.t(2),
}
errors = pd.DataFrame(index=pd.Index(grid, name="z"))
formulas = pd.DataFrame(index=errors.index)
for name, law in scipy_laws.items():
    tremor = law.rvs(size=(draws, 1), random_state=generator)
    errors[name] = (grid + tremor <= 0).mean(axis=0)
    formulas[name] = losses.get(name).fn(torch.tensor(grid)).numpy()
gaps = (errors - formulas).abs().max()
assert gaps.max() < 5 * np.sqrt(0.25 / draws)  # five standard errors at their largest
# the wrong tremor is caught
assert not (errors["cauchy"] - formulas["erf"]).abs().max() < 5 * np.sqrt(0.25 / draws)
pd.DataFrame({"counted at z = ½": errors.loc[0.5], "ℓ(½)": formulas.loc[0.5], "largest gap": gaps})

# %% [markdown]
# ### The tremor must be centred at 0
#
# Drop "symmetric about 0" and keep everything else. Two known losses are blurred steps too, with
# tremors that are centred elsewhere:
#
# - the uniform law on $[-1, 0]$ gives $\text{clip}(1 - z, 0, 1)$, the **truncated hinge**. The
#   authors' released code calls it `ramp`, next to the symmetric ramp
#   $\text{clip}(\tfrac12 - \tfrac z2, 0, 1)$. The two differ in a shift and a scale, and the shift
#   breaks the symmetry. Here `ramp` always means the symmetric one.
# - the larger of two logistic tremors has $F = \sigma^2$ and gives the **Savage loss**
#   $\sigma(-z)^2$. It is bounded, like the sigmoid loss: being bounded is not enough.
#
# A sum that differs at two margins is all it takes to refute a constant.

# %% tags=["check", "claim-symmetric-family"]
off_centre = {
    "truncated_hinge": cdf(Uniform("X", -1, 0))(-z),
    "savage": (1 / (1 + sympy.exp(z))) ** 2,
}
sums = {}
for name, distribution in off_centre.items():
    loss = losses.get(name).expr(z)
    assert set(theory.split_pieces(distribution - loss, z)) == {0}  # still ℓ(z) = F(−z) …
    assert not theory.find_constant(loss, z)  # … but the sum is no constant:
    sums[name] = [float((loss + loss.subs(z, -z)).subs(z, at)) for at in (0, 1, 3)]
    assert abs(sums[name][0] - sums[name][1]) > 0.05
pd.DataFrame(sums, index=["sum at z = 0", "sum at z = 1", "sum at z = 3"]).T

# %% [markdown]
# ### Two members of another kind
#
# The **unhinged** loss $1 - z$ sums to 2 but comes from no law: it has no lower bound, so its
# minimiser exists only where scores are clipped.
#
# **Hölder-DPO** with $\gamma$ has the loss $-(1+\gamma)s^\gamma + \gamma s^{1+\gamma}$, $s =
# \sigma(z)$. Going beyond the paper: its slope in $s$ is minus the density of a Beta($\gamma$, 2)
# variable $B$, so the loss is $-P(B \le s)$. It is symmetric where the log-odds of $B$ are
# symmetric about 0, that is, where $B$ is symmetric about ½. The mean of $B$ is $\gamma/(\gamma +
# 2)$, which is ½ at $\gamma = 2$ only: **no other $\gamma$ gives a symmetric loss.** At $\gamma
# = 2$ it is $-3s^2 + 2s^3$, with $K = -1$.

# %% tags=["check", "claim-symmetric-family"]
assert theory.find_constant(losses.get("unhinged").expr(z), z) == 2
assert theory.find_constant(losses.get("holder").expr(z), z) == -1

s, gamma = sympy.symbols("s gamma", positive=True)
general = -(1 + gamma) * s**gamma + gamma * s ** (1 + gamma)
assert general.subs(s, 0) == 0
slope = sympy.diff(general, s)
density_of_beta = density(Beta("B", gamma, 2))(s).rewrite(sympy.gamma)
assert sympy.simplify(sympy.gammasimp(slope + density_of_beta)) == 0
mean = sympy.integrate(-s * slope, (s, 0, 1))
assert sympy.simplify(mean - gamma / (gamma + 2)) == 0
assert sympy.solve(mean - sympy.Rational(1, 2), gamma) == [2]
in_margin = general.subs(s, 1 / (1 + sympy.exp(-z)))
assert sympy.simplify(in_margin.subs(gamma, 2) - losses.get("holder").expr(z)) == 0
assert not theory.find_constant(in_margin.subs(gamma, 1), z)  # γ = 1: the same check fails

# %% [markdown]
# ### A family with one knob
#
# Beta($\alpha$, $\alpha$) *is* symmetric about ½ for every $\alpha > 0$. So its log-odds, taken as
# the tremor, give a symmetric loss for every $\alpha$: $\ell_\alpha(z) = P(B \le \sigma(-z))$. At
# $\alpha = 1$ it is the sigmoid loss, at $\alpha = 2$ it is Hölder-DPO (plus 1). The weight of a
# pair is $(s(1-s))^\alpha$ up to a factor: the smaller $\alpha$, the more weight is left for pairs
# far from 0. With two different parameters the law is off centre, and the symmetry must fail.


# %% tags=["check", "claim-symmetric-family"]
def compute_beta_loss(margins, a, b):
    """P(B ≤ σ(−z)) for B of the law Beta(a, b)."""
    return betainc(a, b, expit(-margins))


grid = np.linspace(-8, 8, 161)
step = 1e-5
s = expit(grid)
knob = {alpha: compute_beta_loss(grid, alpha, alpha) for alpha in (0.5, 1, 2, 5)}
for alpha, loss in knob.items():
    assert np.allclose(loss + loss[::-1], 1)
    after, before = (compute_beta_loss(grid + side, alpha, alpha) for side in (step, -step))
    slope = (after - before) / (2 * step)
    assert np.allclose(-slope, (s * (1 - s)) ** alpha / beta(alpha, alpha), atol=1e-8)
registered = {name: losses.get(name).fn(torch.tensor(grid)).numpy() for name in losses.LOSSES}
assert np.allclose(knob[1], registered["sigmoid"])
assert np.allclose(knob[2], registered["holder"] + 1)
off_centre = compute_beta_loss(grid, 2, 3)
assert not np.allclose(off_centre + off_centre[::-1], 1)
at = [f"ℓ at z = {margin:g}" for margin in grid[80::20]]
pd.DataFrame({f"α = {alpha:g}": loss[80::20] for alpha, loss in knob.items()}, index=at).T

# %% [markdown]
# ### Among well-behaved losses there are no others: the converse
#
# **Statement** (ours). A loss that is symmetric, continuous, nowhere increasing, bounded and not
# constant *is* a blurred step: up to scale and shift it is $F(-z)$, with
#
# $$F(z) = \frac{\ell(-z) - \ell(\infty)}{\ell(-\infty) - \ell(\infty)}$$
#
# the continuous distribution function of a law that is symmetric about 0.
#
# **Proof.** Monotone and bounded: the limits exist and are finite. Not constant: $\ell(-\infty) >
# \ell(\infty)$, and $F$ is defined. It runs from 0 to 1, does not decrease, and is continuous: a
# distribution function. Symmetric: in the limit $\ell(-\infty) + \ell(\infty) = K$, so
# $F(z) + F(-z) = \frac{K - 2\ell(\infty)}{K - 2\ell(\infty)} = 1$. $\square$
#
# So what notebook 04 proves about the family (T7) holds for every well-behaved symmetric loss.
#
# The check repeats the last step with symbols. Then it hides each member behind a scale and a shift
# and asks the formula for its law.


# %% tags=["check", "claim-symmetric-family"]
def find_limits(loss, z):
    """ℓ(∞) and ℓ(−∞)."""
    pieces = theory.split_pieces(loss, z)
    return sympy.limit(pieces[-1], z, sympy.oo), sympy.limit(pieces[0], z, -sympy.oo)


def recover_law(loss, z):
    """F(z) = (ℓ(−z) − ℓ(∞)) / (ℓ(−∞) − ℓ(∞)) as an expression in z."""
    low, high = find_limits(loss, z)
    return (loss.subs(z, -z) - low) / (high - low)


ell = sympy.Function("ell")
low, K = sympy.symbols("ell_oo K", real=True)
law = (ell(-z) - low) / ((K - low) - low)  # ℓ(−∞) = K − ℓ(∞)
assert sympy.simplify((law + law.subs(z, -z)).subs(ell(z), K - ell(-z))) == 1
assert sympy.simplify(low + (K - 2 * low) * law.subs(z, -z) - ell(z)) == 0

for name, textbook in laws.items():
    hidden = 3 + 2 * losses.get(name).expr(z)
    assert set(theory.split_pieces(recover_law(hidden, z) - cdf(textbook)(z), z)) == {0}
recovered = sympy.lambdify(z, recover_law(losses.get("holder").expr(z), z))(grid)
assert np.allclose(recovered, 1 - compute_beta_loss(grid, 2, 2))

# %% [markdown]
# **Every hypothesis is needed.** Five losses, each of which lacks one of them and has the other
# four. Before you look: what becomes of the fraction in each case?
#
# - The truncated hinge is not symmetric: $F$ is a distribution function, centred elsewhere.
# - The 0–1 loss with ½ at 0 is not continuous: $F(0) = \tfrac12$ in the middle of a jump, where a
#   distribution function would be 1.
# - $\tfrac12 - z/(1 + z^2)$ rises again beyond $z = 1$: both limits are ½, and the denominator
#   is 0.
# - The unhinged loss is not bounded: there are no limits.
# - A constant gives $0/0$.


# %%
def list_properties(loss, z):
    """Which of the converse's hypotheses hold, on a fine grid (the limits exactly)."""
    margins = np.linspace(-40, 40, 16001)
    values = sympy.lambdify(z, loss)(margins) * np.ones_like(margins)
    steps = np.diff(values)
    return {
        "symmetric": np.ptp(values + values[::-1]) < 1e-9,
        "continuous": np.abs(steps).max() < 0.01,  # a slope of 1 makes steps of 0.005
        "nowhere increasing": steps.max() < 1e-9,
        "bounded": all(limit.is_finite for limit in find_limits(loss, z)),
        "not constant": np.ptp(values) > 0,
    }


# %% tags=["check", "claim-symmetric-family"]
half = sympy.Rational(1, 2)
lacking = {
    "symmetric": losses.get("truncated_hinge").expr(z),
    "continuous": sympy.Piecewise((1, z < 0), (half, sympy.Eq(z, 0)), (0, True)),
    "nowhere increasing": half - z / (1 + z**2),
    "bounded": losses.get("unhinged").expr(z),
    "not constant": half + 0 * z,
}
named = ["truncated hinge", "0–1, ½ at 0", "½ − z/(1 + z²)", "unhinged", "the constant ½"]
hypotheses = pd.DataFrame([list_properties(loss, z) for loss in lacking.values()], index=named)
for (hypothesis, loss), (_, row) in zip(lacking.items(), hypotheses.iterrows(), strict=True):
    assert list(row.index[~row]) == [hypothesis]  # this one fails, and no other
    defined = not recover_law(loss, z).has(sympy.oo, sympy.zoo, sympy.nan)
    assert defined == (hypothesis in ("symmetric", "continuous"))
for name in laws:
    assert all(list_properties(losses.get(name).expr(z), z).values())
off_centre, jumping = (recover_law(lacking[name], z) for name in ("symmetric", "continuous"))
assert (off_centre + off_centre.subs(z, -z)).subs(z, half) != 1
assert (theory.split_pieces(jumping, z), jumping.subs(z, 0)) == ([0, 1], half)
hypotheses

# %% [markdown]
# ### A convex symmetric loss is a straight line
#
# A summary of the paper proposes to try the exponential and the squared loss as "other symmetric
# loss functions". Neither is symmetric, for a reason that settles the hinge and logistic losses as
# well.
#
# **Statement.** A convex symmetric loss is a straight line. **Why.** $\ell(z) = K - \ell(-z)$: if
# the left side is convex, the right side is concave, and only a straight line is both.
#
# So the unhinged loss, up to scale and an added constant, is the only convex one that falls. Every
# other symmetric loss pays for its robustness with non-convexity. The table goes through all
# losses of the package: the constant that sympy proves, the sum at two margins, and by how much the
# middle of the chord from $-1$ to $1$ lies above the curve, which is 0 for a symmetric loss.

# %% tags=["check", "claim-symmetric-family"]
rows = {}
for name, loss in losses.LOSSES.items():
    expr = loss.expr(z)
    at_zero, at_one = (float((expr + expr.subs(z, -z)).subs(z, at)) for at in (0, 1))
    proved = theory.find_constant(expr, z)
    rows[name] = [proved, at_zero, at_one, (at_one - at_zero) / 2, loss.convex]
    assert proved == loss.constant
columns = ["K, proved", "sum at 0", "sum at 1", "chord − curve", "convex"]
registry = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
assert list(registry.index[registry.convex & registry["K, proved"].notna()]) == ["unhinged"]
assert np.allclose(registry["chord − curve"][registry["K, proved"].notna()], 0)
bent = (registry["sum at 0"] - registry["sum at 1"]).abs() > 0.01
assert list(registry.index[registry["K, proved"].isna() & ~bent]) == ["hinge"]
for name, pieces in (("square", [2 * z**2 + 2]), ("hinge", [1 - z, 2, 1 + z])):
    assert theory.split_pieces(losses.get(name).expr(z) + losses.get(name).expr(-z), z) == pieces
registry.astype({"K, proved": float})

# %% [markdown]
# The hinge shows what a weak check looks like: its sums at 0 and at 1 agree, and yet it has no
# constant. The sum is flat at 2 on $[-1, 1]$ and climbs outside; the last assertion writes it out.
#
# ### The formula that trains is the formula that was proved
#
# The proofs are about sympy expressions; training uses torch. So the two forms are compared on a
# grid. The last line compares the wrong two, ramp and truncated hinge, and must fail.

# %% tags=["check", "claim-symmetric-family"]
grid = np.linspace(-12, 12, 241)
trained = {}
proved = {}
for name, loss in losses.LOSSES.items():
    trained[name] = loss.fn(torch.tensor(grid)).numpy()
    proved[name] = sympy.lambdify(z, loss.expr(z), ["scipy", "numpy"])(grid)
gaps = [np.abs(trained[name] - proved[name]) / (1 + np.abs(proved[name])) for name in proved]
assert np.max(gaps) < 1e-12

assert not np.allclose(trained["truncated_hinge"], proved["ramp"])

# %% tags=["hide-input"]
digit, power = f"{np.max(gaps):.0e}".split("e")
Markdown(
    f"Over {len(gaps)} losses the two forms nowhere differ by more than "
    f"${digit} \\cdot 10^{{{int(power)}}}$, relative to the loss: the rounding of double precision."
)

# %% [markdown]
# ### The family in one figure
#
# **What to expect.** A single bent line in the middle left panel, or a flat one in the middle
# right, would refute what was just derived.
#
# The bottom panels show whom a loss listens to. Under noise, many of the pairs that look most wrong
# (far left) are flipped ones. Logistic, hinge, square and exponential give these the most weight;
# symmetric losses give them no more than the pairs that look most right. The cell asserts this of
# the numbers that it draws; notebook 04 compares the weights of all methods (T9).

# %% tags=["check", "claim-gradient"]
table = theory.tabulate_losses(losses.LOSSES, np.linspace(-8, 8, 161))
weights = table.pivot_table("weight", index="margin", columns="loss")
for name, loss in losses.LOSSES.items():
    weight = weights[name].to_numpy()
    assert np.allclose(weight, weight[::-1], rtol=0, atol=1e-9) == loss.symmetric
    if loss.symmetric and not loss.convex:  # most at 0, less and less on both sides
        assert (np.diff(weight[weights.index >= 0]) <= 1e-12).all()
        assert weight[0] < weight.max() / 10
    if loss.convex:  # the more wrong, the more weight
        assert (np.diff(weight) <= 1e-12).all()
figures.save(figures.fig_t5_losses(table), "fig_t5_losses", table, profile=profile)

# %% [markdown]
# ### How far out does a pair still pull?
#
# In the figure all bells look alike. They differ in their *tails*, in how slowly the weight dies
# away. The table gives the margin at which the weight has fallen to half of its peak, and to one
# hundredth. The ratio of the two does not depend on the width of the tremor: it describes the shape
# alone, and the larger it is, the *heavier* the tail.

# %%
family = [name for name, loss in losses.LOSSES.items() if loss.symmetric and name != "unhinged"]
reach = pd.DataFrame(index=family)
for column, share in {"half of the peak at z =": 0.5, "a hundredth at z =": 0.01}.items():
    reach[column] = [theory.find_reach(name, share=share) for name in family]
reach["ratio"] = reach.iloc[:, 1] / reach.iloc[:, 0]
reach.sort_values("ratio")

# %% tags=["hide-input"]
light = reach.ratio.idxmin()
heavy = reach.ratio.idxmax()
end = reach["a hundredth at z ="]
Markdown(
    f"The lightest tail is that of the {figures.label(light)} loss. Beyond a margin of "
    f"{end[light]:.2f} its weight is 0, so a pair that starts out that wrong gets no "
    f"gradient of its own: only other pairs that share its answers or parameters can put it right. "
    f"The heaviest is that of the {figures.label(heavy)} loss: at a margin of {end[heavy]:.2f} a "
    f"pair still pulls with a hundredth of the peak. The sigmoid loss lies between them with "
    f"{end['sigmoid']:.2f}. Whether a heavier tail trains better is an experiment (notebook 12), "
    "not a theorem."
)

# %% [markdown]
# **Try it.** The slider is the knob $\alpha$ of the Beta family. Turn it down from 3: the loss
# becomes less steep, past Hölder-DPO at 2 and the sigmoid loss at 1, and the weight far from 0
# falls ever more slowly; on the log scale its slope far out is $\alpha$ itself. In a reader without
# scripts (such as GitHub's) only a description stands here; Figure T5 above has $\alpha = 1$ and
# $\alpha = 2$, as sigmoid and Hölder.

# %% tags=["hide-input"]
explorables.t5_beta_family()

# %% [markdown]
# ### A temperature is allowed, a shift is not
#
# A tremor that is $T$ times as wide gives the loss $\ell(z/T)$, symmetric with the same $K$.
# It changes no ratio of the table, so **no temperature turns a ramp into a Cauchy loss**. In
# DPO-like losses $\beta$ multiplies the margin and acts as $1/T$.
#
# A shift $\ell(z - c)$, the target margin of some preference losses, is another matter: the law of
# the tremor is then centred at $-c$, and the symmetry is gone.

# %% tags=["check", "claim-symmetric-family"]
temperature = sympy.Rational(5, 2)
half = sympy.Rational(1, 2)
for name in family:
    loss = losses.get(name)
    assert theory.find_constant(loss.expr(z / temperature), z) == loss.constant
    shifted_sum = loss.expr(z - 1) + loss.expr(-z - 1)
    assert sympy.simplify(shifted_sum.subs(z, half) - loss.constant) != 0  # a shift breaks it

# %% [markdown]
# > **Takeaway from T5.**
# > 1. A symmetric loss is the 0–1 error seen through a shaking hand: $\ell(z) = P(z + X \le 0)$.
# > 2. Right and wrong cost $K$ together, so flips add a constant and bend nothing.
# > 3. The weight of a pair is the tremor's density at its margin: pairs that look very wrong,
# >    flipped ones among them, hardly pull.
# > 4. The price so far: no such loss is convex, and the straight line, which is, has no floor.
#
# <details><summary><b>Quick check.</b> Is the sum of two symmetric losses symmetric? And the
# average of a sigmoid and a ramp loss: which tremor does it belong to?</summary>
#
# Yes, with the sum of the two constants. The average belongs to a tremor that is logistic or
# uniform by the toss of a coin.
# </details>

# %% [markdown]
# ## T6 · What a symmetric loss can learn
#
# Robustness has a price. To see it, look at one pair of answers alone: $a_1$ wins with probability
# $\eta$, and we choose its margin $z$. Among the four answers of notebook 00, one pair of
# neighbours is nearly a tie and two are nearly certain:

# %%
gaps = {f"{i} against {j}": story.REWARDS[i] - story.REWARDS[j] for i, j in ("ab", "bc", "cd")}
pairs = pd.DataFrame({"difference of rewards": gaps})
pairs.assign(**{"η, probability that the first wins": expit(pairs["difference of rewards"])})

# %% [markdown]
# Does training with a symmetric loss tell these pairs apart? The expected loss of a pair is its
# *conditional risk*
#
# $$C_\eta(z) = \eta\,\ell(z) + (1-\eta)\,\ell(-z).$$
#
# **Statement.** If $\ell$ is symmetric, then $C_\eta(z) = (2\eta - 1)\,\ell(z) + (1-\eta)K$.
#
# So $\eta$ stretches the loss by $2\eta - 1$ and moves it up or down, and does nothing else. The
# check replaces $\ell(-z)$ by $K - \ell(z)$, with $\ell(z)$ a symbol of its own, so it holds for
# every symmetric loss. For the logistic loss the same difference keeps a slope in $z$:

# %% tags=["check", "claim-calibration"]
eta, K, value = sympy.symbols("eta K ell", real=True)
risk = eta * value + (1 - eta) * (K - value)
formula = (2 * eta - 1) * value + (1 - eta) * K
assert sympy.expand(risk - formula) == 0

logistic = losses.get("logistic").expr(z)
logistic_risk = eta * logistic + (1 - eta) * logistic.subs(z, -z)
leftover = sympy.diff(logistic_risk - (2 * eta - 1) * logistic, z)
remains = (1 - eta) * sympy.tanh(z / 2)
# not symmetric: what is left over is no constant, but has this slope
assert sympy.simplify((leftover - remains).rewrite(sympy.exp)) == 0
Math(rf"\frac{{d}}{{dz}}\,[C_\eta(z) - (2\eta - 1)\,\ell(z)] = {sympy.latex(remains)}")

# %% [markdown]
# ### It learns the sign: calibration
#
# The least one asks of a loss is that its minimiser ranks the pair correctly, $z > 0$ when
# $\eta > \tfrac12$. A loss is *classification-calibrated* when a wrong or missing sign always
# costs: for every $\eta \ne \tfrac12$,
#
# $$\inf_{z(2\eta-1) \le 0} C_\eta(z) \;>\; \inf_z C_\eta(z).$$
#
# **Statement** (Charoenphakdee, Lee and Sugiyama 2019, in our words). A symmetric loss is
# calibrated if and only if
#
# $$\inf_{z > 0} \ell(z) \;<\; \inf_{z \le 0} \ell(z).$$
#
# **Derivation.** Let $\eta > \tfrac12$. Then $C_\eta$ is $\ell$, multiplied by the positive number
# $2\eta - 1$ and shifted. So the wrong side $z \le 0$ costs
# $(2\eta-1)\big(\inf_{z \le 0}\ell - \inf_z \ell\big)$ too much, which is positive if and only if
# the infimum over all $z$ is that over $z > 0$ and lies strictly lower. For $\eta < \tfrac12$ swap
# the two answers: $C_\eta(z) = C_{1-\eta}(-z)$. $\square$
#
# For a loss that never increases there is little left to compute: the infimum over $z \le 0$ is
# $\ell(0) = K/2$, and that over $z > 0$ is the limit at infinity. So **every member of the family
# is calibrated**: it falls from $K/2$ to its limit, which is lower.

# %% tags=["check", "claim-calibration"]
rows = {}
for name, loss in losses.LOSSES.items():
    if loss.symmetric:
        expr = loss.expr(z)
        slopes = theory.split_pieces(sympy.diff(expr, z).rewrite(sympy.exp), z)
        assert all(sympy.factor(slope).is_nonpositive for slope in slopes)  # never increases
        right = sympy.limit(theory.split_pieces(expr, z)[-1], z, sympy.oo)
        rows[name] = {"infimum over z > 0": right, "infimum over z ≤ 0": expr.subs(z, 0)}
        assert expr.subs(z, 0) == sympy.Rational(loss.constant, 2)
        assert right < expr.subs(z, 0)
table = pd.DataFrame.from_dict(rows, orient="index")
table.map(lambda limit: str(limit).replace("oo", "∞").replace("-", "−"))

# %% [markdown]
# Calibration is not what sets SymPO apart: all losses of the package are calibrated. A convex loss
# is, if and only if it slopes down at 0 (Bartlett, Jordan and McAuliffe 2006).
#
# On a grid of margins both sides of the definition are plain minima, and their difference is the
# price of a wrong or missing sign.


# %%
def compute_conditional_risk(loss, margins, etas):
    """C_η(z) = η·ℓ(z) + (1−η)·ℓ(−z), a row per η and a column per margin."""
    z = torch.as_tensor(np.asarray(margins), dtype=torch.float64)
    eta = np.asarray(etas, dtype=float)[:, None]
    return eta * loss(z).numpy() + (1 - eta) * loss(-z).numpy()


def measure_calibration(loss, margins, etas):
    """For each η the least C_η over z·(2η−1) ≤ 0, minus the least over all margins."""
    risks = compute_conditional_risk(loss, margins, etas)
    wrong = np.asarray(margins) * (2 * np.asarray(etas, dtype=float)[:, None] - 1) <= 0
    return np.where(wrong, risks, np.inf).min(axis=1) - risks.min(axis=1)


# %% [markdown]
# The next cell measures this price for all losses, by brute force and with no use of the theorems.
# For the symmetric ones it must come out as $|2\eta - 1|$ times the gap of the table above, as far
# as margins of ±30 tell: Cauchy and Student t₂ are still falling there, and unhinged has no floor.
# (Shown is $\eta > \tfrac12$; the other half mirrors it.)

# %% tags=["check", "claim-calibration"]
margins = np.linspace(-30, 30, 6001)
etas = np.array([0.01, 0.2, 0.45, 0.49, 0.51, 0.55, 0.8, 0.99])
prices = {}
for name, loss in losses.LOSSES.items():
    prices[name] = measure_calibration(loss.fn, margins, etas)
    assert loss.calibrated == bool((prices[name] > 1e-6).all())
    if loss.convex:
        assert sympy.diff(loss.expr(z).rewrite(sympy.Piecewise), z).subs(z, 0) < 0
# the other symmetric ones are still on their way down at z = 30
for name in ("sigmoid", "ramp", "erf", "laplace", "holder"):
    assert np.allclose(prices[name], np.abs(2 * etas - 1) / 2, atol=1e-9)
pd.DataFrame(prices, index=[f"price at η = {eta:g}" for eta in etas]).T.iloc[:, 4:]

# %% [markdown]
# ### Symmetric and useless: three counterexamples
#
# Symmetry alone promises nothing. Three symmetric losses, each with $K = 1$, that are not
# calibrated:
#
# - the constant $\tfrac12$, for which every margin is as good as any other;
# - $\sigma(z)$, the sigmoid loss upside down, whose minimiser has the wrong sign every time;
# - $\tfrac12 - \tfrac12 \sin z$. It slopes down at 0, which for a convex loss would settle the
#   matter. But it reaches its infimum, 0, at $z = \pi/2$ and at $z = -3\pi/2$ alike: the right sign
#   and the wrong one are equally good.
#
# Each must pass the symmetry check and fail the check that every loss above has passed.

# %% tags=["check", "claim-calibration"]
wave = half - sympy.sin(z) / 2
useless = {
    half: lambda margin: 0 * margin + 0.5,
    1 / (1 + sympy.exp(-z)): torch.sigmoid,
    wave: lambda margin: 0.5 - torch.sin(margin) / 2,
}
half_turns = np.arange(-40, 41) * np.pi / 2
dearest = []
for expr, fn in useless.items():
    assert theory.find_constant(expr, z) == 1
    assert np.isclose(float(expr.subs(z, 1)), fn(torch.tensor(1.0, dtype=torch.float64)))
    price = measure_calibration(fn, half_turns, etas)
    assert np.allclose(price, 0)  # a wrong sign costs nothing
    dearest.append(abs(price).max().round(12))
assert sympy.diff(wave, z).subs(z, 0) < 0
assert wave.subs(z, sympy.pi / 2) == wave.subs(z, -3 * sympy.pi / 2) == 0
named = pd.Index(["the constant ½", "σ(z)", "½ − ½ sin z"])
pd.DataFrame({"highest price of a wrong sign, over all η": dearest}, index=named)

# %% [markdown]
# ### It never learns the magnitude
#
# Can a symmetric loss also estimate probabilities, so that the size of the reward difference is
# recovered? The paper says no and cites earlier work for it (Section 4.3); open question 3 asks for
# a construction, or for a proof that there is none. Here is a proof, short enough to keep in one's
# head.
#
# **Definition.** A sequence of margins is *minimising* for $\eta$ when $C_\eta$ tends to its
# infimum along it. A loss allows *class-probability estimation* (CPE) when there is a function
# $\psi$, its *link*, with different values for different $\eta$ ($\pm\infty$ allowed), such that
# every minimising sequence for $\eta$ tends to $\psi(\eta)$. Then training leads to $\psi(\eta)$,
# and $\eta$ can be read off.
#
# Why sequences, and not minimisers? The sigmoid loss falls for ever, so $C_\eta$ has no minimiser:
# the larger $z$, the better. A demand on *every minimiser* would be met by there being none.
#
# **Theorem.** No symmetric loss allows CPE, whatever its shape.
#
# **Proof.** Take two different probabilities on the same side, $\tfrac12 < \eta < \eta'$. By the
# formula for the conditional risk,
#
# $$C_{\eta'}(z) = a\,C_\eta(z) + b, \qquad a = \frac{2\eta'-1}{2\eta-1} > 0,$$
#
# with $b$ free of $z$. So the two risks order *all* margins alike, and a sequence that is
# minimising for $\eta$ is minimising for $\eta'$. It would have to tend to $\psi(\eta)$ and to
# $\psi(\eta') \ne \psi(\eta)$ at once. $\square$ Clipped to a range of scores, both risks have the
# same minimisers, for the same reason.
#
# The proof uses nothing but the constant sum, so no clever shape helps. Nor does leaving margins:
# it holds for any two costs $\ell_+(v)$, $\ell_-(v)$ of a prediction $v$ with
# $\ell_+(v) + \ell_-(v) = K$. It also shows what is kept: $a < 0$ exactly when $\eta'$ lies on the
# other side of $\tfrac12$, so the sign survives.

# %% tags=["check", "claim-no-magnitudes"]
other = sympy.Symbol(r"\eta'", real=True)
a = (2 * other - 1) / (2 * eta - 1)
b = sympy.simplify(risk.subs(eta, other) - a * risk)
assert value not in b.free_symbols  # b does not depend on the margin, for any symmetric loss
same_side = {eta: sympy.Rational(3, 5), other: sympy.Rational(9, 10)}
other_side = {eta: sympy.Rational(3, 5), other: sympy.Rational(2, 5)}
assert a.subs(same_side) > 0  # the same order
assert a.subs(other_side) < 0  # the order reversed

# the logistic loss: the same step leaves a slope
slope = sympy.diff(logistic_risk.subs(eta, other) - a * logistic_risk, z)
remains = 1 - other - a * (1 - eta)
assert sympy.simplify((slope - remains * sympy.tanh(z / 2)).rewrite(sympy.exp)) == 0
assert remains.subs(same_side) != 0
Math(rf"b = {sympy.latex(b, order='none')}")

# %% [markdown]
# The sequence $1, 2, 3, \dots$ shows the proof at work. For each symmetric loss of the package it
# must be minimising for $\eta = 0.6$ and for $\eta = 0.9$ alike. For the logistic loss no sequence
# is: its risk is strictly convex, so what is minimising for 0.6 tends to the one stationary point,
# $\log 1.5$, and what is minimising for 0.9 to $\log 9$.

# %% tags=["check", "claim-no-magnitudes"]
for loss in losses.LOSSES.values():
    if loss.symmetric:
        expr = loss.expr(z)
        lowest, _ = find_limits(expr, z)  # no margin has a smaller loss
        for probability in same_side.values():
            conditional = probability * expr + (1 - probability) * expr.subs(z, -z)
            along, _ = find_limits(conditional, z)
            assert along == formula.subs({K: loss.constant, eta: probability, value: lowest})
slope = sympy.diff(losses.get("sigmoid").expr(z), z)
assert sympy.simplify(slope).is_negative  # so no margin minimises C_η

curvature = sympy.diff(logistic_risk, z, 2) - 1 / (2 + 2 * sympy.cosh(z))
assert sympy.simplify(curvature.rewrite(sympy.exp)) == 0  # positive, whatever η
for probability in same_side.values():
    condition = sympy.diff(logistic_risk.subs(eta, probability), z)
    assert sympy.solve(condition, z) == [sympy.log(probability / (1 - probability))]

# %% [markdown]
# Now with data, for two pairs of the example: c against d, nearly a tie, and a against b, nearly
# certain. We draw labels for each, flip some at the noise rate, and minimise the average loss over
# all margins up to the bound. This is training, with a model that has one number per pair.
#
# A symmetric loss must give both pairs the same margins. The logistic loss must tell them apart. So
# must Savage, which is bounded and not convex: it is the constant sum, and neither boundedness nor
# non-convexity, that erases the magnitude.


# %%
def find_minimisers(loss, margins, etas):
    """For each η, every one of the margins at which C_η is least, up to rounding."""
    risks = compute_conditional_risk(loss, margins, etas)
    return [np.asarray(margins)[risk <= risk.min() + 1e-12] for risk in risks]


# %% tags=["check", "claim-no-magnitudes"]
margins = np.linspace(-bound, bound, 801)
shares = []
for better, worse in ("cd", "ab"):
    probability = expit(story.REWARDS[better] - story.REWARDS[worse])
    labels = np.where(generator.random(draws) < probability, 1, -1)
    shares.append((noise.flip(labels, noise_rate, noise_rate, generator) == 1).mean())
ranges = {}
equal = {}
for name, loss in losses.LOSSES.items():
    near_tie, near_certain = find_minimisers(loss.fn, margins, shares)
    equal[name] = np.array_equal(near_tie, near_certain)
    ends = [(f"{best.min():.2f}", f"{best.max():.2f}") for best in (near_tie, near_certain)]
    ranges[name] = [low if low == high else f"{low} to {high}" for low, high in ends]
assert all(equal[name] for name, loss in losses.LOSSES.items() if loss.symmetric)
assert not any(equal[name] for name in ("logistic", "square", "exponential", "savage"))
assert equal["hinge"] and equal["truncated_hinge"]  # not symmetric, and no estimators either
columns = ["best margin, c against d", "best margin, a against b"]
pd.DataFrame.from_dict(ranges, orient="index", columns=columns)

# %% [markdown]
# The hinge and the truncated hinge also give both pairs the same margins, without being symmetric.
# So the theorem has no converse: a loss can fail at magnitudes for other reasons.
#
# ### No method reads a magnitude off one pair
#
# The theorem is about losses. A stronger fact is about data. The noisy labels of a pair speak for
# $a_1$ with probability $\tilde\eta = (1-2\varepsilon)\eta + \varepsilon$, and nothing else about
# them depends on $\eta$ and $\varepsilon$. A sure pair that is misread often ($\eta = 0.9$,
# $\varepsilon = 0.4$) and a near tie that is misread seldom ($0.6$, $0.1$) have the same
# $\tilde\eta$, so they give the same data and cannot be told apart by *any* method. In fact every
# $\eta$ from $\tilde\eta$ to 1 is possible, each with a noise rate of its own. rDPO gets around
# this by being told $\varepsilon$.
#
# The check counts labels in two stages, first the true ones and then the flips, without the formula
# for $\tilde\eta$. Then it solves for the noise rate that makes a given $\eta$ fit:


# %% tags=["check", "claim-no-magnitudes"]
def count_labels(eta, noise_rate, labels):
    """The probability of each number of noisy labels for a₁: true ones are drawn, then flipped."""
    total = np.zeros(labels + 1)
    for true in range(labels + 1):
        other = labels - true
        kept = binom.pmf(np.arange(true + 1), true, 1 - noise_rate)
        turned = binom.pmf(np.arange(other + 1), other, noise_rate)
        total += binom.pmf(true, labels, eta) * np.convolve(kept, turned)
    return total


sure, near_tie = count_labels(0.9, 0.4, 100), count_labels(0.6, 0.1, 100)
assert np.allclose(sure, near_tie, rtol=0, atol=1e-12)
assert not np.allclose(sure, count_labels(0.9, 0.1, 100), rtol=0, atol=1e-3)  # another η̃

rate, seen = sympy.symbols(r"varepsilon \tilde{\eta}")
(explains,) = sympy.solve((1 - 2 * rate) * eta + rate - seen, rate)  # the ε for which η fits
assert sympy.simplify(sympy.diff(explains, eta) * (2 * eta - 1) ** 2 - (2 * seen - 1)) == 0  # rises
assert explains.subs(eta, seen) == 0
assert sympy.simplify(explains.subs(eta, 1) - (1 - seen)) == 0  # below ½, as η̃ > ½
Math(rf"\varepsilon = {sympy.latex(explains, order='none')}")

# %% [markdown]
# ### Several pairs together let some magnitude through
#
# All this is said of a margin that is free to move. Where rewards are restricted together, in a box
# or a class of functions, pairs that share an answer have to compromise, and their weights
# $2\eta - 1$ say how. So some magnitude leaks in, through the class and not through the loss.
#
# The smallest case: three answers with rewards in $[-1, 1]$, two pairs, the sigmoid loss. The best
# answer must go to 1, the worst to $-1$, and the middle one moves *away* from the clearer of its
# two pairs. Noise, which scales all weights alike, must not move it. One pair alone, in the same
# box, must show nothing.
#
# What leaks is a *ratio* of weights, from which $1 - 2\varepsilon$ has cancelled. So several pairs
# know something that one does not, and with a known link they give the magnitudes back. This is
# what remains possible of the open question, and notebook 13 does it (T14).

# %% tags=["check", "claim-no-magnitudes"]
grid = np.linspace(-1, 1, 41)
best, middle, worst = np.meshgrid(grid, grid, grid, indexing="ij")
fn = losses.get("sigmoid").fn
learned = pd.DataFrame(columns=["clean", "noisy"], dtype=float)
for above, below in ((0.9, 0.6), (0.75, 0.75), (0.6, 0.9)):
    for column, flips in (("clean", 0.0), ("noisy", noise_rate)):
        seen_above, seen_below = ((1 - 2 * flips) * clear + flips for clear in (above, below))
        compromise = compute_conditional_risk(fn, best - middle, [seen_above])
        compromise = compromise + compute_conditional_risk(fn, middle - worst, [seen_below])
        least = np.unravel_index(compromise.argmin(), compromise.shape)
        assert (best[least], worst[least]) == (1, -1)
        learned.loc[f"η = {above:g} above it, {below:g} below it", column] = middle[least]
assert (learned.clean.diff().dropna() > 0.1).all()  # the magnitude shows,
alone = find_minimisers(fn, np.linspace(-2, 2, 81), [0.6, 0.9])
assert np.array_equal(*alone)  # but not in one pair
assert np.allclose(learned.clean, learned.noisy, rtol=0, atol=grid[1] - grid[0])
learned.add_prefix("middle reward, ").add_suffix(" labels")

# %% [markdown]
# ### Losses that do read the magnitude, and what noise does to it
#
# The minimiser of the logistic risk solves $\frac{d}{dz}C_\eta(z) = 0$, which gives the log-odds
# $\log\frac{\eta}{1-\eta}$. Under Bradley–Terry this is $r^*(a_1) - r^*(a_2)$ exactly: clean labels
# reveal the reward difference.
#
# With flips at rate $\varepsilon$ the loss sees $\tilde\eta = (1-2\varepsilon)\eta + \varepsilon$
# instead and returns *its* log-odds (below), which never exceed
# $\log\frac{1-\varepsilon}{\varepsilon}$, however certain the pair. The sign is still right. What
# is lost is additivity: these shrunken log-odds are no longer differences of any reward, and
# notebook 04 shows how this can turn a ranking over.

# %% tags=["check", "claim-no-magnitudes"]
rate, p = sympy.symbols("varepsilon eta", positive=True)
log_odds = sympy.log(p / (1 - p))
minimisers = {
    "logistic": log_odds,
    "savage": log_odds,
    "exponential": log_odds / 2,
    "square": 2 * p - 1,
}
for name, minimiser in minimisers.items():
    expr = losses.get(name).expr(z)
    slope = sympy.diff(p * expr + (1 - p) * expr.subs(z, -z), z)
    assert sympy.simplify(slope.subs(z, minimiser)) == 0
    assert sympy.simplify(slope.subs(z, minimiser + 1)) != 0  # a wrong minimiser is caught

seen = (1 - 2 * rate) * p + rate
noisy = log_odds.subs(p, seen)
assert sympy.simplify(noisy.subs(p, 1) - sympy.log((1 - rate) / rate)) == 0  # the cap
# shrunk by 1 − 2ε
assert sympy.expand(minimisers["square"].subs(p, seen) - (1 - 2 * rate) * (2 * p - 1)) == 0
Math(rf"\log\frac{{\tilde\eta}}{{1 - \tilde\eta}} = {sympy.latex(noisy)}")

# %% [markdown]
# ### The minimisers in one figure
#
# **What to expect.** On clean labels (left) the logistic and square curves rise with $\eta$: a
# minimiser from which $\eta$ can be read. The sigmoid and the ramp must be steps: nothing but the
# side of $\tfrac12$ shows. The sigmoid loss falls for ever, so its best margin is the largest one
# that is allowed; the ramp is content with any margin of at least 1. With noise (right) the steps
# must not move at all, and the curves must be crushed towards 0. A step that moved or a curve that
# did not would refute the derivation.


# %%
def tabulate_minimisers(names, *, noise_rates, etas, margins):
    """The least and the greatest minimiser of C_η for each loss, noise rate and η."""
    rows = []
    for name, rate in product(names, noise_rates):
        seen = (1 - 2 * rate) * np.asarray(etas) + rate  # η̃
        best = find_minimisers(losses.get(name).fn, margins, seen)
        for eta, each in zip(etas, best, strict=True):
            rows.append([name, rate, eta, each.min(), each.max()])
    return pd.DataFrame(rows, columns=["loss", "noise_rate", "eta", "low", "high"])


shown = ("ramp", "sigmoid", "logistic", "square")
rates = [0, noise_rate]
grid = np.arange(4, 97) / 100
table = tabulate_minimisers(shown, noise_rates=rates, etas=grid, margins=margins)
figures.save(figures.fig_t6_minimisers(table), "fig_t6_minimisers", table, profile=profile)

# %% tags=["check", "claim-no-magnitudes"]
at = table[np.isclose(table.eta, 0.9)].pivot_table("low", index="loss", columns="noise_rate")
predicted = float(noisy.subs({rate: sympy.Float(noise_rate), p: 0.9}))
assert abs(at.loc["logistic", noise_rate] - predicted) <= margins[1] - margins[0]
wide = table.set_index(["loss", "noise_rate", "eta"])[["low", "high"]].sort_index()
for name in ("sigmoid", "ramp"):
    assert np.array_equal(wide.loc[name, 0], wide.loc[name, noise_rate])
assert not np.array_equal(wide.loc["logistic", 0], wide.loc["logistic", noise_rate])

# %% tags=["hide-input"]
Markdown(
    f"A pair with η = 0.9: at ε = {noise_rate:g} the logistic minimiser falls from "
    f"{at.loc['logistic', 0]:.2f} to {at.loc['logistic', noise_rate]:.2f} (predicted "
    f"{predicted:.2f}), the square one from {at.loc['square', 0]:.2f} to "
    f"{at.loc['square', noise_rate]:.2f}. The sigmoid stays at the largest margin allowed, "
    f"{at.loc['sigmoid', 0]:g}, and the ramp at any margin from {at.loc['ramp', 0]:g} up."
)

# %% [markdown]
# > **Takeaway from T6.**
# > 1. A symmetric loss learns which answer is better, with or without noise: it is calibrated if it
# >    gets lower on the right side of 0 than on the wrong one.
# > 2. It never learns by how much. A reward trained with it is a ranking: the height of its steps
# >    tells where scores are clipped, so two such rewards must not be averaged, or compared across
# >    prompts, as if they had a unit.
# > 3. For improving a policy a ranking is enough, which is what notebook 04 proves.
#
# (The converse, the uniqueness of $\gamma = 2$ and the form of the impossibility proof are ours.)
#
# <details><summary><b>Quick check.</b> Two reward models, one trained with the sigmoid loss and one
# with DPO's, give a pair the margins 8 and 0.3. Which is surer of it?</summary>
#
# It cannot be said. The 8 is where the clipping, the step size or the patience of the training
# stopped a margin that wanted to grow for ever; the 0.3 may be a sure pair whose labels were often
# flipped.
# </details>
#
# ## Exercises
#
# **1.** How does a symmetric loss differ from a standard logistic loss in its robustness to label
# noise?
#
# <details><summary>Answer</summary>
#
# Noise adds $\varepsilon\,\mathbb{E}[\ell(z) + \ell(-z)]$ to the risk. For a symmetric loss this is
# the constant $\varepsilon K$ and changes no minimiser. For the logistic loss it is
# $\varepsilon\,\mathbb{E}[2\log(1 + e^{z}) - z]$, smallest at $z = 0$: a penalty on large margins.
# In the figure of the weights: the logistic loss gives the most gradient to the pairs it gets most
# wrong, flipped ones among them; a symmetric loss gives them as little as those it gets most right.
# </details>
#
# **2.** Let $X$ be 0 with certainty. Which loss is $F(-z)$, and at which margins is it symmetric?
#
# <details><summary>Answer</summary>
#
# $F(-z) = 1$ for $z \le 0$ and $0$ for $z > 0$: the 0–1 error that counts a tie as an error. The
# sum is 1 everywhere but at $z = 0$, where it is 2. In general $F(z) + F(-z) = 1 + P(X = z)$, so
# the recipe needs a law without atoms. Counting a tie as half an error mends it.
# </details>
#
# **3.** Take any loss and form $\ell(z) - \ell(-z)$. Is it symmetric? What does the logistic loss
# become?
#
# <details><summary>Answer</summary>
#
# It is odd, so symmetric with $K = 0$. The logistic loss becomes
# $\log(1+e^{-z}) - \log(1+e^{z}) = -z$, the unhinged loss up to a constant; the square loss becomes
# $-4z$, the same up to scale. Indeed a loss is symmetric if and only if $\ell(z) - K/2$ is odd.
# </details>
#
# **4.** $\ell(z) = \tfrac12 - z/(1 + z^2)$ is symmetric and rises again beyond $z = 1$. Is it
# calibrated? Would you train with it?
#
# <details><summary>Answer</summary>
#
# Calibrated: its infimum over $z > 0$ is 0, at $z = 1$, and over $z \le 0$ it is $\tfrac12$. But at
# $z < -1$ its slope is positive: gradient descent pushes a pair that is very wrong further away.
# Calibration speaks about minimisers, not about how to reach them.
# </details>
#
# **5.** Add a little logistic loss to the sigmoid loss, $\lambda > 0$ times. Can $\eta$ be read off
# now?
#
# <details><summary>Answer</summary>
#
# Yes. With $s = \sigma(z)$ and $u = s - \tfrac12$ the derivative vanishes where
# $\eta = \tfrac12 + \lambda u/(\lambda + \tfrac12 - 2u^2)$, which rises with $u$ from 0 to 1: every
# $\eta$ has its own minimiser. The theorem is not contradicted, for the sum is no longer constant;
# and what you read is $\tilde\eta$, not $\eta$. The robustness is gone to the same degree.
# </details>
#
# ## Provenance

# %% tags=["hide-output"]
figures.save_provenance("03_symmetric_losses", profile=profile)
