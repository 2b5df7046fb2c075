"""Flips: nested over rates, keyed by row, and at the rates that are asked for."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sympo.noise import RowGenerator, check_rates, equivalent_rate, flip, flip_tied

labels_of = st.lists(st.sampled_from([-1, 1]), min_size=1, max_size=40).map(np.array)
seeds = st.integers(0, 2**32 - 1)
row_keys = st.lists(
    st.text() | st.integers() | st.tuples(st.integers(), st.text()), min_size=1, unique_by=repr
)
# Both rates below ½: every such pair can be learned from.
rate = st.floats(0, 0.49)


class Stratified:
    """A uniform source that runs through the middle of every cell of a grid.

    The grid divides [0, 1) into `cells` parts for each of the `draws` of a function, so that the
    average over the pairs is the expectation, exactly, where every rate is a multiple of 1/cells.
    """

    def __init__(self, cells, draws):
        middles = (np.arange(cells) + 0.5) / cells
        self.size = cells**draws
        self._columns = iter(np.array(list(itertools.product(middles, repeat=draws))).T)

    def random(self, size):
        assert size == self.size
        return next(self._columns)


class Repeated:
    """A uniform source whose every number is `number`."""

    def __init__(self, number):
        self.number = number

    def random(self, size):
        return np.full(size, self.number)


@given(labels_of, rate, rate, rate, rate, seeds)
def test_flips_at_a_low_rate_are_a_subset_of_those_at_a_higher_one(labels, a, b, c, d, seed):
    low_pos, high_pos = sorted((a, b))
    low_neg, high_neg = sorted((c, d))
    low = flip(labels, low_pos, low_neg, np.random.default_rng(seed)) != labels
    high = flip(labels, high_pos, high_neg, np.random.default_rng(seed)) != labels
    assert not (low & ~high).any()


@pytest.mark.parametrize("dtype", [np.uint8, bool, object])
def test_labels_of_a_type_without_minus_one_are_refused(dtype):
    ones = np.array([1, 1], dtype)
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"labels must .* as signed integers or floats"):
        flip(ones, 0.9, 0, generator)
    with pytest.raises(ValueError, match=r"longer must .* as signed integers or floats"):
        flip_tied([1, 1], ones, 0.2, 0.1, generator, first_rate=0.5)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32])
def test_flipped_labels_keep_their_type(dtype):
    flipped = flip(np.array([1, 1], dtype), 0.9, 0, Repeated(0))
    assert flipped.tolist() == [-1, -1]
    assert flipped.dtype == dtype


@given(labels_of, rate, rate, rate, rate, st.floats(0, 1), seeds)
def test_tied_flips_are_nested_too(labels, a, b, c, d, first_rate, seed):
    longer = np.resize([1, -1, -1], len(labels))

    def flipped(rate_pos, rate_neg):
        generator = np.random.default_rng(seed)
        noisy = flip_tied(labels, longer, rate_pos, rate_neg, generator, first_rate=first_rate)
        return noisy != labels

    low_pos, high_pos = sorted((a, b))
    low_neg, high_neg = sorted((c, d))
    assert not (flipped(low_pos, low_neg) & ~flipped(high_pos, high_neg)).any()


@given(row_keys, seeds, st.data())
def test_a_row_draws_the_same_number_whatever_the_other_rows(keys, seed, data):
    everyone = dict(zip(map(repr, keys), RowGenerator(keys, seed).random(len(keys)), strict=True))
    some = data.draw(st.permutations(keys)).copy()[: data.draw(st.integers(1, len(keys)))]
    alone = dict(zip(map(repr, some), RowGenerator(some, seed).random(len(some)), strict=True))
    assert alone.items() <= everyone.items()


@given(st.lists(st.integers(-(2**60), 2**60), min_size=1, max_size=20), seeds)
def test_numpy_keys_draw_what_python_keys_draw(keys, seed):
    plain = RowGenerator(keys, seed).random(len(keys))
    assert (RowGenerator(np.array(keys), np.int64(seed)).random(len(keys)) == plain).all()
    pairs = RowGenerator([(key, "a") for key in keys], seed)
    numpy_pairs = RowGenerator([(np.int64(key), np.str_("a")) for key in keys], seed)
    assert (numpy_pairs.random(len(keys)) == pairs.random(len(keys))).all()


def test_row_numbers_are_uniform_and_differ_between_seeds_and_draws():
    generator = RowGenerator(range(20_000), 0)
    first = generator.random(20_000)
    second = generator.random(20_000)
    other = RowGenerator(range(20_000), 1).random(20_000)
    for sample in (first, second, other):
        assert 0 <= sample.min() < sample.max() < 1
        assert stats.kstest(sample, "uniform").pvalue > 1e-3
    for a, b in itertools.combinations((first, second, other), 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(20_000)


def test_row_numbers_are_the_same_on_every_machine():
    # Written down once: another hash, salt or conversion would silently give every study other
    # flips.
    generator = RowGenerator(["a", 1, (2, "b")], 7)
    first, second = generator.random(3), generator.random(3)
    assert first.tolist() == [0.8471669694609062, 0.26294517626222524, 0.8735725245919922]
    assert second.tolist() == [0.2083133285011648, 0.06941194820010588, 0.5071944699600395]


def test_keys_that_can_be_read_once_serve_every_draw():
    keys = ["a", 1, (2, "b")]
    kept, used_up = RowGenerator(keys, 7), RowGenerator(iter(keys), 7)
    for _ in range(2):
        assert (kept.random(3) == used_up.random(3)).all()


def test_row_generator_refuses_another_number_of_rows():
    with pytest.raises(ValueError, match="asked for 3 uniform numbers, but there are 2 row keys"):
        RowGenerator([0, 1], 0).random(3)


@settings(max_examples=20)
@given(rate, rate, seeds)
def test_empirical_rates(rate_pos, rate_neg, seed):
    labels = np.repeat([1, -1], 20_000)
    flipped = flip(labels, rate_pos, rate_neg, np.random.default_rng(seed)) != labels
    shares = flipped.reshape(2, -1).mean(axis=1)
    rates = np.array([rate_pos, rate_neg])
    spread = np.sqrt(rates * (1 - rates) / 20_000)
    assert (abs(shares - rates) <= 6 * spread + 1e-3).all()


@pytest.mark.parametrize(
    ("rate_pos", "rate_neg", "first_rate"), [(0.1, 0.4, 0.9), (0.3, 0.05, 0.65), (0.2, 0.35, 0.5)]
)
@pytest.mark.parametrize("longer", [1, -1])
@pytest.mark.parametrize("label", [1, -1])
def test_tied_rates_are_those_of_t2b(label, longer, rate_pos, rate_neg, first_rate):
    uniform = Stratified(20, 2)
    labels = np.full(uniform.size, label)
    orders = np.full(uniform.size, longer)
    noisy = flip_tied(labels, orders, rate_pos, rate_neg, uniform, first_rate=first_rate)
    flipped = noisy != labels
    won, lost = (rate_pos, rate_neg) if label == longer else (rate_neg, rate_pos)
    assert flipped.mean() == pytest.approx(first_rate * won + (1 - first_rate) * lost, abs=1e-12)


def test_an_order_that_is_a_coin_makes_the_tied_rates_equal():
    uniform = Stratified(20, 2)
    longer = np.ones(uniform.size, dtype=int)
    wins = flip_tied(longer, longer, 0.1, 0.4, uniform, first_rate=0.5) != longer
    loses = flip_tied(-longer, longer, 0.1, 0.4, Stratified(20, 2), first_rate=0.5) != -longer
    assert wins.mean() == pytest.approx(loses.mean()) == equivalent_rate(0.1, 0.4, 0.5)


@given(labels_of, seeds)
def test_type_and_input_are_kept(labels, seed):
    before = labels.astype(np.int8)
    generator = np.random.default_rng(seed)
    for noisy in (
        flip(before, 0.3, 0.3, generator),
        flip_tied(before, before, 0.3, 0.2, generator, first_rate=0.7),
    ):
        assert noisy.dtype == np.int8
        assert (before == labels).all()
        assert set(noisy) <= {-1, 1}


def test_a_rate_is_the_share_of_the_numbers_below_it():
    """The numbers are those of [0, 1), so that none lies below 0, and 0.25 not below itself."""
    labels = np.array([1, -1])
    check_rates(0, 0)
    assert (flip(labels, 0, 0, Repeated(0.0)) == labels).all()
    assert (flip(labels, 0.25, 0.25, Repeated(0.25)) == labels).all()
    assert (flip(labels, 0.25, 0.25, Repeated(np.nextafter(0.25, 0))) == -labels).all()


@pytest.mark.parametrize(("first_rate", "flips"), [(0, True), (1, False)])
def test_an_order_that_is_certain_leaves_one_rate(first_rate, flips):
    """The winner is never written first, and errs at 0.4, or always, and errs at 0.1."""
    wins = np.ones(2, dtype=int)
    # one draw for the order, the least there is; one for the flips, between the two rates
    draws = iter([Repeated(0.0), Repeated(0.2)])
    source = SimpleNamespace(random=lambda size: next(draws).random(size))
    noisy = flip_tied(wins, wins, 0.1, 0.4, source, first_rate=first_rate)
    assert (noisy == (-wins if flips else wins)).all()


@pytest.mark.parametrize(
    ("rate_pos", "rate_neg", "message"),
    [
        (-0.1, 0.2, r"rate_pos = -0\.1 is not a noise rate: give a number in \[0, 1\)"),
        (0.2, 1.0, r"rate_neg = 1\.0 is not a noise rate"),
        (float("nan"), 0.2, "rate_pos = nan is not a noise rate"),
        (0.6, 0.4, r"rate_pos \+ rate_neg = 1 ≥ 1: the noisy label no longer points to the true"),
        (0.7, 0.5, "give rates whose sum is below 1"),
    ],
)
def test_rates_that_cannot_be_learned_from(rate_pos, rate_neg, message):
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match=message):
        check_rates(rate_pos, rate_neg)
    with pytest.raises(ValueError, match=message):
        flip([1, -1], rate_pos, rate_neg, generator)
    with pytest.raises(ValueError, match=message):
        flip_tied([1, -1], [1, 1], rate_pos, rate_neg, generator, first_rate=0.5)
    with pytest.raises(ValueError, match=message):
        equivalent_rate(rate_pos, rate_neg, 0.5)


@pytest.mark.parametrize("labels", [[0, 1], [[1, -1]], [1, 2], [0.5]])
def test_labels_other_than_one_and_minus_one(labels):
    with pytest.raises(ValueError, match=r"one-dimensional and hold only −1 and \+1"):
        flip(labels, 0.1, 0.1, np.random.default_rng(0))


def test_tied_flips_refuse_what_they_cannot_use():
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"first_rate = 1\.5 is not a probability"):
        flip_tied([1, -1], [1, 1], 0.1, 0.2, generator, first_rate=1.5)
    with pytest.raises(ValueError, match=r"first_rate = -0\.5 is not a probability"):
        flip_tied([1, -1], [1, 1], 0.1, 0.2, generator, first_rate=-0.5)
    with pytest.raises(ValueError, match="longer must hold −1 or \\+1 for each of the 2 labels"):
        flip_tied([1, -1], [1], 0.1, 0.2, generator, first_rate=0.5)
    with pytest.raises(ValueError, match="longer must hold −1 or \\+1 for each of the 2 labels"):
        flip_tied([1, -1], [1, 0], 0.1, 0.2, generator, first_rate=0.5)


@given(rate, rate, st.floats(0, 1), seeds)
def test_equivalent_rate_is_the_share_of_flips(rate_pos, rate_neg, prior, seed):
    expected = equivalent_rate(rate_pos, rate_neg, prior)
    assert min(rate_pos, rate_neg) - 1e-12 <= expected <= max(rate_pos, rate_neg) + 1e-12
    labels = np.where(np.random.default_rng(seed).random(20_000) < prior, 1, -1)
    share = (flip(labels, rate_pos, rate_neg, np.random.default_rng(seed + 1)) != labels).mean()
    assert share == pytest.approx(expected, abs=6 * 0.5 / math.sqrt(20_000))


def test_equivalent_rate_by_hand():
    assert equivalent_rate(0.1, 0.4, 0.5) == pytest.approx(0.25)
    assert equivalent_rate(0.1, 0.4, 1.0) == 0.1  # "chosen first": only rate_pos acts
    assert equivalent_rate(0.6, 0.3, 0.5) == pytest.approx(0.45)
    with pytest.raises(
        ValueError, match=r"symmetric noise of rate 0\.6 ≥ ½.*prior = 0\.5\) to bring it to 0\.45"
    ):
        equivalent_rate(0.6, 0.3, 1.0)
    for prior in (2, -0.5):
        with pytest.raises(ValueError, match=f"prior = {prior} is not a probability"):
            equivalent_rate(0.1, 0.1, prior)


@pytest.mark.parametrize(
    ("rate_pos", "rate_neg", "prior"), [(0.5, 0.25, 1.0), (0.25, 0.5, 0.0), (0.625, 0.125, 0.75)]
)
def test_equivalent_rate_of_one_half_is_refused(rate_pos, rate_neg, prior):
    with pytest.raises(ValueError, match=r"symmetric noise of rate 0\.5 ≥ ½"):
        equivalent_rate(rate_pos, rate_neg, prior)
