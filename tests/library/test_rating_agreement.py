"""Agreement, κ and noise rates against scikit-learn, formulas and simulated coverage."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_rating import draw, make_pairs, rate_all

from sympo import rating
from sympo.judge import Reply, compare
from sympo.rating.agreement import _bound_kappa
from sympo.stats import wilson

SCORES = st.sampled_from([1.0, 0.0, 0.5, None])


def simulate(items, truth, error_rate=0.0, **options):
    return rating.simulate_ratings(items, truth, error_rate=error_rate, seed=0, **options)


def sklearn_kappa(first, second):
    metrics = pytest.importorskip("sklearn.metrics", reason="the extra 'audit' is not installed")
    return metrics.cohen_kappa_score(first, second)


@settings(max_examples=50)
@given(st.lists(st.tuples(SCORES, SCORES), min_size=8, max_size=30))
def test_agreement_with_a_judge_is_that_of_scikit_learn(pairs):
    items = draw(len(pairs))
    ours, theirs = map(list, zip(*pairs, strict=True))
    ratings = simulate(items, ours)
    decided = [(a, b) for a, b in pairs if {a, b} <= {0.0, 1.0}]
    if not decided:
        with pytest.raises(ValueError, match="both prefer an answer on no pair"):
            rating.compare_with_judge(ratings, theirs)
        return
    result = rating.compare_with_judge(ratings, theirs, name="gold")
    assert result.missing == sum(None in pair for pair in pairs)
    assert result.ties + result.missing + len(decided) == len(pairs)
    assert result.agreed == wilson(sum(a == b for a, b in decided), len(decided))
    if len({score for pair in decided for score in pair}) == 1:
        # both always say the same one word
        assert math.isnan(result.kappa.estimate)
        assert "κ = undefined" in str(result)
    else:
        expected = sklearn_kappa(*zip(*decided, strict=True))
        assert result.kappa.estimate == pytest.approx(expected)
        assert result.kappa.low <= result.kappa.estimate <= result.kappa.high
    assert result.simulated
    assert str(result).startswith("simulated ratings: simulated rater and gold agree on ")


def test_kappa_with_labels_is_that_of_the_positions_on_the_screen():
    """Against "chosen", a constant, κ would be 0 whatever the agreement."""
    items = rating.draw_items(make_pairs(400), seed=1)
    truth = [float(i % 10 < 8) for i in range(400)]  # agrees with 80% of the labels
    result = rating.compare_with_labels(simulate(items, truth))
    assert result.agreed == wilson(320, 400)
    shown = [
        ((score == 1) != item.swapped, not item.swapped)
        for item, score in zip(items, truth, strict=True)
    ]
    assert result.kappa.estimate == pytest.approx(sklearn_kappa(*zip(*shown, strict=True)))
    assert sklearn_kappa(truth, [1.0] * 400) == 0
    # positions are random, so by chance half agree
    assert result.kappa.estimate == pytest.approx(2 * 0.8 - 1, abs=0.05)


def test_a_judge_is_compared_by_its_scores():
    items = draw(20)
    judge = lambda prompts, firsts, seconds: [Reply(float("alpha" in one)) for one in firsts]  # noqa: E731
    verdicts = compare(judge, items.prompts, items.answers_a, items.answers_b)
    result = rating.compare_with_judge(simulate(items, [1.0] * 15 + [0.0] * 5), verdicts)
    assert result.agreed == wilson(15, 20)
    # the judge takes `a` always, and so agrees by chance alone
    assert result.kappa.estimate == 0
    with pytest.raises(ValueError, match="the judge has 3 scores for 20 items"):
        rating.compare_with_judge(simulate(items, [1.0] * 20), [1.0] * 3)


def test_two_raters_of_one_kind():
    items = draw(20)
    first = simulate(items, [1.0] * 20, rater="x")
    second = simulate(items, [1.0] * 12 + [0.0] * 6 + [0.5, None], rater="y")
    result = rating.compare_raters(first, second)
    assert result.agreed == wilson(12, 18)
    assert (result.ties, result.missing, result.names) == (1, 1, ("x", "y"))
    with pytest.raises(ValueError, match="some ratings are simulated and others are not"):
        rating.compare_raters(first, rate_all(items))
    people = rating.compare_raters(rate_all(items), rate_all(items, "second", "bob"))
    assert people.agreed.estimate == 0
    assert str(people).startswith("ann and bob agree on 0 of 20 pairs, 0.00 [0.00, ")
    assert str(people).endswith("left out: 0 ties, 0 without a verdict")


def test_items_without_labels_have_no_agreement_with_them():
    with pytest.raises(ValueError, match="have no label"):
        rating.compare_with_labels(rate_all(draw()))


def kappa_of(shares):
    """κ from the definition, of the joint distribution of two verdicts."""
    chance = sum(shares[i].sum() * shares[:, i].sum() for i in range(2))
    return (np.trace(shares) - chance) / (1 - chance)


@pytest.mark.parametrize(("n", "agreed", "wins"), [(20, 0.97, 0.5), (40, 0.9, 0.5), (60, 0.8, 0.8)])
def test_the_interval_of_kappa_covers_it_as_often_as_it_says(n, agreed, wins):
    # the second verdict is `a` with probability `wins`, and the first one errs
    shares = np.outer([1, 1], [wins, 1 - wins]) * (1 - agreed)
    np.fill_diagonal(shares, np.array([wins, 1 - wins]) * agreed)
    generator = np.random.default_rng(0)
    covered = []
    for _ in range(250):
        table = generator.multinomial(n, shares.ravel()).reshape(2, 2).astype(float)
        interval = _bound_kappa(table, level=0.95, seed=0)
        if not math.isnan(interval.estimate):
            covered.append(interval.low <= kappa_of(shares) <= interval.high)
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 250)


# Noise rates


def agreement(agreed, n):
    """Ratings that agree with `agreed` of `n` labels."""
    items = rating.draw_items(make_pairs(n), seed=0)
    return rating.compare_with_labels(simulate(items, [1.0] * agreed + [0.0] * (n - agreed)))


@pytest.mark.parametrize("rater_error", [0.0, 0.1, "same"])
@pytest.mark.parametrize("noise_rate", [0.0, 0.1, 0.25, 0.4])
def test_the_rate_is_the_one_at_which_two_coins_agree_so_often(noise_rate, rater_error):
    """Enumerated: the label errs or not, and the rater errs or not; they agree if both or none."""
    other = noise_rate if rater_error == "same" else rater_error
    outcomes = [(a, b) for a in (0, 1) for b in (0, 1)]
    weight = {
        (a, b): (noise_rate if a else 1 - noise_rate) * (other if b else 1 - other)
        for a, b in outcomes
    }
    share = weight[0, 0] + weight[1, 1]
    n = 1000
    result = agreement(round(share * n), n)
    rate = rating.estimate_noise(result, rater_error=rater_error)
    # the rounding to a whole number of pairs
    assert rate.rate.estimate == pytest.approx(noise_rate, abs=0.006)
    assert rate.rate.low <= rate.rate.estimate <= rate.rate.high
    assert str(rate).startswith("simulated ratings: noise rate 0.")


def test_the_rate_of_a_perfect_rater_is_the_disagreement():
    result = agreement(170, 200)
    rate = rating.estimate_noise(result).rate
    assert list(rate) == pytest.approx(list(wilson(30, 200)))
    assert rating.estimate_noise(result).assumption == "the rater never errs"
    # fewer than half agree: no rate of two equal coins explains it, and ½ is the nearest
    assert rating.estimate_noise(agreement(8, 20), rater_error="same").rate.estimate == 0.5
    for wrong in (0.5, -0.1, "equal", None):
        with pytest.raises(ValueError, match="give a rate in"):
            rating.estimate_noise(result, rater_error=wrong)


@pytest.mark.parametrize("rater_error", [0.0, 0.1, "same"])
def test_intervals_of_the_rate_cover_it_and_are_as_wide_as_was_asked(rater_error):
    """The number of pairs that were asked for, errors drawn at random, the interval."""
    noise_rate = 0.2
    half_width = 0.06
    n = rating.pairs_needed(half_width, noise_rate=noise_rate, rater_error=rater_error)
    other = noise_rate if rater_error == "same" else rater_error
    # the formula of the docstring
    share = (1 - noise_rate) * (1 - other) + noise_rate * other
    slope = 2 * (1 - 2 * noise_rate) if rater_error == "same" else 1 - 2 * rater_error
    formula = share * (1 - share) * (1.959964 / (half_width * slope)) ** 2
    assert n == pytest.approx(formula, rel=0.08)

    # labels and a rater that err apart agree as often as the formula says
    generator = np.random.default_rng(1)
    labels_err = generator.random(20_000) < noise_rate
    rater_errs = generator.random(20_000) < other
    assert np.mean(labels_err == rater_errs) == pytest.approx(share, abs=3 * np.sqrt(0.25 / 20_000))

    rates = [
        rating.estimate_noise(stand_in(count, n), rater_error=rater_error).rate
        for count in generator.binomial(n, share, 2000)
    ]
    covered = np.mean([rate.low <= noise_rate <= rate.high for rate in rates])
    assert covered >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 2000)
    widths = [(rate.high - rate.low) / 2 for rate in rates]
    assert np.mean(widths) == pytest.approx(half_width, rel=0.05)


def stand_in(agreed, n):
    """An agreement without the ratings behind it."""
    return rating.Agreement(("x", "y"), wilson(agreed, n), wilson(1, 2), 0, 0, simulated=True)


@pytest.mark.parametrize("rater_error", [0.0, 0.1, "same"])
def test_a_rate_from_agreement_gives_the_agreement_back(rater_error):
    agreed = wilson(70, 100)
    found = rating.rate_from_agreement(agreed, rater_error)
    rates = np.array(found[:3])
    others = rates if rater_error == "same" else rater_error
    back = (1 - rates) * (1 - others) + rates * others
    assert back == pytest.approx([agreed.estimate, agreed.high, agreed.low])
    assert found.n == 100
    with pytest.raises(ValueError, match=r"rater_error = 0.5: give a rate"):
        rating.rate_from_agreement(agreed, 0.5)


@pytest.mark.parametrize("rater_error", [0.0, "same"])
@pytest.mark.parametrize("noise_rate", [0.0, 0.2, 0.4])
@pytest.mark.parametrize("half_width", [0.1, 0.3, 0.4, 0.49])
def test_few_pairs_are_those_of_an_enumeration(half_width, noise_rate, rater_error):
    def half(n):
        other = noise_rate if rater_error == "same" else rater_error
        agreed = wilson(((1 - noise_rate) * (1 - other) + noise_rate * other) * n, n)
        ends = np.array([agreed.low, agreed.high])
        rates = (
            (1 - np.sqrt(np.maximum(2 * ends - 1, 0))) / 2 if rater_error == "same" else 1 - ends
        )
        return (rates[0] - rates[1]) / 2

    first = next(n for n in itertools.count(1) if half(n) <= half_width)
    asked = rating.pairs_needed(half_width, noise_rate=noise_rate, rater_error=rater_error)
    assert asked == first


def test_one_pair_fewer_is_too_few():
    n = rating.pairs_needed(0.05, noise_rate=0.0)
    halves = [np.diff(wilson(size, size)[1:3])[0] / 2 for size in (n - 1, n)]
    assert halves[1] <= 0.05 < halves[0]
    assert rating.pairs_needed(0.05, noise_rate=0.2) < rating.pairs_needed(0.025, noise_rate=0.2)
    for options in ({"half_width": 0.0}, {"half_width": 0.5}, {"noise_rate": 0.5}):
        with pytest.raises(ValueError, match="give"):
            rating.pairs_needed(**{"half_width": 0.1, "noise_rate": 0.1, **options})
