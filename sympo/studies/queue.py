"""Several studies in a given time, the most telling runs first: `python -m sympo run-all`.

GPU time often comes in short slots. One queue goes over all studies, in the order of `plan.TIERS`:
the headline contrasts of each study, seed by seed, then what else the paper's claims name, then its
probe, then what is left. A part of the queue that would not finish in time is not begun, and
whatever ends the slot (the budget, SIGTERM, Ctrl-C) loses the part under way and nothing else. The
same command goes on from there.
"""

import errno
import math
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from operator import attrgetter
from typing import Any, NamedTuple

from sympo.studies import phases, profiles, records
from sympo.studies.plan import PROBE, TIERS, Plan
from sympo.studies.sources import AssetError

# The order in which the studies of a tier take their turn.
STUDIES = (
    *("mnist_losses", "mnist_noise", "hh"),
    *("gold", "ultrafeedback", "gold_grammar", "real_text"),
    *("noise_patterns", "loss_family", "finite_sample"),
)
# Ours: seconds at the end of a budget in which what is under way is dropped and the process ends.
RESERVE = 4.0
# Ours: what may take less than it was estimated at, as all after the first of a kind may, is tried
# with this share of the estimate left, where nothing else fits.
CHANCE = 0.5
# A disk that is full, or may not be written: no record can be kept, whatever is trained.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# Ours: a study is given up after so many of its parts have failed, since each costs time.
MOST_FAILURES = 3


@dataclass(frozen=True)
class Shard:
    """One of several processes that share a folder of records: number `index` of 1 … `count`."""

    index: int
    count: int


FIRST_OF_ONE = Shard(1, 1)


class Ended(BaseException):
    """The time is over. A BaseException, as KeyboardInterrupt: no library may take it for its own.

    Attributes:
        code: the process's exit code.
    """

    def __init__(self, reason: str, code: int):
        super().__init__(reason)
        self.code = code


class Part(NamedTuple):
    """Runs of a plan that train together; all are of one tier and one seed."""

    plan: Plan[Any]
    runs: list[Any]

    @property
    def tier(self) -> int:
        """The index in `TIERS`."""
        return self.plan.tier(self.runs[0])

    @property
    def is_prepared(self) -> bool:
        """Whether no world has to be built for it."""
        return self.plan.is_prepared(self.runs[0])

    @property
    def name(self) -> tuple[str, Any]:
        """Study and first run, which tell it from every other part."""
        return self.plan.study, self.runs[0]

    def __str__(self) -> str:
        first = self.runs[0]
        what = first.describe() if len(self.runs) == 1 else f"{len(self.runs)} runs"
        return f"{self.plan.study}, {TIERS[self.tier]}, seed {first.seed}: {what}"


@dataclass
class Clock:
    """What is left of a budget, and how long the next part of a study may take.

    Attributes:
        ends: when the budget is spent, on the clock of `time.monotonic`; infinity without one.
        taken: study → (runs, seconds) of each part so far, from when its world was at hand.
        worlds: study → seconds of each world that was built.
    """

    ends: float = math.inf
    taken: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    worlds: dict[str, list[float]] = field(default_factory=dict)

    @property
    def left(self) -> float:
        """Seconds that are left for training, never below 0."""
        return max(self.ends - time.monotonic() - RESERVE, 0.0)

    def predict(self, part: Part) -> tuple[float, bool]:
        """How long a part is expected to take, its world included if it is not at hand.

        Both by the slowest of the study. The first counts only until there is a second, since it
        also compiles and loads. A study that builds worlds, and of which nothing is known, is
        expected to take what the quickest other one does.

        Returns:
            seconds, 0 if nothing is known; and whether they rest on more than that first one, and
            on a part that was no smaller.
        """
        seconds, sure = self._predict_runs(part)
        if part.is_prepared:
            return seconds, sure
        built = self.worlds.get(part.plan.study, [])
        others = [min(times) for times in self.worlds.values()]
        world = max(built[1:] or built, default=min(others, default=0.0))
        return world + seconds, sure and len(built) > 1

    def _predict_runs(self, part: Part) -> tuple[float, bool]:
        count = len(part.runs)
        times = self.taken.get(part.plan.study, [])
        if not times:
            needs_world = part.plan.study in self.worlds or not part.is_prepared
            return self._find_quickest() if needs_world else 0.0, False
        warm = times[1:] or times
        seconds = max(seconds * max(count / runs, 1) for runs, seconds in warm)
        return seconds, len(times) > 1 and max(runs for runs, _ in warm) >= count

    def _find_quickest(self) -> float:
        """Seconds of the quickest part of any study that builds worlds; 0 without one."""
        times = (self.taken.get(study, []) for study in self.worlds)
        return min((seconds for part in times for _, seconds in part), default=0.0)

    def note(self, part: Part, seconds: float) -> None:
        """Learn from a part that took `seconds`, without its world."""
        self.taken.setdefault(part.plan.study, []).append((len(part.runs), seconds))

    def note_world(self, part: Part, seconds: float) -> None:
        """Learn from the world of a part, which took `seconds` to build."""
        self.worlds.setdefault(part.plan.study, []).append(seconds)


def plan_studies(names: Sequence[str], profile: str, say: Callable[[str], None]) -> list[Plan[Any]]:
    """The plans of studies, with the sizes of a profile.

    A study whose data cannot be had, or are others than those of its records here, is left out with
    a sentence, and the others go on.

    Raises:
        ValueError: an unknown study or profile.
    """
    # All of them before any is planned: a misspelt name must not wait for another study's data.
    configs = [profiles.study_config(name, profile) for name in names]
    plans = []
    for config in configs:
        module, _ = profiles.STUDIES[config.study]
        try:
            planned = import_module(module).plan_study(config)
            _check_sources(planned)
        except AssetError as error:
            say(f"{config.study}: left out, {error}")
        else:
            plans.append(planned)
    return plans


def _check_sources(planned: Plan[Any]) -> None:
    """Refuse to train beside records that the new ones would not add up with.

    Raises:
        AssetError: that is so.
    """
    first = next(iter(planned.list_runs(lambda run: None)), None)
    if first is None:
        return
    own = records.list_hashes(first.config())
    there = records.find_hashes(planned.study, folder=planned.folder, version=planned.version)
    if there and there != own:
        raise AssetError(
            f"its records in {planned.folder} were made from other data or weights "
            f"({records.describe_hashes(there)}) than are at hand ({records.describe_hashes(own)}):"
            " use the same, or move the records away"
        )


class Queue:
    """What is left of several studies, in the order of the tiers.

    Attributes:
        say: gets a line for each part that was trained, was not begun or failed.
        trained: how many runs this process has trained.
        failed: how many parts have failed.
    """

    def __init__(
        self,
        plans: Sequence[Plan[Any]],
        clock: Clock,
        *,
        say: Callable[[str], None],
        shard: Shard = FIRST_OF_ONE,
    ) -> None:
        self.plans = list(plans)
        self.clock = clock
        self.say = say
        self.shard = shard
        self.trained = 0
        self.failed = 0
        # Records do not go away, and there may be hundreds, so none is read twice.
        self._recorded: set[tuple[str, Any]] = set()
        self._skipped: set[tuple[str, Any]] = set()
        self._announced: set[tuple[str, int]] = set()
        self._failures: Counter[str] = Counter()

    def work(self) -> None:
        """Train until nothing is left that fits into the time.

        Raises:
            Ended: the time is over, inside `end_in_time`.
            OSError: records cannot be written any more.
        Check: tests/studies/test_queue.py.
        """
        doubtful: list[Part] = []
        while (part := self._next_part()) or doubtful:
            if part is None:
                self._try_one(doubtful)
                doubtful = []
                continue
            needed, sure = self.clock.predict(part)
            if needed <= self.clock.left:
                self._train(part)
                continue
            # A part of another study may still fit.
            self._skipped.add(part.name)
            if sure:
                self._say_too_long(part)
            else:
                doubtful.append(part)

    def _try_one(self, doubtful: Sequence[Part]) -> None:
        """Nothing is sure to fit: rather than idle, train the first that has a chance."""
        part = next(filter(self._has_chance, doubtful), None)
        if part is None:
            for each in doubtful:
                self._say_too_long(each)
            return
        self._train(part)
        # The others are estimated anew.
        self._skipped.difference_update(each.name for each in doubtful if each is not part)

    def _has_chance(self, part: Part) -> bool:
        return CHANCE * self.clock.predict(part)[0] <= self.clock.left

    def _say_too_long(self, part: Part) -> None:
        # The others of its study and tier take as long, and there may be a hundred.
        kind = part.plan.study, part.tier
        if kind in self._announced:
            return
        self._announced.add(kind)
        needed, _ = self.clock.predict(part)
        self.say(f"{part}: not begun, needs {needed:.0f} s of {self.clock.left:.0f} s")

    def describe(self) -> str:
        """What was trained and what is left, in a sentence."""
        sentence = f"trained {self.trained} runs, {self._count_left()} are left"
        probing = any(part.tier == PROBE for part in self._list_parts(everyone=True))
        return f"{sentence}, and those that follow from a probe" if probing else sentence

    def _train(self, part: Part) -> None:
        try:
            if not part.is_prepared:
                self._prepare(part)
            # A world may have taken longer than the last.
            if not self._has_chance(part):
                self._skipped.add(part.name)
                self._say_too_long(part)
                return
            self._train_prepared(part)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in DISK:
                raise
            # Time on a GPU is too dear to lose the rest of it to one run that fails.
            self._note_failure(part, error)

    def _prepare(self, part: Part) -> None:
        started = time.monotonic()
        spent = part.plan.prepare(part.runs[0])
        seconds = time.monotonic() - started
        self.clock.note_world(part, seconds)
        first = part.runs[0]
        what = f"{part.plan.study}, seed {first.seed}: its world"
        self.say(f"{what}: {seconds:.1f} s{phases.describe(spent)}{self._describe_left()}")

    def _train_prepared(self, part: Part) -> None:
        started = time.monotonic()
        try:
            done = records.run_all(
                part.runs,
                part.plan.train,
                folder=part.plan.folder,
                version=part.plan.version,
                provenance=part.plan.provenance,
            )
        except BaseException:
            # what a part has saved that ended in the middle
            self.trained += sum(self._has_record(part.plan, run) for run in part.runs)
            raise
        self.trained += done.trained
        seconds = time.monotonic() - started
        # nothing is learned from another process's training
        if done.trained:
            self.clock.note(part, seconds)
        spent = phases.add_up(record["provenance"].get("phases", {}) for record in done.records)
        left = self._describe_left() or " left"
        self.say(
            f"{part}: {seconds:.1f} s{phases.describe(spent)}; {self._count_left()} runs{left}"
        )

    def _describe_left(self) -> str:
        return "" if math.isinf(self.clock.ends) else f", {self.clock.left:.0f} s left"

    def _note_failure(self, part: Part, error: Exception) -> None:
        self.failed += 1
        self._skipped.add(part.name)
        self._failures[part.plan.study] += 1
        self.say("".join(traceback.format_exception(error)).rstrip())
        self.say(f"{part}: failed")
        if self._failures[part.plan.study] == MOST_FAILURES:
            self.say(f"{part.plan.study}: given up after {MOST_FAILURES} failures")

    def _next_part(self) -> Part | None:
        parts = [
            part
            for part in self._list_parts()
            if part.name not in self._skipped and self._failures[part.plan.study] < MOST_FAILURES
        ]
        # Stable: within a tier in the order of studies, and within a study in that of its runs.
        return min(parts, key=attrgetter("tier"), default=None)

    def _count_left(self) -> int:
        return sum(len(part.runs) for part in self._list_parts())

    def _list_parts(self, *, everyone: bool = False) -> Iterator[Part]:
        """What is left of this shard's runs, in parts; or of everyone's.

        Listed anew for every part: a probe that is complete adds runs, and other processes that
        share the folder may have trained some meanwhile.
        """
        for plan in self.plans:
            for runs in plan.parts():
                missing = [run for run in runs if not self._has_record(plan, run)]
                if missing and (everyone or self._is_own(plan, runs[0].seed)):
                    yield Part(plan, missing)

    def _is_own(self, plan: Plan[Any], seed: int) -> bool:
        """Whether a seed is this shard's.

        Whole seeds go to one shard, since the runs of a seed share a world; to which, depends on
        nothing that may differ between processes, such as whose data are missing.
        """
        place = STUDIES.index(plan.study) + seed
        return place % self.shard.count == self.shard.index - 1

    def _has_record(self, plan: Plan[Any], run: Any) -> bool:
        key = (plan.study, run)
        if key not in self._recorded and plan.load(run) is not None:
            self._recorded.add(key)
        return key in self._recorded


@contextmanager
def end_in_time(clock: Clock) -> Iterator[None]:
    """Raise `Ended` in this block when the budget is spent, or SIGTERM arrives."""

    def end(number: int, frame: Any) -> None:
        if number == signal.SIGALRM:
            raise Ended("the budget is spent", 0)
        # Whoever sends it several times shall not end what is said and cleaned up after the first.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Ended("SIGTERM", 128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGALRM)}
    if not math.isinf(clock.ends):
        # Again every ten seconds: an exception that is raised inside a callback of C is lost.
        signal.setitimer(signal.ITIMER_REAL, max(clock.left, 0.001), 10.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
