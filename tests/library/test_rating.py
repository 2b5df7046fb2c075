"""Items are blinded and drawn once; ratings are of one kind, and simulated ones say so."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from sympo import rating
from sympo.judge import RewardJudge, compare

TEXTS = st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), min_size=1, max_size=8)


def draw(size=40, *, seed=0, **options):
    prompts = [f"how far is {i}?" for i in range(size)]
    a = [f"alpha {i}" for i in range(size)]
    b = [f"beta {i}" for i in range(size)]
    sources = options.pop("sources", ("ours", "theirs"))
    return rating.pair_answers(prompts, a, b, sources=sources, seed=seed, **options)


def make_pairs(size=40):
    def say(role, text):
        return [{"role": role, "content": text}]

    columns = {
        "prompt": [say("user", f"how far is {i}?") for i in range(size)],
        "chosen": [say("assistant", f"alpha {i}") for i in range(size)],
        "rejected": [say("assistant", f"beta {i}") for i in range(size)],
    }
    return Dataset.from_dict(columns)


# Items


@given(TEXTS, st.integers(0, 5))
def test_every_pair_is_shown_once_or_left_out_as_equal(answers, seed):
    a, b = map(list, zip(*answers, strict=True))
    items = rating.pair_answers(["?"] * len(a), a, b, sources=("x", "y"), seed=seed)
    rows = [item.row for item in items]
    assert sorted([*rows, *items.equal]) == list(range(len(a)))
    assert sorted(items.equal) == [i for i in range(len(a)) if a[i] == b[i]]
    for item in items:
        assert (item.a, item.b) == (a[item.row], b[item.row])
        assert item.shown == ((item.b, item.a) if item.swapped else (item.a, item.b))
    # two pairs of the same texts are two items
    assert len({item.key for item in items}) == len(items)


def test_the_order_is_that_of_the_seed_and_half_are_swapped():
    items = draw(2000)
    assert items == draw(2000)
    swaps = np.array([item.swapped for item in items])
    assert abs(swaps.mean() - 0.5) < 3 * np.sqrt(0.25 / 2000)
    others = {item.row: item.swapped for item in draw(2000, seed=1)}
    same = np.mean([others[item.row] == item.swapped for item in items])
    assert abs(same - 0.5) < 3 * np.sqrt(0.25 / 2000)
    # the order of the rows is random as well, and independent of the swaps
    assert abs(np.corrcoef([item.row for item in items], np.arange(2000))[0, 1]) < 0.1
    assert abs(np.corrcoef([item.row for item in items], swaps)[0, 1]) < 0.1


def test_a_key_and_what_is_shown_do_not_tell_whose_an_answer_is():
    """With the two policies' answers exchanged, keys and screens are the same."""
    items = draw(200)
    rows = sorted(items, key=lambda item: item.row)
    prompts, a, b = zip(*((item.prompt, item.b, item.a) for item in rows), strict=True)
    other = rating.pair_answers(prompts, a, b, sources=("theirs", "ours"), seed=0)
    # what a screen has to show: nothing but prompt and two answers
    shown = [(item.key, item.prompt, item.shown) for item in items]
    assert shown == [(item.key, item.prompt, item.shown) for item in other]
    assert [item.swapped for item in items] == [not item.swapped for item in other]
    assert items.identity == other.identity


def swap_labels(pairs, rows):
    """The dataset with the labels of some rows the other way round."""
    swapped = pairs.to_list()
    for row in rows:
        pair = swapped[row]
        pair["chosen"], pair["rejected"] = pair["rejected"], pair["chosen"]
    return Dataset.from_list(swapped)


@given(st.sets(st.integers(0, 39)), st.integers(0, 3))
def test_the_screen_stays_the_same_whichever_labels_change(rows, seed):
    pairs = make_pairs()
    items = rating.draw_items(pairs, seed=seed)
    other = rating.draw_items(swap_labels(pairs, rows), seed=seed)
    assert [(one.key, one.shown) for one in items] == [(one.key, one.shown) for one in other]
    assert items.identity == other.identity
    assert {one.row for one, two in zip(items, other, strict=True) if one.a == two.b} == rows


def test_identity_is_that_of_what_is_shown():
    items = draw()
    first = dataclasses.replace(items[0], swapped=not items[0].swapped)
    for other in (
        dataclasses.replace(items, items=(first, *items.items[1:])),
        dataclasses.replace(items, items=items.items[::-1]),
        draw(sources=("ours", "yours")),
    ):
        assert other.identity != items.identity


def test_a_larger_draw_begins_with_the_smaller_one():
    few = draw(count=10)
    many = draw(count=30)
    assert len(few) == 10
    assert few.items == many.items[:10]
    assert few.identity != many.identity


def test_items_of_a_dataset_have_the_labels_as_sources():
    pairs = make_pairs()
    items = rating.draw_items(pairs, seed=3, count=25)
    assert items.sources == ("chosen", "rejected")
    assert len(items) == 25
    for item in items:
        row = pairs[item.row]
        assert item.prompt == row["prompt"]
        assert (item.a, item.b) == (row["chosen"][0]["content"], row["rejected"][0]["content"])
    judged = compare(RewardJudge(len), items.prompts, items.answers_a, items.answers_b)
    assert judged.scores == [1.0] * 25  # "alpha" is longer than "beta"


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda: draw(count=0), "count = 0 of 40 rows: give a number from 1 to 40"),
        (lambda: draw(count=41), "count = 41 of 40 rows"),
        (lambda: draw(sources=("x", "x")), "give two different names"),
        (
            lambda: rating.pair_answers(["?"], ["a"], [], sources=("x", "y"), seed=0),
            "1 prompts, 1 answers_a and 0 answers_b are not pairs",
        ),
        (
            lambda: rating.pair_answers([["?"]], ["a"], ["b"], sources=("x", "y"), seed=0),
            "row 0: prompt is neither a text nor messages with role and content",
        ),
        (
            lambda: rating.pair_answers(["?"], [None], ["b"], sources=("x", "y"), seed=0),
            "row 0: an answer is neither a text nor one message",
        ),
        (
            lambda: rating.draw_items(make_pairs().remove_columns("prompt"), seed=0),
            "no column prompt",
        ),
    ],
)
def test_what_is_no_pair_is_refused_in_a_sentence(act, sentence):
    with pytest.raises(ValueError, match=sentence):
        act()


# Ratings


@given(st.lists(st.sampled_from(rating.VERDICTS), min_size=1, max_size=20), st.integers(0, 9))
def test_scores_are_of_the_first_source_whatever_was_shown_first(verdicts, seed):
    items = draw(len(verdicts), seed=seed)
    given_ratings = [
        rating.Rating(item.key, "ann", verdict)
        for item, verdict in zip(items, verdicts, strict=True)
    ]
    ratings = rating.Ratings(items, tuple(given_ratings))
    for item, verdict, score in zip(items, verdicts, ratings.scores(), strict=True):
        if verdict == "tie":
            assert score == 0.5
        elif verdict == "cannot say":
            assert score is None
        else:
            preferred = item.shown[0 if verdict == "first" else 1]
            assert score == (preferred == item.a)
    # what simulates those scores gives those verdicts
    simulated = rating.simulate_ratings(items, ratings.scores(), error_rate=0, seed=0)
    assert [each.verdict for each in simulated] == verdicts


def test_simulated_ratings_err_at_their_rate_and_say_so():
    items = draw(4000)
    truth = [1.0, 0.0, 0.5, None] * 1000
    simulated = rating.simulate_ratings(items, truth, error_rate=0.3, seed=1)
    scores = simulated.scores()
    assert scores[2::4] == [0.5] * 1000
    assert scores[3::4] == [None] * 1000
    decided = [(s, t) for s, t in zip(scores, truth, strict=True) if t in (0, 1)]
    errors = np.mean([score != true for score, true in decided])
    assert abs(errors - 0.3) < 3 * np.sqrt(0.21 / 2000)
    assert simulated.simulated
    assert str(simulated).startswith("simulated ratings: ")
    again = rating.simulate_ratings(items, truth, error_rate=0.3, seed=2).scores()
    assert again != scores


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"truth": [1.0]}, "truth has 1 scores for 40 items"),
        ({"truth": [0.7] * 40}, "truth holds 0.7: give 1, 0.5, 0 or None"),
        ({"error_rate": 1.2}, r"error_rate = 1.2 is not a probability"),
    ],
)
def test_simulations_of_nothing_are_refused(options, sentence):
    options = {"truth": [1.0] * 40, "error_rate": 0.1, "seed": 0, **options}
    with pytest.raises(ValueError, match=sentence):
        rating.simulate_ratings(draw(), options.pop("truth"), **options)


def rate_all(items, verdict="first", rater="ann"):
    return rating.Ratings(items, tuple(rating.Rating(item.key, rater, verdict) for item in items))


def test_people_and_programs_are_not_added_up():
    items = draw()
    simulated = rating.simulate_ratings(items, [1.0] * 40, error_rate=0, seed=0)
    with pytest.raises(ValueError, match="some ratings are simulated and others are not"):
        rate_all(items) + simulated
    with pytest.raises(ValueError, match="different items"):
        rate_all(items) + rate_all(draw(seed=1), rater="bob")
    with pytest.raises(ValueError, match="ann has already rated the pair p"):
        rate_all(items) + rate_all(items)


def test_several_raters_have_to_be_told_apart():
    items = draw()
    both = rate_all(items) + rate_all(items, "second", "bob")
    assert both.raters == ["ann", "bob"]
    with pytest.raises(ValueError, match="ann and bob rated: name one of them as rater"):
        both.scores()
    assert both.scores("bob") == [1 - score for score in both.scores("ann")]
    assert both.of("bob").scores() == both.scores("bob")
    with pytest.raises(ValueError, match="'eve' rated nothing: ann, bob did"):
        both.scores("eve")
    assert str(both) == (
        "ann: 40 of 40 pairs rated, 0 ties, 0 cannot say; "
        "bob: 40 of 40 pairs rated, 0 ties, 0 cannot say"
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"verdict": "better"}, "verdict 'better': give one of first, second, tie, cannot say"),
        ({"key": "p0"}, "no item is called 'p0'"),
        ({"rater": " "}, "rater is empty"),
    ],
)
def test_what_is_no_rating_is_refused(change, sentence):
    items = draw()
    good = rating.Rating(items[0].key, "ann", "tie")
    with pytest.raises(ValueError, match=sentence):
        rating.Ratings(items, (good._replace(**change),))


def test_rated_rows_are_agreement_with_the_label_by_row():
    items = rating.draw_items(make_pairs(), seed=5)
    truth = [1.0, 0.0, 0.5, None] * 10
    simulated = rating.simulate_ratings(items, truth, error_rate=0, seed=0)
    rows = rating.rated_rows(simulated)
    signs = {1.0: 1, 0.0: -1, 0.5: 0}
    expected = [(item.row, signs[t]) for item, t in zip(items, truth, strict=True) if t is not None]
    assert rows == expected
    assert Counter(sign for _, sign in rows) == {1: 10, -1: 10, 0: 10}
    assert rows.simulated
    json.dumps(rows)  # a list like any other
    with pytest.raises(ValueError, match="those of ours and theirs, and have no label"):
        rating.rated_rows(rate_all(draw()))
