"""Contract tests of the TRL drop-ins, on a tiny Llama and a tokenizer that are made here: nothing
is downloaded.
"""

import gc
import inspect
import json
import math
import re

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import log_softmax
from transformers import (
    HfArgumentParser,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from sympo import losses, trainer
from sympo.trainer import (
    SymmetricRewardConfig,
    SymmetricRewardTrainer,
    SymPOConfig,
    SymPOTrainer,
)

WORDS = [f"w{i}" for i in range(20)]
# large enough for margins to differ between a policy and a reference drawn from two seeds
BETA = 0.7
RATES = {"cdpo": 0.2, "rdpo": 0.2}
OWN = list(trainer.own_losses())
TABLE = [*OWN, "ipo", "hinge"]
LORA = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])


@pytest.fixture(autouse=True, scope="module")
def _quick_collection():
    # Each training ends in a full garbage collection, which walks every imported module; freezing
    # them halves the time.
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def tokenizer():
    vocabulary = {
        word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", "user:", "bot:", *WORDS])
    }
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        chat_template="{% for m in messages %}{{ 'user: ' if m.role == 'user' else 'bot: ' }}{{ m.content }} "
        "{% if m.role == 'assistant' %}<eos>{% endif %}{% endfor %}{% if add_generation_prompt %}bot: {% endif %}",
    )


def model(seed=0, kind=LlamaForCausalLM, **settings):
    torch.manual_seed(seed)
    shape = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = LlamaConfig(
        vocab_size=25,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=1,
        **shape,
        **settings,
    )
    # Wide initial weights: the implicit rewards then differ by whole nats, and a wrong formula
    # shows at the first step.
    config.initializer_range = 0.3
    return kind(config)


def reward_model():
    return model(kind=LlamaForSequenceClassification, num_labels=1)


def preferences(rows=16, *, seed=0, flips=True):
    draw = np.random.default_rng(seed)
    text = lambda low, high: " ".join(draw.choice(WORDS, draw.integers(low, high)))  # noqa: E731
    made = [
        {"prompt": text(2, 4) + " ", "chosen": text(1, 6), "rejected": text(1, 6)}
        for _ in range(rows)
    ]
    if flips:
        made = [row | {"is_flipped": bool(i % 3 == 0)} for i, row in enumerate(made)]
    return Dataset.from_list(made)


def settings(folder, **changes):
    fixed = {
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": [],
        "disable_tqdm": True,
    }
    fixed |= {
        "output_dir": str(folder),
        "save_strategy": "no",
        "logging_steps": 1,
        "learning_rate": 1e-2,
    }
    return fixed | {"max_steps": 3, "dataloader_pin_memory": False} | changes


class Recorded:
    """A trainer that keeps every training loss, unrounded."""

    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        self.__dict__.setdefault("seen", []).append(loss.item())
        return loss


def build(
    loss_type, folder, *, base=SymPOTrainer, data=None, evaluation=None, peft_config=None, **changes
):
    """A trainer whose policy (seed 0) is not its reference (seed 1), so that margins are not 0 at
    the start.
    """
    config = SymPOConfig if base is SymPOTrainer else DPOConfig
    if base is SymPOTrainer and isinstance(loss_type, str):
        changes = {"noise_rate": RATES.get(loss_type)} | changes
    return type(base.__name__, (Recorded, base), {})(
        model(0),
        None if peft_config else model(1),
        config(**settings(folder, loss_type=loss_type, beta=BETA, **changes)),
        train_dataset=preferences() if data is None else data,
        eval_dataset=evaluation,
        processing_class=tokenizer(),
        peft_config=peft_config,
    )


def train(*args, resume=None, **kwargs):
    made = build(*args, **kwargs)
    made.train(resume_from_checkpoint=resume)
    return made


def weights(trained):
    return {
        name: parameter.detach().clone() for name, parameter in trained.model.named_parameters()
    }


def gap(left, right):
    left, right = weights(left), weights(right)
    assert left.keys() == right.keys()
    return max((left[name] - right[name]).abs().max().item() for name in left)


def independent_rewards(made, rows):
    """Implicit rewards `(2, rows)` from full softmaxes of both models, one sequence at a time: none
    of TRL's code.
    """
    words = made.processing_class

    def log_prob(network, prompt, answer):
        start = len(words(prompt)["input_ids"])
        ids = words(f"{prompt}{answer} <eos>")["input_ids"]
        with torch.no_grad():
            log_probs = log_softmax(network(torch.tensor([ids])).logits[0].double(), dim=-1)
        return sum(log_probs[i - 1, ids[i]].item() for i in range(start, len(ids)))

    return np.array(
        [
            [
                BETA
                * (
                    log_prob(made.model, r["prompt"], r[side])
                    - log_prob(made.ref_model, r["prompt"], r[side])
                )
                for r in rows
            ]
            for side in ("chosen", "rejected")
        ]
    )


# --- configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_type": "sympo_rmap"}, "unknown loss_type 'sympo_rmap'. Did you mean 'sympo_ramp'"),
        ({"loss_type": "sympo_hinge"}, "unknown loss_type 'sympo_hinge'"),
        ({"loss_type": []}, "unknown loss_type ''"),
        ({"loss_type": "cdpo"}, "needs noise_rate"),
        ({"loss_type": "rdpo"}, "needs noise_rate"),
        ({"loss_type": "rdpo", "noise_rate": 0.5}, "noise_rate = 0.5 is out of range"),
        ({"loss_type": "cdpo", "noise_rate": -0.1}, "noise_rate = -0.1 is out of range"),
        ({"loss_type": "cdpo", "noise_rate": math.nan}, "noise_rate = nan is out of range"),
        (
            {"loss_type": "dpo", "noise_rate": 0.1},
            "noise_rate = 0.1 does not act on loss_type 'dpo'",
        ),
        ({"loss_type": "sigmoid", "noise_rate": 0.1}, "does not act on loss_type 'sigmoid'"),
        (
            {"loss_type": "rdpo", "noise_rate": 0.1, "label_smoothing": 0.1},
            "give the noise rate as noise_rate",
        ),
        (
            {"loss_type": "dpo", "f_divergence_type": "forward_kl"},
            "f_divergence_type = 'forward_kl' does not act",
        ),
        ({"loss_type": "dpo", "ld_alpha": 0.5}, "ld_alpha = 0.5 does not act"),
        ({"loss_type": "dpo", "use_weighting": True}, "use_weighting = True does not act"),
        ({"loss_type": "dpo", "loss_weights": [2.0]}, "loss_weights = "),
        ({"loss_type": ["sigmoid", "sympo_ramp"]}, "loss_type 'sympo_ramp' cannot be mixed"),
        (
            {"loss_type": "hinge", "reward_clip": 5.0},
            "reward_clip does not act on TRL's loss 'hinge'",
        ),
        ({"reward_clip": 0}, "reward_clip = 0"),
        ({"reward_clip": "ten"}, "reward_clip = 'ten'"),
        ({"reward_clip": math.inf}, "reward_clip = inf"),
    ],
)
def test_config_refuses(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        SymPOConfig(use_cpu=True, bf16=False, **changes)


def test_reward_config_refuses():
    with pytest.raises(ValueError, match="Did you mean 'ramp'"):
        SymmetricRewardConfig(use_cpu=True, bf16=False, loss_type="rmap")
    with pytest.raises(ValueError, match="reward_clip = -1"):
        SymmetricRewardConfig(use_cpu=True, bf16=False, reward_clip=-1)


@pytest.mark.parametrize(
    ("loss_type", "clip"), [("sympo_ramp", 10.0), ("dpo", None), ("holder", None), ("ipo", None)]
)
def test_clip_is_ten_for_sympo_and_off_elsewhere(loss_type, clip, tmp_path):
    config = SymPOConfig(loss_type=loss_type, **settings(tmp_path))
    assert config.reward_clip == clip
    assert (
        SymPOConfig(loss_type=loss_type, reward_clip=None, **settings(tmp_path)).reward_clip is None
    )
    # a config that was saved and read again
    assert SymPOConfig(**config.to_dict()).reward_clip == clip


def test_config_reads_the_command_line():
    line = [
        "--loss_type=rdpo",
        "--noise_rate=0.2",
        "--reward_clip=5",
        "--use_cpu=true",
        "--bf16=false",
    ]
    (config,) = HfArgumentParser((SymPOConfig,)).parse_args_into_dataclasses(line)
    assert (config.loss_type, config.noise_rate, config.reward_clip) == (["rdpo"], 0.2, 5.0)


def test_every_name_of_trl_is_known():
    dispatched = set(
        re.findall(r'loss_type == "(\w+)"', inspect.getsource(DPOTrainer._compute_loss))
    )
    assert dispatched == trainer.TRL_LOSSES


def test_every_row_and_every_symmetric_loss_has_a_name():
    rows = [
        "dpo",
        "cdpo",
        "rdpo",
        "ipo",
        "hinge",
        "ropo",
        "drdpo",
        "holder",
        "repo",
        "sympo_sigmoid",
        "sympo_ramp",
    ]
    family = [f"sympo_{loss.name}" for loss in losses.LOSSES.values() if loss.symmetric]
    assert {*rows, *family} <= set(trainer.loss_types())
    assert len(family) == 8


def test_a_plain_config_is_refused(tmp_path):
    with pytest.raises(TypeError, match="SymPOTrainer takes a SymPOConfig"):
        SymPOTrainer(model(), args=DPOConfig(**settings(tmp_path)), train_dataset=preferences())
    with pytest.raises(TypeError, match="SymmetricRewardTrainer takes a SymmetricRewardConfig"):
        SymmetricRewardTrainer(
            reward_model(), RewardConfig(**settings(tmp_path)), train_dataset=preferences()
        )


# --- values and gradients, against formulas written out here

MARGIN = torch.tensor([-3.0, -0.9, -0.2, 0.0, 0.4, 0.8, 2.5], dtype=torch.float64)


def formula(name, h, *, frozen=None):
    """The per-pair loss in numpy; `frozen` holds the margins at which repo's weight is taken."""
    s, e, eta = 1 / (1 + np.exp(-h)), 0.2, 0.9
    at = 1 / (1 + np.exp(-(h if frozen is None else frozen)))
    w = eta * at / (eta * at + (1 - eta) * (1 - at))
    written = {
        "dpo": -np.log(s),
        "cdpo": -(1 - e) * np.log(s) - e * np.log(1 - s),
        "rdpo": (-(1 - e) * np.log(s) + e * np.log(1 - s)) / (1 - 2 * e),
        "hinge": np.maximum(0, 1 - h),
        "ropo": 4 * 14 / 15**2 * -np.log(s) + 4 * 14**2 / 15**2 * (1 - s),
        "drdpo": np.full_like(h, -np.log(np.mean(np.exp(np.log(s))))),
        "holder": -3 * s**2 + 2 * s**3,
        "repo": -w * np.log(s) - (1 - w) * np.log(1 - s),
        "sympo_sigmoid": 1 - s,
        "sympo_ramp": np.clip(0.5 - h / 2, 0, 1),
        "sympo_erf": np.array([math.erfc(x / 2**0.5) / 2 for x in h]),
        "sympo_cauchy": 0.5 - np.arctan(h) / np.pi,
        "sympo_laplace": np.where(h > 0, np.exp(-np.abs(h)) / 2, 1 - np.exp(-np.abs(h)) / 2),
        "sympo_student_t2": 0.5 - h / (2 * np.sqrt(2 + h**2)),
        "sympo_unhinged": 1 - h,
        "sympo_holder": -3 * s**2 + 2 * s**3,
    }
    return written[name]


def pair_loss(name, margin, *, reliability=0.9):
    """The registry's loss of each pair, told what `formula` is told."""
    loss = losses.get_pair(name)
    return loss.fn(margin, noise_rate=RATES.get(name), reliability=reliability)


@pytest.mark.parametrize("name", OWN)
def test_pair_loss_is_its_formula(name):
    loss = pair_loss(name, MARGIN)
    assert loss.shape == MARGIN.shape
    np.testing.assert_allclose(loss.numpy(), formula(name, MARGIN.numpy()), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", OWN)
def test_pair_loss_gradient_is_its_finite_difference(name):
    margin = MARGIN.clone().add_(0.01).requires_grad_()  # off the kink of the Laplace loss at 0
    (gradient,) = torch.autograd.grad(pair_loss(name, margin).mean(), margin)
    at = margin.detach().numpy()
    step = 1e-6 * np.eye(len(at))
    numeric = [
        (formula(name, at + d, frozen=at).mean() - formula(name, at - d, frozen=at).mean()) / 2e-6
        for d in step
    ]
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
    rows = preferences(6)
    clip = {"reward_clip": 1.0} if name.startswith("sympo_") else {}
    made = build(name, tmp_path, data=rows, evaluation=rows, per_device_eval_batch_size=6, **clip)
    chosen, rejected = independent_rewards(made, rows)
    margin = chosen - rejected
    assert np.abs(margin).max() > 0.5
    if clip:
        margin = chosen.clip(-1, 1) - rejected.clip(-1, 1)
        assert np.abs(margin - (chosen - rejected)).max() > 0.1
    if name == "ipo":  # per token, and against 1/(2τ) with τ = β
        length = lambda side: np.array([len(row[side].split()) + 1 for row in rows])  # noqa: E731
        expected = (
            chosen / BETA / length("chosen") - rejected / BETA / length("rejected") - 1 / (2 * BETA)
        ) ** 2
    else:
        expected = formula(name, margin)
    assert made.evaluate()["eval_loss"] == pytest.approx(expected.mean(), abs=2e-6)


# --- training


@pytest.mark.parametrize(
    ("ours", "theirs", "smoothing"), [("dpo", "sigmoid", 0.0), ("rdpo", "robust", 0.2)]
)
def test_equals_trl_step_for_step(ours, theirs, smoothing, tmp_path):
    data = {"data": preferences(), "evaluation": preferences(5, seed=1)}
    left = train(ours, tmp_path, max_steps=6, **data)
    right = train(theirs, tmp_path, base=DPOTrainer, max_steps=6, label_smoothing=smoothing, **data)
    np.testing.assert_allclose(left.seen, right.seen, atol=1e-6, rtol=0)
    assert left.seen[-1] != left.seen[0]
    assert gap(left, right) < 1e-5
    ours_metrics, theirs_metrics = left.evaluate(), right.evaluate()
    for name in (
        "eval_loss",
        "eval_rewards/margins",
        "eval_rewards/accuracies",
        "eval_logps/chosen",
        "eval_entropy",
    ):
        assert ours_metrics[name] == pytest.approx(theirs_metrics[name], abs=1e-5), name


@pytest.mark.parametrize(
    "trl", [{"loss_type": ["sigmoid", "sft"]}, {"loss_type": "hinge", "ld_alpha": 0.5}]
)
def test_names_of_trl_run_its_code(trl, tmp_path):
    left, right = train(folder=tmp_path, **trl), train(folder=tmp_path, base=DPOTrainer, **trl)
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
    }
    saved |= {"per_device_train_batch_size": 2, "evaluation": preferences(5, seed=1)}
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
    """With a learning rate of 0 the posteriors depend on η alone, and the recursion can be written
    out.
    """
    rows = preferences(8)
    made = train("repo", tmp_path, data=rows, learning_rate=0.0, max_steps=3, gradient_accumulation_steps=2,
                 per_device_train_batch_size=4, evaluation=rows)  # fmt: skip
    chosen, rejected = independent_rewards(made, rows)
    s, eta = 1 / (1 + np.exp(rejected - chosen)), 0.9
    for _ in range(3):
        eta = 0.9 * eta + 0.1 * np.mean(eta * s / (eta * s + (1 - eta) * (1 - s)))
    assert made.eta == pytest.approx(eta, abs=1e-7)
    assert made.evaluate()["eval_eta"] == made.eta  # evaluation reads η and leaves it
    assert made.eta == pytest.approx(eta, abs=1e-7)


def test_metrics_use_true_labels(tmp_path):
    rows = preferences(7, seed=3)
    made = build(
        "sympo_ramp",
        tmp_path,
        data=rows,
        evaluation=rows,
        reward_clip=1.0,
        per_device_eval_batch_size=4,
    )
    rewards = independent_rewards(made, rows)
    margin, flipped = rewards[0] - rewards[1], np.array(rows["is_flipped"])
    true_margin = np.where(flipped, -margin, margin)
    metrics = made.evaluate()
    assert metrics["eval_accuracy_true"] == pytest.approx(np.mean(true_margin > 0))
    assert metrics["eval_margin_true"] == pytest.approx(true_margin.mean(), abs=1e-5)
    assert metrics["eval_flipped_fit"] == pytest.approx(np.mean(margin[flipped] > 0))
    assert metrics["eval_clip_fraction"] == pytest.approx(np.mean(np.abs(rewards) > 1))
    assert 0 < metrics["eval_clip_fraction"] < 1


def test_no_flip_column_no_true_metrics(tmp_path):
    rows = preferences(4, flips=False)
    made = build("sympo_ramp", tmp_path, data=rows, evaluation=rows, reward_clip=None)
    metrics = made.evaluate()
    assert not [name for name in metrics if "true" in name or "flipped" in name or "clip" in name]
    assert "eval_rewards/accuracies" in metrics
    made.compute_metrics = lambda prediction: {"vocabulary": prediction.predictions.shape[-1]}
    assert made.evaluate()["eval_vocabulary"] == 25


def test_a_clipped_reward_has_no_gradient(tmp_path):
    clipped = train("sympo_unhinged", tmp_path, reward_clip=1e-6, max_steps=1, optim="sgd")
    assert gap(clipped, build("sympo_unhinged", tmp_path)) == 0
    free = train("sympo_unhinged", tmp_path, reward_clip=None, max_steps=1, optim="sgd")
    assert gap(free, build("sympo_unhinged", tmp_path)) > 0


@pytest.mark.parametrize(
    "lora", [None, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)]
)
def test_precomputed_reference_changes_nothing(lora, tmp_path):
    data = {"data": preferences(), "evaluation": preferences(5, seed=1), "peft_config": lora}
    left = train("sympo_sigmoid", tmp_path, **data)
    right = train("sympo_sigmoid", tmp_path, precompute_ref_log_probs=True, **data)
    np.testing.assert_allclose(left.seen, right.seen, atol=1e-6, rtol=0)
    ours, theirs = left.evaluate(), right.evaluate()
    assert ours["eval_accuracy_true"] == theirs["eval_accuracy_true"]
    assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], abs=1e-6)
    # A data set given later is precomputed through the collator that keeps the flip column.
    assert right.evaluate(preferences(5, seed=1))["eval_loss"] == pytest.approx(
        theirs["eval_loss"], abs=1e-6
    )


def test_the_flip_column_never_reaches_a_model(tmp_path):
    made = build("dpo", tmp_path)
    batch = next(iter(made.get_train_dataloader()))
    assert batch["is_flipped"].dtype == torch.bool
    seen = []

    def spy(**inputs):
        seen.append(set(inputs))
        return made.model(**inputs)

    made.ref_model = None
    made.compute_ref_log_probs(spy, batch)
    made.precompute_ref_logps = True
    made.compute_loss(
        spy, batch | dict.fromkeys(["ref_chosen_logps", "ref_rejected_logps"], torch.zeros(8))
    )
    assert len(seen) == 2
    assert not any("is_flipped" in names for names in seen)
    assert "is_flipped" in batch  # the caller's batch is left as it was


def test_given_reference_log_probs_are_kept(tmp_path):
    rows = preferences(8)
    made = build("dpo", tmp_path, data=rows, precompute_ref_log_probs=True)
    reference = made.train_dataset.select_columns(["ref_chosen_logps", "ref_rejected_logps"])
    shifted = rows.add_column("ref_chosen_logps", [x + 1 for x in reference["ref_chosen_logps"]])
    shifted = shifted.add_column("ref_rejected_logps", reference["ref_rejected_logps"])
    kept = build("dpo", tmp_path, data=shifted, precompute_ref_log_probs=True)
    assert kept.train_dataset["ref_chosen_logps"] == shifted["ref_chosen_logps"]
    assert kept.train_dataset["ref_chosen_logps"] != reference["ref_chosen_logps"]


def test_lora_trains_the_adapter_alone(tmp_path):
    made = build("sympo_ramp", tmp_path, peft_config=LORA)
    before = weights(made)
    made.train()
    moved = {name for name, value in weights(made).items() if not torch.equal(value, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert made.state.log_history[0]["rewards/margins"] == 0  # a fresh adapter is the reference


def test_conversations_with_checkpointing_of_activations(tmp_path):
    turn = lambda role, text: [{"role": role, "content": text}]  # noqa: E731
    rows = [
        {
            "prompt": turn("user", row["prompt"].strip()),
            "chosen": turn("assistant", row["chosen"]),
            "rejected": turn("assistant", row["rejected"]),
            "is_flipped": row["is_flipped"],
        }
        for row in preferences(8)
    ]
    made = train(
        "sympo_cauchy", tmp_path, data=Dataset.from_list(rows), gradient_checkpointing=True
    )
    plain = train("sympo_cauchy", tmp_path, data=Dataset.from_list(rows))
    np.testing.assert_allclose(made.seen, plain.seen, atol=1e-6)
    assert 0 <= made.state.log_history[-2]["accuracy_true"] <= 1


# --- the reward model


def build_reward(folder, base=SymmetricRewardTrainer, data=None, **changes):
    config = SymmetricRewardConfig if base is SymmetricRewardTrainer else RewardConfig
    rows = preferences() if data is None else data
    return type(base.__name__, (Recorded, base), {})(
        reward_model(),
        config(**settings(folder, **changes)),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tokenizer(),
    )


def test_logistic_reward_equals_trl(tmp_path):
    rows = preferences().add_column("margin", [0.1 * i for i in range(16)])
    changes = {"data": rows, "center_rewards_coefficient": 0.01, "gradient_accumulation_steps": 2}
    left, right = (
        build_reward(tmp_path, loss_type="logistic", **changes),
        build_reward(tmp_path, RewardTrainer, **changes),
    )
    left.train()
    right.train()
    np.testing.assert_allclose(left.seen, right.seen, atol=1e-6, rtol=0)
    assert gap(left, right) < 1e-5
    assert left.evaluate()["eval_accuracy"] == right.evaluate()["eval_accuracy"]


@pytest.mark.parametrize("name", ["sigmoid", "ramp", "square"])
def test_reward_trainer_minimises_the_formula(name, tmp_path):
    rows = preferences(6)
    made = build_reward(
        tmp_path, data=rows, loss_type=name, reward_clip=0.5, per_device_eval_batch_size=6
    )
    words = made.processing_class

    def reward(row, side):
        with torch.no_grad():
            return made.model(
                **words(f"{row['prompt']}{row[side]} <eos>", return_tensors="pt")
            ).logits.item()

    rewards = np.array([[reward(row, side) for row in rows] for side in ("chosen", "rejected")])
    margin, flipped = rewards[0] - rewards[1], np.array(rows["is_flipped"])
    clipped = rewards.clip(-0.5, 0.5)
    h = clipped[0] - clipped[1]
    expected = {
        "sigmoid": 1 / (1 + np.exp(h)),
        "ramp": np.clip(0.5 - h / 2, 0, 1),
        "square": (1 - h) ** 2,
    }[name]
    metrics = made.evaluate()
    assert metrics["eval_loss"] == pytest.approx(expected.mean(), abs=1e-6)
    assert metrics["eval_accuracy_true"] == pytest.approx(np.mean((margin > 0) != flipped))
    assert metrics["eval_flipped_fit"] == pytest.approx(np.mean(margin[flipped] > 0))
    assert metrics["eval_clip_fraction"] == pytest.approx(np.mean(np.abs(rewards) > 0.5))
    before = weights(made)
    made.train()
    assert [n for n, moved in weights(made).items() if torch.equal(moved, before[n])] == []
