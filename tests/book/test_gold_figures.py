"""The figures of study gold show the means over seeds of the table that they are drawn from."""

import numpy as np
import pandas as pd
import pytest

from sympo.book import figures

METHODS = ("dpo", "sympo_ramp")


@pytest.fixture
def table():
    cells = pd.MultiIndex.from_product(
        [METHODS, [0.0, 0.4], [0.1, 1.0], [0, 1]], names=["method", "noise_rate", "beta", "seed"]
    )
    table = cells.to_frame(index=False)
    win_rate, kl, reward = np.random.default_rng(0).random((3, len(table)))
    return table.assign(win_rate=win_rate, kl=kl, reward=reward, reward_sft=0.1)


def by_colour(lines):
    return {line.get_color(): line for line in lines}


def test_win_rates_are_means_over_seeds(table):
    main = table[table.beta == 0.1]
    lines = by_colour(figures.fig3_gold_win_rate(main).axes[0].lines[:4:2])
    for method in METHODS:
        means = main[main.method == method].groupby("noise_rate").win_rate.mean()
        assert np.allclose(lines[figures.look(method)["color"]].get_ydata(), means)


def test_the_frontier_is_means_over_seeds(table):
    frontier = table[table.noise_rate == 0.4]
    points = by_colour(figures.fig4_gold_frontier(frontier).axes[0].lines[1:4:2])
    for method in METHODS:
        means = frontier[frontier.method == method].groupby("beta")[["kl", "reward"]].mean()
        assert np.allclose(points[figures.look(method)["color"]].get_xydata(), means)
