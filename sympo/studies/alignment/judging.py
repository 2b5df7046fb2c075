"""A language model's verdicts on stored answers: asked after training, perhaps on another machine.

The machine that trains may have no network, and a judge behind an endpoint costs money. So records
keep the answers, and `judge_policy` asks about them later, in both orders. What a judge says of a
policy is kept in a file of its own in build/<profile>/judged, written after every batch. A reply is
filed under what was asked: no pair is judged twice, and answers that changed are judged anew.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from sympo import judge
from sympo.judge import BothOrders, Comparison, EndpointJudge, Judge, Reply
from sympo.studies import profiles, records
from sympo.studies.alignment.config import Messages
from sympo.studies.records import Record

# what stored generations call the answers that a policy can be compared with
OPPONENTS = ("chosen", "sft")
# pairs that are asked about between two writes: an interruption costs their replies at most
BATCH = 32
# bytes of English text in a token of a language model, roughly
TOKEN_BYTES = 4


class Pair(NamedTuple):
    """A dialogue that ends with a question, the policy's answer, and the opponent's."""

    dialogue: Messages
    policy: str
    opponent: str

    @property
    def key(self) -> str:
        """What a reply on this pair is filed under."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()[:16]


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
        return self.folder / f"{_stem(self.record)}-{self.ending}.json"

    def list_pairs(self, limit: int | None = None) -> list[Pair]:
        """What there is to judge: every prompt, or the first `limit`."""
        rows = self.record["metrics"]["generations"][:limit]
        return [Pair(row["dialogue"], row["policy"], row[self.opponent]) for row in rows]

    def load_replies(self) -> dict[str, BothOrders]:
        """The replies so far, by `Pair.key`."""
        return _read(self.path)[1] if self.path.is_file() else {}

    def load_judged(self) -> dict[str, BothOrders]:
        """Those of `load_replies` that came, with a verdict or without."""
        return {key: pair for key, pair in self.load_replies().items() if pair.came}

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


def judge_policy(contest: Contest, examiner: Judge, limit: int | None = None) -> None:
    """Ask about every pair that waits, in batches, each of which is written before the next.

    Args:
        examiner: whose identity is `contest.judge`.
    Raises:
        ValueError, ConnectionError: as `EndpointJudge`; the replies of earlier batches are kept.
    Check: tests/studies/test_judging.py.
    """
    waiting = contest.list_waiting(limit)
    for start in range(0, len(waiting), BATCH):
        batch = waiting[start : start + BATCH]
        dialogues, ours, theirs = zip(*batch, strict=True)
        answers = judge.ask_both_orders(examiner, dialogues, ours, theirs)
        replies = dict(zip((pair.key for pair in batch), answers, strict=True))
        # read again, as another process may have written meanwhile; a reply that came is kept
        _write(contest, {**contest.load_replies(), **replies, **contest.load_judged()})


class Cost(NamedTuple):
    """What is left to ask, in both orders, and how many tokens that takes, roughly."""

    requests: int
    read: float
    written: float

    def __str__(self) -> str:
        """A line for a person."""
        return (
            f"{self.requests} requests, about {self.read / 1e6:.2f} million tokens to read "
            f"({TOKEN_BYTES} bytes each) and at most {self.written / 1e6:.2f} million to write"
        )

    def price(self, per_million: Sequence[float]) -> float:
        """What it costs.

        Args:
            per_million: the prices of a million tokens that the judge reads, and writes.
        """
        return (self.read * per_million[0] + self.written * per_million[1]) / 1e6


def estimate_cost(
    contests: Sequence[Contest], examiner: EndpointJudge, limit: int | None = None
) -> Cost:
    """The cost of all that waits: `TOKEN_BYTES` to a token, and replies as long as they may be."""
    waiting = [pair for contest in contests for pair in contest.list_waiting(limit)]
    # either order is the same text in another sequence
    requests = 2 * len(waiting)
    read = 2 * sum(len(judge.write_question(*pair).encode()) for pair in waiting) / TOKEN_BYTES
    longest = max((v for k, v in examiner.options.items() if k.endswith("tokens")), default=0)
    return Cost(requests, read, float(requests * longest))


def list_contests(
    runs: Iterable[Record], opponent: str, examiner: EndpointJudge, folder: Path
) -> list[Contest]:
    """Every policy against one opponent."""
    return [Contest(record, opponent, examiner.identity, folder) for record in runs]


def find_contests(record: Record, folder: Path) -> list[Contest]:
    """The contests of a policy that some judge was asked about."""
    found = (_read(path)[0] for path in sorted(folder.glob(f"{_stem(record)}-*.json")))
    return [Contest(record, head["opponent"], head["judge"], folder) for head in found]


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


def _read(path: Path) -> tuple[dict[str, Any], dict[str, BothOrders]]:
    """Opponent and judge of a file, and its replies."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        replies = {
            key: BothOrders(*(Reply(*reply) for reply in pair))
            for key, pair in content.pop("replies").items()
        }
        return {name: content[name] for name in ("opponent", "judge")}, replies
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} holds no verdicts: move it away ({error!r})") from error


def _write(contest: Contest, replies: dict[str, BothOrders]) -> None:
    content = {"opponent": contest.opponent, "judge": contest.judge, "replies": replies}
    records.write_atomically(contest.path, json.dumps(content, indent=1) + "\n")
