"""A language model as the judge, behind an endpoint that speaks OpenAI's protocol.

Endpoints fail in many ways, and their replies cost money. What is wrong with the settings ends the
comparison at once; what is wrong with a pair costs that pair's verdict; what came is kept.
"""

import asyncio
import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sympo.judge import client
from sympo.judge.client import Said
from sympo.judge.kept import KeptReplies
from sympo.judge.question import QUESTION, write_question
from sympo.judge.replies import NO_REPLY, REFUSED, Prompt, Reply

__all__ = ["TOKEN_BYTES", "Cost", "EndpointJudge", "Progress"]

# bytes of English text in a token of a language model, roughly
TOKEN_BYTES = 4
# seconds between two calls of `progress`
PAUSE = 5.0
# refusals in a row, as a multiple of `give_up`, that are no longer the pairs' fault: an endpoint
# may refuse with 400 an account that ran out of money
REFUSALS = 4


class Cost(NamedTuple):
    """What is left to ask, and how many tokens that takes, roughly.

    Attributes:
        requests: one for each pair and order.
        read: tokens of the questions, `TOKEN_BYTES` bytes each.
        written: tokens of the replies, were all as long as the options allow; NaN if they set no
            limit.
    """

    requests: int
    read: float
    written: float

    def __str__(self) -> str:
        """A line for a person."""
        limit = "no limit to what is written"
        if not math.isnan(self.written):
            limit = f"at most {self.written:,.0f} to write"
        return (
            f"{self.requests:,} requests, about {self.read:,.0f} tokens to read "
            f"({TOKEN_BYTES} bytes each) and {limit}"
        )

    def price(self, per_million: Sequence[float]) -> float:
        """What it costs.

        Args:
            per_million: the prices of a million tokens that the judge reads, and writes.
        """
        return (self.read * per_million[0] + self.written * per_million[1]) / 1e6


class Progress(NamedTuple):
    """How far a call of an `EndpointJudge` has come.

    Attributes:
        done: questions with a reply, those of earlier calls included.
        left: questions without.
        read: tokens that this call has read so far, as the endpoint counts them.
        written: tokens that it has written.
    """

    done: int
    left: int
    read: int
    written: int

    def __str__(self) -> str:
        """A line for a person."""
        return (
            f"{self.done:,} of {self.done + self.left:,} replies, "
            f"{self.read:,} tokens read and {self.written:,} written"
        )


@dataclass(frozen=True)
class EndpointJudge:
    """A language model behind an OpenAI-compatible endpoint.

    The address is that of `OPENAI_BASE_URL`, the key that of `OPENAI_API_KEY`.

    A request that takes too long, is rate-limited (429; `Retry-After` is obeyed) or fails (408,
    409, 5xx) is repeated `retries` times; then its reply is missing. So is that of a pair that the
    endpoint refuses (400, 413, 422, 451), once it has answered another one. What ends the
    comparison: any other refusal (wrong key, model or address), a redirection, `give_up` missing
    replies in a row, and `give_up` refused or cut off before anything else. The key stays in the
    environment and the client: it is in no message, log or repr, and goes to no other host.

    Equal questions are asked once. Where an event loop runs, as in a notebook, it is left alone.

    Attributes:
        timeout: seconds for a whole request, from connecting to the last byte of the reply.
        workers: requests at a time.
        options: further fields of the request; some models want `{"max_completion_tokens": 16}` in
            their place, and a model that reasons first needs thousands.
        keep: a file (JSON lines) to which every reply is appended as soon as it comes. The same
            call goes on from what is there: an interruption, be it a kill, costs the `workers`
            requests that are under way. A file of another judge is refused.
        progress: called with a `Progress` every few seconds and at the end; `print` will do.
    Check: tests/library/test_judge.py, tests/library/test_endpoint.py.
    """

    model: str = "gpt-4o-mini"
    timeout: float = 60.0
    retries: int = 4
    workers: int = 4
    give_up: int = 8
    options: Mapping[str, Any] = field(default_factory=lambda: {"temperature": 0, "max_tokens": 16})
    keep: str | os.PathLike[str] | None = None
    progress: Callable[[Progress], object] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        # NaN is no time, either
        if not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout}: give a number of seconds above 0")
        for name, least in (("retries", 0), ("workers", 1), ("give_up", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: give {least} or more")

    @property
    def identity(self) -> dict[str, Any]:
        """What a verdict depends on: equal identities stand for the same judge."""
        wording = hashlib.sha256(QUESTION.encode()).hexdigest()
        return {
            "endpoint": client.read_endpoint(),
            "model": self.model,
            "options": dict(self.options),
            "question_sha256": wording,
        }

    def estimate(
        self, prompts: Sequence[Prompt], answers_a: Sequence[str], answers_b: Sequence[str]
    ) -> Cost:
        """What `compare` of these would ask, in both orders, without asking: what is kept is free.

        Check: tests/library/test_endpoint.py::test_the_estimate_is_what_is_then_asked.
        """
        orders = ((answers_a, answers_b), (answers_b, answers_a))
        questions = [
            write_question(*shown)
            for order in orders
            for shown in zip(prompts, *order, strict=True)
        ]
        known = self._load_kept()
        waiting = [question for question in dict.fromkeys(questions) if not known.get(question)]
        read = sum(len(client.encode(question)) for question in waiting) / TOKEN_BYTES
        longest = max(self._limits().values(), default=math.nan)
        return Cost(len(waiting), read, float(len(waiting) * longest))

    def __call__(
        self, prompts: Sequence[Prompt], firsts: Sequence[str], seconds: Sequence[str]
    ) -> list[Reply]:
        """One reply per prompt, on the answer of `firsts` beside that of `seconds`.

        Raises:
            ValueError: the settings are wrong, or the endpoint says so; `keep` is no file of this
                judge.
            ConnectionError: the endpoint does not reply.
        """
        questions = [write_question(*shown) for shown in zip(prompts, firsts, seconds, strict=True)]
        with KeptReplies(self.keep, self.identity) as kept:
            inquiry = _Inquiry(self, kept, questions)
            if inquiry.waiting:
                client.run_beside(inquiry.ask)
            return [kept.get(question) or inquiry.missing[question] for question in questions]

    def describe_limit(self) -> str:
        """The options that bound a reply, such as "max_tokens (16)"."""
        limits = [f"{name} ({value})" for name, value in self._limits().items()]
        return " and ".join(limits) or "max_tokens"

    def _limits(self) -> dict[str, float]:
        return {name: value for name, value in self.options.items() if name.endswith("tokens")}

    def _load_kept(self) -> KeptReplies:
        # opened and closed, which reads it; a file that is not there is not made for an estimate
        there = self.keep is not None and os.path.exists(self.keep)
        with KeptReplies(self.keep if there else None, self.identity) as kept:
            return kept


class _Inquiry:
    """One call's questions on their way, and when to give up.

    Attributes:
        waiting: the questions to ask, each once.
        missing: the replies that never came, by question.
    """

    def __init__(self, judge: EndpointJudge, kept: KeptReplies, questions: Sequence[str]) -> None:
        self.judge = judge
        self.kept = kept
        self.all = len(set(questions))
        self.waiting = [each for each in dict.fromkeys(questions) if kept.get(each) is None]
        self.missing: dict[str, Reply] = {}
        # Refused since the last reply: the pairs' own fault only if another reply comes.
        self._refused: dict[str, Reply] = {}
        self._silent = 0  # replies in a row that never came
        self._cut = 0  # replies that were cut off
        earlier = kept.list_replies()
        self._answered = any(not reply.reason.startswith(REFUSED) for reply in earlier)
        self._judged = any(reply.score is not None for reply in earlier)
        self._read = 0
        self._written = 0
        self._told = -math.inf

    async def ask(self) -> None:
        """Ask all that waits; what came is kept, whatever ends this."""
        async with client.make_client(self.judge.timeout, self.judge.retries) as connection:
            questions = iter(self.waiting)

            async def work() -> None:
                for question in questions:
                    said = await client.ask(
                        connection, question, model=self.judge.model, options=self.judge.options
                    )
                    self._settle(question, said)

            workers = [asyncio.create_task(work()) for _ in range(self.judge.workers)]
            try:
                await asyncio.gather(*workers)
            finally:
                # One that failed, or Ctrl-C, ends the others.
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        if self._refused and not self._answered:
            raise self._describe_refusal()
        self._keep_refused()
        self._tell(at_once=True)

    def _settle(self, question: str, said: Said) -> None:
        reply = said.reply
        self._read += said.read
        self._written += said.written
        if not reply.came:
            self.missing[question] = reply
            self._silent += 1
        elif reply.reason.startswith(REFUSED):
            self._refused[question] = reply
            self._silent = 0
        else:
            self._silent = 0
            self._answered = True
            self._judged |= reply.score is not None
            self._cut += reply.reason == client.CUT_OFF
            self.kept.add(question, reply)
            self._keep_refused()
        self._check_alive()
        self._tell()

    def _keep_refused(self) -> None:
        for question, reply in self._refused.items():
            self.kept.add(question, reply)
        self._refused.clear()

    def _check_alive(self) -> None:
        # An endpoint that is down would otherwise be asked thousands of times, with retries.
        give_up = self.judge.give_up
        if self._silent >= give_up:
            reasons = {reply.reason.removeprefix(NO_REPLY) for reply in self.missing.values()}
            raise ConnectionError(
                f"the endpoint left {give_up} requests in a row without a reply "
                f"({', '.join(sorted(reasons))}), each asked {self.judge.retries + 1} times: check "
                "OPENAI_BASE_URL, or ask later with a longer timeout or fewer workers"
            )
        if len(self._refused) >= give_up * (REFUSALS if self._answered else 1):
            raise self._describe_refusal()
        if self._cut >= give_up and not self._judged:
            raise ValueError(
                f"the first {self._cut} replies were cut off before a verdict: raise "
                f"{self.judge.describe_limit()} in the options (a model that reasons first needs "
                "thousands)"
            )

    def _describe_refusal(self) -> ValueError:
        codes = {reply.reason.removeprefix(REFUSED) for reply in self._refused.values()}
        return ValueError(
            f"the endpoint refused {len(self._refused)} requests in a row with "
            f"{', '.join(sorted(codes))}: {client.advise(self.judge.model, self.judge.options)}"
        )

    def _tell(self, *, at_once: bool = False) -> None:
        if self.judge.progress is None:
            return
        now = time.monotonic()
        if at_once or now - self._told >= PAUSE:
            self._told = now
            left = sum(self.kept.get(question) is None for question in self.waiting)
            done = self.all - left
            self.judge.progress(Progress(done, left, self._read, self._written))
