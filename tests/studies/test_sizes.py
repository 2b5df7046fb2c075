"""Study finite_sample: nested sets, equal steps, and models that train as they would alone."""

import numpy as np
import pytest
from tiny_mnist import banded_digits

from sympo.studies import mnist, profiles, sources
from sympo.studies.mnist import sizes

SIZES = {
    "losses": ["logistic", "sigmoid"],
    "noise_rates": [0.0, 0.4],
    "shares": [0.25, 1.0],
    "first_seed": 7,
    "seeds": 2,
    "epochs": 1,
    "eval_every": 1,
    "pairs": 80,
    "validation_pairs": 20,
    "batch": 20,
}


def make_config(**changes):
    return sizes.SizesConfig(study="finite_sample", profile="smoke", **{**SIZES, **changes})


def test_runs_take_equal_steps_on_their_own_seeds():
    runs = make_config().runs()
    assert len(runs) == 2 * 2 * 2 * 2
    assert {run.seed for run in runs} == {7, 8}
    assert {(run.pairs, run.epochs, run.eval_every) for run in runs} == {(20, 4, 4), (80, 1, 1)}
    assert {run.epochs * run.pairs // run.batch for run in runs} == {4}


@pytest.mark.parametrize("profile", profiles.PROFILES)
def test_every_profile_takes_equal_steps(profile):
    config = profiles.study_config("finite_sample", profile)
    runs = config.runs()
    steps = {(run.epochs * run.pairs, run.pairs % run.batch, run.batch) for run in runs}
    assert steps == {(config.epochs * config.pairs, 0, config.batch)}
    # the largest noisy set is compared with the clean set it is worth
    worth = {round(config.pairs * (1 - 2 * rate) ** 2) for rate in (0.25, 0.4)}
    assert worth <= {run.pairs for run in runs}


@pytest.mark.parametrize(
    "changes", [{"shares": [0.3, 1.0]}, {"batch": 30}, {"shares": [0.75, 1.0]}, {"eval_every": 0.5}]
)
def test_unequal_steps_are_refused(changes):
    with pytest.raises(ValueError, match=r"equal steps|integer"):
        make_config(**changes)


def test_a_share_is_listed_once():
    with pytest.raises(ValueError, match=r"shares holds 1\.0 more than once"):
        make_config(shares=[1.0, 1.0])


def test_training_sets_are_nested_with_their_flips():
    data = banded_digits(250, 150)
    small, large = (
        next(run for run in make_config().runs() if run.pairs == pairs and run.rate_pos == 0.4)
        for pairs in (20, 80)
    )
    (few, _), (many, _) = (mnist.split_pairs(data.train_labels, run) for run in (small, large))
    np.testing.assert_array_equal(few.first, many.first[:20])
    ink = data.train_images.mean((1, 2))
    flips = [mnist.noisy_labels(pairs, small, ink) for pairs in (few, many)]
    np.testing.assert_array_equal(flips[0], flips[1][:20])


def test_sizes_train_together_as_they_would_alone(monkeypatch):
    data = banded_digits(250, 150)
    monkeypatch.setattr(sources, "mnist", lambda: data)
    runs = make_config(seeds=1).runs()
    together = dict(sizes.train_models(runs, device="cpu"))
    assert together.keys() == {*runs}
    for run in runs:
        ((_, alone),) = mnist.train_models([run], device="cpu")
        assert together[run].history[-1]["epoch"] == run.epochs
        np.testing.assert_allclose(
            together[run].metrics["train_risk"], alone.metrics["train_risk"], rtol=1e-3
        )


def test_parts_of_the_plan_hold_one_size(monkeypatch):
    monkeypatch.setattr(sources, "mnist", lambda: banded_digits(250, 150))
    parts = sizes.plan_study(make_config()).parts()
    assert all(len({(run.seed, run.pairs) for run in part}) == 1 for part in parts)
    assert sum(map(len, parts)) == len(make_config().runs())


def make_record(run, history):
    return {"config": run.config(), "metrics": history[-1], "history": history}


def test_a_row_per_model_at_its_last_its_chosen_and_its_middle_epoch():
    run = next(run for run in make_config().runs() if run.pairs == 20 and run.rate_pos == 0.4)
    shared = {"ties": 0.0, "fit_clean": 0.7}
    history = [
        {"epoch": 1, "accuracy": 0.6, "validation": 0.5, "fit_flipped": 0.4, **shared},
        {"epoch": 2, "accuracy": 0.7, "validation": 0.6, "fit_flipped": 0.5, **shared},
        {"epoch": 3, "accuracy": 0.8, "validation": 0.6, "fit_flipped": 0.6, **shared},
        {"epoch": 4, "accuracy": 0.75, "validation": 0.55, "fit_flipped": 0.9, **shared},
    ]
    (row,) = sizes.tabulate_runs([make_record(run, history)]).itertuples()
    # the first of the epochs that look equally good
    measured = (row.accuracy, row.chosen_accuracy, row.halfway_accuracy, row.fit_flipped)
    assert measured == (0.75, 0.7, 0.7, 0.9)
    assert row.memorised == pytest.approx(0.9 - (1 - 0.7))
    assert row.effective == pytest.approx(20 * 0.2**2)


def test_without_flips_nothing_can_be_memorised():
    run = next(run for run in make_config().runs() if run.rate_pos == 0)
    entry = {"epoch": 1, "accuracy": 0.6, "validation": 0.5, "ties": 0.0}
    record = make_record(run, [{**entry, "fit_flipped": None, "fit_clean": 0.7}])
    (row,) = sizes.tabulate_runs([record]).itertuples()
    assert np.isnan(row.memorised)
    assert row.effective == run.pairs
