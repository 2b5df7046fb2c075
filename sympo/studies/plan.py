"""A study that is ready to run: which runs it has, which of them matter most, what trains them.

A notebook completes one plan (`run`); `sympo.studies.queue` spends a given time on several, the
most telling runs first. Both keep the same records, so either goes on where the other stopped.
"""

import os
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from sympo.studies import profiles, records
from sympo.studies.records import AnyRun, Record, Result, Runs

# What a tier of runs is for; a queue trains them in this order.
TIERS = (
    "headline contrasts",
    "other claims",
    "learning-rate probe",
    "each method's own setting, and without flips",
    "other rates and β",
    "other methods",
)
HEADLINE, CLAIMED, PROBE, TUNED, OTHER_RATES, OTHER_METHODS = range(len(TIERS))

# The record of a run, or None.
Load = Callable[[AnyRun], Record | None]


@dataclass(frozen=True, kw_only=True)
class Plan(Generic[AnyRun]):
    """What a study runs, and how.

    Attributes:
        version: of the study, as `records.run_all` takes it.
        read_only: whether nothing may be trained, see `is_read_only`.
        provenance: for new records.
        list_runs: every run, given what loads a record: what a probe has found decides which runs
            follow it.
        tier: of a run, an index of `TIERS`.
        together: runs of one tier for which this is equal are trained by one call of `train`.
        train: yields (run, result) as each of the given runs finishes.
        is_prepared: whether what a run shares with others of its seed is in memory.
        prepare: puts it there, and gives the seconds of its phases by name. `train` does so too,
            where nobody has; a queue calls it to time the two apart.
    """

    study: str
    profile: str
    version: int
    read_only: bool
    provenance: dict[str, Any]
    list_runs: Callable[[Load[AnyRun]], list[AnyRun]]
    tier: Callable[[AnyRun], int]
    together: Callable[[AnyRun], Hashable]
    train: Callable[[list[AnyRun]], Iterator[tuple[AnyRun, Result]]]
    is_prepared: Callable[[AnyRun], bool] = lambda run: True
    prepare: Callable[[AnyRun], dict[str, float]] = lambda run: {}

    @property
    def folder(self) -> Path:
        """Where the records lie."""
        return records_folder(self.profile)

    def load(self, run: AnyRun) -> Record | None:
        """The record of a run, or None."""
        return records.load(
            run, folder=self.folder, version=self.version, set_aside=not self.read_only
        )

    def parts(self) -> list[list[AnyRun]]:
        """The runs in lists that train together, the most telling first."""
        parts: dict[tuple[int, Hashable], list[AnyRun]] = {}
        for run in sorted(self.list_runs(self.load), key=self.tier):
            parts.setdefault((self.tier(run), self.together(run)), []).append(run)
        return list(parts.values())


def records_folder(profile: str) -> Path:
    """Where the records of a profile lie."""
    return profiles.build_folder(profile) / "records"


def is_read_only(profile: str) -> bool:
    """Whether to take the records that exist, and to train nothing.

    SYMPO_RECORDS=only asks for it, and SYMPO_RECORDS=train for the contrary. Without either,
    nothing of profile gpu is trained where there is no CUDA but there are records: they came from
    elsewhere to be drawn.

    Raises:
        ValueError: SYMPO_RECORDS holds something else.
    """
    asked = os.environ.get("SYMPO_RECORDS", "")
    if asked not in ("", "only", "train"):
        raise ValueError(f"SYMPO_RECORDS is '{asked}': set it to only or train, or unset it")
    if asked:
        return asked == "only"
    if profile != "gpu" or next(records_folder(profile).glob("*.json"), None) is None:
        return False
    # Not before it is needed: the import takes seconds.
    import torch

    return not torch.cuda.is_available()


def run(plan: Plan[AnyRun]) -> Runs:
    """Train every run of `plan` that has no record, or only load those that have one.

    Raises:
        ValueError: nothing may be trained, and no seed is complete.
    """
    if plan.read_only:
        loaded = load_complete(plan)
        if not loaded.records:
            nothing = f"no seed of {plan.study} with these settings is complete in {plan.folder}"
            reason = "and records are only read here"
            remedy = "`python -m sympo records import` adds some, SYMPO_RECORDS=train trains"
            raise ValueError(f"{nothing}, {reason}: {remedy}")
        return loaded
    # In memory, since the main process alone writes records, perhaps after another looks.
    known: dict[AnyRun, Record] = {}
    trained = 0
    while waiting := [each for each in plan.list_runs(known.get) if each not in known]:
        result = records.run_all(
            waiting,
            plan.train,
            folder=plan.folder,
            version=plan.version,
            provenance=plan.provenance,
        )
        known.update(zip(waiting, result.records, strict=True))
        trained += result.trained
    in_order = [known[each] for each in plan.list_runs(known.get)]
    return Runs(in_order, trained, len(known) - trained)


def load_complete(plan: Plan[AnyRun]) -> Runs:
    """The records of complete seeds; nothing is trained.

    Losses are compared within seeds. So a seed counts if all its runs of the first tier have a
    record; and of the other tiers, runs that differ in their seed alone are taken if there is a
    record in every seed that counts and that the study plans for them, or not at all. The probe,
    which has seeds of its own, is such a whole.
    """
    by_run = {run: plan.load(run) for run in plan.list_runs(plan.load)}
    first = min(map(plan.tier, by_run), default=HEADLINE)
    # seed → whether all its runs of the first tier have a record
    complete: dict[int, bool] = {}
    for run, record in by_run.items():
        if plan.tier(run) == first:
            complete[run.seed] = complete.get(run.seed, True) and record is not None

    wanted = {
        run: record
        for run, record in by_run.items()
        if plan.tier(run) == PROBE or complete.get(run.seed, False)
    }
    incomplete = {_find_whole(plan, run) for run, record in wanted.items() if record is None}
    shown = [
        record
        for run, record in wanted.items()
        if record is not None and _find_whole(plan, run) not in incomplete
    ]
    present = sum(record is not None for record in by_run.values())
    return Runs(shown, 0, len(shown), len(by_run) - present, present - len(shown))


def _find_whole(plan: Plan[AnyRun], run: AnyRun) -> tuple[int, str]:
    """What is equal for the runs that are taken together or not at all."""
    tier = plan.tier(run)
    return tier, "" if tier == PROBE else run.describe()
