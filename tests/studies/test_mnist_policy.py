"""Policies over few actions against enumeration, sampling and other closed forms."""

from itertools import product

import numpy as np
import pytest
import sympy as sp
from scipy import optimize, special

from sympo.studies import profiles
from sympo.studies.mnist import PolicyConfig, policy

DIGITS = np.array([7, 2, 1, 0, 4, 1])
REWARDS = np.array([1.5, -0.5, 0.25, -2.0, 1.5, 0.0])  # two tie for the greatest
UNEVEN = np.array([0.1, 0.3, 0.2, 0.05, 0.15, 0.2])
UNIFORM = np.full(6, 1 / 6)
each_reference = pytest.mark.parametrize("reference", [UNIFORM, UNEVEN], ids=["uniform", "uneven"])
CONFIG = PolicyConfig(
    study="mnist_policy", profile="smoke", kls=[0.25, 1.0, 5.0], betas=[0.5, 2.0], ns=[1, 3]
)


def make_record(method="sigmoid", seed=0, rewards=REWARDS, **metrics):
    run = {"method": method, "rate_pos": 0.4, "seed": seed}
    return {"config": run, "metrics": {"rewards": list(rewards), **metrics}}


# Tilted policies


@each_reference
def test_the_tilted_policy_maximises_reward_minus_kl(reference):
    """By an optimiser that knows no formula, over logits."""
    beta = 0.7

    def lose(logits):
        tried = special.softmax(logits)
        return beta * (tried * np.log(tried / reference)).sum() - tried @ REWARDS

    best = special.softmax(optimize.minimize(lose, np.zeros(6), tol=1e-12).x)
    np.testing.assert_allclose(policy.tilt(REWARDS, beta, reference), best, atol=1e-5)


def test_a_stack_of_rewards_is_tilted_row_by_row():
    rewards = np.array([REWARDS, -REWARDS])
    rows = [policy.tilt(row, 0.3, UNEVEN) for row in rewards]
    np.testing.assert_allclose(policy.tilt(rewards, 0.3, UNEVEN), rows)


@each_reference
def test_the_limit_of_a_small_beta_is_the_reference_on_the_best_actions(reference):
    greedy = policy.tilt(REWARDS, 0, reference)
    np.testing.assert_allclose(policy.tilt(REWARDS, 1e-3, reference), greedy, atol=1e-12)
    assert set(np.flatnonzero(greedy)) == {0, 4}
    assert greedy[0] / greedy[4] == pytest.approx(reference[0] / reference[4])


def test_a_large_reward_overflows_nothing(recwarn):
    tilted = policy.tilt([2e4, 0.0], 1.0, [0.5, 0.5])
    assert tilted.tolist() == [1.0, 0.0]
    assert not recwarn


def test_the_kl_is_the_integral_of_the_definition():
    p, q = sp.Rational(1, 4), sp.Rational(2, 3)
    exact = p * sp.log(p / q) + (1 - p) * sp.log((1 - p) / (1 - q))
    assert policy.measure_kl([0.25, 0.75], [2 / 3, 1 / 3]) == pytest.approx(float(exact))
    # an action that the policy never takes adds nothing
    assert policy.measure_kl([1.0, 0.0], [0.5, 0.5]) == pytest.approx(np.log(2))


@each_reference
@pytest.mark.parametrize("kl", [1e-4, 0.1, 0.5, 1.0])
def test_the_solved_beta_gives_the_kl(kl, reference):
    beta = policy.solve_beta(REWARDS, kl, reference)
    assert policy.measure_kl(policy.tilt(REWARDS, beta, reference), reference) == pytest.approx(kl)


def test_beta_is_that_of_two_actions_by_hand():
    # mass m on the better of two: the KL is log 2 − H(m), and m = σ(gap/β)
    m = 0.9
    kl = np.log(2) + m * np.log(m) + (1 - m) * np.log(1 - m)
    beta = policy.solve_beta([3.0, 1.0], kl, [0.5, 0.5])
    assert beta == pytest.approx(2 / special.logit(m))


@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e3])
def test_equal_kl_does_not_see_the_scale_of_a_reward(scale):
    beta = policy.solve_beta(REWARDS * scale + 5, 0.5, UNEVEN)
    assert beta == pytest.approx(scale * policy.solve_beta(REWARDS, 0.5, UNEVEN), rel=1e-6)


def test_ties_at_the_top_cap_the_kl():
    greatest = -np.log(UNEVEN[[0, 4]].sum())
    assert policy.solve_beta(REWARDS, greatest + 1e-9, UNEVEN) == 0
    assert policy.solve_beta(REWARDS, greatest - 1e-3, UNEVEN) > 0
    # a reward that knows nothing leads nowhere
    assert policy.solve_beta(np.ones(6), 0.1, UNEVEN) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: policy.tilt(REWARDS, -1, UNIFORM), "beta = -1"),
        (lambda: policy.solve_beta(REWARDS, 0, UNIFORM), "kl = 0"),
        (lambda: policy.choose_best_of(REWARDS, 0, UNIFORM), "n = 0"),
        (lambda: policy.tilt(REWARDS, 1, UNIFORM / 2), "sum to 1"),
        (lambda: policy.tilt([1, 2], 1, [1, 0]), "must be positive"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Best-of-n


@each_reference
@pytest.mark.parametrize("n", [1, 2, 4])
def test_best_of_n_equals_the_enumeration_of_all_draws(n, reference):
    expected = np.zeros(6)
    for draws in product(range(6), repeat=n):
        drawn = list(draws)
        best = [action for action in drawn if REWARDS[action] == REWARDS[drawn].max()]
        for action in best:
            expected[action] += reference[drawn].prod() / len(best)
    np.testing.assert_allclose(policy.choose_best_of(REWARDS, n, reference), expected, atol=1e-12)


def test_best_of_n_of_distinct_rewards_stays_below_the_known_kl():
    rewards = np.random.default_rng(0).normal(size=1000)
    reference = np.full(1000, 1e-3)
    for n in (2, 16, 64):
        kl = policy.measure_kl(policy.choose_best_of(rewards, n, reference), reference)
        bound = np.log(n) - (n - 1) / n
        assert 0.9 * bound < kl <= bound


# What a policy is worth


@each_reference
def test_standing_equals_enumeration(reference):
    expected = [
        sum(
            p * ((mine > other) + (mine == other) / 2)
            for p, other in zip(reference, DIGITS, strict=True)
        )
        for mine in DIGITS
    ]
    standing = policy.compute_standing(DIGITS, reference)
    np.testing.assert_allclose(standing, expected)
    assert reference @ standing == pytest.approx(0.5)


def test_the_win_rate_equals_that_of_drawn_answers():
    generator = np.random.default_rng(0)
    tilted = policy.tilt(REWARDS, 0.8, UNEVEN)
    ours, theirs = (DIGITS[generator.choice(6, 200_000, p=p)] for p in (tilted, UNEVEN))
    drawn = (ours > theirs).mean() + (ours == theirs).mean() / 2
    # four standard errors
    assert tilted @ policy.compute_standing(DIGITS, UNEVEN) == pytest.approx(drawn, abs=0.0045)


def test_violated_pairs_are_counted_without_ties():
    pairs = [(i, j) for i in range(6) for j in range(6) if DIGITS[i] > DIGITS[j]]
    wrong = sum(REWARDS[i] < REWARDS[j] for i, j in pairs)
    tied = sum(REWARDS[i] == REWARDS[j] for i, j in pairs)
    assert wrong
    assert tied
    shares = policy.share_violated(np.array([REWARDS, DIGITS, -DIGITS]), DIGITS)
    assert shares == pytest.approx([wrong / len(pairs), 0, 1])


# The table


def test_every_policy_of_a_model_has_a_row():
    rows = {
        (row["fixed"], row["at"]): row for row in policy.measure_policies(REWARDS, DIGITS, CONFIG)
    }
    assert [*rows] == [
        *product(["KL"], CONFIG.kls),
        *product(["β"], CONFIG.betas),
        ("n", 1),
        ("n", 3),
    ]
    for (fixed, at), row in rows.items():
        tilted = policy.tilt(REWARDS, row["beta"], UNIFORM) if fixed != "n" else None
        chosen = policy.choose_best_of(REWARDS, at, UNIFORM) if fixed == "n" else tilted
        assert row["digit"] == pytest.approx(sum(chosen * DIGITS))
        assert row["win_rate"] == pytest.approx(chosen @ policy.compute_standing(DIGITS, UNIFORM))
        assert row["kl"] == pytest.approx(policy.measure_kl(chosen, UNIFORM))
    assert rows["KL", 0.25]["kl"] == pytest.approx(0.25)
    assert rows["β", 2.0]["beta"] == 2
    # two of six actions tie: a model is reported where it can go no farther, and not left out
    assert not rows["KL", 5.0]["reached"]
    assert rows["KL", 5.0]["kl"] == pytest.approx(np.log(3))
    assert rows["n", 1]["win_rate"] == pytest.approx(0.5)
    assert all(row["reached"] for (fixed, at), row in rows.items() if (fixed, at) != ("KL", 5.0))


def test_a_chosen_epoch_is_shown_where_every_record_keeps_it():
    chosen = {"epoch": 3, "rewards": list(-REWARDS)}
    new = [make_record(seed=seed, chosen=chosen) for seed in (0, 1)]
    old = [make_record(seed=2)]
    table = policy.tabulate_policies(new, DIGITS, CONFIG)
    assert table.epoch.unique().tolist() == ["final", "chosen"]
    assert policy.tabulate_policies(new + old, DIGITS, CONFIG).epoch.unique().tolist() == ["final"]
    by_epoch = table.groupby("epoch").violated.first()
    assert by_epoch["final"] == pytest.approx(policy.share_violated(REWARDS[None], DIGITS)[0])
    assert by_epoch["chosen"] == pytest.approx(policy.share_violated(-REWARDS[None], DIGITS)[0])
    assert len(table) == 2 * 2 * (3 + 2 + 2)
    assert table[["method", "noise_rate"]].drop_duplicates().values.tolist() == [["sigmoid", 0.4]]


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_every_profile_has_the_policies_that_the_contrasts_name(profile):
    config = profiles.section_config(PolicyConfig, "mnist_policy", profile)
    assert {1.0, 2.0} <= {*config.kls}
    assert 1.0 in config.betas
