"""T7, T8, T9: the solvers against scipy's, the policy identity by brute force, the gradient weights
by differences.
"""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import load_functions
from scipy.optimize import linprog, minimize
from scipy.special import expit, log_expit

from sympo import losses
from sympo.book import figures, theory

page = load_functions("04_rank_and_policy")

NOISE_RATE = 0.4
BETA = 0.1


@pytest.fixture
def problems():
    return theory.draw_problems(200, spread=2.0, unevenness=2.0, generator=np.random.default_rng(0))


def wishes(problems, noise_rate):
    return page.noisy_preference(theory.compute_gaps(problems.reward), noise_rate)


def spell_out_logistic_risk(reward, sampling, probability):
    """The risk as a double loop, with nothing taken from the package."""
    total, pair = 0.0, 0
    for i in range(len(reward)):
        for j in range(i + 1, len(reward)):
            gap = reward[i] - reward[j]
            total -= sampling[pair] * (
                probability[pair] * log_expit(gap) + (1 - probability[pair]) * log_expit(-gap)
            )
            pair += 1
    return total


def test_gaps_run_over_pairs_row_by_row():
    assert theory.compute_gaps([5.0, 3.0, 0.0]).tolist() == [2.0, 5.0, 3.0]
    assert page.gaps(np.array([5.0, 3.0, 0.0])).tolist() == [2.0, 5.0, 3.0]


def test_problems_share_rewards_whatever_the_unevenness(problems):
    even = theory.draw_problems(200, spread=2.0, unevenness=0, generator=np.random.default_rng(0))
    np.testing.assert_array_equal(problems.reward, even.reward)
    np.testing.assert_allclose(even.sampling, 1 / 6)
    np.testing.assert_allclose(problems.sampling.sum(axis=1), 1)
    assert problems.sampling.std() > 0.1


def test_problems_are_as_spread_and_as_uneven_as_they_say():
    drawn = theory.draw_problems(
        4000, actions=3, spread=2.0, unevenness=1.5, generator=np.random.default_rng(0)
    )
    assert drawn.reward.shape == drawn.sampling.shape == (4000, 3)
    assert drawn.reward.mean() == pytest.approx(0, abs=0.05)
    assert drawn.reward.std() == pytest.approx(2, rel=0.03)
    # the common divisor cancels in a ratio of two weights, whose logarithm has √2 times the spread
    ratio = np.log(drawn.sampling[:, 0] / drawn.sampling[:, 1])
    assert ratio.std() == pytest.approx(1.5 * np.sqrt(2), rel=0.03)


@pytest.mark.parametrize("noise_rate", [0.0, NOISE_RATE])
def test_risk_is_the_written_sum(problems, noise_rate):
    learned = np.random.default_rng(1).normal(size=problems.reward.shape)
    rows = zip(learned, problems.sampling, wishes(problems, noise_rate), strict=True)
    expected = [spell_out_logistic_risk(*row) for row in rows]
    np.testing.assert_allclose(
        page.noisy_risk(losses.get("logistic").fn, learned, problems, noise_rate), expected
    )


@pytest.mark.parametrize("index", range(4))
def test_logistic_fit_is_where_scipy_ends_from_two_starts(problems, index):
    sampling, probability = problems.sampling[index], wishes(problems, NOISE_RATE)[index]
    ours = theory.fit_logistic(sampling[None], probability[None])[0]
    for start in (np.zeros(4), np.array([3.0, -2.0, 1.0, -2.0])):
        found = minimize(
            spell_out_logistic_risk, start, (sampling, probability), "L-BFGS-B", tol=1e-15
        )
        assert spell_out_logistic_risk(ours, sampling, probability) <= found.fun + 1e-13
        np.testing.assert_allclose(
            theory.compute_gaps(ours), theory.compute_gaps(found.x), atol=2e-3
        )


def test_logistic_fit_from_afar_ends_in_the_same_gaps_and_keeps_the_sum(problems):
    """At gaps of 30 the curvature is 1e-13, and a full step of Newton's method 1e12 long."""
    probability = wishes(problems, NOISE_RATE)
    near = theory.fit_logistic(problems.sampling, probability)
    far = theory.fit_logistic(problems.sampling, probability, start=[16.0, -14.0, 0.0, 0.0])
    np.testing.assert_allclose(theory.compute_gaps(far), theory.compute_gaps(near), atol=1e-6)
    np.testing.assert_allclose(near.sum(axis=1), 0, atol=1e-9)
    np.testing.assert_allclose(far.sum(axis=1), 2, atol=1e-9)


def test_logistic_fit_leaves_a_corner_of_the_box_for_the_minimum_inside(problems):
    probability = wishes(problems, NOISE_RATE)
    inside = theory.fit_logistic(problems.sampling, probability)
    corner = [20.0, -20.0, 20.0, -20.0]
    left = theory.fit_logistic(problems.sampling, probability, start=corner, clip=20)
    np.testing.assert_allclose(theory.compute_gaps(left), theory.compute_gaps(inside), atol=1e-6)


def test_logistic_fit_says_when_it_has_not_converged(problems):
    with pytest.raises(RuntimeError, match="stopped at a gradient"):
        theory.fit_logistic(problems.sampling, wishes(problems, NOISE_RATE), tolerance=0.0)


def test_clean_logistic_recovers_the_reward(problems):
    fitted = page.best_reward("logistic", problems, 0.0)
    np.testing.assert_allclose(
        theory.compute_gaps(fitted), theory.compute_gaps(problems.reward), atol=1e-6
    )


def test_square_fit_is_weighted_least_squares(problems):
    fitted = page.best_reward("square", problems, NOISE_RATE)
    design = np.array(
        [[1, -1, 0, 0], [1, 0, -1, 0], [1, 0, 0, -1], [0, 1, -1, 0], [0, 1, 0, -1], [0, 0, 1, -1]]
    )
    for row, sampling, probability in zip(
        fitted, problems.sampling, wishes(problems, NOISE_RATE), strict=True
    ):
        root = np.sqrt(sampling)
        expected = np.linalg.lstsq(
            root[:, None] * design, root * (2 * probability - 1), rcond=None
        )[0]
        np.testing.assert_allclose(row, expected, atol=1e-7)


@pytest.mark.parametrize("noise_rate", [0.0, NOISE_RATE])
def test_hinge_fit_reaches_the_optimum_of_the_linear_program(problems, noise_rate):
    """Variables: 4 rewards, 6 slacks for a win, 6 for a loss."""
    first, second = np.triu_indices(4, 1)
    margin = np.zeros((6, 4))
    margin[range(6), first], margin[range(6), second] = 1, -1
    constraints = np.block(
        [[-margin, -np.eye(6), np.zeros((6, 6))], [margin, np.zeros((6, 6)), -np.eye(6)]]
    )
    bounds = [(0, 0)] + [(None, None)] * 3 + [(0, None)] * 12
    risk = page.noisy_risk(
        losses.get("hinge").fn,
        page.best_reward("hinge", problems, noise_rate),
        problems,
        noise_rate,
    )
    for index in range(10):
        sampling, probability = problems.sampling[index], wishes(problems, noise_rate)[index]
        cost = np.concatenate([np.zeros(4), sampling * probability, sampling * (1 - probability)])
        assert risk[index] == pytest.approx(
            linprog(cost, constraints, -np.ones(12), bounds=bounds).fun
        )


@pytest.mark.parametrize("noise_rate", [0.0, NOISE_RATE])
def test_ramp_fit_attains_the_sum_of_the_pairs_least_risks(problems, noise_rate):
    fitted = page.best_reward("ramp", problems, noise_rate)
    probability = wishes(problems, noise_rate)
    least = (problems.sampling * np.minimum(probability, 1 - probability)).sum(axis=1)
    np.testing.assert_allclose(
        page.noisy_risk(losses.get("ramp").fn, fitted, problems, noise_rate), least
    )
    np.testing.assert_array_equal(fitted.argsort(axis=1), problems.reward.argsort(axis=1))


def test_sigmoid_fit_is_no_worse_than_scipy_from_many_starts(problems):
    generator = np.random.default_rng(2)
    few = theory.Problems(problems.reward[:5], problems.sampling[:5])
    ours = page.noisy_risk(
        losses.get("sigmoid").fn,
        page.best_reward("sigmoid", few, NOISE_RATE, clip=3),
        few,
        NOISE_RATE,
    )
    for index in range(5):
        one = theory.Problems(few.reward[[index]], few.sampling[[index]])

        def risk(reward, one=one):
            return page.noisy_risk(losses.get("sigmoid").fn, reward[None], one, NOISE_RATE)[0]

        starts = generator.uniform(-3, 3, (20, 4))
        best = min(
            minimize(risk, start, method="L-BFGS-B", bounds=[(-3, 3)] * 4).fun for start in starts
        )
        assert ours[index] == pytest.approx(best, abs=1e-7)


def test_sigmoid_search_starts_at_the_best_point_of_its_lattice(problems):
    """The search may hide a bad start, by ending in the same place: here it takes no step."""
    probability = wishes(problems, NOISE_RATE)
    start = theory.fit_sigmoid(
        problems.sampling, probability, clip=3, points=5, smallest_step=np.inf
    )
    lattice = np.array(list(product(np.linspace(-3, 3, 5), repeat=4)))
    fn = losses.get("sigmoid").fn
    risks = page.noisy_risk(fn, lattice[:, None], problems, NOISE_RATE)
    np.testing.assert_allclose(
        page.noisy_risk(fn, start, problems, NOISE_RATE), risks.min(axis=0), rtol=1e-12
    )
    assert (np.abs(start).max(axis=1) == 3).all()


def test_sigmoid_search_ends_where_no_neighbour_is_lower(problems):
    probability = wishes(problems, NOISE_RATE)
    end = theory.fit_sigmoid(problems.sampling, probability, clip=3, points=5, smallest_step=0.1)
    step = 1.5 / 8  # the lattice's, halved while it is above 0.1
    moves = np.array(list(product((-1, 0, 1), repeat=4)))
    around = np.clip(end + step * moves[:, None], -3, 3)
    fn = losses.get("sigmoid").fn
    here = page.noisy_risk(fn, end, problems, NOISE_RATE)
    assert (page.noisy_risk(fn, around, problems, NOISE_RATE) >= here - 1e-14).all()
    assert np.abs(end).max() <= 3


def test_fit_reward_asks_for_what_is_missing(problems):
    with pytest.raises(ValueError, match="clip is missing"):
        page.best_reward("sigmoid", problems, NOISE_RATE)
    with pytest.raises(ValueError, match="'savage' has no solver"):
        page.best_reward("savage", problems, NOISE_RATE)


def test_order_errors_count_ties_apart():
    learned = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0], [1.0, 2.0, 2.0]])
    reversed_, tied = theory.find_order_errors(np.array([9.0, 5.0, 4.0]), learned)
    assert reversed_.tolist() == [False, False, True]
    assert tied.tolist() == [False, True, False]
    # small gaps count as large ones do
    assert theory.find_order_errors([0.5, 0.0], [0.0, 0.1])[0]


def test_gaps_up_to_the_tolerance_are_ties():
    learned = np.array([[1.5, 1.0, 0.0], [1.75, 1.0, 0.0], [1.0, 1.75, 0.0]])
    reversed_, tied = theory.find_order_errors([9.0, 5.0, 4.0], learned, tolerance=0.5)
    assert reversed_.tolist() == [False, False, True]
    assert tied.tolist() == [True, False, False]
    default = np.array([[1 + 0.9e-6, 1.0, 0.0], [1 + 1.1e-6, 1.0, 0.0]])
    assert theory.find_order_errors([9.0, 5.0, 4.0], default)[1].tolist() == [True, False]


def test_equal_rewards_have_no_order_to_reverse():
    learned = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0]])
    assert not np.any(theory.find_order_errors([1.0, 1.0, 0.0], learned))


def test_order_errors_of_every_reward_in_every_problem():
    rewards = np.array([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    learned = np.array([[3.0, 2.0, 1.0], [2.0, 2.0, 1.0]])[:, None]
    reversed_, tied = theory.find_order_errors(rewards, learned)
    assert reversed_.tolist() == [[False, True], [False, True]]
    assert tied.tolist() == [[False, False], [True, False]]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), actions=st.integers(3, 5), noise_rate=st.floats(0, 0.45))
def test_even_sampling_never_reverses_logistic_or_square(seed, actions, noise_rate):
    generator = np.random.default_rng(seed)
    problems = theory.draw_problems(
        20, actions=actions, spread=2.0, unevenness=0, generator=generator
    )
    for loss in ("logistic", "square"):
        assert not theory.find_order_errors(
            problems.reward, page.best_reward(loss, problems, noise_rate)
        )[0].any()


def test_three_actions_are_never_reversed_by_logistic_but_four_are(problems):
    three = theory.draw_problems(
        2000, actions=3, spread=2.0, unevenness=2.0, generator=np.random.default_rng(0)
    )
    assert not theory.find_order_errors(
        three.reward, page.best_reward("logistic", three, NOISE_RATE)
    )[0].any()
    assert theory.find_order_errors(
        problems.reward, page.best_reward("logistic", problems, NOISE_RATE)
    )[0].any()


def tabulate_wrong_orders(problems, cases):
    """`count_wrong_orders` at both noise rates, for (loss, clip) of `cases`."""
    rows = [
        page.count_wrong_orders(name, problems, rate, clip=clip)
        for name, clip in cases
        for rate in (0.0, NOISE_RATE)
    ]
    return pd.DataFrame(rows).astype({"clip": float})


def test_wrong_orders_add_up_and_name_the_clip(problems):
    table = tabulate_wrong_orders(problems, [("ramp", None), ("sigmoid", 3), ("sigmoid", 20)])
    assert (table.problems == 200).all()
    np.testing.assert_allclose(table.wrong, table.reversed + table.tied)
    wrong = table.groupby(["loss", "clip"], dropna=False).wrong.max()
    assert wrong["ramp"].item() == 0
    assert wrong["sigmoid", 20] == 0 < wrong["sigmoid", 3]


def test_flips_are_memorised_where_there_is_no_cycle_and_outvoted_in_many():
    generator = np.random.default_rng(0)
    all_pairs = theory.draw_problems(20, actions=12, spread=2.0, unevenness=0, generator=generator)
    first, second = np.triu_indices(12, 1)
    chain = all_pairs._replace(sampling=np.tile((second - first == 1) / 11, (20, 1)))
    means = {
        name: page.compare_memorisation(problems, noise_rate=NOISE_RATE, generator=generator)
        for name, problems in {"chain": chain, "all": all_pairs}.items()
    }
    assert means["chain"]["reward fits labels"] == 1
    assert means["chain"]["reward agrees with r*"] == means["chain"]["labels agree with r*"]
    assert means["all"]["reward fits labels"] < 1
    assert means["all"]["reward agrees with r*"] > means["all"]["labels agree with r*"]
    # every label of 20 · 66 pairs is right with probability σ(gap), and flipped with ε
    expected = wishes(all_pairs, NOISE_RATE)
    agreement = np.maximum(expected, 1 - expected).mean()
    assert means["all"]["labels agree with r*"] == pytest.approx(agreement, abs=0.05)


def test_tilt_is_the_written_formula_and_keeps_the_support():
    reference, reward = np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.0, 1.0, 2.0, 900.0])
    weight = [0.5, 0.3 * np.exp(2), 0.2 * np.exp(4), 0.0]
    np.testing.assert_allclose(
        page.tilt_policy(reference, reward, 0.5), np.array(weight) / sum(weight)
    )


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), beta=st.floats(0.05, 50))
def test_improvement_is_the_covariance_formula(seed, beta):
    generator = np.random.default_rng(seed)
    reference, reward, learned = generator.dirichlet(np.ones(4)), *generator.normal(size=(2, 4))
    weight = np.exp(learned / beta - (learned / beta).max())
    products = sum(
        reference[i] * reference[j] * (reward[i] - reward[j]) * (weight[i] - weight[j])
        for i in range(4) for j in range(4)
    )  # fmt: skip
    expected = products / 2 / (reference @ weight)
    assert page.measure_improvement(reference, reward, learned, beta) == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_objective_is_the_written_sum(beta):
    policy, reference, reward = [0.6, 0.4, 0.0], [0.25, 0.25, 0.5], np.array([2.0, -1.0, 5.0])
    kl = 0.6 * np.log(0.6 / 0.25) + 0.4 * np.log(0.4 / 0.25)
    value = page.measure_objective(np.array(policy), np.array(reference), reward, beta)
    assert value == pytest.approx(0.8 - beta * kl)


def test_kl_by_hand():
    assert page.measure_kl([0.5, 0.5, 0.0], [0.25, 0.25, 0.5]) == pytest.approx(np.log(2))


H = sympy.Symbol("h", real=True)


def derive_weights(**settings):
    methods = losses.pair_losses()
    return {
        name: page.derive_weight(method, H, beta=BETA, **settings)
        for name, method in methods.items()
    }


def written_losses(h):
    """Each loss in numpy, from the table of definitions.

    Dr.DPO's batch mean and RE-PO's confidence are held at `h` itself.
    """
    s = expit(h)
    confidence = 0.9 * s / (0.9 * s + 0.1 * (1 - s))
    return {
        "dpo": lambda x: -log_expit(x),
        "cdpo": lambda x: -0.7 * log_expit(x) - 0.3 * log_expit(-x),
        "rdpo": lambda x: (-0.7 * log_expit(x) + 0.3 * log_expit(-x)) / 0.4,
        "ipo": lambda x: (x / BETA - 1 / (2 * BETA)) ** 2,
        "hinge": lambda x: max(0, 1 - x),
        "ropo": lambda x: 56 / 225 * -log_expit(x) + 784 / 225 * (1 - expit(x)),
        "repo": lambda x: -confidence * log_expit(x) - (1 - confidence) * log_expit(-x),
        # a batch of two, the other pair at 0.3
        "drdpo": lambda x: -2 * np.log((expit(x) + expit(0.3)) / 2),
        "holder": lambda x: -3 * expit(x) ** 2 + 2 * expit(x) ** 3,
        "sympo_sigmoid": lambda x: 1 - expit(x),
        "sympo_ramp": lambda x: np.clip(0.5 - x / 2, 0, 1),
        "sympo_erf": lambda x: float(1 - sympy.erf(x / sympy.sqrt(2))) / 2,
        "sympo_cauchy": lambda x: 0.5 - np.arctan(x) / np.pi,
        "sympo_laplace": lambda x: np.exp(-x) / 2 if x > 0 else 1 - np.exp(x) / 2,
        "sympo_student_t2": lambda x: 0.5 - x / (2 * np.sqrt(2 + x**2)),
        "sympo_unhinged": lambda x: 1 - x,
        "sympo_holder": lambda x: -3 * expit(x) ** 2 + 2 * expit(x) ** 3,
    }


@pytest.mark.parametrize("at", [-4.0, -1.3, -0.2, 0.4, 2.5])
def test_weights_are_the_slopes_of_the_losses(at):
    mean = (expit(at) + expit(0.3)) / 2
    weights = derive_weights(noise_rate=0.3, batch_mean=mean)
    expected = written_losses(at)
    assert set(weights) == set(expected)
    for name, weight in weights.items():
        slope = (expected[name](at + 1e-6) - expected[name](at - 1e-6)) / 2e-6
        assert float(weight.subs(H, at)) == pytest.approx(-slope, rel=1e-6, abs=1e-8), name


def test_weights_of_symmetric_losses_alone_are_even():
    table = theory.tabulate_weights(derive_weights(noise_rate=0.2), H, [-2.5, -0.5, 0.5, 2.5])
    even = {
        name
        for name, rows in table.groupby("method")
        if np.allclose(rows.weight, rows.weight[::-1])
    }
    symmetric = {f"sympo_{name}" for name, loss in losses.LOSSES.items() if loss.symmetric}
    assert even == {"drdpo", "holder", *symmetric}
    flagged = {name for name, method in losses.pair_losses().items() if method.symmetric}
    assert even - flagged == {"drdpo"}  # symmetric only while its batch mean is held fixed


def test_relative_weights_are_one_at_zero():
    table = theory.tabulate_weights(derive_weights(noise_rate=0.2), H, [1.5, -3.0, 0.0])
    assert table.index.is_unique
    np.testing.assert_allclose(table[table.margin == 0].relative, 1)
    dpo = table[(table.method == "dpo") & (table.margin == 1.5)].weight.item()
    assert dpo == pytest.approx(expit(-1.5))


def test_wrong_order_bars_are_as_long_as_the_shares(problems):
    table = tabulate_wrong_orders(problems, [("hinge", None), ("sigmoid", 3)])
    figure = figures.fig_t7_wrong_orders(table.assign(sampling="uneven"))
    lengths = [bar.get_width() for bar in figure.axes[0].patches]
    np.testing.assert_allclose(lengths, table[["reversed", "tied"]].to_numpy().ravel())


@pytest.fixture
def four_actions():
    """The tables of the figure, with made-up numbers: a tree sampled often, and a rare pair."""
    pairs = pd.DataFrame(
        {"better": list("abac"), "worse": list("bcdd"), "wish": [1.5, 2.5, 3.5, 0.5]}
    ).assign(sampling=[0.4, 0.3, 0.2, 0.001])
    series = {"clean": [6.0, 4.0, 1.0, 0.0], "noisy": [4.0, 2.0, -1.0, 0.0]}
    fits = pd.DataFrame(series, index=pd.Index(list("abcd"), name="action"))
    return pairs, fits, fits.reset_index().melt("action", None, "series", "reward")


def test_four_actions_stand_at_their_rewards_and_keep_their_colours(four_actions):
    pairs, fits, rewards = four_actions
    graph, learned = figures.fig_t7_four_actions(pairs, rewards).axes
    nodes = [line for line in graph.lines if line.get_marker() == "o"]
    assert [line.get_ydata().item() for line in nodes] == list(fits["clean"])
    assert [line.get_ydata().tolist() for line in learned.lines] == fits.to_numpy().tolist()
    colours = [line.get_color() for line in learned.lines]
    assert [line.get_markeredgecolor() for line in nodes] == colours
    assert len(set(colours)) == 4
    assert [label.get_text() for label in learned.get_xticklabels()] == ["clean", "noisy"]


def test_pairs_are_as_wide_as_they_are_sampled_often_and_rare_ones_are_dotted(four_actions):
    pairs, fits, rewards = four_actions
    graph, _ = figures.fig_t7_four_actions(pairs, rewards).axes
    lines = [line for line in graph.lines if line.get_marker() != "o"]
    heights = [
        [fits["clean"][better], fits["clean"][worse]] for better, worse in ("ab", "bc", "ad", "cd")
    ]
    assert [list(line.get_ydata()) for line in lines] == heights
    widths = np.array([line.get_linewidth() for line in lines])
    np.testing.assert_allclose(widths[:3] / widths[0], pairs.sampling[:3] / 0.4)
    assert [line.get_linestyle() for line in lines] == ["-", "-", "-", ":"]
    texts = {text.get_text() for text in graph.texts}
    assert texts == {*"abcd", "1.50", "2.50", "3.50"}
