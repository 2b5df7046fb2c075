"""The learning-rate probe: its runs, what it chooses, and what is run because of it."""

import math

import pytest
from tiny_gold import config

from sympo.studies import plan
from sympo.studies.alignment.config import PROBE_SEED, choose_learning_rates

RATES = (1e-3, 1e-2)


def tuned(**changes):
    return config(learning_rates=list(RATES), headline_seeds=2, frontier_seeds=0, **changes)


def record(run, validation):
    return {"config": run.config(), "metrics": {"validation": validation}}


def test_a_probe_crosses_headline_methods_rates_and_learning_rates_on_its_own_seeds():
    study = tuned(probe_seeds=2)
    probe = study.probe_runs()
    cells = {(run.method, run.noise_rate, run.learning_rate, run.seed) for run in probe}
    assert len(probe) == len(cells) == 2 * 2 * 2 * 2
    assert {run.seed for run in probe} == {PROBE_SEED, PROBE_SEED + 1}
    assert {run.noise_rate for run in probe} == {0.0, 0.4}
    assert {run.seed for run in study.runs()} == {0, 1}


def test_the_best_mean_over_noise_rates_is_chosen_and_nan_never_is():
    reached = {
        # better at one rate, worse in the mean
        ("dpo", 0.0, 1e-3): 0.80,
        ("dpo", 0.4, 1e-3): 0.55,
        ("dpo", 0.0, 1e-2): 0.84,
        ("dpo", 0.4, 1e-2): 0.50,
        ("sympo_sigmoid", 0.0, 1e-3): 0.6,
        ("sympo_sigmoid", 0.4, 1e-3): 0.5,
        ("sympo_sigmoid", 0.0, 1e-2): 0.9,
        ("sympo_sigmoid", 0.4, 1e-2): math.nan,
    }
    probe = [
        record(run, reached[run.method, run.noise_rate, run.learning_rate])
        for run in tuned().probe_runs()
    ]
    assert choose_learning_rates(probe) == {"dpo": 1e-3, "sympo_sigmoid": 1e-3}
    # a tie goes to the lower rate, whatever the order
    even = [record(run, 0.7) for run in reversed(tuned().probe_runs())]
    assert choose_learning_rates(even) == {"dpo": 1e-3, "sympo_sigmoid": 1e-3}


def test_what_is_chosen_is_run_once_the_probe_is_complete():
    study = tuned()
    probe = study.probe_runs()
    # the faster one is better for SymPO alone
    found = {
        run: record(run, 0.9 if (run.method != "dpo") == (run.learning_rate == 1e-2) else 0.6)
        for run in probe
    }
    incomplete = {run: found[run] for run in probe[:-1]}
    assert set(study.list_runs(incomplete.get, {})) == {*study.runs(), *probe}

    runs = study.list_runs(found.get, {})
    assert len(runs) == len(set(runs))
    own = [run for run in runs if run.learning_rate == 1e-2 and run.seed < PROBE_SEED]
    assert {study.tier(run) for run in own} == {plan.TUNED}
    # dpo's own rate is the one that all methods share, and its runs are there already
    assert {(run.method, run.learning_rate) for run in own} == {("sympo_sigmoid", 1e-2)}
    assert {(run.noise_rate, run.seed) for run in own} == {
        (rate, seed) for rate in (0.0, 0.4) for seed in (0, 1)
    }
    # the contrast is complete in every seed
    dpo = {(r.noise_rate, r.seed) for r in runs if r.method == "dpo" and r.learning_rate == 1e-3}
    assert dpo >= {(run.noise_rate, run.seed) for run in own}
    # and trained before what no contrast of these needs
    needed = [r for r in runs if r.method == "dpo" and (r.noise_rate, r.seed) in dpo]
    needed = [run for run in needed if run.beta == 0.1 and run.seed < PROBE_SEED]
    assert {study.tier(run) for run in needed} == {plan.HEADLINE, plan.TUNED}


def test_without_a_probe_nothing_is_tuned():
    study = config()
    assert study.list_runs(lambda run: None, {}) == study.runs()


@pytest.mark.parametrize(
    ("find", "tier"),
    [
        ({"method": "dpo", "noise_rate": 0.4, "beta": 0.1}, plan.HEADLINE),
        ({"method": "dpo", "noise_rate": 0.2, "beta": 0.1}, plan.CLAIMED),
        ({"method": "rdpo", "noise_rate": 0.4, "beta": 0.1}, plan.CLAIMED),
        ({"method": "dpo", "noise_rate": 0.0, "beta": 0.1}, plan.TUNED),
        ({"method": "dpo", "noise_rate": 0.4, "beta": 0.5}, plan.OTHER_RATES),
        ({"method": "rdpo", "noise_rate": 0.0, "beta": 0.1}, plan.OTHER_METHODS),
    ],
)
def test_tiers(find, tier):
    study = config(
        noise_rates=[0.0, 0.2, 0.4], claimed_methods=["dpo", "rdpo"], claimed_rates=[0.2, 0.4]
    )
    (run, *_) = (r for r in study.runs() if all(getattr(r, k) == v for k, v in find.items()))
    assert study.tier(run) == tier
