"""The example of notebooks 00 to 04, and its figures."""

import inspect
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from sympo.book import figures, story, theory, twins

RIGHT, WRONG = figures.OKABE_ITO["blue"], figures.OKABE_ITO["vermillion"]


def test_answers_are_in_the_order_of_their_rewards():
    table = story.tabulate_answers()
    assert [*table.answer] == [*story.ANSWERS] == [*story.REWARDS]
    assert (table["true reward"].diff().dropna() < 0).all()


@pytest.mark.parametrize(
    "name", ["00_start_here", "01_preferences_as_classification", "04_rank_and_policy"]
)
def test_notebooks_ask_the_same_question(name):
    lines = twins.twin(name).read_text().splitlines()
    prose = " ".join(line.removeprefix("#").strip() for line in lines)
    assert story.QUESTION in prose


def test_pairs_by_hand():
    table = story.tabulate_pairs(0.4).set_index(["better", "worse"])
    assert {*table.index} == {*itertools.combinations("abcd", 2)}
    wins, loses = np.exp(story.REWARDS["c"]), np.exp(story.REWARDS["d"])
    clean = wins / (wins + loses)
    assert table.clean["c", "d"] == pytest.approx(clean)
    assert table.noisy["c", "d"] == pytest.approx(0.6 * clean + 0.4 * (1 - clean))
    # 1 − 2ε of every lead is left
    assert np.allclose(table.noisy - 0.5, 0.2 * (table.clean - 0.5))
    assert np.array_equal(story.tabulate_pairs(0).noisy, story.tabulate_pairs(0).clean)


def test_labels_come_at_the_rates_of_the_pairs():
    labels = story.draw_labels(40_000, noise_rate=0.3, seed=0)
    assert ((labels.recorded != labels.preferred) == labels.slip).all()
    assert abs(labels.slip.mean() - 0.3) < 4 * 0.5 / np.sqrt(len(labels))
    better = labels[["first", "second"]].min(axis=1)  # a letter earlier is the better answer
    worse = labels[["first", "second"]].max(axis=1)
    expected = story.tabulate_pairs(0.3).set_index(["better", "worse"]).noisy
    for pair, rows in labels.assign(agrees=labels.recorded == better).groupby([better, worse]):
        assert abs(rows.agrees.mean() - expected[pair]) < 4 * 0.5 / np.sqrt(len(rows))
    # either order of writing, equally often
    assert abs((labels["first"] == better).mean() - 0.5) < 4 * 0.5 / np.sqrt(len(labels))


def test_the_same_seed_draws_the_same_labels():
    first, again, other = (story.draw_labels(50, noise_rate=0.4, seed=seed) for seed in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_two_ways_have_one_margin():
    table = story.write_two_ways("b", "d")
    gap = story.REWARDS["b"] - story.REWARDS["d"]
    assert [*table.margin] == [gap, gap, -gap, -gap]
    assert [*table.score] == [gap, -gap, gap, -gap]
    assert (table.y * table.score == table.margin).all()
    named = table["first"].where(table.y > 0, table.second)
    assert [*named] == ["b", "b", "d", "d"]


# The figures


def lines(axes, **wanted) -> list[np.ndarray]:
    """The data of the lines whose properties are as wanted."""
    return [
        line.get_xydata()
        for line in axes.lines
        if all(getattr(line, f"get_{key}")() == value for key, value in wanted.items())
    ]


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_story_figure_shows_shares_and_pulls():
    pairs = story.tabulate_pairs(0.4)
    pulls = theory.tabulate_losses(["logistic", "sigmoid", "ramp"], np.linspace(-4, 4, 81))
    left, right = figures.fig_t0_story(pairs, pulls).axes
    dots = np.concatenate(lines(left, marker="o"))
    assert sorted(dots[:, 0]) == pytest.approx(sorted([*pairs.clean, *pairs.noisy]))
    assert [label.get_text() for label in left.get_yticklabels()][-1] == "c over d"
    assert "slips, ε = 0.4" in texts(left)
    (logistic,) = lines(right, linestyle="--")
    assert logistic[:, 1] == pytest.approx(1 / (1 + np.exp(logistic[:, 0])))
    assert {"logistic", "sigmoid", "ramp"} <= {*texts(right)}


def test_both_ways_end_at_one_point():
    table = story.write_two_ways("a", "b")
    for axes, colour, end in zip(
        figures.fig_t1_two_ways(table).axes, (RIGHT, WRONG), (3, -3), strict=True
    ):
        ways = [line for line in axes.lines if to_hex(line.get_color()) == colour.lower()]
        assert {way.get_ydata()[-1] for way in ways} == {end}
        assert {way.get_ydata()[0] for way in ways} == {3, -3}
        # dashed is a multiplication by −1
        (turned,) = lines(axes, linestyle="--")
        assert turned[0, 1] == -turned[1, 1]
        assert {"(a, b)", "(b, a)", "y = +1", "y = −1"} <= {*texts(axes)}
        assert f"z = {end:+d}".replace("-", "−") in texts(axes)


def test_losses_are_marked_at_the_two_labels():
    margins = np.array([-4.0, -3, 0, 3, 4])
    table = theory.tabulate_losses(["logistic", "hinge"], margins)[["loss", "margin", "value"]]
    zero_one = pd.DataFrame({"loss": "zero_one", "margin": margins, "value": 1.0 * (margins <= 0)})
    table = pd.concat([zero_one, table], ignore_index=True)
    table["label"] = table.margin.map({-3: "wrong", 3: "right"})  # missing, as read from a csv
    (axes,) = figures.fig_t1_margin_losses(table).axes
    assert {"0–1: 1.00", "logistic: 3.05", "hinge: 4.00"} <= {*texts(axes)}
    for marked in lines(axes, linestyle="None"):
        assert [*marked[:, 0]] == [-3, 3]


@pytest.mark.parametrize("stem", ["fig_t0_story", "fig_t1_margin_losses", "fig_t1_two_ways"])
def test_captions_are_sentences(stem):
    caption = inspect.getdoc(getattr(figures, stem)).partition("\n\n")[0]
    first = " ".join(caption.split()).partition(". ")[0]
    assert caption.endswith(".")
    assert len(first) < 80
