"""What notebook 13 computes its tables and figures with."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scipy import stats as scipy_stats

from sympo import stats
from sympo.book import figures
from sympo.book.patterns import (
    contrast_within,
    find_score_pattern,
    judge_classes,
    list_differences,
    tabulate_flips,
)
from sympo.studies.mnist import PatternsConfig
from sympo.studies.sources import MNIST

PATTERNS = ["symmetric", "near ties", "ink"]
METHODS = ["logistic", "sigmoid"]


@pytest.fixture
def models():
    """A row per pattern, loss and seed; ink costs a tenth, and sigmoid gains a little."""
    generator = np.random.default_rng(0)
    names = ["pattern", "method", "seed"]
    table = pd.MultiIndex.from_product([PATTERNS, METHODS, range(5)], names=names)
    table = table.to_frame(index=False)
    effect = 0.85 - 0.1 * (table.pattern == "ink") + 0.03 * (table.method == "sigmoid")
    table["accuracy"] = effect + 0.003 * generator.normal(size=len(table))
    table["chosen_accuracy"] = table.accuracy + 0.001 * generator.normal(size=len(table))
    return table


def read_accuracy(models, value, **cell):
    rows = models
    for column, name in cell.items():
        rows = rows[rows[column] == name]
    return rows.sort_values("seed")[value].to_numpy()


def contrast_costs(models, **changes):
    options = {"values": ["near ties", "ink"], "baseline": "symmetric", "expected": -1, **changes}
    return contrast_within(models, "method", "pattern", **options)


def test_contrasts_are_paired_by_seed_within_each_group(models):
    table = contrast_costs(models)
    assert list(table.columns[:4]) == ["epoch", "method", "pattern", "baseline"]
    for row in table.itertuples():
        value = {"final": "accuracy", "chosen": "chosen_accuracy"}[row.epoch]
        one = read_accuracy(models, value, method=row.method, pattern=row.pattern)
        other = read_accuracy(models, value, method=row.method, pattern="symmetric")
        assert row.estimate == pytest.approx((one - other).mean())
        assert row.p == pytest.approx(scipy_stats.ttest_rel(one, other).pvalue)


def test_holm_corrects_over_all_rows_of_an_epoch(models):
    for _, rows in contrast_costs(models).groupby("epoch"):
        assert len(rows) == 4
        np.testing.assert_allclose(rows.p_holm, stats.holm(rows.p))


def test_the_verdict_is_about_the_expected_sign(models):
    costs = contrast_costs(models).set_index(["epoch", "method", "pattern"]).verdict
    assert costs["final", "sigmoid", "ink"] == "reproduced"
    assert costs["final", "sigmoid", "near ties"] == "no difference larger than 0.02"
    turned = contrast_costs(models, expected=1).set_index(["epoch", "method", "pattern"]).verdict
    assert turned["final", "sigmoid", "ink"] == "contradicted"
    gains = contrast_within(models, "pattern", "method", values=["sigmoid"], baseline="logistic")
    assert list(gains.columns[:4]) == ["epoch", "pattern", "method", "baseline"]
    assert (gains.verdict == "reproduced").all()


def test_two_seeds_have_no_p_to_correct(models):
    table = contrast_costs(models[models.seed < 2])
    assert table.p_holm.isna().all()
    assert (table.verdict == "not seen at this scale").all()


def test_each_difference_is_listed_with_its_verdict(models):
    costs = contrast_costs(models)
    lines = list_differences(costs, claim="That it costs: ").splitlines()
    assert len(lines) == len(costs)
    for line, row in zip(lines, costs.itertuples(), strict=True):
        assert line.startswith(f"- {row.pattern}, {row.method}: {row.estimate:+.3f} (95% interval")
        assert line.endswith(f"That it costs: **{row.verdict}**.")
    gains = contrast_within(models, "pattern", "method", values=["sigmoid"], baseline="logistic")
    assert "symmetric, sigmoid − logistic: " in list_differences(gains)


def test_classes_are_judged_where_the_labels_can_tell():
    cells = [("ink", 1, False), ("ink", 2, False), ("ink", 3, False), ("position", 1, True)]
    predicted = pd.DataFrame(
        {"margin": [-0.2, -0.05, 0.3, 0.3], "tolerance": 0.1},
        index=pd.MultiIndex.from_tuples(cells, names=["pattern", "gap", "more_ink"]),
    )
    learned = [0.3, 0.9, 0.7, 0.4]
    rows = [
        {"pattern": cell[0], "gap": cell[1], "more_ink": cell[2], "seed": seed}
        | {"method": method, "epoch": epoch, "ordered": share + change + 0.01 * (seed - 1)}
        for cell, share in zip(cells, learned, strict=True)
        for seed in range(3)
        for method, epoch, change in (
            *(("ramp", "final", 0.02), ("sigmoid", "final", -0.02)),
            # neither counts
            *(("logistic", "final", -0.3), ("ramp", "chosen", 0.05)),
        )
    ]
    classes = judge_classes(pd.DataFrame(rows), predicted, methods=["ramp", "sigmoid"])
    classes = classes.set_index(["pattern", "gap", "more_ink"])
    assert classes.estimate.to_list() == pytest.approx(learned)
    assert set(classes.n) == {3}  # the seed is the unit, not the model
    t = scipy_stats.t.ppf(0.975, 2)
    half = t * 0.01 / np.sqrt(3)
    assert (classes.high - classes.estimate).to_list() == pytest.approx([half] * 4)
    assert classes.verdict.to_list() == [
        *("reproduced", "labels cannot tell"),
        *("reproduced", "contradicted"),
    ]


def test_flips_are_counted_by_group():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 255, (12_000, 2, 2), dtype=np.uint8)
    digits = generator.integers(0, 10, 12_000).astype(np.uint8)
    data = MNIST(images, digits, images, digits, "made up", "none")
    patterns = ["near ties", "digits", "position", "ink"]
    sizes = {"losses": ["ramp"], "seeds": 1, "epochs": 1, "eval_every": 1, "pairs": 4_000}
    config = PatternsConfig(
        **{"study": "noise_patterns", "profile": "smoke", "patterns": patterns},
        **{"mean_rate": 0.2, "first_seed": 0, **sizes},
    )
    table = tabulate_flips(config.runs(), data)
    assert list(table.index) == patterns
    assert table["all"].to_list() == pytest.approx([0.2] * 4, abs=0.03)
    assert table.loc["near ties", "gap 1"] > 0.3 > 0.12 > table.loc["near ties", "gap ≥ 4"]
    assert table.loc["digits", "a 4 or a 9"] == pytest.approx(0.45, abs=0.04)
    assert table.loc["position", "first wins"] == 0
    assert table.loc["position", "second wins"] == pytest.approx(0.4, abs=0.04)
    assert table.loc["ink", "more ink wins"] == 0
    assert table.loc["ink", "less ink wins"] == pytest.approx(0.4, abs=0.04)


def test_scores_are_cut_into_thirds_by_their_gap():
    gaps = np.array([3.0, 1.0, np.nan, 2.0, 1.0, 5.0, 8.0])
    # the longer answer is chosen in both close pairs, and in none of the far ones
    chosen = np.array([5, 9, 1, 9, 9, 1, 1])
    found = find_score_pattern(gaps, {"chosen": chosen, "rejected": np.full(7, 6)}, mean_rate=0.2)
    assert found.pairs == 6
    longer = found.longer.set_index("gap")
    assert longer.largest.to_dict() == {"close": 1.0, "middle": 3.0, "far": 8.0}
    assert longer.estimate.to_dict() == {"close": 1.0, "middle": 0.5, "far": 0.0}
    # σ(−gap/T), with T such that the mean is 0.2
    scored = np.sort(gaps[np.isfinite(gaps)])
    temperatures = np.linspace(0.1, 20, 100_000)
    rates = 1 / (1 + np.exp(scored[:, None] / temperatures))
    rates = rates[:, np.abs(rates.mean(0) - 0.2).argmin()]
    assert found.closest == pytest.approx(rates[:2].sum() / rates.sum(), abs=1e-3)


def test_answers_of_one_length_say_nothing_about_length():
    same = np.full(6, 4)
    lengths = {"chosen": same, "rejected": same}
    assert find_score_pattern(np.arange(1.0, 7.0), lengths, mean_rate=0.2).longer.empty


# -- the figures ----------------------------------------------------------------------------------


@pytest.fixture
def classes():
    cells = pd.MultiIndex.from_product(
        [PATTERNS, [1, 2, 3], [False, True]], names=["pattern", "gap", "more_ink"]
    )
    table = cells.to_frame(index=False)
    table["margin"] = 0.2 * table.gap
    reversed_ = (table.pattern == "ink") & (table.gap == 1) & ~table.more_ink
    table.loc[reversed_, "margin"] = -0.12
    table["judged"] = table.gap != 2
    table["estimate"] = 0.5 + table.margin / 2
    table["low"] = table.estimate - 0.05
    table["high"] = table.estimate + 0.04
    return table.assign(n=5)


@pytest.fixture
def costs(models):
    return contrast_costs(models)


def test_figure_8_draws_every_class_and_leaves_open_what_is_not_judged(classes, costs):
    left = figures.fig8_noise_patterns(classes, costs).axes[0]
    markers = [line for line in left.lines if line.get_marker() in ("o", "s")]
    drawn = np.concatenate([np.column_stack(line.get_data()) for line in markers])
    expected = classes[["margin", "estimate"]].to_numpy()
    np.testing.assert_allclose(sorted(map(tuple, drawn)), sorted(map(tuple, expected)))
    open_points = [line for line in markers if line.get_markerfacecolor() == "white"]
    assert sum(len(line.get_xdata()) for line in open_points) == (~classes.judged).sum()
    # ink has a marker of its own
    squares = [line for line in markers if line.get_marker() == "s"]
    assert sum(len(line.get_xdata()) for line in squares) == (classes.pattern == "ink").sum()
    assert any("less ink" in text.get_text() for text in left.texts)


def test_figure_8_draws_the_final_epoch_with_its_intervals(classes, costs):
    right = figures.fig8_noise_patterns(classes, costs).axes[1]
    final = costs[costs.epoch == "final"]
    for method in METHODS:
        rows = final[final.method == method]
        colour = to_hex(figures.look(method)["color"])
        drawn = [box for box in right.containers if to_hex(box.lines[0].get_color()) == colour]
        (points,) = drawn
        np.testing.assert_allclose(points.lines[0].get_xdata().astype(float), rows.estimate)
        (bars,) = points.lines[2]
        ends = np.array([segment[:, 0] for segment in bars.get_segments()], dtype=float)
        np.testing.assert_allclose(ends, rows[["low", "high"]].to_numpy(float))


def test_the_contrasts_stand_in_two_panels_on_one_scale(models):
    gains = contrast_within(models, "pattern", "method", values=["sigmoid"], baseline="logistic")
    final, chosen = figures.fig8_pattern_contrasts(gains).axes
    assert final.get_xlim() == chosen.get_xlim()
    assert [text.get_text() for text in final.get_yticklabels()] == PATTERNS
    for axes, epoch in ((final, "final"), (chosen, "chosen")):
        (points,) = axes.containers
        expected = gains[gains.epoch == epoch].estimate
        np.testing.assert_allclose(points.lines[0].get_xdata().astype(float), expected)


def test_the_band_ends_where_the_labels_by_item_are_even():
    ends = np.array([0.0, 1.0])
    lines = pd.concat(
        pd.DataFrame({"series": name, "eta": ends, "lean": lean})
        for name, lean in (("none", [-1, 1]), ("item", [-0.8, 0.4]), ("position", [-0.6, 0.6]))
    )
    pairs = pd.DataFrame(
        {"series": ["item"], "eta": [0.6], "lean": [-0.08], "draws": [1000], "top": [2 / 3]}
    )
    figure = figures.fig_t11_band(lines, pairs)
    (axes,) = figure.axes
    words = " ".join(text.get_text() for text in [*axes.texts, *figure.texts])
    assert "0.667" in words
    assert "1,000" in words
    (span,) = [patch for patch in axes.patches if patch.get_width() < 0.5]
    assert span.get_x() == 0.5
    assert span.get_x() + span.get_width() == pytest.approx(2 / 3)


def test_the_tables_stay_as_they_are(classes, costs):
    before = classes.copy(), costs.copy()
    figures.fig8_noise_patterns(classes, costs)
    for table, copy in zip((classes, costs), before, strict=True):
        pd.testing.assert_frame_equal(table, copy)
