"""The machinery behind the theory notebooks: exact solvers of ranking problems, sympy by pieces,
and the tables behind figures.

What a notebook argues with, its losses, risks and policies, is defined in the notebook itself. Here
are only the means: how a best reward is computed, never what it is best for.
"""

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pandas as pd
import sympy
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from sympo.losses import get

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# How many problems are compared with a whole lattice at once: bounds the memory.
_CHUNK = 100

# Ranking problems: finitely many actions, infinitely many labels


class Problems(NamedTuple):
    """Ranking problems with infinitely many labels.

    Attributes:
        reward: `(problems, actions)`, the true reward r*.
        sampling: `(problems, pairs)`, how often each pair i < j is compared, in the order of
            `compute_gaps`; sums to 1.
    """

    reward: Floats
    sampling: Floats


def draw_problems(
    count: int,
    *,
    actions: int = 4,
    spread: float,
    unevenness: float,
    generator: np.random.Generator,
) -> Problems:
    """Draw problems: r* ~ N(0, spread²), a pair sampled in proportion to exp(unevenness·N(0, 1)).

    Equal generators draw equal r* whatever the unevenness; with 0 all pairs are sampled alike.

    Check: tests/book/test_theory_rank.py.
    """
    reward = generator.normal(0, spread, (count, actions))
    weight = np.exp(unevenness * generator.normal(size=(count, math.comb(actions, 2))))
    return Problems(reward, weight / weight.sum(axis=1, keepdims=True))


def compute_gaps(reward: ArrayLike) -> Floats:
    """The scores g(aᵢ, aⱼ) = r(aᵢ) − r(aⱼ) of all pairs i < j, row by row.

    Args:
        reward: `(…, actions)`.
    Returns:
        `(…, pairs)`.
    Check: notebook 04, tests/book/test_theory_rank.py.
    """
    reward = np.asarray(reward, dtype=float)
    first, second = np.triu_indices(reward.shape[-1], 1)
    return reward[..., first] - reward[..., second]


def find_order_errors(
    reward: ArrayLike, learned: ArrayLike, *, tolerance: float = 1e-6
) -> tuple[Bools, Bools]:
    """Where `learned` reverses a pair of `reward`, and where it reverses none but ties one.

    Args:
        reward, learned: `(…, actions)`, broadcast against each other.
        tolerance: gaps up to this size are ties.
    Returns:
        two arrays `(…,)`.
    Check: tests/book/test_theory_rank.py.
    """
    truth = compute_gaps(reward)
    score = compute_gaps(learned)
    tied = np.abs(score) <= tolerance
    reversed_ = np.asarray(((score * truth < 0) & ~tied).any(axis=-1))
    return reversed_, np.asarray(tied.any(axis=-1)) & ~reversed_


# Solvers: the reward of least risk Σ q·(η̃·ℓ(g) + (1−η̃)·ℓ(−g)), given q and η̃ for each pair


def fit_reward(
    loss: str, sampling: Floats, probability: Floats, *, clip: float | None = None
) -> Floats:
    """The rewards of least risk for logistic, square, hinge, ramp, or sigmoid in |r| ≤ `clip`.

    Args:
        sampling, probability: `(problems, pairs)`, q and η̃.
        clip: for sigmoid, whose risk has no minimiser without a bound.
    Returns:
        `(problems, actions)`.
    Raises:
        ValueError: a loss without a solver here, or sigmoid without `clip`.
    """
    if loss == "sigmoid":
        if clip is None:
            raise ValueError(
                "clip is missing: the sigmoid risk has no minimiser, only a limit; "
                "give a bound, say 20"
            )
        return fit_sigmoid(sampling, probability, clip=clip)
    if loss in ("hinge", "ramp"):
        return fit_integer(loss, sampling, probability)
    if loss == "logistic":
        return fit_logistic(sampling, probability)
    if loss == "square":
        return fit_square(sampling, probability)
    raise ValueError(
        f"loss '{loss}' has no solver here: choose logistic, square, hinge, ramp or sigmoid"
    )


def fit_logistic(
    sampling: Floats,
    probability: Floats,
    *,
    start: ArrayLike = 0.0,
    clip: float = math.inf,
    tolerance: float = 1e-12,
) -> Floats:
    """The rewards in [−clip, clip] of least logistic risk, all problems at once.

    Newton's method with steps of at most 1, rewards that press against the clip being held there.
    The risk is convex, so that a point from which no allowed move descends is a minimum. Without a
    clip Σr stays Σstart, and where one action always wins there is no minimum: its reward is then
    as large as the tolerance lets it become.

    Args:
        sampling, probability: `(problems, pairs)`, q and η̃; η̃ may also be a share of wins in a
            sample, or the probability that rDPO believes in, which may exceed 1 if there is a clip.
        start: broadcasts to `(problems, actions)`.
        tolerance: of the gradient along allowed moves.
    Returns:
        `(problems, actions)`.
    Raises:
        RuntimeError: some gradient is not below `tolerance` after 500 steps.
    Check: notebook 04, tests/book/test_theory_rank.py (scipy's L-BFGS),
    tests/book/test_theory.py (scipy's SLSQP).
    """
    incidence = _incidence(np.shape(sampling)[-1])
    shape = (len(sampling), incidence.shape[1])
    learned = np.broadcast_to(start, shape).astype(float)
    for _ in range(500):
        slope = expit(compute_gaps(learned))
        # for action i, Σⱼ qᵢⱼ·(σ(rᵢ − rⱼ) − η̃ᵢⱼ)
        gradient = (sampling * (slope - probability)) @ incidence
        # A reward is held where descending would take it out of the box.
        held = (np.abs(learned) >= clip) & (gradient * learned < 0)
        gradient = np.where(held, 0, gradient)
        if np.abs(gradient).max() < tolerance:
            return learned

        weight = sampling * slope * (1 - slope)
        curvature = np.einsum("mp,pi,pj->mij", weight, incidence, incidence, optimize=True)
        step = np.linalg.solve(_make_regular(curvature, held), gradient[..., None])[..., 0]
        # Far from the minimum the curvature vanishes and a full step would overshoot.
        step = step / np.maximum(1, np.abs(step).max(axis=1, keepdims=True))
        learned = np.clip(learned - step, -clip, clip)
    raise RuntimeError(
        f"the logistic fit stopped at a gradient of {np.abs(gradient).max():.1e} > {tolerance:.0e}"
    )


def _make_regular(curvature: Floats, held: Bools) -> Floats:
    """The curvature, `(problems, actions, actions)`, as a system that Newton's step can solve."""
    identity = np.eye(held.shape[1])
    free = ~held
    inner = curvature * (free[:, :, None] & free[:, None, :])
    # Nothing changes along (1, …, 1) while no action is held. A constant makes the system regular
    # there, and as the gradient has no part in that direction, no step goes there.
    shift = np.where(free.all(axis=1), 1 / held.shape[1], 0.0)[:, None, None]
    # The last term is for actions between which the curvature has underflowed.
    return inner + held[:, :, None] * identity + shift + 1e-15 * identity


def fit_square(sampling: Floats, probability: Floats) -> Floats:
    """The rewards of least square-loss risk: least squares of 2η̃ − 1 by rᵢ − rⱼ, with Σr = 0.

    Args:
        sampling, probability: `(problems, pairs)`, q and η̃.
    Returns:
        `(problems, actions)`.
    Check: tests/book/test_theory_rank.py (numpy's lstsq).
    """
    incidence = _incidence(np.shape(sampling)[-1])
    normal = np.einsum("mp,pi,pj->mij", sampling, incidence, incidence, optimize=True)
    moment = (sampling * (2 * probability - 1)) @ incidence
    # The constant selects Σr = 0 among the solutions, which differ by a shift.
    return np.linalg.solve(normal + 1 / incidence.shape[1], moment[..., None])[..., 0]


def fit_integer(loss: str, sampling: Floats, probability: Floats) -> Floats:
    """The rewards of least hinge or ramp risk, exactly: the best of `list_integer_rewards`.

    Both losses are linear between the kinks z = ±1, so that some minimiser lies where actions − 1
    independent gaps are ±1, that is, at integers.

    Args:
        loss: "hinge" or "ramp"; another loss has no such minimiser.
        sampling, probability: `(problems, pairs)`, q and η̃.
    Returns:
        `(problems, actions)`.
    Check: tests/book/test_theory_rank.py (scipy's linear programming).
    """
    candidates = list_integer_rewards(_incidence(np.shape(sampling)[-1]).shape[1])
    score = torch.from_numpy(compute_gaps(candidates))
    fn = get(loss).fn
    won = (sampling * probability) @ fn(score).numpy().T
    lost = (sampling * (1 - probability)) @ fn(-score).numpy().T
    return candidates[(won + lost).argmin(axis=1)]


def list_integer_rewards(actions: int) -> Floats:
    """All `(candidates, actions)` integer rewards from 0 to actions − 1 with least entry 0."""
    grid = product(range(actions), repeat=actions)
    return np.array([point for point in grid if min(point) == 0], dtype=float)


def fit_sigmoid(
    sampling: Floats,
    probability: Floats,
    *,
    clip: float,
    points: int = 13,
    smallest_step: float = 1e-7,
) -> Floats:
    """The rewards in [−clip, clip] of least sigmoid risk: a lattice's best point, then refined.

    The risk is not convex, and compass search refines. A shift leaves the risk as it is, so that
    the greatest reward may be held at `clip`. That two lattices end in one risk is the check.

    Args:
        sampling, probability: `(problems, pairs)`, q and η̃.
        points: values per action in the lattice, which covers the box.
        smallest_step: at which the search ends.
    Returns:
        `(problems, actions)`.
    Check: notebook 04, tests/book/test_theory_rank.py (scipy's L-BFGS from many starts).
    """
    # Up to a constant the risk is Σ weight·ℓ(g), because ℓ(−g) = 1 − ℓ(g).
    weight = sampling * (2 * probability - 1)
    values = np.linspace(-clip, clip, points)
    actions = _incidence(weight.shape[1]).shape[1]
    lattice = np.array([point for point in product(values, repeat=actions) if max(point) == clip])
    table = expit(-compute_gaps(lattice)).T
    best = [(weight[i : i + _CHUNK] @ table).argmin(axis=1) for i in range(0, len(weight), _CHUNK)]

    learned = lattice[np.concatenate(best)]
    step = values[1] - values[0]
    while step > smallest_step:
        active = np.arange(len(weight))
        while len(active):  # only problems that moved are tried again
            moved = _compass_move(learned[active], weight[active], step=step, clip=clip)
            changed = (moved != learned[active]).any(axis=1)
            learned[active] = moved
            active = active[changed]
        step /= 2
    return learned


def _compass_move(learned: Floats, weight: Floats, *, step: float, clip: float) -> Floats:
    """The best of the 3ⁿ neighbours at distance `step` in the box, if it lowers the risk."""
    moves = np.array(list(product((0, -1, 1), repeat=learned.shape[1])))
    neighbours = np.clip(learned[:, None] + step * moves, -clip, clip)
    minus_gaps = neighbours @ -_incidence(weight.shape[1]).T
    risk = (expit(minus_gaps) @ weight[..., None])[..., 0]
    # Move 0 stays; a gain within rounding is none, or the search would go round in circles.
    best = np.where(risk.min(axis=1) < risk[:, 0] - 1e-15, risk.argmin(axis=1), 0)
    return neighbours[np.arange(len(learned)), best]


def _incidence(pairs: int) -> Floats:
    """The `(pairs, actions)` matrix that maps a reward to its gaps."""
    actions = math.isqrt(2 * pairs) + 1
    return compute_gaps(np.eye(actions)).T


# Sympy by pieces


def split_pieces(expr: sympy.Expr, z: sympy.Symbol) -> list[sympy.Expr]:
    """The expression on each open interval between its seams, from left to right, simplified.

    sympy seldom sees that two `Piecewise` with differently written conditions agree. Interval by
    interval they are plain expressions, which it compares easily; two continuous functions equal on
    every interval are equal.

    Args:
        expr: in the real symbol `z`, with any number of Piecewise, Max, Min or Abs of it.
    Source: ours. Check: tests/book/test_theory_losses.py.
    """
    expr = expr.rewrite(sympy.Piecewise)
    branches = [branch for piecewise in expr.atoms(sympy.Piecewise) for branch in piecewise.args]
    boundaries = [condition.as_set().boundary for _, condition in branches]
    seams = sorted(sympy.Union(*boundaries))
    # One point inside every interval selects its branch.
    ends = [seams[0] - 2, *seams, seams[-1] + 2] if seams else [-1, 1]
    middles = [(left + right) / sympy.Integer(2) for left, right in pairwise(ends)]
    return [sympy.simplify(_choose_piece(expr, z, at=middle)) for middle in middles]


def _choose_piece(expr: sympy.Expr, z: sympy.Symbol, *, at: sympy.Expr) -> sympy.Expr:
    def choose(*branches: tuple[sympy.Expr, sympy.Basic]) -> sympy.Expr:
        return next(value for value, condition in branches if condition.subs(z, at) == sympy.true)

    return expr.replace(sympy.Piecewise, choose)


def find_constant(expr: sympy.Expr, z: sympy.Symbol) -> sympy.Expr | None:
    """K where ℓ(z) + ℓ(−z) simplifies to one constant K on every interval, else None.

    A number is a proof. None alone is not one: two margins at which the sum differs complete it.

    Check: tests/book/test_theory_losses.py.
    """
    pieces = set(split_pieces(expr + expr.subs(z, -z), z))
    constant = pieces.pop()
    return None if pieces or constant.free_symbols else constant


# Tables behind figures


def tabulate_losses(names: Iterable[str], margins: ArrayLike) -> pd.DataFrame:
    """Tabulate losses: a row per loss and margin, with ℓ(z), ℓ(z) + ℓ(−z) and −ℓ′(z).

    Args:
        names: of losses in the registry.
        margins: `(margins,)`; at a kink the weight is the one-sided one that autograd takes.
    Returns:
        columns loss, symmetric, margin, value, sum, weight.
    Check: tests/book/test_theory_losses.py.
    """
    tables = []
    for name in names:
        loss = get(name)
        z = torch.tensor(np.asarray(margins), dtype=torch.float64, requires_grad=True)
        value = loss.fn(z)
        (slope,) = torch.autograd.grad(value.sum(), z)
        tensors = {"margin": z, "value": value, "sum": value + loss.fn(-z), "weight": -slope}
        columns = {column: tensor.detach().numpy() for column, tensor in tensors.items()}
        tables.append(pd.DataFrame({"loss": name, "symmetric": loss.symmetric, **columns}))
    return pd.concat(tables, ignore_index=True)


def find_reach(name: str, *, share: float, bound: float = 50.0) -> float:
    """The largest margin at which a pair still gets `share` of the loss's largest weight −ℓ′.

    Args:
        bound: no margin beyond it is tried; it is returned where the weight never falls that far.
    Returns:
        the margin, exact to bound/50000.
    Check: tests/book/test_theory_losses.py (closed forms).
    """
    table = tabulate_losses([name], np.linspace(0, bound, 50_001))
    return float(table.margin[table.weight >= share * table.weight.max()].max())


def tabulate_weights(
    weights: Mapping[str, sympy.Expr], margin: sympy.Symbol, at: ArrayLike
) -> pd.DataFrame:
    """Tabulate the weights −dℓ/dh of preference losses at the margins `at`.

    Args:
        weights: per method, an expression in `margin` alone.
    Returns:
        columns method, margin, weight and relative, which is weight/(weight at 0).
    Check: tests/book/test_theory_rank.py.
    """
    at = np.asarray(at, dtype=float)
    tables = []
    for name, weight in weights.items():
        # A constant weight comes as one number, whatever the shape of its argument.
        values = sympy.lambdify(margin, weight, "scipy")(np.append(at, 0.0)) * np.ones(len(at) + 1)
        columns = {"margin": at, "weight": values[:-1], "relative": values[:-1] / values[-1]}
        tables.append(pd.DataFrame({"method": name, **columns}))
    return pd.concat(tables, ignore_index=True)
