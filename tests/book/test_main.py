"""`python -m sympo run`: what a person meets at the command line."""

import pytest

from sympo import __main__ as command
from sympo.studies import mnist, profiles
from sympo.studies.records import Runs
from sympo.studies.sources import AssetError

SMOKE = ["mnist_losses", "--profile", "smoke"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist_loses"], "Did you mean 'mnist_losses'"),
        (["mnist_losses", "--profile", "labtop"], "Did you mean 'laptop'"),
        ([*SMOKE, "--set", "epoch=3"], "Did you mean 'epochs'"),
        ([*SMOKE, "--set", "epochs=many"], "epochs"),
        ([*SMOKE, "--set", "noise_rates=[0.6]"], "noise_rates.0"),
        ([*SMOKE, "--set", "losses=['ramp2']"], "Did you mean 'ramp'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(mnist, "run_study", lambda config: pytest.fail("it started"))
    assert command.main(["run", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_study_gets_the_config_with_its_overrides(capsys, monkeypatch):
    configs = []

    def run_study(config):
        configs.append(config)
        return Runs([], 2, 1)

    monkeypatch.setattr(mnist, "run_study", run_study)
    overrides = ["--set", "epochs=7", "--set", "losses=['ramp']"]
    assert command.main(["run", *SMOKE, *overrides]) == 0
    (config,) = configs
    assert (config.study, config.profile) == ("mnist_losses", "smoke")
    assert (config.epochs, config.losses) == (7, ["ramp"])
    assert "trained 2, loaded 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"), [(AssetError("no data"), 1), (KeyboardInterrupt(), 130)]
)
def test_missing_data_and_ctrl_c_have_their_exit_codes(error, code, capsys, monkeypatch):
    def fail(config):
        raise error

    monkeypatch.setattr(mnist, "run_study", fail)
    assert command.main(["run", *SMOKE]) == code
    assert capsys.readouterr().err.count("\n") == 1


def test_outside_a_clone_one_sentence_says_that_studies_need_one(monkeypatch, capsys):
    def find_nothing():
        raise FileNotFoundError

    monkeypatch.setattr(profiles, "root", find_nothing)
    assert command.main(["run", *SMOKE]) == 2
    error = capsys.readouterr().err
    assert "studies need a clone of the repository" in error
    assert error.count("\n") == 1
