"""Reward heads compared, over seeds and over test prompts: both were drawn, and both count."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats as scipy_stats

from sympo import stats
from sympo.stats import Difference

Outcomes = NDArray[np.float64]


def compare(ours: Outcomes, theirs: Outcomes, prompts: ArrayLike) -> dict[str, float]:
    """The mean difference of two heads' outcomes, d̄ ± t·√(s_seeds² + s_prompts²).

    s_seeds is the standard error over seeds (each one's accuracy over all pairs), s_prompts that
    over prompts (each pair's difference over all seeds, clustered by prompt). Both are drawn, one
    apart from the other, so that their variances add; what a seed and a prompt share is in either,
    and so counted twice, on the safe side. t has as many degrees of freedom as the smaller of
    the two samples. Interval, p and detectable difference are thus at least as large as those of
    either source alone.

    Args:
        ours: `(seeds, pairs)` of 0, ½ and 1.
        theirs: the same, or `(pairs,)` for a rule that no seed has a part in.
        prompts: `(pairs,)`, names.
    Returns:
        the fields of `stats.Difference`, with n the number of seeds; then prompts (their number),
        seeds_low, seeds_high, prompts_low, prompts_high. With fewer than three seeds there is no
        interval.
    Check: tests/book/test_heads.py, by simulated coverage.
    """
    differences = ours - theirs
    over_seeds = stats.paired_difference(differences.mean(axis=1), np.zeros(len(ours)))
    over_prompts = stats.clustered_mean(differences.mean(axis=0), prompts)
    return {
        **_add_errors(over_seeds, over_prompts)._asdict(),
        "prompts": over_prompts.n,
        "seeds_low": over_seeds.low,
        "seeds_high": over_seeds.high,
        "prompts_low": over_prompts.low,
        "prompts_high": over_prompts.high,
    }


def _add_errors(over_seeds: Difference, over_prompts: Difference) -> Difference:
    """One estimate with the chance of both; n is the number of seeds."""
    if over_seeds.n < stats.FEWEST:
        return stats.withhold(over_seeds)
    n = min(over_seeds.n, over_prompts.n)
    error = float(np.hypot(_standard_error(over_seeds), _standard_error(over_prompts)))
    estimate = over_seeds.estimate
    half = error * float(scipy_stats.t.isf(0.025, n - 1))
    # without any spread there is no t: the limits of `stats.paired_difference`
    p = float(2 * scipy_stats.t.sf(abs(estimate) / error, n - 1)) if error else float(not estimate)
    detectable = stats.detectable_difference(error * n**0.5, n)
    return Difference(estimate, estimate - half, estimate + half, over_seeds.n, p, detectable)


def _standard_error(difference: Difference) -> float:
    half = (difference.high - difference.low) / 2
    return half / float(scipy_stats.t.isf(0.025, difference.n - 1))


def contrast(
    outcomes: Mapping[str, Outcomes],
    prompts: ArrayLike,
    *,
    methods: Sequence[str],
    baselines: Sequence[str],
    expected: int = 1,
) -> pd.DataFrame:
    """Each of `methods` minus each of `baselines`; Holm corrects p over all rows together.

    Args:
        outcomes: name → what `compare` takes.
        expected: the sign that is claimed, as for `stats.verdict`.
    Returns:
        columns method, baseline, those of `compare`, p_holm, verdict.
    """
    rows = [
        {
            "method": method,
            "baseline": baseline,
            **compare(outcomes[method], outcomes[baseline], prompts),
        }
        for method, baseline in product(methods, baselines)
    ]
    table = pd.DataFrame(rows)
    # without an interval there is no test to correct for
    p_holm = stats.holm(table.p) if table.p.notna().all() else np.nan
    table = table.assign(p_holm=p_holm)
    verdicts = [stats.verdict(row, expected=expected) for row in table.itertuples()]
    return table.assign(verdict=verdicts)
