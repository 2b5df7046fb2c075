"""The example that notebooks 00 to 04 share: one annotator, one question and four answers.

The rewards are those of the graph that T7 fits in notebook 04, so that what happens to the answers
there happens to these.
"""

from itertools import combinations, permutations

import numpy as np
import pandas as pd
from scipy.special import expit

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


def tabulate_pairs(noise_rate: float) -> pd.DataFrame:
    """How often each of the six pairs is labelled as its rewards say, before and after the slips.

    Args:
        noise_rate: of the annotator's slips, in [0, ½).
    Returns:
        columns better, worse (letters), gap (of the true rewards, nats), clean (the share of
        labels for the better answer by Bradley–Terry, σ(gap)), noise_rate, noisy (the share after
        the slips).
    Check: tests/book/test_story.py.
    """
    rows = []
    for better, worse in combinations(REWARDS, 2):
        gap = REWARDS[better] - REWARDS[worse]
        clean = float(expit(gap))
        # a slip keeps the label with probability 1 − ε, and turns the opposite one with ε
        noisy = (1 - noise_rate) * clean + noise_rate * (1 - clean)
        rows.append([better, worse, gap, clean, noise_rate, noisy])
    return pd.DataFrame(rows, columns=["better", "worse", "gap", "clean", "noise_rate", "noisy"])


def draw_labels(count: int, *, noise_rate: float, seed: int) -> pd.DataFrame:
    """What the annotator says of `count` pairs, which are drawn in either order.

    Returns:
        columns first, second, preferred (by the annotator, after Bradley–Terry), recorded (the
        answer that the label names) and slip, which is whether the two differ.
    Check: tests/book/test_story.py.
    """
    numbers = np.random.default_rng(seed)
    ordered = list(permutations(REWARDS, 2))
    rows = []
    for place in numbers.integers(len(ordered), size=count):
        first, second = ordered[place]
        first_wins = numbers.random() < expit(REWARDS[first] - REWARDS[second])
        slip = numbers.random() < noise_rate
        preferred, other = (first, second) if first_wins else (second, first)
        rows.append([first, second, preferred, other if slip else preferred, slip])
    return pd.DataFrame(rows, columns=["first", "second", "preferred", "recorded", "slip"])


def write_two_ways(better: str, worse: str) -> pd.DataFrame:
    """The right and the wrong label of a pair, each written in both orders: four rows.

    Returns:
        columns label ("right" where it names the better answer, or else "wrong"), first, second,
        y (+1 where the label names the answer written first), score r(first) − r(second) and
        margin y · score, both of the true rewards.
    Check: tests/book/test_story.py.
    """
    rows = []
    for label, named in (("right", better), ("wrong", worse)):
        for first, second in ((better, worse), (worse, better)):
            y = 1 if named == first else -1
            score = REWARDS[first] - REWARDS[second]
            rows.append([label, first, second, y, score, y * score])
    return pd.DataFrame(rows, columns=["label", "first", "second", "y", "score", "margin"])
