"""What the trainers ask of TRL, and what they say of a TRL that nobody tested."""

import inspect
import re
import tomllib
import warnings

import pytest
import trl
from tiny_trainers import build, build_reward
from trl import DPOTrainer, RewardTrainer

from sympo import losses, trainer
from sympo.trainer import SymmetricRewardTrainer, SymPOTrainer, contract

BUILD = {SymPOTrainer: lambda folder: build("dpo", folder), SymmetricRewardTrainer: build_reward}


def test_every_name_of_trl_is_known():
    source = inspect.getsource(DPOTrainer._compute_loss)
    assert set(re.findall(r'loss_type == "(\w+)"', source)) == trainer.TRL_LOSSES


def test_every_row_and_every_symmetric_loss_has_a_name():
    rows = {"dpo", "cdpo", "rdpo", "ipo", "hinge", "ropo", "drdpo", "holder", "repo"}
    family = [f"sympo_{loss.name}" for loss in losses.LOSSES.values() if loss.symmetric]
    assert {*rows, *family} <= set(trainer.loss_types())
    assert len(family) == 8
    assert {"sympo_sigmoid", "sympo_ramp"} <= set(family)


@pytest.mark.parametrize("kind", BUILD)
def test_a_tested_version_is_taken_in_silence(kind, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        BUILD[kind](tmp_path)
    assert not [str(warning.message) for warning in caught if "was tested" in str(warning.message)]


@pytest.mark.parametrize("kind", BUILD)
@pytest.mark.parametrize("version", ["1.14.2", "1.17.0.dev0", "2.0.1"])
def test_another_version_is_named_in_a_warning(kind, version, tmp_path, monkeypatch):
    monkeypatch.setattr(trl, "__version__", version)
    first, last = contract.TESTED
    message = f"tested with TRL {first} to {last}, and this is {re.escape(version)}.*same methods"
    with pytest.warns(UserWarning, match=message) as caught:
        BUILD[kind](tmp_path)
    # It points to the line that builds the trainer.
    (warning,) = [warning for warning in caught if "was tested" in str(warning.message)]
    assert warning.filename.endswith("tiny_trainers.py")


def test_a_warning_says_which_methods_changed(tmp_path, monkeypatch):
    def log(self, logs, step, start_time=None):
        raise AssertionError("never called")

    monkeypatch.setattr(trl, "__version__", "1.99.0")
    monkeypatch.setattr(RewardTrainer, "log", log)
    with pytest.warns(UserWarning, match="RewardTrainer takes other arguments in log$"):
        build_reward(tmp_path)


@pytest.mark.parametrize(
    ("kind", "base", "method"),
    [
        (SymPOTrainer, DPOTrainer, "compute_ref_log_probs"),
        (SymmetricRewardTrainer, RewardTrainer, "_prepare_dataset"),
    ],
)
def test_a_method_that_is_gone_is_an_error(kind, base, method, tmp_path, monkeypatch):
    monkeypatch.setattr(trl, "__version__", "3.0.0")
    monkeypatch.delattr(base, method)
    with pytest.raises(RuntimeError, match=f"this is 3.0.0, whose {base.__name__} has no {method}"):
        BUILD[kind](tmp_path)


@pytest.mark.parametrize(("base", "methods"), contract.METHODS.items())
def test_the_methods_take_these_arguments(base, methods):
    for name, parameters in methods.items():
        assert contract._parameters(base, name) == parameters, name


def test_every_method_that_is_overridden_is_in_the_contract():
    for kind in BUILD:
        (base,) = [base for base in contract.METHODS if issubclass(kind, base)]
        ours = [cls for cls in kind.__mro__ if cls.__module__.startswith("sympo.")]
        overridden = {name for cls in ours for name in vars(cls) if name in dir(base)}
        functions = {name for name in overridden if inspect.isfunction(getattr(base, name))}
        plain = {name for name in functions if not name.startswith("__")}
        assert plain <= set(contract.METHODS[base])


def test_the_package_asks_for_the_versions_that_were_tested(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    (wanted,) = [line for line in project["dependencies"] if line.startswith("trl")]
    first, last = contract.TESTED
    major, minor = map(int, last.split("."))
    assert wanted == f"trl>={first},<{major}.{minor + 1}"
