"""What notebook 09 shows: means over seeds, and where SmolLM2's policies are from."""

import numpy as np
import pandas as pd
import pytest

from sympo.book import contrasts, figures, smollm2
from sympo.studies import plan, profiles
from sympo.studies.alignment import gold

METHODS = ("dpo", "sympo_ramp")
REGIMES = ["fresh", "memorised"]


@pytest.fixture
def table():
    cells = pd.MultiIndex.from_product(
        [REGIMES, METHODS, [0.0, 0.4], [0.1, 1.0], [0, 1, 2]],
        names=["regime", "method", "noise_rate", "beta", "seed"],
    )
    table = cells.to_frame(index=False)
    win_rate, kl = np.random.default_rng(0).random((2, len(table)))
    return table.assign(win_rate=win_rate, kl=kl, budget=0.25)


def by_colour(lines):
    return {line.get_color(): line for line in lines}


def test_win_rates_are_means_over_seeds(table):
    main = table[table.beta == 0.1]
    # a method at one rate makes no line
    other = main[main.noise_rate == 0.4].assign(method="cdpo")
    panels = figures.fig3_gold_win_rate(pd.concat([main, other])).axes
    for axes, regime in zip(panels, REGIMES, strict=True):
        assert regime in axes.get_title()
        lines = by_colour(axes.lines[:4:2])
        for method in METHODS:
            rows = main[(main.method == method) & (main.regime == regime)]
            means = rows.groupby("noise_rate").win_rate.mean()
            assert np.allclose(lines[figures.look(method)["color"]].get_ydata(), means)


def test_the_frontier_starts_at_the_reference_and_is_means_over_seeds(table):
    panels = figures.fig4_gold_frontier(table).axes
    cells = [(rate, regime) for rate in (0.0, 0.4) for regime in REGIMES]
    for axes, (rate, regime) in zip(panels, cells, strict=True):
        assert f"ε = {rate:g}, {regime}" in axes.get_title()
        # of each method its policies, their means, and the way to the first of these
        count = 3 * len(METHODS)
        lines = by_colour(axes.lines[1:count:3])
        ways = by_colour(axes.lines[2:count:3])
        shown = table[(table.noise_rate == rate) & (table.regime == regime)]
        for method in METHODS:
            means = shown[shown.method == method].groupby("beta")[["kl", "win_rate"]].mean()
            colour = figures.look(method)["color"]
            assert np.allclose(lines[colour].get_xydata(), means[::-1])
            # on it nothing is measured
            assert ways[colour].get_linestyle() == ":"
            assert np.allclose(ways[colour].get_xydata(), [(0, 0.5), means.iloc[-1]])


def test_each_comparison_is_a_family_of_its_own(table):
    main = table[table.beta == 0.1]
    parts = {("here", regime): rows for regime, rows in main.groupby("regime")}
    result = contrasts.contrast_comparisons(parts, names=["place", "regime"])
    assert list(result.columns[:4]) == ["place", "regime", "value", "noise_rate"]
    for regime in REGIMES:
        alone = contrasts.contrast_policies(parts["here", regime], values=["win_rate"])
        rows = result[result.regime == regime].drop(columns=["place", "regime"])
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), alone)


def test_a_laptop_shows_what_a_gpu_has_found(monkeypatch, tmp_path):
    monkeypatch.setattr(profiles, "committed_figures", lambda profile: tmp_path / profile)
    monkeypatch.setattr(profiles, "own_figures", lambda profile: tmp_path / "own" / profile)
    table, sentence = smollm2.find_policies("laptop")
    assert table.empty
    assert list(table.columns) == smollm2.COLUMNS
    assert "Not measured" in sentence

    (tmp_path / "gpu" / "data").mkdir(parents=True)
    found = pd.DataFrame([range(len(smollm2.COLUMNS))], columns=smollm2.COLUMNS)
    found.to_csv(tmp_path / "gpu" / "data" / "table_gold_smollm2.csv", index=False)
    table, sentence = smollm2.find_policies("laptop")
    pd.testing.assert_frame_equal(table, found)
    assert "profile gpu" in sentence


def test_nothing_is_trained_where_records_are_only_read(monkeypatch):
    monkeypatch.setattr(plan, "is_read_only", lambda profile: True)
    monkeypatch.setattr(gold, "run_study", lambda config: pytest.fail("trained"))
    table, _ = smollm2.find_policies("gpu")
    assert table.empty
