"""Reward heads compared, over seeds and over test prompts: both were drawn, and both count."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sympo import stats
from sympo.stats import Difference

Outcomes = NDArray[np.float64]


def compare(ours: Outcomes, theirs: Outcomes, prompts: ArrayLike) -> dict[str, float]:
    """The mean difference of two heads' outcomes, with the wider of two intervals.

    One interval is over seeds (each one's accuracy over all pairs), and one over prompts (each
    pair's difference over all seeds, clustered by prompt). Their union is reported, with the larger
    p and the larger detectable difference: what both call significant is.

    Args:
        ours: `(seeds, pairs)` of 0, ½ and 1.
        theirs: the same, or `(pairs,)` for a rule that no seed has a part in.
        prompts: `(pairs,)`, names.
    Returns:
        the fields of `stats.Difference`, with n the number of seeds; then prompts (their number),
        seeds_low, seeds_high, prompts_low, prompts_high.
    Check: tests/book/test_heads.py.
    """
    differences = ours - theirs
    over_seeds = stats.paired_difference(differences.mean(axis=1), np.zeros(len(ours)))
    over_prompts = stats.clustered_mean(differences.mean(axis=0), prompts)
    return {
        **stats.withhold(_unite(over_seeds, over_prompts))._asdict(),
        "prompts": over_prompts.n,
        "seeds_low": over_seeds.low,
        "seeds_high": over_seeds.high,
        "prompts_low": over_prompts.low,
        "prompts_high": over_prompts.high,
    }


def _unite(first: Difference, second: Difference) -> Difference:
    """The union of two intervals of one estimate; n is that of the first."""
    return first._replace(
        low=min(first.low, second.low),
        high=max(first.high, second.high),
        p=max(first.p, second.p),
        detectable=max(first.detectable, second.detectable),
    )


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
