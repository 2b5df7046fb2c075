"""Contract tests of the TRL drop-ins, on the tiny models of tiny_trainers.py."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from tiny_trainers import (
    BETA,
    RATES,
    build,
    build_reward,
    compute_rewards,
    draw_pairs,
    gap,
    train,
    weights,
    write_formula,
)
from trl import DPOTrainer, RewardTrainer

from sympo import losses, trainer

pytestmark = pytest.mark.usefixtures("frozen_modules")

OWN = list(trainer.own_losses())
TABLE = [*OWN, "ipo", "hinge"]
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])


# --- values and gradients, against formulas written out in tiny_trainers.py

MARGIN = torch.tensor([-3.0, -0.9, -0.2, 0.0, 0.4, 0.8, 2.5], dtype=torch.float64)


def pair_loss(name, margin, *, reliability=0.9):
    """The registry's loss of each pair, told what `write_formula` is told."""
    loss = losses.get_pair(name)
    return loss.fn(margin, noise_rate=RATES.get(name), reliability=reliability)


@pytest.mark.parametrize("name", OWN)
def test_pair_loss_is_its_formula(name):
    loss = pair_loss(name, MARGIN)
    assert loss.shape == MARGIN.shape
    expected = write_formula(name, MARGIN.numpy())
    np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", OWN)
def test_pair_loss_gradient_is_its_finite_difference(name):
    margin = MARGIN.clone().add_(0.01).requires_grad_()  # off the kink of the Laplace loss at 0
    (gradient,) = torch.autograd.grad(pair_loss(name, margin).mean(), margin)
    at = margin.detach().numpy()

    def mean_loss(moved):
        # repo's weight is detached, so it does not move along.
        return write_formula(name, moved, frozen=at).mean()

    steps = 1e-6 * np.eye(len(at))
    numeric = [(mean_loss(at + step) - mean_loss(at - step)) / 2e-6 for step in steps]
    np.testing.assert_allclose(gradient.numpy(), numeric, atol=1e-8)


@pytest.mark.parametrize("name", OWN)
def test_pair_loss_is_finite_far_out(name):
    margin = torch.tensor([-1e4, 1e4], requires_grad=True)
    loss = pair_loss(name, margin)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert margin.grad.isfinite().all()


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_repo_survives_a_saturated_eta(eta):
    weight = losses.repo_posterior(torch.linspace(-50, 50, 11), eta)
    assert ((weight >= 0) & (weight <= 1)).all()
    assert pair_loss("repo", torch.linspace(-50, 50, 11), reliability=eta).isfinite().all()


@pytest.mark.parametrize("name", TABLE)
def test_trainer_minimises_the_formula(name, tmp_path):
    """From the tokens up: the loss of a batch, against plain softmaxes; SymPO's is clipped at 1."""
    rows = draw_pairs(6)
    clip = {"reward_clip": 1.0} if name.startswith("sympo_") else {}
    built = build(name, tmp_path, data=rows, evaluation=rows, per_device_eval_batch_size=6, **clip)
    chosen, rejected = compute_rewards(built, rows)
    margin = chosen - rejected
    assert np.abs(margin).max() > 0.5
    if clip:
        margin = chosen.clip(-1, 1) - rejected.clip(-1, 1)
        assert np.abs(margin - (chosen - rejected)).max() > 0.1
    if name == "ipo":
        # TRL's is per token, <eos> among them, and against 1/(2τ) with τ = β.
        lengths = [[len(row[side].split()) + 1 for row in rows] for side in ("chosen", "rejected")]
        per_token = np.array([chosen, rejected]) / BETA / lengths
        expected = (per_token[0] - per_token[1] - 1 / (2 * BETA)) ** 2
    else:
        expected = write_formula(name, margin)
    assert built.evaluate()["eval_loss"] == pytest.approx(expected.mean(), abs=2e-6)


# --- training


@pytest.mark.parametrize(
    ("ours", "theirs", "smoothing"), [("dpo", "sigmoid", 0.0), ("rdpo", "robust", 0.2)]
)
def test_equals_trl_step_for_step(ours, theirs, smoothing, tmp_path):
    data = {"data": draw_pairs(), "evaluation": draw_pairs(5, seed=1)}
    left = train(ours, tmp_path, max_steps=6, **data)
    right = train(theirs, tmp_path, base=DPOTrainer, max_steps=6, label_smoothing=smoothing, **data)
    np.testing.assert_allclose(left.seen, right.seen, atol=1e-6, rtol=0)
    assert left.seen[-1] != left.seen[0]
    assert gap(left, right) < 1e-5
    ours_metrics = left.evaluate()
    theirs_metrics = right.evaluate()
    for name in ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "entropy"):
        expected = theirs_metrics[f"eval_{name}"]
        assert ours_metrics[f"eval_{name}"] == pytest.approx(expected, abs=1e-5), name


@pytest.mark.parametrize(
    "trl", [{"loss_type": ["sigmoid", "sft"]}, {"loss_type": "hinge", "ld_alpha": 0.5}]
)
def test_names_of_trl_run_its_code(trl, tmp_path):
    left = train(folder=tmp_path, **trl)
    right = train(folder=tmp_path, base=DPOTrainer, **trl)
    assert left.seen == right.seen


@pytest.mark.parametrize("name", TABLE)
def test_moves_every_parameter_and_accumulates(name, tmp_path):
    """Batch 8 = 2 × 4 accumulated; not for drdpo, whose loss is of the whole batch."""
    plain = {"optim": "sgd", "max_grad_norm": 0.0, "max_steps": 2, "learning_rate": 0.1}
    before = weights(build(name, tmp_path))
    whole = train(name, tmp_path, per_device_train_batch_size=8, **plain)
    assert [n for n, moved in weights(whole).items() if torch.equal(moved, before[n])] == []
    halves = train(
        name, tmp_path, per_device_train_batch_size=4, gradient_accumulation_steps=2, **plain
    )
    if name == "drdpo":
        assert gap(whole, halves) > 1e-4
    else:
        assert gap(whole, halves) < 2e-6
        assert whole.eta == pytest.approx(halves.eta, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "lora"), [("repo", None), ("sympo_sigmoid", None), ("sympo_ramp", LORA)]
)
def test_resumed_run_equals_an_uninterrupted_one(name, lora, tmp_path):
    saved = {
        "peft_config": lora,
        "max_steps": 4,
        "save_strategy": "steps",
        "save_steps": 2,
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": 2,
        "evaluation": draw_pairs(5, seed=1),
    }
    whole = train(name, tmp_path / "whole", **saved)
    checkpoint = tmp_path / "whole" / "checkpoint-2"
    resumed = train(name, tmp_path / "resumed", resume=str(checkpoint), **saved)
    assert resumed.seen == whole.seen[4:]
    assert gap(whole, resumed) == 0
    assert whole.evaluate()["eval_loss"] == resumed.evaluate()["eval_loss"]
    if name == "repo":
        state = json.loads((checkpoint / "trainer_state.json").read_text())
        assert 0 < state["stateful_callbacks"]["repo_eta"] < 0.9
        assert whole.eta == resumed.eta != state["stateful_callbacks"]["repo_eta"]


def test_eta_moves_once_per_optimiser_step(tmp_path):
    """With a learning rate of 0 the posteriors depend on η alone: the recursion, written out."""
    rows = draw_pairs(8)
    built = train(
        "repo",
        tmp_path,
        data=rows,
        evaluation=rows,
        learning_rate=0.0,
        max_steps=3,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=4,
    )
    chosen, rejected = compute_rewards(built, rows)
    s = 1 / (1 + np.exp(rejected - chosen))
    eta = 0.9
    for _ in range(3):
        eta = 0.9 * eta + 0.1 * np.mean(eta * s / (eta * s + (1 - eta) * (1 - s)))
    assert built.eta == pytest.approx(eta, abs=1e-7)
    assert built.evaluate()["eval_eta"] == built.eta  # evaluation reads η and leaves it
    assert built.eta == pytest.approx(eta, abs=1e-7)


def test_metrics_use_true_labels(tmp_path):
    rows = draw_pairs(7, seed=3)
    built = build(
        "sympo_ramp",
        tmp_path,
        data=rows,
        evaluation=rows,
        reward_clip=1.0,
        per_device_eval_batch_size=4,
    )
    rewards = compute_rewards(built, rows)
    margin = rewards[0] - rewards[1]
    flipped = np.array(rows["is_flipped"])
    true_margin = np.where(flipped, -margin, margin)
    metrics = built.evaluate()
    assert metrics["eval_accuracy_true"] == pytest.approx(np.mean(true_margin > 0))
    assert metrics["eval_margin_true"] == pytest.approx(true_margin.mean(), abs=1e-5)
    assert metrics["eval_flipped_fit"] == pytest.approx(np.mean(margin[flipped] > 0))
    assert metrics["eval_clip_fraction"] == pytest.approx(np.mean(np.abs(rewards) > 1))
    assert 0 < metrics["eval_clip_fraction"] < 1


def test_no_flip_column_no_true_metrics(tmp_path):
    rows = draw_pairs(4, flips=False)
    built = build("sympo_ramp", tmp_path, data=rows, evaluation=rows, reward_clip=None)
    metrics = built.evaluate()
    assert not [name for name in metrics if "true" in name or "flipped" in name or "clip" in name]
    assert "eval_rewards/accuracies" in metrics
    built.compute_metrics = lambda prediction: {"vocabulary": prediction.predictions.shape[-1]}
    assert built.evaluate()["eval_vocabulary"] == 25


def test_a_clipped_reward_has_no_gradient(tmp_path):
    clipped = train("sympo_unhinged", tmp_path, reward_clip=1e-6, max_steps=1, optim="sgd")
    assert gap(clipped, build("sympo_unhinged", tmp_path)) == 0
    free = train("sympo_unhinged", tmp_path, reward_clip=None, max_steps=1, optim="sgd")
    assert gap(free, build("sympo_unhinged", tmp_path)) > 0


@pytest.mark.parametrize(
    "lora", [None, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)]
)
def test_precomputed_reference_changes_nothing(lora, tmp_path):
    data = {"data": draw_pairs(), "evaluation": draw_pairs(5, seed=1), "peft_config": lora}
    left = train("sympo_sigmoid", tmp_path, **data)
    right = train("sympo_sigmoid", tmp_path, precompute_ref_log_probs=True, **data)
    np.testing.assert_allclose(left.seen, right.seen, atol=1e-6, rtol=0)
    ours = left.evaluate()
    theirs = right.evaluate()
    assert ours["eval_accuracy_true"] == theirs["eval_accuracy_true"]
    assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], abs=1e-6)
    # A data set that comes later is precomputed through the collator that keeps the flip column.
    later = right.evaluate(draw_pairs(5, seed=1))
    assert later["eval_loss"] == pytest.approx(theirs["eval_loss"], abs=1e-6)


def test_the_flip_column_never_reaches_a_model(tmp_path):
    built = build("dpo", tmp_path)
    batch = next(iter(built.get_train_dataloader()))
    assert set(batch["is_flipped"].tolist()) == {0, 1}
    seen = []

    def spy(**inputs):
        seen.append(set(inputs))
        return built.model(**inputs)

    built.ref_model = None
    built.compute_ref_log_probs(spy, batch)
    built.precompute_ref_logps = True
    reference = {"ref_chosen_logps": torch.zeros(8), "ref_rejected_logps": torch.zeros(8)}
    built.compute_loss(spy, {**batch, **reference})
    assert len(seen) == 2
    assert not any("is_flipped" in names for names in seen)
    assert "is_flipped" in batch  # the caller's batch is left as it was


def test_reference_log_probs_in_the_data_are_kept(tmp_path):
    rows = draw_pairs(8)
    built = build("dpo", tmp_path, data=rows, precompute_ref_log_probs=True)
    reference = built.train_dataset.select_columns(["ref_chosen_logps", "ref_rejected_logps"])
    shifted = rows.add_column("ref_chosen_logps", [x + 1 for x in reference["ref_chosen_logps"]])
    shifted = shifted.add_column("ref_rejected_logps", reference["ref_rejected_logps"])
    kept = build("dpo", tmp_path, data=shifted, precompute_ref_log_probs=True)
    assert kept.train_dataset["ref_chosen_logps"] == shifted["ref_chosen_logps"]
    assert kept.train_dataset["ref_chosen_logps"] != reference["ref_chosen_logps"]


def test_lora_trains_the_adapter_alone(tmp_path):
    built = build("sympo_ramp", tmp_path, peft_config=LORA)
    before = weights(built)
    built.train()
    moved = {name for name, value in weights(built).items() if not torch.equal(value, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert built.state.log_history[0]["rewards/margins"] == 0  # a fresh adapter is the reference


def test_conversations_with_checkpointing_of_activations(tmp_path):
    def turn(role, text):
        return [{"role": role, "content": text}]

    rows = [
        {
            "prompt": turn("user", row["prompt"].strip()),
            "chosen": turn("assistant", row["chosen"]),
            "rejected": turn("assistant", row["rejected"]),
            "is_flipped": row["is_flipped"],
        }
        for row in draw_pairs(8)
    ]
    data = Dataset.from_list(rows)
    built = train("sympo_cauchy", tmp_path, data=data, gradient_checkpointing=True)
    plain = train("sympo_cauchy", tmp_path, data=data)
    np.testing.assert_allclose(built.seen, plain.seen, atol=1e-6)
    assert 0 <= built.state.log_history[-2]["accuracy_true"] <= 1


# --- the reward model


def test_logistic_reward_equals_trl(tmp_path):
    rows = draw_pairs().add_column("margin", [0.1 * i for i in range(16)])
    changes = {"data": rows, "center_rewards_coefficient": 0.01, "gradient_accumulation_steps": 2}
    left = build_reward(tmp_path, loss_type="logistic", **changes)
    right = build_reward(tmp_path, RewardTrainer, **changes)
    left.train()
    right.train()
    np.testing.assert_allclose(left.seen, right.seen, atol=1e-6, rtol=0)
    assert gap(left, right) < 1e-5
    assert left.evaluate()["eval_accuracy"] == right.evaluate()["eval_accuracy"]


@pytest.mark.parametrize("name", ["sigmoid", "ramp", "square"])
def test_reward_trainer_minimises_the_formula(name, tmp_path):
    rows = draw_pairs(6)
    built = build_reward(
        tmp_path, data=rows, loss_type=name, reward_clip=0.5, per_device_eval_batch_size=6
    )
    words = built.processing_class

    def reward(row, side):
        tokens = words(f"{row['prompt']}{row[side]} <eos>", return_tensors="pt")
        with torch.no_grad():
            return built.model(**tokens).logits.item()

    rewards = np.array([[reward(row, side) for row in rows] for side in ("chosen", "rejected")])
    margin = rewards[0] - rewards[1]
    flipped = np.array(rows["is_flipped"])
    clipped = rewards.clip(-0.5, 0.5)
    h = clipped[0] - clipped[1]
    expected = {
        "sigmoid": 1 / (1 + np.exp(h)),
        "ramp": np.clip(0.5 - h / 2, 0, 1),
        "square": (1 - h) ** 2,
    }[name]
    metrics = built.evaluate()
    assert metrics["eval_loss"] == pytest.approx(expected.mean(), abs=1e-6)
    assert metrics["eval_accuracy_true"] == pytest.approx(np.mean((margin > 0) != flipped))
    assert metrics["eval_flipped_fit"] == pytest.approx(np.mean(margin[flipped] > 0))
    assert metrics["eval_clip_fraction"] == pytest.approx(np.mean(np.abs(rewards) > 0.5))
    before = weights(built)
    built.train()
    assert [n for n, moved in weights(built).items() if torch.equal(moved, before[n])] == []


@pytest.mark.parametrize("name", ["sigmoid", "unhinged", "holder"])
def test_a_column_of_margins_breaks_the_symmetry(name, tmp_path):
    rows = draw_pairs().add_column("margin", [0.1 * i for i in range(16)])
    message = f"column 'margin', with which loss_type '{name}' is not symmetric: remove the column"
    with pytest.raises(ValueError, match=message):
        build_reward(tmp_path, data=rows, loss_type=name)
    # Without the column, or with a loss that is not symmetric, the same rows are taken.
    build_reward(tmp_path, data=rows.remove_columns("margin"), loss_type=name)
    build_reward(tmp_path, data=rows, loss_type="logistic")


def test_a_margin_that_a_stream_brings_is_refused_as_well(tmp_path):
    rows = draw_pairs(8).add_column("margin", [0.5] * 8)
    stream = IterableDataset.from_generator(lambda: iter(rows))
    built = build_reward(tmp_path, data=stream, loss_type="ramp")
    with pytest.raises(ValueError, match="the data has a column 'margin'"):
        built.train()


def test_margins_of_a_model_in_bf16_are_differences_in_float32(tmp_path):
    """Two rewards of 8 bits each: their difference needs more, and is kept whole."""
    rows = draw_pairs(16)
    built = build_reward(tmp_path, data=rows, loss_type="square", per_device_eval_batch_size=16)
    built.model.to(torch.bfloat16)
    with torch.no_grad():
        built.model.score.weight.mul_(10)
    built.model.eval()
    batch = next(iter(built.get_eval_dataloader()))
    flipped = batch.pop("is_flipped") > 0
    with torch.no_grad():
        rewards = built.model(**batch).logits.double().view(2, -1)
    margin = rewards[0] - rewards[1]
    assert not torch.equal(margin, margin.bfloat16().double())
    metrics = built.evaluate()
    expected = torch.where(flipped, -margin, margin).mean().item()
    assert metrics["eval_margin_true"] == pytest.approx(expected, abs=1e-6)
    assert metrics["eval_loss"] == pytest.approx(((1 - margin) ** 2).mean().item(), rel=1e-6)
