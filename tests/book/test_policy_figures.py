"""Figures 10 to 12: they draw what their tables hold, and nothing touches anything else."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scipy import stats as scipy_stats

from sympo.book import figures

GRID = pd.MultiIndex.from_product
CELLS = {"method": ["sigmoid", "logistic"], "seed": [0, 1, 2], "epoch": ["final", "chosen"]}


def draw_grid(**axes):
    return GRID(axes.values(), names=axes).to_frame(index=False)


@pytest.fixture
def star():
    generator = np.random.default_rng(0)
    table = draw_grid(**CELLS, noise_rate=[0.0, 0.2, 0.4])
    for column in ("equal_kl", "equal_beta"):
        table[column] = generator.uniform(0.55, 0.8, len(table))
    table["kl_spent"] = generator.uniform(0.1, 5, len(table))
    return table.assign(by_digits=0.86)


@pytest.fixture
def frontier():
    generator = np.random.default_rng(0)
    tilted = draw_grid(**CELLS, kl=[0.5, 1.0, 2.0])
    tilted["digit"] = 5 + tilted.kl + 0.1 * generator.random(len(tilted))
    tilted = tilted.assign(by_digits=6 + tilted.kl, reference_digit=4.4)
    best_of = draw_grid(method=CELLS["method"], epoch=CELLS["epoch"], n=[2, 4])
    return {
        "tilted": tilted,
        "best_of": best_of.assign(kl=0.2 * best_of.n, digit=5 + best_of.n / 4),
    }


@pytest.fixture
def broken():
    learned = draw_grid(method=CELLS["method"], noise_rate=[0.0, 0.4], seed=[0, 1, 2])
    learned["violated"] = 0.1 + learned.noise_rate / 2 + 0.01 * learned.seed
    learned["gain"] = 0.35 - 0.7 * learned.violated
    made = {
        "at random": ([0, 0.25, 0.5], [0.36, 0.2, 0.0]),
        "bad far above": ([0, 0.01, 0.1], [0.36, -0.1, -0.2]),
        "bad evenly spaced": ([0, 0.01, 0.1], [0.36, 0.35, 0.1]),
        "good far above": ([0.9, 0.99, 1.0], [0.2, 0.1, -0.3]),
        "good evenly spaced": ([0.9, 0.99, 1.0], [-0.1, -0.3, -0.36]),
    }
    rows = [
        {"case": case, "violated": x, "gain": y}
        for case, points in made.items()
        for x, y in zip(*points, strict=True)
    ]
    return {"learned": learned, "made": pd.DataFrame(rows)}


def draw_all(star, frontier, broken):
    yield figures.fig10_mnist_policy(star)
    yield figures.fig11_mnist_frontier(**frontier)
    yield figures.fig12_broken_order(**broken)


def find_line(axes, method):
    """The line of a method: of those in its colour the one with most markers."""
    colour = to_hex(figures.look(method)["color"])
    lines = [line for line in axes.lines if to_hex(line.get_color()) == colour]
    return max(lines, key=lambda line: len(line.get_xdata()))


def test_the_tables_stay_as_they_are(star, frontier, broken):
    tables = [star, *frontier.values(), *broken.values()]
    before = [table.copy() for table in tables]
    list(draw_all(star, frontier, broken))
    for table, copy in zip(tables, before, strict=True):
        pd.testing.assert_frame_equal(table, copy)


def test_figure_10_has_a_row_per_epoch_and_draws_means_with_t_bands(star):
    axes = np.reshape(figures.fig10_mnist_policy(star).axes, (2, 3))
    for row, epoch in zip(axes, ["final", "chosen"], strict=True):
        for axis, value in zip(row, ["equal_kl", "equal_beta", "kl_spent"], strict=True):
            rows = star[(star.epoch == epoch) & (star.method == "sigmoid")]
            means = rows.groupby("noise_rate")[value].mean()
            assert find_line(axis, "sigmoid").get_ydata() == pytest.approx(means.to_numpy())
    values = star.kl_spent[
        (star.epoch == "final") & (star.method == "sigmoid") & (star.noise_rate == 0.4)
    ]
    low, high = scipy_stats.t.interval(0.95, 2, values.mean(), scipy_stats.sem(values))
    colour = to_hex(figures.look("sigmoid")["color"])
    (band,) = [each for each in axes[0, 2].collections if to_hex(each.get_facecolor()[0]) == colour]
    edge = [y for x, y in band.get_paths()[0].vertices if x == 0.4]
    assert (min(edge), max(edge)) == pytest.approx((low, high))
    words = {text.get_text() for text in figures.fig10_mnist_policy(star).texts}
    assert words == {"noise rate ε", "band: 95% over 3 seeds"}
    # win rates have one scale, and can be compared across
    assert axes[0, 0].get_ylim() == axes[1, 1].get_ylim()
    # named once in each row, beside its last panel
    for row in axes:
        assert {text.get_text() for text in row[2].texts} == {"sigmoid", "logistic"}
    assert axes[0, 0].get_ylabel() == "final epoch"


def test_without_a_chosen_epoch_figure_10_has_one_row(star):
    assert len(figures.fig10_mnist_policy(star[star.epoch == "final"]).axes) == 3


def test_figure_11_draws_the_most_that_is_possible_and_best_of_n(frontier):
    final, chosen = figures.fig11_mnist_frontier(**frontier).axes
    (most,) = [
        line for line in final.lines if line.get_color() == "0.5" and len(line.get_xdata()) == 3
    ]
    assert most.get_ydata().tolist() == [6.5, 7.0, 8.0]
    open_markers = [line for line in final.lines if line.get_markerfacecolor() == "white"]
    assert sorted(tuple(line.get_ydata()) for line in open_markers) == [(5.5, 6.0)] * 2
    names = {text.get_text() for text in chosen.texts}
    assert {"sigmoid", "logistic", "the digits", "the reference"} <= names
    assert "open markers: best of 2, 4" in {text.get_text() for text in final.texts}
    assert final.get_title() == "rewards of the final epoch"
    assert chosen.get_ylim() == (3.4, 9.4)


def test_figure_12_draws_a_point_per_model_and_a_line_per_case(broken):
    left, right = figures.fig12_broken_order(**broken).axes
    drawn = find_line(left, "sigmoid")
    own = broken["learned"][broken["learned"].method == "sigmoid"]
    assert sorted(drawn.get_xdata()) == sorted(own.violated)
    assert drawn.get_linestyle() == "None"
    lines = [tuple(line.get_ydata()) for line in right.lines if len(line.get_xdata()) == 3]
    made = broken["made"]
    assert lines == [tuple(rows.gain) for _, rows in made.groupby("case", sort=False)]
    # the same orders with other values: one colour, another line
    cases = [line for line in right.lines if len(line.get_xdata()) == 3]
    colours = [to_hex(line.get_color()) for line in cases]
    assert colours[1] == colours[2] != colours[3] == colours[4]
    assert [line.get_linestyle() for line in cases] == ["-", ":", "-", ":", "-"]
    # beside the losses, no line has the colour of one
    assert not {*colours} & {to_hex(look.colour) for look in figures.METHODS.values()} - {
        *map(to_hex, ("#882255", "#117777"))
    }
    names = {text.get_text() for text in left.get_legend().get_texts()}
    assert names == {"sigmoid", "logistic", "broken at random"}


def test_no_name_lies_over_another(star, frontier, broken):
    for figure in draw_all(star, frontier, broken):
        figure.draw_without_rendering()
        for axes in figure.axes:
            boxes = [text.get_window_extent() for text in axes.texts if text.get_text()]
            for number, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[number + 1 :])
