"""Noise rates are read where they are known, and what breaks a route's premise is named."""

import os

import noisy_worlds as worlds
import numpy as np
import pandas
import pytest
from scipy import special, stats

from sympo import audit
from sympo.audit.rates import share

sources = pytest.mark.parametrize(
    "draw",
    [
        worlds.draw_synthetic,
        pytest.param(
            worlds.draw_mnist,
            marks=pytest.mark.skipif(
                not os.environ.get("SYMPO_DATA"), reason="SYMPO_DATA names no folder with MNIST"
            ),
        ),
    ],
)


def cauchy(gap):
    return 0.5 + np.arctan(gap) / np.pi


# Known flips


@pytest.mark.nightly
@sources
@pytest.mark.parametrize("world", worlds.WORLDS, ids=lambda world: world.__name__)
def test_the_rate_lies_in_its_interval_in_eighteen_of_twenty_seeds(world, draw):
    for route, by_rate in worlds.try_route(world, draw).items():
        hits = {
            rate: sum(worlds.covers(each, rate) for each in tried)
            for rate, tried in by_rate.items()
        }
        # Of twenty intervals that hold their rate with probability .95, seventeen do at one rate
        # in twelve: eighteen are asked for on average, and by luck alone sixteen never fail.
        assert np.mean(list(hits.values())) >= 18, (route, hits)
        assert min(hits.values()) >= 16, (route, hits)


@pytest.mark.slow
@pytest.mark.parametrize("rate", worlds.RATES)
@pytest.mark.parametrize(
    "world", [worlds.rate_flips, worlds.rate_repeats, worlds.rate_ratings], ids=lambda w: w.__name__
)
def test_intervals_hold_the_rate_in_95_percent_of_many_draws(world, rate):
    hits = {}
    for seed in range(300):
        generator = np.random.default_rng([seed, 17])
        for found in world(worlds.draw_synthetic, rate, generator):
            hits.setdefault(found.route, []).append(worlds.covers(found, rate))
    for route, covered in hits.items():
        # Four standard errors of a share of .95 of 300.
        assert abs(np.mean(covered) - 0.95) <= 4 * np.sqrt(0.95 * 0.05 / 300), route


@pytest.mark.parametrize("rate", [0, 0.1, 0.3])
@pytest.mark.parametrize("prompts", [1, 100])
def test_triangles_cover_with_few_prompts_and_with_many(prompts, rate):
    covered = []
    for seed in range(100):
        generator = np.random.default_rng([seed, 23])
        (found,) = worlds.rate_triangles(
            lambda generator, count: (2 * generator.normal(size=count), None),
            rate,
            generator,
            prompts=prompts,
            answers=8 if prompts == 1 else 3,
            labels=500 if prompts == 1 else 30,
        )
        covered.append(found.interval is None or worlds.covers(found, rate))
    assert np.mean(covered) >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 100)


# Formulas


@pytest.mark.parametrize("rate", [0, 0.05, 0.2, 0.4])
def test_exact_shares_give_the_rate_exactly(rate):
    """T14 without sampling error: so many labels that the shares are those of the formulas."""
    labels = 10**7
    gaps = np.array([2.0, 1.0, 3.0])
    first, second = np.array([0, 1, 0]), np.array([1, 2, 2])
    p = rate + (1 - 2 * rate) * special.expit(gaps)
    found = audit.rate_from_triangles(first, second, labels * p, labels * (1 - p))
    assert found.interval.estimate == pytest.approx(rate, abs=1e-4)
    agree = round(labels * ((1 - rate) ** 2 + rate**2))
    repeats = audit.rate_from_repeats(
        np.repeat([2, 1], [agree // 1000, (labels - agree) // 1000]),
        np.repeat([0, 1], [agree // 1000, (labels - agree) // 1000]),
    )
    assert repeats.interval.estimate == pytest.approx(rate, abs=1e-3)


def test_the_interval_of_repeats_is_wilsons_turned_into_rates():
    found = audit.rate_from_repeats([2] * 80 + [1] * 20, [0] * 80 + [1] * 20)
    expected = stats.binomtest(80, 100).proportion_ci(method="wilson")
    # (1−ε)² + ε², backwards: the agreement at each end of the interval of ε.
    low, high = found.interval.low, found.interval.high
    assert (1 - low) ** 2 + low**2 == pytest.approx(expected.high)
    assert (1 - high) ** 2 + high**2 == pytest.approx(expected.low)


def test_shares_of_prompts_that_repeat_are_by_prompt():
    """Ten copies of each pair carry the information of one."""
    values = np.random.default_rng(0).integers(0, 2, 200)
    once = share(values, np.arange(200))
    copied = share(np.repeat(values, 10), np.repeat(np.arange(200), 10))
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.02)


@pytest.mark.nightly
@pytest.mark.parametrize(("pairs", "ratings"), [(20, 3), (50, 5)])
@pytest.mark.parametrize("rate", [0, 0.02, 0.2])
def test_few_pairs_of_several_ratings_cover_small_rates_too(pairs, ratings, rate):
    covered = []
    for seed in range(300):
        plus = np.random.default_rng([seed, 29]).binomial(ratings, 1 - rate, size=pairs)
        covered.append(worlds.covers(audit.rate_from_repeats(plus, ratings - plus), rate))
    assert np.mean(covered) >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 300)


def test_ratings_that_all_agree_leave_wilsons_doubt():
    found = audit.rate_from_repeats([3] * 20, [0] * 20).interval
    assert found.estimate == found.low == 0
    least = stats.binomtest(20, 20).proportion_ci(method="wilson").low
    assert (1 - found.high) ** 2 + found.high**2 == pytest.approx(least)


def test_clusters_without_a_spread_count_once_each():
    found = share(np.ones(30), np.r_[0, np.arange(29)])
    expected = stats.binomtest(29, 29).proportion_ci(method="wilson")
    assert found[:3] == pytest.approx((1, expected.low, expected.high))
    assert found.n == 30


@pytest.mark.parametrize("values", [[1] * 60, [0] * 60])
def test_one_cluster_counts_as_one_value(values):
    found = share(values, [3] * 60)
    expected = stats.binomtest(values[0], 1).proportion_ci(method="wilson")
    assert found[:3] == pytest.approx((values[0], expected.low, expected.high))
    assert found.n == 60


def test_one_cluster_leaves_no_less_doubt_than_two():
    values = np.repeat([0, 1], 50)
    one, two = share(values, [0] * 100), share(values, values)
    assert one.high - one.low >= two.high - two.low - 1e-12


def test_triangles_of_a_graph_are_those_of_an_enumeration():
    generator = np.random.default_rng(0)
    ends = np.array([(a, b) for a in range(9) for b in range(a + 1, 9) if generator.random() < 0.5])
    listed = {tuple(sorted(each)) for each in audit.list_triangles(*ends.T).tolist()}
    edges = {tuple(edge): i for i, edge in enumerate(ends.tolist())}
    expected = {
        tuple(sorted((edges[a, b], edges[b, c], edges[a, c])))
        for a in range(9)
        for b in range(a, 9)
        for c in range(b, 9)
        if {(a, b), (b, c), (a, c)} <= edges.keys()
    }
    assert listed == expected
    assert listed


def test_features_that_decide_every_pair_beyond_doubt_leave_no_error():
    """A probability of 0 has no logarithm; the log-odds that it comes from is a number."""
    features = np.abs(np.random.default_rng(0).normal(size=(400, 3))) * 1e4
    found = audit.find_label_errors(features)
    assert found.accuracy.estimate == 1
    assert [rate.interval.estimate for rate in found.rates] == [0, 0, 0]
    assert not len(found.suspects)


# Premises that fail


def test_fresh_draws_of_close_pairs_are_no_noise_and_are_named():
    """Bradley–Terry without flips: agreement is ½ + ½·E m², and four ratings a pair show it."""
    generator = np.random.default_rng(0)
    p = special.expit(2 * generator.normal(size=2000))
    two = generator.binomial(2, p)
    found = audit.rate_from_repeats(two, 2 - two)
    phantom = (1 - np.sqrt(np.mean((2 * p - 1) ** 2))) / 2
    assert found.interval.low < phantom < found.interval.high
    assert found.interval.low > 0.1
    assert "nobody can tell" in found.warnings[0]
    five = generator.binomial(5, p)
    assert audit.rate_from_repeats(five, 5 - five).refuted


def test_one_noise_rate_is_not_taken_for_close_pairs():
    refuted = 0
    for seed in range(100):
        plus = np.random.default_rng(seed).binomial(5, 0.8, size=500)
        refuted += audit.rate_from_repeats(plus, 5 - plus).refuted
    assert refuted <= 5


@pytest.mark.parametrize("link", [cauchy, stats.laplace.cdf, stats.norm.cdf])
def test_a_wrong_link_is_named(link):
    ranks = lambda generator, count: (np.arange(count)[::-1], None)  # noqa: E731
    named = 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        (found,) = worlds.rate_triangles(
            ranks, 0, generator, link=link, prompts=1, answers=10, labels=2000
        )
        named += found.refuted and "Bradley–Terry" in found.warnings[-1]
    assert named >= 18


def test_a_wrong_link_reads_the_phantom_of_t14():
    """Gaps of 1 and no flips: θ is 1.08 by probit, .86 by Laplace, .60 by Cauchy."""
    ends = np.array([0, 1, 0]), np.array([1, 2, 2])
    for link, theta in ((cauchy, 0.60), (stats.laplace.cdf, 0.86)):
        p = link(np.array([1.0, 1.0, 2.0]))
        found = audit.rate_from_triangles(*ends, 10**7 * p, 10**7 * (1 - p))
        assert (1 - 2 * found.interval.estimate) ** 2 == pytest.approx(theta, abs=0.006)
    p = stats.norm.cdf([1.0, 1.0, 2.0])
    assert audit.rate_from_triangles(*ends, 10**7 * p, 10**7 * (1 - p)).interval is None


def test_small_gaps_are_called_ill_conditioned():
    close = lambda generator, count: (0.2 * generator.normal(size=count), None)  # noqa: E731
    (found,) = worlds.rate_triangles(close, 0.2, np.random.default_rng(0))
    assert found.interval is None
    assert found.warnings[0].startswith("Ill-conditioned")


@pytest.mark.slow
def test_weak_features_give_a_bound_and_no_estimate():
    believed = 0
    for seed in range(10):
        generator = np.random.default_rng(seed)
        features = generator.normal(size=(4000, 10))
        # Labels are clean: Bradley–Terry's draws, which the features decide for no pair.
        truth = np.where(generator.random(4000) < special.expit(features.sum(1) / 4), 1, -1)
        bound, estimate, cleanlab = audit.find_label_errors(
            features * truth[:, None], strength=1.0
        ).rates
        assert estimate.interval.low > 0.05
        assert bound.interval.low == cleanlab.interval.low == 0
        believed += not estimate.refuted
    assert believed <= 1


def test_features_that_tell_nothing_are_named():
    features = np.random.default_rng(0).normal(size=(1000, 5))
    bound, estimate, _ = audit.find_label_errors(features).rates
    assert estimate.refuted
    assert "predict nothing" in estimate.warnings[0]
    assert bound.interval.high == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
def test_the_bound_holds_for_any_classifier():
    held = []
    for seed in range(100):
        generator = np.random.default_rng(seed)
        scores = generator.normal(size=1000)
        truth = np.where(generator.random(1000) < special.expit(3 * scores), 1, -1)
        bound, _ = audit.rate_from_scores(worlds.flip(truth, 0.2, generator), scores)
        held.append(bound.interval.high >= 0.2)
    assert np.mean(held) >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 100)


# Input


def test_what_cannot_be_read_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="plus \\+ minus must be at least 2 for each pair"):
        audit.rate_from_repeats([1, 2], [0, 0])
    with pytest.raises(ValueError, match="plus \\+ minus must be at least 2 for each pair"):
        audit.rate_from_triangles([0, 1, 0], [1, 2, 2], [1, 2, 2], [0, 0, 0])
    with pytest.raises(ValueError, match="at least one that is not a tie"):
        audit.rate_from_ratings([0, 0])
    with pytest.raises(ValueError, match="at least one that is not a tie"):
        audit.rate_from_ratings([0.7])
    with pytest.raises(ValueError, match="labels must be one-dimensional and hold only −1 and"):
        audit.rate_from_scores([0, 1], [-1.0, 1.0])
    with pytest.raises(audit.TooFewPairsError, match="199 pairs are too few"):
        audit.find_label_errors(np.ones((199, 2)))


def test_ties_and_unknown_flips_are_left_out():
    clean, _ = audit.rate_from_ratings([1, 1, 1, -1, 0, 0])
    assert clean.interval.n == 4
    assert clean.interval.estimate == 0.25
    assert clean.warnings == ("2 ties are left out.",)
    assert audit.rate_from_flips([True, False, None, None]).interval.estimate == 0.5
    assert audit.rate_from_flips([None]).interval is None


@pytest.mark.parametrize("dtype", [object, float, "boolean", "Int64", "Float64"])
def test_unknown_flips_are_left_out_as_pandas_leaves_them_out(dtype):
    flips = pandas.Series([1, None, None, 0, 0], dtype=dtype)
    found = audit.rate_from_flips(flips).interval
    assert (found.estimate, found.n) == (pytest.approx(flips.mean()), flips.count())


@pytest.mark.parametrize("flip", ["false", 2, 0.5, [True]])
def test_a_flip_that_is_neither_true_nor_false_is_refused(flip):
    with pytest.raises(ValueError, match=r"^flips = .*: give true, false, 0 or 1"):
        audit.rate_from_flips([flip, True])
