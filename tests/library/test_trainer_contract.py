"""What the trainers ask of TRL, and what they say of a TRL that nobody tested."""

import inspect
import re
import tomllib
import warnings

import pytest
import trl
from packaging.requirements import Requirement
from tiny_trainers import build, build_reward, draw_pairs
from trl import DPOTrainer, RewardTrainer

from sympo import losses, trainer
from sympo.trainer import SymmetricRewardTrainer, SymPOConfig, SymPOTrainer, contract

BUILD = {SymPOTrainer: lambda folder: build("dpo", folder), SymmetricRewardTrainer: build_reward}


# What TRL's own tests ask for, and these classes refuse on purpose: run from TRL's repository with
# these classes in place of its, all that fails there and passes with TRL's own is listed here and
# in the two tests below. The tests name no loss, so the loss is the default, and the setting would
# not act on it.
REFUSALS = [
    (
        "test_train_with_f_divergence[forward_kl]",
        SymPOConfig,
        {"f_divergence_type": "forward_kl"},
        "f_divergence_type = 'forward_kl' does not act on loss_type 'sympo_sigmoid': "
        "leave it at 'reverse_kl'",
    ),
    (
        "test_train_with_f_divergence[js_divergence]",
        SymPOConfig,
        {"f_divergence_type": "js_divergence"},
        "f_divergence_type = 'js_divergence' does not act on loss_type 'sympo_sigmoid': "
        "leave it at 'reverse_kl'",
    ),
    (
        "test_train_with_f_divergence[alpha_divergence]",
        SymPOConfig,
        {"f_divergence_type": "alpha_divergence"},
        "f_divergence_type = 'alpha_divergence' does not act on loss_type 'sympo_sigmoid': "
        "leave it at 'reverse_kl'",
    ),
    (
        "test_train_with_ld",
        SymPOConfig,
        {"ld_alpha": 0.5},
        "ld_alpha = 0.5 does not act on loss_type 'sympo_sigmoid': leave it at None",
    ),
    (
        "test_train_with_wpo",
        SymPOConfig,
        {"use_weighting": True},
        "use_weighting = True does not act on loss_type 'sympo_sigmoid': leave it at False",
    ),
]


@pytest.mark.parametrize(("config", "setting", "sentence"), [entry[1:] for entry in REFUSALS])
def test_what_trl_tests_and_these_refuse(config, setting, sentence):
    with pytest.raises(ValueError, match="does not act") as caught:
        config(use_cpu=True, bf16=False, **setting)
    assert str(caught.value) == sentence
    # With a loss of TRL's the same setting is taken: nothing is lost but the default.
    config(use_cpu=True, bf16=False, loss_type="sigmoid", **setting)


def test_trl_tests_a_column_of_margins_and_a_symmetric_loss_refuses_it(tmp_path):
    """TRL's test_train_with_margin, with the default loss and with its own."""
    rows = draw_pairs().add_column("margin", [0.5] * 16)
    with pytest.raises(ValueError, match="margin") as caught:
        build_reward(tmp_path, data=rows)
    assert str(caught.value) == (
        "the data has a column 'margin', with which loss_type 'sigmoid' is not symmetric: "
        "remove the column, or take a loss that is not symmetric, such as 'logistic'"
    )
    build_reward(tmp_path, data=rows, loss_type="logistic")


def test_trl_tests_a_run_that_diverges_and_these_end_it(tmp_path):
    """TRL's test_train_model_dtype, twice: float16 at a rate of 0.1, where the loss becomes NaN.

    Only a learning rate that diverges for sure is taken here, and the sentence.
    """
    changes = {"learning_rate": 1e38, "optim": "sgd", "max_grad_norm": 0.0}
    built = build("sympo_sigmoid", tmp_path, **changes)
    with pytest.raises(trainer.DivergedError) as caught:
        built.train()
    assert str(caught.value) == (
        "training diverged: the loss of step 2 is not finite (SymPO (loss_type sympo_sigmoid), "
        "seed 42); lower learning_rate, which is 1e+38, or set stop_on_divergence=False to go on"
    )


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
@pytest.mark.parametrize("version", ["1.12.0", "1.15.1", "1.17.0.dev0", "2.0.1"])
def test_another_version_is_named_in_a_warning(kind, version, tmp_path, monkeypatch):
    monkeypatch.setattr(trl, "__version__", version)
    message = f"tested with TRL 1.13, 1.14 and 1.16, and this is {re.escape(version)}.*same methods"
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
    allowed = Requirement(wanted).specifier
    versions = [f"1.{minor}" for minor in range(30)] + ["2.0"]
    assert [version for version in versions if f"{version}.0" in allowed] == [*contract.TESTED]
