"""Derivations: the sympy objects and small numeric checks that the theory notebooks share.

One section per notebook. Notebooks define no functions, so what they need beyond an expression
stands here.
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import pandas as pd
import sympy
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, rel_entr, softmax
from torch import Tensor

from sympo.losses import get
from sympo.noise import check_rates

# T1, T2 — preference pairs and their noise, every outcome listed (notebooks 01 and 02)


def list_pairs(rewards: ArrayLike, scores: ArrayLike) -> pd.DataFrame:
    """Every (winner, loser) of a finite problem: P(w beats l) = σ(r*_w − r*_l), each pair drawn
    equally often.

    Args:
        rewards: `(actions,)`, the true rewards r*.
        scores: `(actions,)`, the learned rewards r.
    Returns:
        columns winner, loser, probability (they sum to 1), margin r(winner) − r(loser).
    Check: tests/test_theory.py.
    """
    rewards, scores = np.asarray(rewards, dtype=float), np.asarray(scores, dtype=float)
    winner, loser = np.nonzero(~np.eye(len(rewards), dtype=bool))
    probability = expit(rewards[winner] - rewards[loser]) / math.comb(len(rewards), 2)
    columns = {
        "winner": winner,
        "loser": loser,
        "probability": probability,
        "margin": scores[winner] - scores[loser],
    }
    return pd.DataFrame(columns)


def annotate(
    pairs: pd.DataFrame, rate_pos: float, rate_neg: float, *, prior: ArrayLike
) -> pd.DataFrame:
    """Every way to write each pair down and to annotate it: four outcomes per row of `pairs`, with
    their probability.

    A pair is written (winner, loser), label +1, with probability `prior`, else (loser, winner),
    label −1. The label is then flipped at `rate_pos` where it is +1 and at `rate_neg` where it is
    −1.

    Args:
        pairs: of `list_pairs`.
        prior: a number, or one per row of `pairs` where the written order is tied to the pair.
    Returns:
        the columns of `pairs` with `label` y, `noisy` ỹ and `score` g(a₁, a₂) in the written order.
    Source: Equation 7. Check: notebook 02, tests/test_theory.py.
    """
    check_rates(rate_pos, rate_neg)
    outcomes = []
    for label, written, rate in (
        (1, np.asarray(prior), rate_pos),
        (-1, 1 - np.asarray(prior), rate_neg),
    ):
        for noisy, share in ((label, 1 - rate), (-label, rate)):
            columns = {"label": label, "noisy": noisy, "score": label * pairs.margin}
            outcomes.append(
                pairs.assign(probability=pairs.probability * written * share, **columns)
            )
    return pd.concat(outcomes, ignore_index=True)


def swap_half(outcomes: pd.DataFrame) -> pd.DataFrame:
    """The outcomes after a fair coin has decided for each pair whether to swap it together with
    both its labels.

    A swapped pair has the opposite labels and, as the score is antisymmetric, the opposite score.

    Source: Lemma 1. Check: notebook 02.
    """
    swapped = outcomes.assign(label=-outcomes.label, noisy=-outcomes.noisy, score=-outcomes.score)
    both = pd.concat([outcomes, swapped], ignore_index=True)
    return both.assign(probability=both.probability / 2)


def measure_rates(outcomes: pd.DataFrame, *, by: str = "label") -> pd.Series:
    """P(ỹ ≠ y | the value of column `by`), exactly, for each value that can occur."""
    outcomes = outcomes[outcomes.probability > 0]
    flipped = outcomes.probability.where(outcomes.noisy != outcomes.label, 0.0)
    return flipped.groupby(outcomes[by]).sum() / outcomes.probability.groupby(outcomes[by]).sum()


def measure_risk(
    outcomes: pd.DataFrame, fn: Callable[[Tensor], Tensor], *, label: str = "noisy"
) -> float:
    """E ℓ(ỹ·g), exactly; with `label="label"`, the clean risk E ℓ(y·g)."""
    margins = torch.tensor((outcomes[label] * outcomes.score).to_numpy(), dtype=torch.float64)
    return float(outcomes.probability.to_numpy() @ fn(margins).numpy())


# T3, T4 — what symmetric noise does to a loss, and its correction (notebook 02)


def add_noise(loss: Callable, noise_rate: float | sympy.Symbol) -> Callable:
    """z ↦ (1−ε)·ℓ(z) + ε·ℓ(−z): the loss that a pair of clean margin z incurs on average when its
    label may be flipped.

    Args:
        loss: of a torch margin or of a sympy symbol; the result takes what it takes.
    Check: notebook 02, tests/test_theory.py.
    """
    return lambda z: (1 - noise_rate) * loss(z) + noise_rate * loss(-z)


def correct(loss: Callable, assumed_rate: float | sympy.Symbol) -> Callable:
    """z ↦ ((1−ε)·ℓ(z) − ε·ℓ(−z)) / (1−2ε): the corrected loss, whose average over flips at rate ε
    is ℓ(z).

    Args:
        loss: as for `add_noise`; the logistic loss gives rDPO.
        assumed_rate: ε as one believes it to be, below ½.
    Source: Natarajan et al. 2013; Chowdhury et al. 2024 (rDPO). Check: notebook 02,
    tests/test_theory.py.
    """
    return lambda z: (
        ((1 - assumed_rate) * loss(z) - assumed_rate * loss(-z)) / (1 - 2 * assumed_rate)
    )


def measure_signal(
    fn: Callable[[Tensor], Tensor], margins: ArrayLike, *, noise_rate: float
) -> pd.DataFrame:
    """Mean and standard deviation, over the flips, of the gradient that a pair of clean margin z
    sends to its margin.

    Args:
        fn: the loss that is trained with.
        margins: `(m,)`.
    Returns:
        columns margin, mean, spread, snr = |mean| / spread; exact, the two outcomes of a flip being
        listed.
    Check: tests/test_theory.py against sampled flips.
    """
    z = torch.tensor(np.asarray(margins), dtype=torch.float64, requires_grad=True)
    kept, flipped = (torch.autograd.grad(fn(side).sum(), z)[0].numpy() for side in (z, -z))
    mean = (1 - noise_rate) * kept + noise_rate * flipped
    spread = math.sqrt(noise_rate * (1 - noise_rate)) * abs(kept - flipped)
    return pd.DataFrame(
        {"margin": np.asarray(margins), "mean": mean, "spread": spread, "snr": abs(mean) / spread}
    )


def fit_corrected_logistic(
    problems: "Problems", *, noise_rate: float, assumed_rate: float, clip: float
) -> NDArray[np.float64]:
    """The rewards in [−clip, clip] of least exact rDPO risk, told `assumed_rate`, on labels flipped
    at `noise_rate`.

    The corrected logistic loss is log(1 + e^(−z)) plus a multiple of z: convex, so a point where no
    allowed move descends is a minimum. Newton's method, with the rewards that press against the
    clip held there.

    Args:
        clip: the authors' is 20 on MNIST; without one the risk may have no minimum where
            `assumed_rate` is too high.
    Returns:
        `(problems, actions)`.
    Raises:
        RuntimeError: some allowed move still descends.
    Check: tests/test_theory.py (scipy's SLSQP; the true rewards at the true rate).
    """
    sampling, matrix = problems.sampling, _incidence(problems.sampling.shape[1])
    ratio = (1 - 2 * noise_rate) / (1 - 2 * assumed_rate)
    # P(i beats j) as rDPO takes it: may pass 1
    belief = 0.5 + ratio * (expit(compute_gaps(problems.reward)) - 0.5)
    learned = np.zeros_like(problems.reward)
    for _ in range(500):
        gradient = compute_logistic_gradient(learned, sampling, belief)
        held = (np.abs(learned) >= clip) & (gradient * learned < 0)
        gradient = np.where(held, 0, gradient)
        if np.abs(gradient).max() < 1e-12:
            return learned
        slope = expit(compute_gaps(learned))
        curvature = np.einsum(
            "mp,pi,pj->mij", sampling * slope * (1 - slope), matrix, matrix, optimize=True
        )
        step = np.linalg.solve(_restrict(curvature, held), gradient[..., None])[..., 0]
        step /= np.maximum(1, np.abs(step).max(axis=1, keepdims=True))
        learned = np.clip(learned - step, -clip, clip)
    raise RuntimeError(
        f"the corrected logistic fit stopped at a gradient of {np.abs(gradient).max():.1e} > 1e-12"
    )


def _restrict(curvature: NDArray, held: NDArray) -> NDArray[np.float64]:
    """The curvature with the `held` rows and columns those of the identity, and regular along (1,
    …, 1).
    """
    free = ~held
    inner = curvature * (free[:, :, None] & free[:, None, :])
    # the risk does not change along (1, …, 1)
    shift = ~held.any(axis=1)[:, None, None] / held.shape[1]
    return inner + held[:, :, None] * np.eye(held.shape[1]) + shift + 1e-15 * np.eye(held.shape[1])


def tabulate_wrong_rate(
    problems: "Problems", assumed_rates: Iterable[float], *, noise_rate: float, clip: float
) -> pd.DataFrame:
    """How often rDPO orders the actions wrongly when it is told each of `assumed_rates` and the
    truth is `noise_rate`.

    Returns:
        one row per assumed rate: assumed_rate and the shares of problems reversed and tied, as
            `find_order_errors`.
    """
    rows = []
    for assumed in assumed_rates:
        learned = fit_corrected_logistic(
            problems, noise_rate=noise_rate, assumed_rate=assumed, clip=clip
        )
        rows.append(
            [assumed, *(errors.mean() for errors in find_order_errors(problems.reward, learned))]
        )
    return pd.DataFrame(rows, columns=["assumed_rate", "reversed", "tied"])


# T5, T6 — symmetric losses, their calibration and their minimisers (notebook 03)


def split_pieces(expr: sympy.Expr, z: sympy.Symbol) -> list[sympy.Expr]:
    """The expression on each open interval between its seams, from left to right, simplified.

    sympy seldom sees that two `Piecewise` with differently written conditions agree. Interval by
    interval they are plain expressions, which it compares easily; two continuous functions equal on
    every interval are equal.

    Args:
        expr: in the real symbol `z`, with any number of Piecewise, Max, Min or Abs of it.
    Source: ours. Check: tests/test_theory_losses.py.
    """
    expr = expr.rewrite(sympy.Piecewise)
    conditions = [
        condition for piecewise in expr.atoms(sympy.Piecewise) for _, condition in piecewise.args
    ]
    seams = sorted(sympy.Union(*(condition.as_set().boundary for condition in conditions)))
    ends = [seams[0] - 2, *seams, seams[-1] + 2] if seams else [-1, 1]
    middles = [(left + right) / sympy.Integer(2) for left, right in pairwise(ends)]
    return [sympy.simplify(_choose_piece(expr, z, middle)) for middle in middles]


def _choose_piece(expr: sympy.Expr, z: sympy.Symbol, at: sympy.Expr) -> sympy.Expr:
    def choose(*branches):
        return next(value for value, condition in branches if condition.subs(z, at) == sympy.true)

    return expr.replace(sympy.Piecewise, choose)


def find_constant(expr: sympy.Expr, z: sympy.Symbol) -> sympy.Expr | None:
    """K where ℓ(z) + ℓ(−z) simplifies to one constant K on every interval, else None.

    A number is a proof. None alone is not one: two margins at which the sum differs complete it.
    """
    pieces = set(split_pieces(expr + expr.subs(z, -z), z))
    constant = pieces.pop()
    return None if pieces or constant.free_symbols else constant


def tabulate_losses(names: Iterable[str], margins: ArrayLike) -> pd.DataFrame:
    """Tidy table of the losses: a row per loss and margin with `value` ℓ(z), `sum` ℓ(z) + ℓ(−z),
    `weight` −ℓ'(z).

    Args:
        margins: `(m,)`; at a kink of the loss the weight is the one-sided one that autograd takes.
    """
    tables = []
    for name in names:
        loss = get(name)
        z = torch.tensor(np.asarray(margins), dtype=torch.float64, requires_grad=True)
        value = loss.fn(z)
        (slope,) = torch.autograd.grad(value.sum(), z)
        columns = {"margin": z, "value": value, "sum": value + loss.fn(-z), "weight": -slope}
        columns = {column: tensor.detach().numpy() for column, tensor in columns.items()}
        tables.append(pd.DataFrame({"loss": name, "symmetric": loss.symmetric, **columns}))
    return pd.concat(tables, ignore_index=True)


def find_reach(name: str, *, share: float, bound: float = 50.0) -> float:
    """The largest margin in [0, bound] at which a pair still gets `share` of the loss's largest
    weight −ℓ'.

    `bound` itself means that the weight does not fall that far; the margin is exact to bound/50000.
    """
    table = tabulate_losses([name], np.linspace(0, bound, 50_001))
    return float(table.margin[table.weight >= share * table.weight.max()].max())


def compute_conditional_risk(
    fn: Callable[[Tensor], Tensor], margins: ArrayLike, etas: ArrayLike
) -> NDArray:
    """C_η(z) = η·ℓ(z) + (1−η)·ℓ(−z), `(etas, margins)`: the risk of giving margin z to a pair won
    with probability η.

    Source: theory T6. Check: notebook 03.
    """
    z = torch.as_tensor(np.asarray(margins), dtype=torch.float64)
    eta = np.asarray(etas, dtype=float)[:, None]
    return eta * fn(z).numpy() + (1 - eta) * fn(-z).numpy()


def find_minimisers(
    fn: Callable[[Tensor], Tensor], margins: ArrayLike, etas: ArrayLike
) -> list[NDArray]:
    """For each η, every one of the `margins` at which C_η is least, ties up to rounding
    included.
    """
    risks = compute_conditional_risk(fn, margins, etas)
    return [np.asarray(margins)[risk <= risk.min() + 1e-12] for risk in risks]


def tabulate_minimisers(
    names: Iterable[str], *, noise_rates: Iterable[float], etas: ArrayLike, margins: ArrayLike
) -> pd.DataFrame:
    """Tidy table of the minimisers of C_η over `margins`: a row per loss, noise rate ε and η, with
    `low` and `high`.

    Labels flip with probability ε, so the loss sees η̃ = (1−2ε)·η + ε. Where many margins are
    equally good, `low` and `high` are the ends of their range.
    """
    rows = []
    for name, rate in product(names, noise_rates):
        seen = (1 - 2 * rate) * np.asarray(etas) + rate
        found = find_minimisers(get(name).fn, margins, seen)
        rows += [
            (name, rate, eta, best.min(), best.max()) for eta, best in zip(etas, found, strict=True)
        ]
    return pd.DataFrame(rows, columns=["loss", "noise_rate", "eta", "low", "high"])


def measure_calibration(
    fn: Callable[[Tensor], Tensor], margins: ArrayLike, etas: ArrayLike
) -> NDArray:
    """What the wrong sign costs: least C_η over z·(2η−1) ≤ 0 minus least C_η over all `margins`,
    `(etas,)`.

    The loss is classification-calibrated when this is positive for every η ≠ ½.

    Source: Bartlett, Jordan and McAuliffe 2006, Definition 1. Check: notebook 03,
    tests/test_theory_losses.py.
    """
    risks = compute_conditional_risk(fn, margins, etas)
    wrong = np.asarray(margins) * (2 * np.asarray(etas, dtype=float)[:, None] - 1) <= 0
    return np.where(wrong, risks, np.inf).min(axis=1) - risks.min(axis=1)


# T7 — rank preservation (notebook 04)

_CHUNK = 100  # problems whose lattice is evaluated at once: bounds the memory


class Problems(NamedTuple):
    """Ranking problems with infinite data.

    Attributes:
        reward: `(problems, actions)`, the true reward r*.
        sampling: `(problems, pairs)`, how often each pair i < j is compared, in the order of
            `compute_gaps`; sums to 1.
    """

    reward: NDArray[np.float64]
    sampling: NDArray[np.float64]


def compute_gaps(reward: ArrayLike) -> NDArray[np.float64]:
    """The scores g(aᵢ, aⱼ) = r(aᵢ) − r(aⱼ) of all pairs i < j, row by row: `(…, actions)` to
    `(…, pairs)`.
    """
    reward = np.asarray(reward, dtype=float)
    first, second = np.triu_indices(reward.shape[-1], 1)
    return reward[..., first] - reward[..., second]


def draw_problems(
    count: int,
    *,
    actions: int = 4,
    spread: float,
    unevenness: float,
    generator: np.random.Generator,
) -> Problems:
    """Random problems: r* ~ N(0, spread²), pairs sampled in proportion to exp(unevenness·N(0, 1)).

    Equal generators draw equal r* whatever the unevenness; unevenness 0 samples all pairs alike.
    """
    reward = generator.normal(0, spread, (count, actions))
    weight = np.exp(unevenness * generator.normal(size=(count, actions * (actions - 1) // 2)))
    return Problems(reward, weight / weight.sum(axis=1, keepdims=True))


def compute_noisy_preference(gap: ArrayLike, noise_rate: float) -> NDArray[np.float64]:
    """The noisy Bradley–Terry probability η̃ = ε + (1−2ε)·σ(gap), of the shape of `gap`."""
    return noise_rate + (1 - 2 * noise_rate) * expit(gap)


def compute_risk(
    loss: str, learned: ArrayLike, problems: Problems, noise_rate: float
) -> NDArray[np.float64]:
    """The noisy risk R̃(r) = Σ q·(η̃·ℓ(g) + (1−η̃)·ℓ(−g)) of `learned`, `(…, problems, actions)`:
    `(…, problems)`.
    """
    score = torch.from_numpy(compute_gaps(learned))
    probability = compute_noisy_preference(compute_gaps(problems.reward), noise_rate)
    fn = get(loss).fn
    return (
        problems.sampling
        * (probability * fn(score).numpy() + (1 - probability) * fn(-score).numpy())
    ).sum(axis=-1)


def _incidence(pairs: int) -> NDArray[np.float64]:
    """The `(pairs, actions)` matrix that maps a reward to its gaps."""
    return compute_gaps(np.eye(math.isqrt(2 * pairs) + 1)).T


def compute_logistic_gradient(
    learned: ArrayLike, sampling: ArrayLike, probability: ArrayLike
) -> NDArray[np.float64]:
    """The gradient of the logistic risk, Σⱼ qᵢⱼ·(σ(rᵢ − rⱼ) − η̃ᵢⱼ) for action i:
    `(problems, actions)`.
    """
    return (sampling * (expit(compute_gaps(learned)) - probability)) @ _incidence(
        np.shape(sampling)[-1]
    )


def fit_logistic(
    sampling: ArrayLike, probability: ArrayLike, *, start: ArrayLike = 0.0, tolerance: float = 1e-12
) -> NDArray[np.float64]:
    """The rewards of least logistic risk, by Newton's method with steps of at most 1, all problems
    at once.

    The risk is convex, so that a zero gradient is a minimum; the gauge is Σr = Σstart. In a sample
    where one action always wins there is no minimum, and its reward is as large as the tolerance
    lets it become.

    Args:
        sampling, probability: `(problems, pairs)`, q and η̃; η̃ may also be the share of wins in a
            sample.
        start: broadcasts to `(problems, actions)`.
    Returns:
        `(problems, actions)`.
    Raises:
        RuntimeError: some gradient is not below `tolerance` after 200 steps.
    Check: notebook 04, tests/test_theory_rank.py (scipy's L-BFGS).
    """
    matrix = _incidence(np.shape(sampling)[-1])
    count, actions = len(sampling), matrix.shape[1]
    learned = np.broadcast_to(start, (count, actions)).astype(float)
    for _ in range(200):
        gradient = compute_logistic_gradient(learned, sampling, probability)
        if np.abs(gradient).max() < tolerance:
            return learned
        slope = expit(compute_gaps(learned))
        curvature = np.einsum(
            "mp,pi,pj->mij", sampling * slope * (1 - slope), matrix, matrix, optimize=True
        )
        # The risk does not change along (1, …, 1); the constant makes the system regular and no
        # step goes there.
        step = np.linalg.solve(curvature + 1 / actions, gradient[..., None])[..., 0]
        learned = learned - step / np.maximum(1, np.abs(step).max(axis=1, keepdims=True))
    raise RuntimeError(
        f"the logistic fit stopped at a gradient of {np.abs(gradient).max():.1e} > {tolerance:.0e}"
    )


def fit_square(sampling: ArrayLike, probability: ArrayLike) -> NDArray[np.float64]:
    """The rewards of least square-loss risk, least squares of 2η̃ − 1 by rᵢ − rⱼ:
    `(problems, actions)`, Σr = 0.
    """
    matrix = _incidence(np.shape(sampling)[-1])
    normal = (
        np.einsum("mp,pi,pj->mij", sampling, matrix, matrix, optimize=True) + 1 / matrix.shape[1]
    )
    return np.linalg.solve(normal, ((sampling * (2 * probability - 1)) @ matrix)[..., None])[..., 0]


def list_integer_rewards(actions: int) -> NDArray[np.float64]:
    """All `(candidates, actions)` integer rewards from 0 to actions − 1 with least entry 0."""
    grid = product(range(actions), repeat=actions)
    return np.array([point for point in grid if min(point) == 0], dtype=float)


def fit_integer(loss: str, sampling: ArrayLike, probability: ArrayLike) -> NDArray[np.float64]:
    """The rewards of least hinge or ramp risk, exactly: the best of `list_integer_rewards`.

    Both losses are linear between the kinks z = ±1, so that some minimiser lies where actions − 1
    independent gaps are ±1, that is, at integers.

    Args:
        loss: "hinge" or "ramp"; another loss has no such minimiser.
    Returns:
        `(problems, actions)`.
    Check: tests/test_theory_rank.py (scipy's linear programming).
    """
    candidates = list_integer_rewards(_incidence(np.shape(sampling)[-1]).shape[1])
    score = torch.from_numpy(compute_gaps(candidates))
    fn = get(loss).fn
    risk = (sampling * probability) @ fn(score).numpy().T + (sampling * (1 - probability)) @ fn(
        -score
    ).numpy().T
    return candidates[risk.argmin(axis=1)]


def fit_sigmoid(
    sampling: ArrayLike,
    probability: ArrayLike,
    *,
    clip: float,
    points: int = 13,
    smallest_step: float = 1e-7,
) -> NDArray[np.float64]:
    """The rewards in [−clip, clip] of least sigmoid risk: the best point of a lattice, refined by
    compass search.

    The risk is not convex. The lattice has `points` values per action and covers the box; a shift
    leaves the risk as it is, so that the greatest reward may be held at `clip`. The check is that
    two lattices end in one risk.

    Returns:
        `(problems, actions)`.
    Check: notebook 04.
    """
    weight = np.asarray(sampling) * (2 * np.asarray(probability) - 1)
    values = np.linspace(-clip, clip, points)
    actions = _incidence(weight.shape[1]).shape[1]
    lattice = np.array([point for point in product(values, repeat=actions) if max(point) == clip])
    table = expit(-compute_gaps(lattice)).T
    best = [(weight[i : i + _CHUNK] @ table).argmin(axis=1) for i in range(0, len(weight), _CHUNK)]
    learned, step = lattice[np.concatenate(best)], values[1] - values[0]
    while step > smallest_step:
        active = np.arange(len(weight))
        while len(active):  # only problems that moved are tried again
            moved = _compass_move(learned[active], weight[active], step=step, clip=clip)
            changed = (moved != learned[active]).any(axis=1)
            learned[active], active = moved, active[changed]
        step /= 2
    return learned


def _compass_move(learned: NDArray, weight: NDArray, *, step: float, clip: float) -> NDArray:
    """The best of the 3ⁿ neighbours at distance `step` inside the box, where it betters the risk
    beyond rounding.
    """
    moves = np.array(list(product((0, -1, 1), repeat=learned.shape[1])))
    neighbours = np.clip(learned[:, None] + step * moves, -clip, clip)
    minus_gaps = neighbours @ -_incidence(weight.shape[1]).T
    risk = (expit(minus_gaps) @ weight[..., None])[..., 0]
    best = np.where(risk.min(axis=1) < risk[:, 0] - 1e-15, risk.argmin(axis=1), 0)
    return neighbours[np.arange(len(learned)), best]


def fit_reward(
    loss: str, problems: Problems, noise_rate: float, *, clip: float | None = None
) -> NDArray[np.float64]:
    """The rewards `(problems, actions)` of least noisy risk: any of logistic, square, hinge, ramp
    and clipped sigmoid.

    Args:
        clip: the bound of |r| for sigmoid, whose risk has no minimiser without one.
    Raises:
        ValueError: a loss without a solver here, or sigmoid without `clip`.
    """
    arguments = (
        problems.sampling,
        compute_noisy_preference(compute_gaps(problems.reward), noise_rate),
    )
    if loss == "sigmoid":
        if clip is None:
            raise ValueError(
                "clip is missing: the sigmoid risk has no minimiser, only a limit; give a bound, say 20"
            )
        return fit_sigmoid(*arguments, clip=clip)
    if loss in ("hinge", "ramp"):
        return fit_integer(loss, *arguments)
    solvers = {"logistic": fit_logistic, "square": fit_square}
    if loss not in solvers:
        raise ValueError(
            f"loss '{loss}' has no solver here: choose logistic, square, hinge, ramp or sigmoid"
        )
    return solvers[loss](*arguments)


def find_order_errors(
    reward: ArrayLike, learned: ArrayLike, *, tolerance: float = 1e-6
) -> tuple[NDArray, NDArray]:
    """Where `learned` reverses a pair of `reward`, and where it reverses none but ties one: two
    bool `(problems,)`.

    Gaps up to `tolerance` are ties.
    """
    truth, score = compute_gaps(reward), compute_gaps(learned)
    tied = np.abs(score) <= tolerance
    reversed_ = (((score > 0) != (truth > 0)) & ~tied).any(axis=-1)
    return reversed_, tied.any(axis=-1) & ~reversed_


def tabulate_wrong_orders(
    problems: Problems,
    *,
    noise_rates: Iterable[float],
    clips: Iterable[float],
    names: Iterable[str],
) -> pd.DataFrame:
    """How often the best reward of each loss orders the actions wrongly; sigmoid comes once for
    each of `clips`.

    Returns:
        one row per loss, clip and noise rate: loss, clip (nan where there is none), noise_rate,
            problems, and the
        shares reversed, tied and wrong (their sum).
    """
    rows = []
    for name, noise_rate in product(names, noise_rates):
        for clip in clips if name == "sigmoid" else [None]:
            learned = fit_reward(name, problems, noise_rate, clip=clip)
            shares = [errors.mean() for errors in find_order_errors(problems.reward, learned)]
            rows.append([name, clip, noise_rate, len(problems.reward), *shares, sum(shares)])
    columns = ["loss", "clip", "noise_rate", "problems", "reversed", "tied", "wrong"]
    return pd.DataFrame(rows, columns=columns).astype({"clip": float})


def compare_memorisation(
    *, actions: int, spread: float, noise_rate: float, repeats: int, generator: np.random.Generator
) -> pd.DataFrame:
    """Every pair labelled once with noise: a free score per pair against the best additive reward
    (logistic).

    Returns:
        one row per repeat and score ("free", "additive"): the shares of pairs on which the score
        agrees with its noisy label (fits_labels) and with r* (agrees_with_truth).
    """
    problems = draw_problems(
        repeats, actions=actions, spread=spread, unevenness=0, generator=generator
    )
    truth = compute_gaps(problems.reward) > 0
    label = generator.random(truth.shape) < compute_noisy_preference(
        compute_gaps(problems.reward), noise_rate
    )
    scores = {
        "free": label,
        "additive": compute_gaps(fit_logistic(problems.sampling, label.astype(float))) > 0,
    }
    tables = []
    for name, score in scores.items():
        shares = {
            "fits_labels": (score == label).mean(axis=1),
            "agrees_with_truth": (score == truth).mean(axis=1),
        }
        tables.append(pd.DataFrame({"score": name, **shares}))
    return pd.concat(tables, ignore_index=True)


# T8 — policy improvement (notebook 04)


def tilt_policy(reference: ArrayLike, reward: ArrayLike, beta: ArrayLike) -> NDArray[np.float64]:
    """The policy π_r ∝ π_ref·exp(r/β), along the last axis; an action outside the support of π_ref
    stays outside.
    """
    with np.errstate(divide="ignore"):
        return softmax(np.log(reference) + np.asarray(reward) / beta, axis=-1)


def compute_improvement(
    reference: ArrayLike, reward: ArrayLike, learned: ArrayLike, beta: ArrayLike
) -> NDArray:
    """J(π_r) − J(π_ref) with J(π) = E_π r*: the gain in true reward from tilting by `learned`, in
    units of reward.

    Args:
        reference, reward, learned: `(…, actions)`, π_ref, r* and r.
        beta: β; broadcasts, so that `(betas, 1)` gives one gain per β.
    """
    return ((tilt_policy(reference, learned, beta) - reference) * reward).sum(axis=-1)


def compute_kl(policy: ArrayLike, reference: ArrayLike) -> NDArray[np.float64]:
    """KL(π ‖ π_ref) in nats, along the last axis."""
    return rel_entr(policy, reference).sum(axis=-1)


# T9 — gradient anatomy (notebook 04)

# What the method holds fixed when it differentiates: RE-PO's confidence w, and Dr.DPO's batch mean
# of σ(h).
CONFIDENCE, BATCH_MEAN = sympy.symbols("w m", positive=True)


def build_preference_losses(
    margin: sympy.Symbol, *, noise_rate: float, beta: float
) -> dict[str, sympy.Expr]:
    """The per-pair loss of every method as a function of h = β·(log-ratio chosen − log-ratio
    rejected).

    ROPO has α = 14, Hölder γ = 2, Dr.DPO β′ = 1, IPO τ = β. Dr.DPO couples the batch, −log mean
    σ(h); its entry here, −σ/m with the batch mean m held fixed, has the gradient of one pair's
    share.

    Args:
        noise_rate: ε that cDPO and rDPO are told.
        beta: β, which scales IPO alone.
    Source: theory T9 and its table of losses. Check: notebook 04, tests/test_theory_rank.py.
    """
    s = 1 / (1 + sympy.exp(-margin))
    right, wrong = -sympy.log(s), -sympy.log(1 - s)
    rate, beta = sympy.nsimplify(noise_rate), sympy.nsimplify(beta)
    alpha = sympy.Integer(14)
    symmetric = ("sigmoid", "ramp", "erf", "cauchy")
    return {
        "dpo": right,
        "cdpo": (1 - rate) * right + rate * wrong,
        "rdpo": ((1 - rate) * right - rate * wrong) / (1 - 2 * rate),
        "ipo": (margin / beta - 1 / (2 * beta)) ** 2,
        "hinge": sympy.Piecewise((1 - margin, margin < 1), (0, True)),
        "ropo": 4 * alpha / (1 + alpha) ** 2 * (right + alpha * (1 - s)),
        "repo": CONFIDENCE * right + (1 - CONFIDENCE) * wrong,
        "drdpo": -s / BATCH_MEAN,
        "holder": get("holder").expr(margin),
        **{f"sympo_{name}": get(name).expr(margin) for name in symmetric},
    }


def derive_weights(
    margin: sympy.Symbol,
    *,
    noise_rate: float,
    beta: float,
    reliability: float = 0.9,
    batch_mean: float = 0.5,
) -> dict[str, sympy.Expr]:
    """The weight −dℓ/dh that each method puts on the gradient of h; positive raises h.

    Args:
        reliability: RE-PO's η, whose confidence w = ησ/(ησ + (1−η)(1−σ)) enters after the
            derivative.
        batch_mean: Dr.DPO's mean of σ(h) over the batch.
    """
    s, eta = 1 / (1 + sympy.exp(-margin)), sympy.nsimplify(reliability)
    held = {
        CONFIDENCE: eta * s / (eta * s + (1 - eta) * (1 - s)),
        BATCH_MEAN: sympy.nsimplify(batch_mean),
    }
    expressions = build_preference_losses(margin, noise_rate=noise_rate, beta=beta)
    return {
        name: sympy.simplify(-expr.diff(margin).subs(held)) for name, expr in expressions.items()
    }


def tabulate_weights(
    weights: dict[str, sympy.Expr], margin: sympy.Symbol, at: ArrayLike
) -> pd.DataFrame:
    """The weights at the margins `at`: columns method, margin, weight and relative = weight/(weight
    at 0).
    """
    at = np.asarray(at, dtype=float)
    tables = []
    for name, weight in weights.items():
        values = sympy.lambdify(margin, weight, "scipy")(np.append(at, 0.0)) * np.ones(len(at) + 1)
        columns = {"margin": at, "weight": values[:-1], "relative": values[:-1] / values[-1]}
        tables.append(pd.DataFrame({"method": name, **columns}))
    return pd.concat(tables, ignore_index=True)
