"""The policies that a reward defines over finitely many actions, and what they are worth, exactly.

A learned reward of test images and a reference policy over the same images give the tilted policy
π_ref·exp(r/β)/Z and best-of-n. There are finitely many images, so expected digit, win rate and KL
are sums over them, and nothing is sampled. Notebook 07 has them for every model of study
mnist_losses.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp, rel_entr

from sympo.studies.mnist.config import PolicyConfig
from sympo.studies.mnist.evaluation import reward_accuracy
from sympo.studies.records import Record

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

# Of a run, those at which records keep rewards.
EPOCHS = ("final", "chosen")
# Column → field of a run's config.
_MODEL = {"method": "method", "noise_rate": "rate_pos", "seed": "seed"}


def tilt(rewards: ArrayLike, beta: float, reference: ArrayLike) -> Floats:
    """The policy π_ref·exp(r/β)/Z, which maximises E r − β·KL.

    At β = 0 it is the limit: the reference policy, given that the reward is greatest.

    Args:
        rewards: `(…, actions)`.
        reference: `(actions,)`, positive, of sum 1.
    Returns:
        `(…, actions)`.
    Raises:
        ValueError: β < 0, or a reference that is no policy or leaves an action out.
    Source: T12 of notebook 04. Check: tests/studies/test_mnist_policy.py.
    """
    rewards = np.asarray(rewards, dtype=float)
    reference = _check_reference(reference)
    if beta < 0:
        raise ValueError(f"beta = {beta}: give a number that is not negative")
    if beta == 0:
        best = reference * (rewards == rewards.max(-1, keepdims=True))
        return best / best.sum(-1, keepdims=True)
    # In logarithms: a reward that is many times β would overflow.
    logits = np.log(reference) + rewards / beta
    return np.exp(logits - logsumexp(logits, axis=-1, keepdims=True))


def choose_best_of(rewards: ArrayLike, n: int, reference: ArrayLike) -> Floats:
    """The policy that draws n actions from the reference and keeps the one with the largest reward.

    With F(r) = P(reward ≤ r) it takes an action of reward r with probability F(r)ⁿ − F(r−)ⁿ, shared
    among equal rewards as the reference shares it.

    Args:
        rewards: `(actions,)`.
        reference: `(actions,)`, positive, of sum 1.
    Returns:
        `(actions,)`.
    Raises:
        ValueError: n < 1, or a reference as in `tilt`.
    Check: tests/studies/test_mnist_policy.py, by enumeration of all draws.
    """
    reference = _check_reference(reference)
    if n < 1:
        raise ValueError(f"n = {n}: draw at least one action")
    _, level = np.unique(np.asarray(rewards, dtype=float), return_inverse=True)
    mass = np.bincount(level, weights=reference)
    up_to = np.cumsum(mass)
    best = up_to**n - (up_to - mass) ** n
    return reference * (best / mass)[level]


def compute_standing(truth: ArrayLike, reference: ArrayLike) -> Floats:
    """How often each action beats one drawn from the reference; a tie counts one half.

    The win rate of a policy is its expectation, E_π standing: a true reward like any other, in the
    order of the truth.

    Args:
        truth: `(actions,)`, true rewards such as digits.
        reference: `(actions,)`, of sum 1.
    Returns:
        `(actions,)`, of mean ½ under the reference.
    Check: tests/studies/test_mnist_policy.py, by enumeration.
    """
    _, level = np.unique(np.asarray(truth), return_inverse=True)
    mass = np.bincount(level, weights=_check_reference(reference))
    below = np.cumsum(mass) - mass
    return (below + mass / 2)[level]


def measure_kl(policy: ArrayLike, reference: ArrayLike) -> Floats:
    """KL(π ‖ π_ref) over the last axis, in nats."""
    return np.asarray(rel_entr(policy, reference)).sum(-1)


def solve_beta(rewards: ArrayLike, kl: float, reference: ArrayLike) -> float:
    """The β whose tilted policy has the given KL.

    The KL falls in β, from −log P(the reward is greatest) to 0. Where actions that tie for the
    greatest reward keep it below `kl`, β is 0: the policy that goes as far as the reward leads.

    Args:
        rewards: `(actions,)`.
        kl: in nats, above 0.
        reference: `(actions,)`, positive, of sum 1.
    Raises:
        ValueError: KL ≤ 0, or a reference as in `tilt`.
    Check: tests/studies/test_mnist_policy.py.
    """
    reference = _check_reference(reference)
    if kl <= 0:
        raise ValueError(f"kl = {kl}: give a number above 0")
    # From the best downwards, so that no power overflows.
    below = np.asarray(rewards, dtype=float) - np.max(rewards)

    def excess(log_beta: float) -> float:
        # KL = E_π r/β − log Z. Plain sums, as this is called thousands of times.
        weights = reference * np.exp(below / np.exp(log_beta))
        total = weights.sum()
        return float(weights @ below / total / np.exp(log_beta) - np.log(total)) - kl

    if -np.log(reference[below == 0].sum()) <= kl:
        return 0.0
    # At the lowest β, e^(−700) of the mass is left for all but the best. At the highest, the KL is
    # too small: it is at most (range/β)²/8, by Hoeffding's bound on a variance.
    lowest = -below[below < 0].max() / 700
    highest = -below.min() / np.sqrt(8 * kl)
    if excess(np.log(lowest)) <= 0:
        return 0.0
    return float(np.exp(brentq(excess, np.log(lowest), np.log(highest), xtol=1e-13)))


def share_violated(rewards: ArrayLike, digits: NDArray[np.integer]) -> Floats:
    """The share of pairs of different digits that a reward puts in the wrong order, without ties.

    Args:
        rewards: `(models, images)`.
        digits: `(images,)`.
    Returns:
        `(models,)`.
    """
    accuracy, ties = reward_accuracy(
        torch.as_tensor(np.array(rewards, dtype=float)), torch.as_tensor(digits.astype(np.int64))
    )
    return (1 - accuracy - ties).numpy()


def list_epochs(records: Sequence[Record]) -> list[str]:
    """The epochs of `EPOCHS` whose rewards all records keep: older records have no chosen one."""
    return [epoch for epoch in EPOCHS if all(_kept(record, epoch) for record in records)]


def read_rewards(record: Record, epoch: str) -> Floats:
    """The rewards of the first test images at the final or at the chosen epoch, `(images,)`."""
    return np.array(_kept(record, epoch)["rewards"])


def tabulate_policies(
    records: Sequence[Record], digits: NDArray[np.integer], config: PolicyConfig
) -> "pd.DataFrame":
    """What the policies of every trained reward are worth, against a reference that is uniform.

    Args:
        records: of study mnist_losses.
        digits: `(images,)`, of the images whose rewards the records keep.
    Returns:
        a row per model, epoch and policy: columns method, noise_rate, seed, epoch, violated, then
        those of `measure_policies`.
    """
    import pandas as pd

    rows = []
    for epoch in list_epochs(records):
        # All models at once: counting pairs takes longer to start than to do.
        learned = np.array([read_rewards(record, epoch) for record in records])
        shares = share_violated(learned, digits)
        for record, rewards, violated in zip(records, learned, shares, strict=True):
            run = record["config"]
            model = {name: run[field] for name, field in _MODEL.items()}
            about = {**model, "epoch": epoch, "violated": violated}
            rows += [{**about, **each} for each in measure_policies(rewards, digits, config)]
    return pd.DataFrame(rows)


def measure_policies(
    rewards: Floats, digits: NDArray[np.integer], config: PolicyConfig
) -> list[dict[str, Any]]:
    """The policies of one reward: tilted to each KL, tilted with each β, and best of each n.

    Args:
        rewards: `(images,)`.
        digits: `(images,)`.
    Returns:
        a dict per policy: `fixed`, which says what was given ("KL", "β" or "n"), and `at` which
        value; `beta` (None for best-of-n), `kl`, `win_rate` against the reference, `digit`, the
        expected one, and `reached`: whether the KL asked for is below what ties allow.
    """
    reference = np.full(len(digits), 1 / len(digits))
    standing = compute_standing(digits, reference)
    solved = {kl: solve_beta(rewards, kl, reference) for kl in config.kls}
    asked = [("KL", kl, beta) for kl, beta in solved.items()]
    asked += [("β", beta, beta) for beta in config.betas]
    tilted = [(*each, tilt(rewards, each[-1], reference)) for each in asked]
    best = [("n", n, None, choose_best_of(rewards, n, reference)) for n in config.ns]
    return [
        {
            "fixed": fixed,
            "at": at,
            "beta": beta,
            "kl": float(measure_kl(policy, reference)),
            "win_rate": float(policy @ standing),
            "digit": float(policy @ digits),
            "reached": beta != 0,
        }
        for fixed, at, beta, policy in [*tilted, *best]
    ]


def _kept(record: Record, epoch: str) -> Any:
    """What a record keeps of an epoch; None without its rewards."""
    return record["metrics"] if epoch == "final" else record["metrics"].get("chosen")


def _check_reference(reference: ArrayLike) -> Floats:
    reference = np.asarray(reference, dtype=float)
    if not ((reference > 0).all() and np.isclose(reference.sum(), 1)):
        raise ValueError("reference must be positive and sum to 1: give a policy on the actions")
    return reference
