"""What the trainers tell their user: that a run diverged, what was cut, and the model card."""

import math
import re

import pytest
import torch
from tiny_trainers import RATES, build, build_reward, draw_pairs, settings
from trl import DPOTrainer

from sympo import trainer
from sympo.losses import LOSSES, as_pair, get_pair
from sympo.trainer import SymPOConfig, SymPOTrainer
from sympo.trainer.card import describe_policy

pytestmark = pytest.mark.usefixtures("frozen_modules")

# The first step is sound, and what it leaves is not.
DIVERGING = {"learning_rate": 1e38, "optim": "sgd", "max_grad_norm": 0.0, "max_steps": 4}


def build_rdpo(folder, **changes):
    return build("rdpo", folder, **changes)


# --- divergence


@pytest.mark.parametrize(
    ("build_trainer", "method"),
    [(build_rdpo, "loss_type rdpo, noise_rate 0.2"), (build_reward, "loss_type sigmoid")],
)
def test_a_diverged_run_is_an_error_that_names_it(build_trainer, method, tmp_path):
    built = build_trainer(tmp_path, seed=5, logging_steps=3, **DIVERGING)
    with pytest.raises(trainer.DivergedError, match="the loss of step 2 is not finite") as caught:
        built.train()
    for part in (method, "seed 5", "learning_rate, which is 1e+38"):
        assert part in str(caught.value)
    # It ends where the steps are logged, and what was logged is kept.
    assert built.state.global_step == 3
    assert math.isnan(built.state.log_history[-1]["margin_true"])


def test_a_search_may_go_on(tmp_path):
    built = build("dpo", tmp_path, stop_on_divergence=False, **DIVERGING)
    built.train()
    assert built.state.global_step == 4


@pytest.mark.parametrize("build_trainer", [build_rdpo, build_reward])
def test_an_evaluation_sees_what_the_last_step_has_left(build_trainer, tmp_path):
    """One step, whose own loss is sound; what it leaves is made sure of."""
    built = build_trainer(tmp_path, max_steps=1)
    built.train()
    with torch.no_grad():
        for parameter in built.model.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(trainer.DivergedError, match="eval_loss after step 1 is not finite"):
        built.evaluate(draw_pairs(6))
    assert math.isnan(built.state.log_history[-1]["eval_loss"])


def test_a_loss_of_the_last_step_is_seen(tmp_path):
    built = build_rdpo(tmp_path, **{**DIVERGING, "max_steps": 2, "logging_steps": 100})
    with pytest.raises(trainer.DivergedError, match="the loss of step 2 is not finite"):
        built.train()


@pytest.mark.parametrize("build_trainer", [build_rdpo, build_reward])
def test_the_accuracy_of_nan_is_nan(build_trainer, tmp_path):
    built = build_trainer(tmp_path, stop_on_divergence=False)
    with torch.no_grad():
        for parameter in built.model.parameters():
            parameter.fill_(math.nan)
    metrics = built.evaluate(draw_pairs(6))
    for name in ("accuracy_true", "margin_true", "flipped_fit"):
        assert math.isnan(metrics[f"eval_{name}"]), name
    if build_trainer is build_reward:
        assert math.isnan(metrics["eval_clip_fraction"])


@pytest.mark.parametrize("base", [SymPOTrainer, DPOTrainer])
@pytest.mark.parametrize("part", ["model", "ref_model"])
def test_an_error_of_a_pass_is_explained_as_trl_explains_it(part, base, tmp_path):
    """A vision model whose image tokens were cut, in the pass of the policy or of the reference."""

    def cut(*args, **kwargs):
        raise ValueError("Image features and image tokens do not match")

    built = build("sigmoid", tmp_path, base=base, max_length=32)
    getattr(built, part).forward = cut
    with pytest.raises(ValueError, match=r"The current `max_length` \(32\) is too short"):
        built.train()


# --- the model card


def read_card(built):
    built.create_model_card()
    with open(f"{built.args.output_dir}/README.md") as file:
        return file.read()


@pytest.mark.parametrize("name", ["sympo_sigmoid", "sympo_unhinged"])
def test_the_card_of_sympo_cites_it(name, tmp_path):
    built = build(name, tmp_path)
    card = read_card(built)
    assert f"trained with SymPO (loss_type {name}), a method introduced in [On Symm" in card
    assert "@article{nishimori2025symmetric," in card
    assert set(built.model.model_tags) == {"trl", "dpo", "sympo"}
    assert {"- trl", "- dpo", "- sympo"} <= set(card.splitlines())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dpo", "DPO (loss_type dpo), a method introduced in [Direct Preference"),
        ("rdpo", "rDPO (loss_type rdpo, noise_rate 0.2), a method introduced in [Chowdhury"),
        ("cdpo", "cDPO (loss_type cdpo, noise_rate 0.2).\n"),
        ("holder", "Hölder (loss_type holder), a method introduced in [Fujisawa"),
        (["sigmoid", "sft"], "DPO (loss_type sigmoid, sft), a method introduced in [Direct Pref"),
    ],
)
def test_the_card_of_a_baseline_does_not_say_sympo(name, said, tmp_path):
    built = build(name, tmp_path / "out")
    card = read_card(built)
    assert f"This model was trained with {said}" in card
    assert not re.search("sympo|symmetric", card, re.IGNORECASE)
    assert set(built.model.model_tags) == {"trl", "dpo"}


@pytest.mark.parametrize("mix", [["dpo", "sympo_sigmoid"], ["sympo_sigmoid", "dpo"]])
def test_the_card_of_a_mix_names_every_loss(mix):
    config = SymPOConfig(use_cpu=True, bf16=False, loss_type=mix)
    card = describe_policy(config, [term.loss for term in config.resolve_terms()])
    assert set(card.name.partition(" (")[0].split(" and ")) == {"DPO", "SymPO"}
    assert card.paper["id"] == "2505.24709"
    assert "sympo" in card.tags


def test_the_card_of_an_entry_given_as_custom_cites_its_paper():
    config = SymPOConfig(use_cpu=True, bf16=False, loss_type="custom")
    card = describe_policy(config, [as_pair(LOSSES["sigmoid"])])
    assert card.paper["id"] == "2505.24709"
    assert "sympo" in card.tags


def test_dpo_is_cited_as_trl_cites_it():
    config = SymPOConfig(use_cpu=True, bf16=False, loss_type="dpo")
    assert describe_policy(config, [get_pair("dpo")]).paper == DPOTrainer._paper


def test_the_paper_of_each_method_is_the_one_of_its_source(tmp_path):
    for name, loss in trainer.own_losses().items():
        config = SymPOConfig(**settings(tmp_path, loss_type=name, noise_rate=RATES.get(name)))
        paper = describe_policy(config, [loss]).paper
        if name.startswith("sympo_"):
            assert paper["id"] == "2505.24709"
        else:
            assert ("arXiv" in loss.source) == bool(paper)
            assert paper.get("id", "") in loss.source


@pytest.mark.parametrize(("name", "ours"), [("ramp", True), ("logistic", False)])
def test_the_card_of_a_reward_model(name, ours, tmp_path):
    built = build_reward(tmp_path, loss_type=name)
    card = read_card(built)
    assert f"loss_type {name})" in card
    assert ("@article{nishimori2025symmetric," in card) == ours
    assert set(built.model.model_tags) == {"trl", "reward-trainer"} | ({"sympo"} if ours else set())
