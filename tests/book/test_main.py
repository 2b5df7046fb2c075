"""`python -m sympo run`: what a person meets at the command line."""

import pytest

from sympo import __main__ as command
from sympo.studies.mnist import study as mnist
from sympo.studies.records import Runs
from sympo.studies.sources import AssetError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnist_loses"], "Did you mean 'mnist_losses'"),
        (["mnist_losses", "--profile", "labtop"], "Did you mean 'laptop'"),
        (["mnist_losses", "--profile", "smoke", "--set", "epoch=3"], "Did you mean 'epochs'"),
        (["mnist_losses", "--profile", "smoke", "--set", "epochs=many"], "epochs"),
        (["mnist_losses", "--profile", "smoke", "--set", "noise_rates=[0.6]"], "noise_rates.0"),
        (
            ["mnist_losses", "--profile", "smoke", "--set", "losses=['ramp2']"],
            "Did you mean 'ramp'",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(mnist, "run_study", lambda config: pytest.fail("it started"))
    assert command.main(["run", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_the_study_gets_the_config_with_its_overrides(capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(mnist, "run_study", lambda config: seen.append(config) or Runs([], 2, 1))
    assert (
        command.main(
            [
                "run",
                "mnist_losses",
                "--profile",
                "smoke",
                "--set",
                "epochs=7",
                "--set",
                "losses=['ramp']",
            ]
        )
        == 0
    )
    (config,) = seen
    assert (config.study, config.profile, config.epochs, config.losses) == (
        "mnist_losses",
        "smoke",
        7,
        ["ramp"],
    )
    assert "trained 2, loaded 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"), [(AssetError("no data"), 1), (KeyboardInterrupt(), 130)]
)
def test_missing_data_and_ctrl_c_have_their_exit_codes(error, code, capsys, monkeypatch):
    def fail(config):
        raise error

    monkeypatch.setattr(mnist, "run_study", fail)
    assert command.main(["run", "mnist_losses", "--profile", "smoke"]) == code
    assert capsys.readouterr().err.count("\n") == 1
