"""SmolLM2-135M-Instruct with its real weights: found, loaded without a network, trained by one LoRA
step, sampled.
"""

import socket

import pytest
import torch
from datasets import Dataset
from huggingface_hub import constants
from peft import LoraConfig, PeftModel

from sympo import SymPOConfig, SymPOTrainer, losses
from sympo.studies import models, sources
from sympo.studies.alignment import training

pytestmark = pytest.mark.pypi  # where SYMPO_DATA, the cache and the hub have no copy

PAIRS = [
    ("Name a fruit.", "An apple.", "A stone."),
    ("Is water wet?", "Yes, it is.", "I will not say."),
]


def say(role, text):
    return [{"role": role, "content": text}]


@pytest.fixture(scope="module")
def asset():
    pytest.importorskip("gguf")
    return sources.smollm2()


@pytest.fixture
def offline(asset, monkeypatch):
    def refuse(self, address):
        raise AssertionError(f"the network was tried: {address}")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.mark.slow
def test_one_lora_step_moves_the_adapter_alone_and_it_generates(asset, offline, tmp_path):
    model, tokenizer = models.load("smollm2", seed=0)
    assert models.find_weights("smollm2") == {
        "weights": asset.source,
        "weights_sha256": asset.sha256,
    }
    assert sum(parameter.numel() for parameter in model.parameters()) == 134_515_008
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows = [
        {"prompt": say("user", p), "chosen": say("assistant", c), "rejected": say("assistant", r)}
        for p, c, r in PAIRS
    ]
    arguments = SymPOConfig(
        output_dir=str(tmp_path / "out"),
        loss_type="sympo_sigmoid",
        max_steps=1,
        per_device_train_batch_size=len(rows),
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    adapter = LoraConfig(r=16, task_type="CAUSAL_LM")
    data = Dataset.from_list(rows)
    trainer = SymPOTrainer(
        model, None, arguments, train_dataset=data, processing_class=tokenizer, peft_config=adapter
    )
    assert max(training.pair_lengths(trainer.train_dataset)) <= 64
    trainer.train()

    # policy = reference: every margin is 0
    at_zero = losses.get("sigmoid").fn(torch.zeros(())).item()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(at_zero, abs=1e-4)
    moved = {
        name
        for name, value in trainer.model.named_parameters()
        if "lora_B" in name and value.abs().min() > 0
    }
    # they begin at 0; q and v of each layer
    assert len(moved) == 2 * model.config.num_hidden_layers
    trained = {
        name.replace(".base_layer", ""): value
        for name, value in trainer.model.get_base_model().state_dict().items()
    }
    assert all(trained[name].equal(value) for name, value in before.items())
    check_saved_adapter(trainer.model, tokenizer, tmp_path / "adapter")


@torch.no_grad()
def check_saved_adapter(policy, tokenizer, folder):
    """It is written as safetensors alone; what is read back is the policy, which answers."""
    policy.eval().save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    read = PeftModel.from_pretrained(models.load("smollm2", seed=0)[0], folder).eval()
    question = say("user", PAIRS[0][0])
    prompt = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    logits = policy(**prompt).logits
    assert read(**prompt).logits.equal(logits)
    with read.disable_adapter():
        assert not torch.allclose(read(**prompt).logits, logits, atol=1e-3)
    answer = read.generate(**prompt, max_new_tokens=5, do_sample=False)[
        0, prompt["input_ids"].shape[1] :
    ]
    assert 1 <= len(answer) <= 5
