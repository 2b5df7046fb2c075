"""Judges: which of two answers is better, asked in both orders.

A judge is a callable `(prompts, firsts, seconds) -> list[Reply]` that scores the answer shown
first. `compare` asks it about every pair in both orders, so that no judge has to be trusted to
ignore the order; missing verdicts and position bias are reported apart.

- `RewardJudge` and `ModelJudge` prefer the answer of higher reward.
- `EndpointJudge` asks a language model behind an OpenAI-compatible endpoint. With `keep` each reply
  is in a file as soon as it comes, and the same call goes on from there.
"""

from sympo.judge.endpoint import Cost, EndpointJudge, Progress
from sympo.judge.kept import KeptReplies, question_key, read_replies
from sympo.judge.question import parse_verdict, write_question
from sympo.judge.replies import (
    BothOrders,
    Comparison,
    Judge,
    Prompt,
    Reply,
    ask_both_orders,
    compare,
    tally,
)
from sympo.judge.rewards import ModelJudge, RewardJudge

__all__ = [
    "BothOrders",
    "Comparison",
    "Cost",
    "EndpointJudge",
    "Judge",
    "KeptReplies",
    "ModelJudge",
    "Progress",
    "Prompt",
    "Reply",
    "RewardJudge",
    "ask_both_orders",
    "compare",
    "parse_verdict",
    "question_key",
    "read_replies",
    "tally",
    "write_question",
]
