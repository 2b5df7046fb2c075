"""Plans of runs that take no time, for the tests of what is done with plans."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sympo.studies import plan
from sympo.studies.records import Result, Run


@dataclass(frozen=True, kw_only=True)
class Toy(Run):
    """A run whose result is its seed."""

    tier: int = plan.HEADLINE


def toy(
    method: str = "dpo", seed: int = 0, tier: int = plan.HEADLINE, *, study: str = "toy"
) -> Toy:
    """A run of no world."""
    return Toy(study=study, method=method, noise="none", seed=seed, tier=tier)


def train(runs: list[Toy]) -> Iterator[tuple[Toy, Result]]:
    """Give each run its seed."""
    for run in runs:
        yield run, Result({"seed": run.seed}, [])


def make_plan(runs: list[Toy], **changes: Any) -> plan.Plan[Toy]:
    """A plan of fixed runs, each trained alone."""
    planned = plan.Plan(
        study="toy",
        profile="gpu",
        version=1,
        read_only=False,
        provenance={},
        list_runs=lambda load: runs,
        tier=lambda run: run.tier,
        together=lambda run: run,
        train=train,
    )
    return replace(planned, **changes)
