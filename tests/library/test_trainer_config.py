"""The configs: what they refuse and in which words, and that a copy means what the original did."""

import copy as copying
import dataclasses
import json
import math
import re

import numpy as np
import pytest
import torch
from tiny_trainers import build_model, build_reward_model, draw_pairs, settings
from transformers import HfArgumentParser
from trl import DPOConfig, RewardConfig

from sympo import losses, trainer
from sympo.trainer import (
    SymmetricRewardConfig,
    SymmetricRewardTrainer,
    SymPOConfig,
    SymPOTrainer,
)

CPU = {"use_cpu": True, "bf16": False}


# --- refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_type": "sympo_rmap"}, "unknown loss_type 'sympo_rmap'. Did you mean 'sympo_ramp'"),
        ({"loss_type": None}, "loss_type = None: give a name or a list of names"),
        ({"loss_type": 3}, "loss_type = 3: give a name or a list of names"),
        ({"loss_type": [None]}, "unknown loss_type 'None'"),
        ({"loss_type": []}, "loss_type = []: give a name or a list of names"),
        ({"loss_type": {"dpo": 1.0}}, "loss_type = {'dpo': 1.0}: give a name or a list of names"),
        ({"loss_type": "cdpo"}, "needs noise_rate"),
        ({"loss_type": "rdpo"}, "needs noise_rate"),
        ({"loss_type": "rdpo", "noise_rate": 0.5}, "noise_rate = 0.5 is out of range"),
        ({"loss_type": "cdpo", "noise_rate": -0.1}, "noise_rate = -0.1 is out of range"),
        ({"loss_type": "cdpo", "noise_rate": math.nan}, "noise_rate = nan is out of range"),
        ({"loss_type": "cdpo", "noise_rate": "0.2"}, "noise_rate = '0.2' is out of range"),
        ({"loss_type": "cdpo", "noise_rate": False}, "noise_rate = False is out of range"),
        ({"loss_type": "cdpo", "noise_rate": [0.2]}, "noise_rate = [0.2] is out of range"),
        (
            {"loss_type": "dpo", "noise_rate": 0.1},
            "noise_rate = 0.1 does not act on loss_type 'dpo'",
        ),
        ({"loss_type": "sigmoid", "noise_rate": 0.1}, "does not act on loss_type 'sigmoid'"),
        ({"loss_type": "robust", "noise_rate": 0.1}, "give it as label_smoothing"),
        (
            {"loss_type": "rdpo", "noise_rate": 0.1, "label_smoothing": 0.1},
            "give the noise rate as noise_rate",
        ),
        (
            {"loss_type": "sympo_ramp", "label_smoothing": 0.1},
            "label_smoothing = 0.1 does not act on loss_type 'sympo_ramp': leave it at 0.0",
        ),
        (
            {"loss_type": "dpo", "f_divergence_type": "forward_kl"},
            "f_divergence_type = 'forward_kl' does not act",
        ),
        ({"loss_type": "dpo", "ld_alpha": 0.5}, "ld_alpha = 0.5 does not act"),
        ({"loss_type": "dpo", "use_weighting": True}, "use_weighting = True does not act"),
        (
            {"loss_type": "dpo", "loss_weights": [2.0, 1.0]},
            "loss_weights = [2.0, 1.0]: give one number for each of ['dpo']",
        ),
        ({"loss_type": ["dpo", "sft"], "loss_weights": ["1", 2]}, "loss_weights = ['1', 2]"),
        ({"loss_type": ["dpo", "sft"], "loss_weights": [1, math.nan]}, "loss_weights = [1, nan]"),
        (
            {"loss_type": ["sympo_ramp", "sft"], "f_divergence_type": "forward_kl"},
            "f_divergence_type = 'forward_kl' does not act on loss_type 'sympo_ramp'",
        ),
        (
            {"loss_type": ["sympo_ramp", "sft"], "label_smoothing": 0.1},
            "label_smoothing = 0.1 does not act on loss_type 'sympo_ramp'",
        ),
        ({"loss_type": ["sympo_ramp", "cdpo"]}, "loss_type 'cdpo' needs noise_rate"),
        ({"ropo_alpha": 6}, "ropo_alpha = 6 does not act on loss_type 'sympo_sigmoid'"),
        ({"loss_type": "ropo", "ropo_alpha": 0}, "ropo_alpha = 0 is no value of α"),
        ({"loss_type": "holder", "ropo_alpha": 6}, "ropo_alpha = 6 does not act"),
        ({"loss_type": "repo", "repo_start": 1.0}, "repo_start = 1.0 is no value of η₀"),
        (
            {"loss_type": "sigmoid", "length_normalized": True},
            "length_normalized does not act on TRL's loss 'sigmoid': leave it out, or take",
        ),
        (
            {"loss_type": "hinge", "reward_clip": 5.0},
            "reward_clip does not act on TRL's loss 'hinge'",
        ),
        ({"loss_type": "hinge", "loss_weights": 2.0}, "loss_weights = 2.0: give one number"),
        ({"stop_on_divergence": "false"}, "stop_on_divergence = 'false': give True or False"),
        ({"length_normalized": None}, "length_normalized = None: give True or False"),
        ({"beta": 0}, "beta = 0: give a positive number"),
        ({"beta": "0.1"}, "beta = '0.1': give a positive number"),
    ],
)
def test_config_refuses(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SymPOConfig(**CPU, **changes)


NONSENSE = (None, "x", "0.2", True, [], [1.0], {}, math.nan, math.inf, -1, 0, object())


@pytest.mark.parametrize(
    ("config", "base"), [(SymPOConfig, DPOConfig), (SymmetricRewardConfig, RewardConfig)]
)
def test_nonsense_is_taken_or_refused_in_a_sentence(config, base):
    """Any value in any field that is ours: a ValueError at most, that names the field."""
    ours = {field.name for field in dataclasses.fields(config)}
    ours -= {field.name for field in dataclasses.fields(base)}
    assert {"noise_rate", "reward_clip", "stop_on_divergence"} <= ours
    refusals = []
    for name in [*sorted(ours), "loss_type"]:
        for value in NONSENSE:
            try:
                config(**CPU, **{name: value})
            except ValueError as error:
                refusals.append((name, str(error)))
    assert [message for name, message in refusals if name not in message] == []
    assert {name for name, _ in refusals} == {*ours, "loss_type"}


def test_following_the_advice_ends_it():
    """Whatever a refusal says to do is not refused in turn."""
    SymPOConfig(**CPU, loss_type="sympo_ramp", label_smoothing=0.0)
    SymPOConfig(**CPU, loss_type="rdpo", noise_rate=0.1)
    SymPOConfig(**CPU, loss_type="robust", label_smoothing=0.1)


@pytest.mark.parametrize("config", [SymPOConfig, SymmetricRewardConfig])
@pytest.mark.parametrize("clip", [0, -1, "ten", True, False, math.inf, math.nan, [10]])
def test_a_clip_that_is_no_bound_is_refused(config, clip):
    message = f"reward_clip = {clip!r}: give a positive number, none (off) or 'auto'"
    with pytest.raises(ValueError, match=re.escape(message)):
        config(**CPU, reward_clip=clip)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("sympo", "sympo_sigmoid"),
        ("SymPO_ramp", "sympo_ramp"),
        ("ramp", "sympo_ramp"),
        ("erf", "sympo_erf"),
        ("DPO", "dpo"),
        ("rDPO", "rdpo"),
        ("sympo-cauchy", "sympo_cauchy"),
        ("sigmod", "sigmoid"),
    ],
)
def test_the_suggestion_is_of_the_right_family(typed, meant):
    with pytest.raises(ValueError, match=f"Did you mean '{meant}'"):
        SymPOConfig(**CPU, loss_type=typed)


@pytest.mark.parametrize("name", [name for name, x in losses.LOSSES.items() if not x.symmetric])
def test_a_loss_that_is_not_symmetric_is_no_sympo_loss(name):
    with pytest.raises(ValueError, match=f"'{name}' is not symmetric, as a SymPO loss has to be"):
        SymPOConfig(**CPU, loss_type=f"sympo_{name}")


@pytest.mark.parametrize(
    ("loss_type", "message"),
    [
        ("rmap", "Did you mean 'ramp'"),
        ("sympo_ramp", "Did you mean 'ramp'"),
        ("sympo_erf", "Did you mean 'erf'"),
        (["ramp"], "loss_type = ['ramp']: give one name"),
        (None, "loss_type = None: give one name"),
        ("cdpo", "loss_type 'cdpo' needs noise_rate"),
        ("ipo", "unknown loss_type 'ipo'"),
    ],
)
def test_reward_config_refuses(loss_type, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SymmetricRewardConfig(**CPU, loss_type=loss_type)


def test_a_plain_config_is_refused(tmp_path):
    plain = DPOConfig(**settings(tmp_path))
    with pytest.raises(TypeError, match="SymPOTrainer takes a SymPOConfig"):
        SymPOTrainer(build_model(), args=plain, train_dataset=draw_pairs())
    plain = RewardConfig(**settings(tmp_path))
    with pytest.raises(TypeError, match="SymmetricRewardTrainer takes a SymmetricRewardConfig"):
        SymmetricRewardTrainer(build_reward_model(), plain, train_dataset=draw_pairs())


# --- the clip, and copies of a config


def copy_by_replace(config):
    return dataclasses.replace(config)


def copy_by_dict(config):
    return type(config)(**config.to_dict())


def copy_by_json(config):
    return type(config)(**json.loads(config.to_json_string()))


def copy_by_state(config):
    return copying.deepcopy(config)  # by the protocol that torch.save uses as well


@pytest.mark.parametrize("copy", [copy_by_replace, copy_by_dict, copy_by_json, copy_by_state])
@pytest.mark.parametrize("given", ["auto", 3.0, None])
@pytest.mark.parametrize(
    ("config", "loss_type", "automatic"),
    [
        (SymPOConfig, "sympo_ramp", 10.0),
        (SymPOConfig, "dpo", None),
        (SymPOConfig, "holder", None),
        (SymmetricRewardConfig, "ramp", 10.0),
        (SymmetricRewardConfig, "logistic", None),
    ],
)
def test_a_copy_keeps_what_was_given(config, loss_type, automatic, given, copy):
    first = config(**CPU, loss_type=loss_type, reward_clip=given)
    second = copy(first)
    assert first.reward_clip == second.reward_clip == given
    expected = automatic if given == "auto" else given
    assert first.resolve_clip() == second.resolve_clip() == expected


def test_auto_follows_the_loss_of_a_copy():
    symmetric = SymPOConfig(**CPU, loss_type="sympo_sigmoid")
    assert dataclasses.replace(symmetric, loss_type=["dpo"]).resolve_clip() is None
    assert SymPOConfig(**{**symmetric.to_dict(), "loss_type": "hinge"}).resolve_clip() is None
    plain = SymPOConfig(**CPU, loss_type="dpo")
    assert dataclasses.replace(plain, loss_type=["sympo_erf"]).resolve_clip() == 10.0
    reward = SymmetricRewardConfig(**CPU, loss_type="ramp")
    assert dataclasses.replace(reward, loss_type="logistic").resolve_clip() is None
    reward = SymmetricRewardConfig(**CPU, loss_type="logistic")
    assert SymmetricRewardConfig(**{**reward.to_dict(), "loss_type": "erf"}).resolve_clip() == 10.0


@pytest.mark.parametrize("loss_type", sorted(trainer.TRL_LOSSES))
def test_no_loss_of_trl_is_clipped(loss_type):
    assert SymPOConfig(**CPU, loss_type=loss_type).resolve_clip() is None


def test_a_number_of_numpy_is_a_number():
    config = SymPOConfig(
        **CPU, loss_type="cdpo", noise_rate=np.float32(0.25), reward_clip=torch.tensor(2.0)
    )
    assert config.noise_rate == 0.25
    assert config.resolve_clip() == 2.0


@pytest.mark.parametrize("config", [SymPOConfig, SymmetricRewardConfig])
def test_the_bound_of_a_custom_loss_depends_on_it(config):
    custom = config(**CPU, loss_type="custom")
    with pytest.raises(ValueError, match="the bound of 'custom' depends on the loss"):
        custom.resolve_clip()
    assert custom.resolve_clip(losses.as_pair(losses.LOSSES["ramp"])) == 10.0
    assert custom.resolve_clip(losses.as_pair(losses.LOSSES["hinge"])) is None
    assert config(**CPU, loss_type="custom", reward_clip=3).resolve_clip() == 3.0


@pytest.mark.parametrize("value", [np.int64(3), np.float32(3)])
def test_a_constant_of_numpy_is_kept_as_a_number(value):
    config = SymPOConfig(**CPU, loss_type="ropo", ropo_alpha=value)
    assert json.loads(config.to_json_string())["ropo_alpha"] == 3


def test_weights_of_numpy_are_kept_as_numbers():
    weights = [np.float32(0.5), np.int64(2)]
    config = SymPOConfig(**CPU, loss_type=["sympo_sigmoid", "sft"], loss_weights=weights)
    assert json.loads(config.to_json_string())["loss_weights"] == [0.5, 2]


def test_an_entry_may_share_a_constant(monkeypatch):
    """One that was registered before the trainers are imported, and set to another value."""
    mine = dataclasses.replace(losses.get_pair("ropo", ropo_alpha=3), name="ropo3")
    monkeypatch.setitem(losses.PAIR_LOSSES, "ropo3", mine)
    help_text = trainer.config._constant_field("ropo_alpha").metadata["help"]
    assert help_text.startswith("α of ropo and ropo3;")
    config = SymPOConfig(**CPU, loss_type="ropo3", ropo_alpha=14)
    (term,) = config.resolve_terms()
    margin = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(term.loss.fn(margin), losses.get_pair("ropo").fn(margin))


# --- the command line


@pytest.mark.parametrize(
    ("typed", "clip"), [("5", 5.0), ("auto", "auto"), ("none", None), ("None", None)]
)
@pytest.mark.parametrize("config", [SymPOConfig, SymmetricRewardConfig])
def test_the_command_line_takes_what_the_message_offers(config, typed, clip):
    line = [f"--reward_clip={typed}", "--use_cpu=true", "--bf16=false"]
    (parsed,) = HfArgumentParser((config,)).parse_args_into_dataclasses(line)
    assert parsed.reward_clip == clip


def test_config_reads_the_command_line():
    line = ["--loss_type=rdpo", "--noise_rate=0.2", "--stop_on_divergence=false"]
    (config,) = HfArgumentParser((SymPOConfig,)).parse_args_into_dataclasses(
        [*line, "--use_cpu=true", "--bf16=false"]
    )
    assert (config.loss_type, config.noise_rate) == (["rdpo"], 0.2)
    assert not config.stop_on_divergence
