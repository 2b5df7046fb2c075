"""Ramp minimisers, numbers of labels and prices of noise, against enumeration and simulation."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from sympo.book import figures, samples


def least_risk_by_search(net_wins, *, within=lambda reward: True):
    """The least Σ d·ramp over a fine lattice, by a loop and by hand."""
    ab, ac, bc = net_wins
    best = np.inf
    for reward in product(np.arange(0, 3.1, 0.5), repeat=3):
        if within(reward):
            a, b, c = reward
            ramp = [min(max(0.5 - score / 2, 0), 1) for score in (a - b, a - c, b - c)]
            best = min(best, ab * ramp[0] + ac * ramp[1] + bc * ramp[2])
    return best


NET_WINS = [(3, 5, 1), (3, 5, -1), (3, 5, 0), (3, 0, 5), (2, -1, 3), (2, -5, 2), (0, 0, 0)]


@pytest.mark.parametrize("net_wins", NET_WINS)
def test_ramp_minimisers_by_three_ways(net_wins):
    least = least_risk_by_search(net_wins)
    assert np.isclose(samples.solve_ramp(net_wins), least)
    wrong = {
        (0, 1): least_risk_by_search(net_wins, within=lambda r: r[0] <= r[1]),
        (1, 2): least_risk_by_search(net_wins, within=lambda r: r[1] <= r[2]),
    }
    for pair, risk in wrong.items():
        assert np.isclose(samples.solve_ramp(net_wins, tied_or_reversed=pair), risk)
    expected = min(wrong.values()) <= least + 1e-9
    assert samples.find_misordered([net_wins]).tolist() == [expected]
    assert samples.find_misordered([net_wins], step=1).tolist() == [expected]


def test_a_strong_majority_overrules_and_a_missing_neighbour_does_not():
    kept = [(2, -1, 3), (3, 0, 5), (3, 5, 1)]
    lost = [(2, -5, 2), (3, 5, 0), (3, 5, -1), (0, 5, 3)]
    assert not samples.find_misordered(kept).any()
    assert samples.find_misordered(lost).all()


def test_more_data_sets_than_a_chunk(monkeypatch):
    monkeypatch.setattr(samples, "_CHUNK", 2)
    assert samples.find_misordered(NET_WINS).tolist() == [
        bool(samples.find_misordered([each])[0]) for each in NET_WINS
    ]


@pytest.mark.parametrize("margin", [0.02, 0.2, 0.7, 0.95])
@pytest.mark.parametrize("error", [0.02, 0.001])
def test_labels_needed_lie_between_the_odd_numbers(margin, error):
    needed = samples.labels_needed(margin, error)
    below = int((needed - 1) // 2) * 2 + 1
    errors = [binom.cdf(n // 2, n, (1 + margin) / 2) for n in (below, below + 2)]
    assert errors[0] >= error >= errors[1]
    share = (needed - below) / 2
    assert np.isclose(np.log(error), (1 - share) * np.log(errors[0]) + share * np.log(errors[1]))


def test_labels_needed_at_an_odd_number_is_that_number():
    assert np.isclose(samples.labels_needed(0.4, binom.cdf(20, 41, 0.7)), 41)


@pytest.mark.parametrize(("margin", "error"), [(0, 0.1), (1, 0.1), (-0.2, 0.1), (0.9, 0.06)])
def test_labels_needed_refuses_what_no_number_answers(margin, error):
    with pytest.raises(ValueError, match=r"in \(0, 1\)|above that of one label"):
        samples.labels_needed(margin, error)


def test_a_learning_curve_is_inverted_on_the_logarithm():
    pairs, accuracy = [100, 400, 1600], [0.6, 0.7, 0.9]
    assert np.isclose(samples.invert_curve(pairs, accuracy, 0.65), 200)
    assert np.isclose(samples.invert_curve(pairs, accuracy, 0.8), 800)
    assert np.isclose(samples.invert_curve(pairs, accuracy, 0.9), 1600)
    assert samples.invert_curve(pairs, accuracy, 0.5) == pytest.approx(100)
    assert np.isnan(samples.invert_curve(pairs, accuracy, 0.91))


def test_the_first_crossing_counts():
    assert samples.invert_curve([1, 2, 4, 8], [0.5, 0.7, 0.6, 0.8], 0.7) == pytest.approx(2)


def make_study(*, price=4.0, seeds=4, shortfall=0.0):
    """Accuracy is a line in log n·(1 − 2ε)² at ε = ¼, up to a shift for noisy sets."""
    generator = np.random.default_rng(0)
    rows = []
    for seed, rate, pairs in product(range(seeds), (0.0, 0.25), (100, 400, 1600)):
        worth = pairs / price if rate else pairs
        accuracy = 0.5 + 0.05 * np.log2(worth / 10) + 0.01 * seed - (shortfall if rate else 0)
        accuracy += 1e-4 * generator.normal()
        rows.append(["sigmoid", rate, pairs, seed, accuracy])
    return pd.DataFrame(rows, columns=["method", "noise_rate", "pairs", "seed", "accuracy"])


def test_prices_find_the_factor_that_was_put_in():
    # a little above, since at the end of its curve a seed may miss the target by its noise
    study = make_study(price=4, shortfall=-1e-3)
    table = samples.tabulate_prices(study, values={"final": "accuracy"}, prices={0.25: 4.0})
    # of 1,600 clean pairs the study has no four times as many
    assert table.clean_pairs.tolist() == [100, 400]
    np.testing.assert_allclose(table.estimate, 4, rtol=0.05)
    assert (table.low < table.estimate).all()
    assert (table.estimate < table.high).all()
    dearer = samples.tabulate_prices(
        make_study(price=9), values={"final": "accuracy"}, prices={0.25: 4.0}
    )
    assert dearer.estimate[0] == pytest.approx(9, rel=0.02)


def test_an_accuracy_that_is_not_reached_has_no_factor():
    study = make_study(shortfall=0.3)
    table = samples.tabulate_prices(study, values={"final": "accuracy"}, prices={0.25: 4.0})
    assert table.reached.tolist() == [0, 0]
    assert table[["estimate", "low", "high"]].isna().all(axis=None)
    assert table.asked.tolist() == [16, 4]
    text = samples.write_prices(table, vote={0.0: 1.0, 0.25: 4.1})
    assert "not reached, so above 16, in 4 of 4 seeds (of 100)" in text
    assert "| 0 | 1.0 | 1.0 | – |" in text
    assert "| 0.25 | 4.0 | 4.1 |" in text


@pytest.mark.parametrize(
    ("shortfall", "verdict"),
    [(0.0, "reproduced"), (0.1, "contradicted"), (-0.1, "contradicted")],
)
def test_matched_sets_are_compared_seed_by_seed(shortfall, verdict):
    table = samples.compare_matched(make_study(shortfall=shortfall), values={"final": "accuracy"})
    assert table.pairs.tolist() == [400, 1600]
    assert table.clean_pairs.tolist() == [100, 400]
    assert table["set"].tolist() == ["smaller", "largest"]
    np.testing.assert_allclose(table.estimate, -shortfall, atol=1e-3)
    assert (table.verdict == verdict).all()


def test_two_noisy_sets_of_one_worth_are_compared():
    study = make_study()
    assert samples.describe_noisy(study) == "None were run."  # one rate above 0
    noisy = study[(study.noise_rate == 0.25) & (study.pairs == 400)]
    noisier = noisy.assign(noise_rate=0.4, pairs=2500, accuracy=noisy.accuracy + 0.05)
    text = samples.describe_noisy(pd.concat([study, noisier]))
    assert text.startswith(
        "- sigmoid, n(1 − 2ε)² = 100: 2,500 pairs at ε = 0.4 − 400 at ε = 0.25 = +0.050"
    )
    assert text.count("\n") == 0


def test_spreads_and_votes_of_a_known_axis():
    """Where the axis is the number of labels, its spread is the ratio of what is needed."""

    def place(labels, noise_rate, eta):
        return {"labels_again": labels}

    spreads = samples.tabulate_spreads(place, etas=[0.8], errors=[0.01, 0.25], noise_rates=[0, 0.4])
    needed = [samples.labels_needed(margin, 0.01) for margin in (0.6, 0.12)]
    assert spreads.labels_again[0] == pytest.approx(needed[1] / needed[0])
    # without noise one label errs in a fifth of the cases
    assert spreads.rates.tolist() == [2, 1]
    votes = samples.tabulate_votes(place, eta=0.8, noise_rates=[0.4], least=0.3)
    assert votes.labels.tolist() == votes.labels_again.tolist() == list(range(1, 2 * len(votes), 2))
    assert votes.error[0] == pytest.approx(0.44)
    assert votes.error.iloc[-1] > 0.3 > binom.cdf(len(votes), 2 * len(votes) + 1, 0.56)


def test_two_sets_that_learned_nothing_do_not_agree():
    study = make_study()
    table = samples.compare_matched(study, values={"final": "accuracy"}, learned=0.95)
    assert set(table.verdict) == {"not seen at this scale"}


def test_figures_draw_every_rate():
    sizes = pd.concat([make_study(), make_study().assign(method="logistic")])
    sizes["effective"] = sizes.pairs * (1 - 2 * sizes.noise_rate) ** 2
    sizes["memorised"] = sizes.accuracy.where(sizes.noise_rate > 0)
    panels = figures.fig9_mnist_sizes(sizes).axes
    assert len(panels) == 6
    rates = [
        [line for line in panel.get_lines() if line.get_marker() != "None"] for panel in panels
    ]
    # without flips nothing is memorised
    assert [len(lines) for lines in rates] == [2, 2, 1] * 2
    np.testing.assert_array_equal(rates[1][1].get_xdata(), [25, 100, 400])
