"""The example that notebooks 00 to 04 share: one annotator, one question and four answers.

The rewards are those of the graph that T7 fits in notebook 04, so that what happens to the answers
there happens to these.
"""

import pandas as pd

QUESTION = "My bread is stale after a day. What can I do?"
ANSWERS = {
    "a": "Freeze it in slices, and toast what you need.",
    "b": "Keep it in a paper bag, with the cut side down.",
    "c": "Put it into the fridge.",
    "d": "Stale bread is bread.",
}
# true rewards, in nats of Bradley–Terry's log-odds, the last answer at 0
REWARDS = {"a": 6.5, "b": 3.5, "c": 0.5, "d": 0.0}


def tabulate_answers() -> pd.DataFrame:
    """The four answers, best first: columns answer (a letter), text, true reward."""
    columns = {"answer": [*ANSWERS], "text": [*ANSWERS.values()]}
    return pd.DataFrame({**columns, "true reward": [*REWARDS.values()]})
