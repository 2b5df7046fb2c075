"""A language model's verdicts on stored answers: asked after training, perhaps on another machine.

The machine that trains may have no network, and a judge behind an endpoint costs money. So records
keep the answers, and `judge_policy` asks about them later, in both orders. What a judge says of a
policy is kept in a file of its own in build/<profile>/judged, reply by reply. A reply is filed
under what was asked: nothing is asked twice, and answers that changed are judged anew.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from sympo import judge
from sympo.judge import BothOrders, Comparison, Cost, EndpointJudge
from sympo.studies import profiles, records
from sympo.studies.alignment.config import Messages
from sympo.studies.records import Record

# what stored generations call the answers that a policy can be compared with
OPPONENTS = ("chosen", "sft")


class Pair(NamedTuple):
    """A dialogue that ends with a question, the policy's answer, and the opponent's."""

    dialogue: Messages
    policy: str
    opponent: str

    @property
    def key(self) -> str:
        """What tells the pair from others."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()[:16]

    @property
    def questions(self) -> tuple[str, str]:
        """What is asked about it, the policy's answer first and second."""
        return (
            judge.write_question(self.dialogue, self.policy, self.opponent),
            judge.write_question(self.dialogue, self.opponent, self.policy),
        )


@dataclass(frozen=True)
class Contest:
    """A policy against an opponent, before one judge.

    Attributes:
        record: of the policy.
        opponent: one of `OPPONENTS`.
        judge: `EndpointJudge.identity`.
        folder: where verdicts lie.
    """

    record: Record
    opponent: str
    judge: dict[str, Any]
    folder: Path

    @property
    def ending(self) -> str:
        """How the names of its files end: the same for one judge and opponent, no other's."""
        named = json.dumps([self.opponent, self.judge], sort_keys=True)
        digest = hashlib.sha256(named.encode()).hexdigest()[:8]
        return f"{self.opponent}-{digest}"

    @property
    def path(self) -> Path:
        """The file with the replies."""
        return self.folder / f"{_stem(self.record)}-{self.ending}.jsonl"

    def list_pairs(self, limit: int | None = None) -> list[Pair]:
        """What there is to judge: every prompt, or the first `limit`."""
        rows = self.record["metrics"]["generations"][:limit]
        return [Pair(row["dialogue"], row["policy"], row[self.opponent]) for row in rows]

    def load_judged(self) -> dict[str, BothOrders]:
        """The replies so far, by `Pair.key`, with a verdict or without: of pairs that have both."""
        known = judge.read_replies(self.path)[1] if self.path.is_file() else {}
        judged = {}
        for pair in self.list_pairs():
            first, second = (known.get(judge.question_key(each)) for each in pair.questions)
            if first and second:
                judged[pair.key] = BothOrders(first, second)
        return judged

    def list_judged(self) -> list[int]:
        """The numbers of the prompts whose replies came."""
        known = self.load_judged()
        return [number for number, pair in enumerate(self.list_pairs()) if pair.key in known]

    def list_waiting(self, limit: int | None = None) -> list[Pair]:
        """The pairs that nobody asked about, or whose replies never came."""
        known = self.load_judged()
        # each once, should two prompts be the same
        by_key = {pair.key: pair for pair in self.list_pairs(limit)}
        return [pair for key, pair in by_key.items() if key not in known]


def judged_folder(profile: str) -> Path:
    """Where the verdicts of a profile lie."""
    return profiles.build_folder(profile) / "judged"


def judge_policy(contest: Contest, examiner: EndpointJudge, limit: int | None = None) -> None:
    """Ask about every pair that waits; each reply is in the contest's file as soon as it comes.

    Args:
        examiner: whose identity is `contest.judge`.
    Raises:
        ValueError, ConnectionError: as `EndpointJudge`; the replies so far are kept.
    Check: tests/studies/test_judging.py.
    """
    waiting = contest.list_waiting(limit)
    if not waiting:
        return
    judge.ask_both_orders(replace(examiner, keep=contest.path), *zip(*waiting, strict=True))


def estimate_cost(
    contests: Sequence[Contest], examiner: EndpointJudge, limit: int | None = None
) -> Cost:
    """The cost of all that waits; what is kept is free."""
    costs = [_estimate(contest, examiner, limit) for contest in contests]
    return Cost(*(sum(column) for column in zip(*costs, strict=True))) if costs else Cost(0, 0, 0)


def _estimate(contest: Contest, examiner: EndpointJudge, limit: int | None) -> Cost:
    waiting = contest.list_waiting(limit)
    columns = zip(*waiting, strict=True) if waiting else ([], [], [])
    return replace(examiner, keep=contest.path).estimate(*columns)


def list_contests(
    runs: Iterable[Record], opponent: str, examiner: EndpointJudge, folder: Path
) -> list[Contest]:
    """Every policy against one opponent."""
    return [Contest(record, opponent, examiner.identity, folder) for record in runs]


def find_contests(record: Record, folder: Path) -> list[Contest]:
    """The contests of a policy that some judge was asked about."""
    return [
        Contest(record, opponent, named, folder)
        for opponent, named in _find_judges(_stem(record), folder)
    ]


def _find_judges(stem: str, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Opponent and judge of every file with replies on a policy."""
    for opponent in OPPONENTS:
        for path in sorted(folder.glob(f"{stem}-{opponent}-*.jsonl")):
            named, _ = judge.read_replies(path)
            # empty where somebody was killed before the first line was written
            if named:
                yield opponent, named


def summarise(contest: Contest) -> dict[str, Any]:
    """What the judge says of a policy so far.

    Returns:
        opponent; judge, its model; files, `Contest.ending`, as one model may be asked in several
        ways; judged, the pairs whose replies came; unparsed, how many of these lack a verdict;
        win_rate over the others with its 95% interval over prompts as _low and _high, a verdict
        that changes with the order counted ½; win_rate_second, the mean score where the policy is
        shown second; swayed, the share that changed with the order; position_bias.
    """
    known = contest.load_judged()
    found = [known[pair.key] for pair in contest.list_pairs() if pair.key in known]
    comparison = judge.tally(found)
    second = [1 - pair.b_first.score for pair in found if pair.b_first.score is not None]
    return {
        "opponent": contest.opponent,
        "judge": contest.judge["model"],
        "files": contest.ending,
        "judged": len(found),
        "unparsed": comparison.unparsed,
        **_win_rate(comparison),
        "win_rate_second": sum(second) / len(second) if second else math.nan,
        "position_bias": comparison.position_bias,
    }


def describe(contest: Contest) -> str:
    """`summarise` as a line for a person."""
    said = summarise(contest)
    config = contest.record["config"]
    return (
        f"{config['method']}, {config['noise']}, seed {config['seed']} against {said['opponent']}: "
        f"win rate {said['win_rate']:.3f} (95% interval {said['win_rate_low']:.3f} to "
        f"{said['win_rate_high']:.3f}) over {said['judged'] - said['unparsed']} pairs, "
        f"{said['unparsed']} without a verdict"
    )


def _win_rate(comparison: Comparison) -> dict[str, float]:
    parsed = len(comparison.parsed)
    if not parsed:
        return dict.fromkeys(("win_rate", "win_rate_low", "win_rate_high", "swayed"), math.nan)
    win_rate = comparison.win_rate
    return {
        "win_rate": win_rate.estimate,
        "win_rate_low": win_rate.low,
        "win_rate_high": win_rate.high,
        "swayed": comparison.swayed / parsed,
    }


def _stem(record: Record) -> str:
    return Path(records.file_name(record["config"], record["version"])).stem
