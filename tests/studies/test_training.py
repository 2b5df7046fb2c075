"""Fine-tuning, batches, and log-probabilities of pairs, against the model's own logits."""

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from tiny_gold import answer_log_prob, config, find_run
from transformers import LlamaConfig, LlamaForCausalLM

from sympo import losses, preferences
from sympo.studies import memory, models
from sympo.studies.alignment import gold, training
from sympo.studies.alignment.world import add_reference
from sympo.trainer import REFERENCE_COLUMNS, SymPOTrainer


def build_trainer(world, run, *, model=None, folder="unused"):
    """The trainer of a run in a world, which starts from a copy of `model` or the SFT model."""
    return training.build_trainer(
        copy.deepcopy(model or world.model),
        world.tokenizer,
        training.run_arguments(run, str(folder)),
        train_dataset=world.train,
    )


def test_gradients_are_not_cut():
    arguments = training.settings(find_run("dpo", 0.0).world, "unused")
    assert arguments["max_grad_norm"] == math.inf


def test_several_gpus_in_one_process_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"2 GPUs .* CUDA_VISIBLE_DEVICES=0"):
        training.settings(config().world_spec(0), str(tmp_path))


@pytest.mark.parametrize(
    ("method", "told"), [("dpo", None), ("sympo_ramp", None), ("cdpo", 0.4), ("rdpo", 0.4)]
)
def test_the_true_noise_rate_is_told_to_those_who_need_it(method, told, tmp_path):
    run = find_run(method, 0.4, methods=[method])
    arguments = training.run_arguments(run, str(tmp_path))
    assert (arguments.loss_type, arguments.noise_rate) == ([method], told)


def test_sft_learns_the_grammar(gold_world):
    untrained = gold.tiny_model(gold_world.tokenizer, seed=0)
    prompt = gold_world.prompts[0]
    review = gold.write_review(prompt, np.random.default_rng(5))
    tokens = gold_world.tokenizer(f"{review} <eos>")["input_ids"]
    before, after = (
        answer_log_prob(model, gold_world.tokenizer, prompt, tokens)
        for model in (untrained, gold_world.model)
    )
    assert after > before + 1


def test_the_shared_reference_pass_is_what_a_fresh_one_gives(gold_world):
    flipped = preferences.flip_preferences(gold_world.train, 0.4, seed=0)
    assert 0 < sum(flipped["is_flipped"]) < len(flipped)
    for row in itertools.islice(flipped, 12):
        for side in ("chosen", "rejected"):
            tokens = gold_world.tokenizer(f"{row[side][0]['content']} <eos>")["input_ids"]
            assert row[f"{side}_ids"] == tokens
            fresh = answer_log_prob(gold_world.model, gold_world.tokenizer, row["prompt"], tokens)
            assert row[f"ref_{side}_logps"] == pytest.approx(fresh, abs=1e-4)


def test_margins_are_those_of_plain_log_probs(gold_world):
    tokenizer = gold_world.tokenizer
    policy = gold.tiny_model(tokenizer, seed=3)
    trainer = build_trainer(gold_world, find_run("dpo", 0.0), model=policy)
    margins = training.margins(trainer, gold_world.test)
    for row, margin in itertools.islice(zip(gold_world.test, margins, strict=True), 8):
        chosen, rejected = (
            answer_log_prob(policy, tokenizer, row["prompt"], row[f"{side}_ids"])
            - answer_log_prob(gold_world.model, tokenizer, row["prompt"], row[f"{side}_ids"])
            for side in ("chosen", "rejected")
        )
        assert margin == pytest.approx(0.1 * (chosen - rejected), abs=1e-4)


@pytest.fixture
def bf16(monkeypatch):
    """Training is in bfloat16, as on a GPU."""
    monkeypatch.setattr(training, "mixed_precision", lambda model: True)


@pytest.fixture
def bf16_world(gold_world, bf16):
    """The small world, whose reference pass was made where training is in bfloat16."""
    added = (*training.TOKEN_COLUMNS, *REFERENCE_COLUMNS, *training.EXACT_COLUMNS)
    plain = {name: getattr(gold_world, name).remove_columns(list(added)) for name in PARTS}
    return add_reference(replace(gold_world, **plain))


PARTS = ("train", "test")


def exact_log_probs(model, world, pairs):
    """`(2, pairs)`, read off the model's own logits."""
    return np.array(
        [
            [
                answer_log_prob(model, world.tokenizer, prompt, tokens)
                for prompt, tokens in zip(pairs["prompt"], pairs[f"{side}_ids"], strict=True)
            ]
            for side in ("chosen", "rejected")
        ]
    )


def list_columns(pairs, names):
    return np.array([pairs[name][:] for name in names])


@pytest.mark.slow
def test_log_probs_are_float32_under_autocast(bf16_world, tmp_path):
    run = replace(find_run("dpo", 0.0), world=bf16_world.spec)
    trainer = build_trainer(bf16_world, run, folder=tmp_path)
    assert trainer.accelerator.mixed_precision == "bf16"
    trainer.train()
    policy = copy.deepcopy(bf16_world.model)
    training.load_trained(policy, trainer)
    for pairs in (bf16_world.train, bf16_world.test):
        exact = exact_log_probs(bf16_world.model, bf16_world, pairs)
        reference = list_columns(pairs, training.EXACT_COLUMNS)
        assert reference == pytest.approx(exact, abs=1e-4)
        # after a training, in which accelerate has wrapped the model
        trained = exact_log_probs(policy, bf16_world, pairs)
        assert np.abs(trained - exact).max() > 0.1
        expected = 0.1 * np.subtract(*(trained - exact))
        assert training.margins(trainer, pairs) == pytest.approx(expected, abs=1e-4)
    # training itself is rounded, before and after
    rounded = training.log_probs(trainer, trainer.model, bf16_world.test, as_trained=True)
    assert np.abs(rounded - trained).max() > 1e-3
    reference = list_columns(bf16_world.train, REFERENCE_COLUMNS)
    exact = list_columns(bf16_world.train, training.EXACT_COLUMNS)
    assert np.abs(reference - exact).max() > 1e-3
    # what it subtracts is rounded alike, so that a policy starts as its reference
    first = trainer.state.log_history[0]
    assert first["step"] == 1
    assert abs(first["rewards/margins"]) < 1e-4


def test_without_autocast_there_is_one_reference_pass(gold_world):
    for pairs in (gold_world.train, gold_world.test):
        reference = list_columns(pairs, REFERENCE_COLUMNS)
        assert np.array_equal(reference, list_columns(pairs, training.EXACT_COLUMNS))


def test_only_the_papers_model_is_trained_in_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: True)
    assert training.mixed_precision("llama")
    assert not training.mixed_precision("smollm2")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: False)
    assert not training.mixed_precision("llama")


def test_tf32_is_as_before_whatever_happens():
    products = torch.backends.cuda.matmul
    before = products.allow_tf32

    @models.tf32(allowed=not before)
    def fail():
        raise RuntimeError(f"allowed: {products.allow_tf32}")

    for _ in range(2):
        with pytest.raises(RuntimeError, match=f"allowed: {not before}"):
            fail()
        assert products.allow_tf32 == before


@pytest.mark.parametrize(("batch", "expected"), [(64, 8), (12, 6), (4, 4), (22, 2), (7, 7)])
def test_a_processor_takes_the_largest_part_of_a_batch_up_to_8(batch, expected):
    spec = config(batch=batch, micro_batch="auto").world_spec(0)
    assert spec.micro_batch == "auto"  # whatever the machine
    arguments = training.settings(spec, "unused")
    assert arguments["per_device_train_batch_size"] == expected
    assert arguments["gradient_accumulation_steps"] * expected == batch


def test_a_gpu_takes_the_largest_part_of_a_batch_that_fits(monkeypatch):
    spec = config(batch=48, micro_batch="auto", max_length=100).world_spec(0)
    shape = models.find_shape("tiny")
    one = training.pair_bytes(shape, tokens=100, bf16=False)
    assert one == 2 * training.pair_bytes(shape, tokens=100, bf16=True)
    assert one == 2 * 2 * 100 * 2 * (42 * 128 + 8 * 128)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for fits, expected in ((1000, 48), (47, 24), (11.9, 8), (1.01, 1), (0.1, 1)):
        free = int(2 * fits * one)
        monkeypatch.setattr(memory, "free_on_gpu", lambda free=free: free)
        assert training.micro_batch(spec) == expected
    assert training.micro_batch(replace(spec, micro_batch=16)) == 16


def test_pairs_of_a_policy_are_as_long_as_they_are_and_have_more_of_a_gpu(monkeypatch, tmp_path):
    run = find_run("dpo", 0.0, batch=48, micro_batch="auto", max_length=100)
    shape = models.find_shape("tiny")
    longest = training.pair_bytes(shape, tokens=60, bf16=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for free, expected in ((24.5 / 0.7, 24), (23.5 / 0.7, 16)):
        monkeypatch.setattr(memory, "free_on_gpu", lambda free=free: int(free * longest))
        assert training.micro_batch(run.world, tokens=60) == expected
        # what else is trained may have pairs of 100 tokens, and half of the memory: 10 would fit
        assert training.micro_batch(run.world) == 8
    monkeypatch.undo()
    monkeypatch.setattr(training, "micro_batch", lambda spec, *, tokens=None: tokens or 1)
    arguments = training.run_arguments(run, str(tmp_path), tokens=16)
    assert arguments.per_device_train_batch_size == 16
    assert arguments.per_device_eval_batch_size == 16
    assert arguments.gradient_accumulation_steps == 3


@pytest.mark.parametrize(("shards", "share"), [("1", 70), ("2", 30), ("4", 10), ("40", 0)])
def test_shards_on_one_gpu_divide_its_memory(shards, share, monkeypatch):
    """Of 80 bytes 60 are free, and of 20 that this process holds it uses 10."""
    monkeypatch.setenv("SYMPO_GPU_SHARDS", shards)
    for name, value in (
        ("mem_get_info", (60, 80)),
        ("memory_allocated", 10),
        ("memory_reserved", 20),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    assert memory.free_on_gpu() == share


def test_processes_that_cannot_share_a_batch_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    spec = config(batch=16, micro_batch="auto").world_spec(0)
    with pytest.raises(ValueError, match="batch = 16 on 3 processes: choose a multiple"):
        training.micro_batch(spec)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_trls_kernels_are_log_softmax(dtype):
    """Those that DPO runs on CUDA alone: of given logits, and of a head without logits."""
    from trl.trainer.utils import selective_log_softmax

    generator = torch.Generator("cuda").manual_seed(0)
    logits = 5 * torch.randn(3, 40, 50_000, generator=generator, device="cuda", dtype=dtype)
    tokens = torch.randint(50_000, (3, 40), generator=generator, device="cuda")

    def plain(logits):
        return logits.double().log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)

    kernel = selective_log_softmax(logits, tokens)
    # the result is in the dtype of the logits
    scale = 1e-5 if dtype == torch.float32 else 2.0**-8
    torch.testing.assert_close(kernel.double(), plain(logits), rtol=scale, atol=scale)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rounded", [False, True])
def test_on_a_gpu_a_policy_starts_as_its_reference_and_moves(
    rounded, gold_world, tmp_path, monkeypatch
):
    """The whole path: TRL's fused head in Triton, TF32 or bfloat16, reference pass, training."""
    monkeypatch.setattr(training, "mixed_precision", lambda model: rounded)
    model = copy.deepcopy(gold_world.model).cuda()
    added = (*training.TOKEN_COLUMNS, *REFERENCE_COLUMNS, *training.EXACT_COLUMNS)
    plain = {name: getattr(gold_world, name).remove_columns(list(added)) for name in PARTS}
    world = add_reference(replace(gold_world, model=model, **plain))
    for pairs in (world.train, world.test):
        exact = exact_log_probs(gold_world.model, gold_world, pairs)
        assert list_columns(pairs, training.EXACT_COLUMNS) == pytest.approx(exact, abs=1e-3)
    run = replace(find_run("sympo_sigmoid", 0.0), world=world.spec)
    trainer = build_trainer(world, run, folder=tmp_path)
    assert training.margins(trainer, world.test) == pytest.approx(0, abs=1e-4)
    trainer.train()
    first = trainer.state.log_history[0]
    at_zero = losses.get("sigmoid").fn(torch.zeros(())).item()
    assert first["loss"] == pytest.approx(at_zero, abs=2e-3)
    policy = copy.deepcopy(model)
    training.load_trained(policy, trainer)
    moved = [
        not after.equal(before)
        for before, after in zip(model.parameters(), policy.parameters(), strict=True)
    ]
    assert all(moved)
    assert np.abs(training.margins(trainer, world.test)).max() > 1e-3


@pytest.mark.cuda
@pytest.mark.skipif(
    not training.mixed_precision("llama"), reason="needs a CUDA device with bfloat16"
)
@pytest.mark.parametrize("bf16", [False, True])
def test_a_step_on_a_gpu_stays_within_its_estimate(bf16):
    """Half of the memory is left for what the estimate leaves out."""
    shape = LlamaConfig(
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=1000,
    )
    model = LlamaForCausalLM(shape).cuda()
    pairs, tokens = 16, 256
    ids = torch.randint(1000, (2 * pairs, tokens), device="cuda")
    attention = torch.ones_like(ids)
    attention[:, :3] = 0
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
        # without the head, whose logits TRL does not keep
        states = model.model(input_ids=ids, attention_mask=attention, use_cache=False)
    used = torch.cuda.max_memory_allocated() - before
    assert states.last_hidden_state.requires_grad
    estimate = pairs * training.pair_bytes(shape, tokens=tokens, bf16=bf16)
    assert 0.5 * estimate < used < 1.5 * estimate


def test_batches_are_those_of_trl(gold_world, tmp_path):
    spec = replace(gold_world.spec, batch=16, micro_batch=4)
    run = replace(find_run("dpo", 0.0), world=spec)
    trainer = build_trainer(gold_world, run, folder=tmp_path)
    plain = SymPOTrainer(
        copy.deepcopy(gold_world.model),
        args=trainer.args,
        train_dataset=trainer.train_dataset,
        processing_class=gold_world.tokenizer,
    )
    ours, theirs = (list(each.get_train_dataloader().batch_sampler) for each in (trainer, plain))
    # four micro-batches make a batch, in which the order does not matter
    our_batches, their_batches = (
        [sorted(itertools.chain(*micro[i : i + 4])) for i in range(0, len(micro), 4)]
        for micro in (ours, theirs)
    )
    assert our_batches == their_batches


def test_batches_sorted_inside_pad_less():
    lengths = np.random.default_rng(0).integers(1, 100, size=64)
    order = np.array(list(training.BatchBuckets(lengths, batch=16, seed=0)))
    trl = SeedableRandomSampler(lengths, generator=torch.Generator(), data_seed=0)
    unsorted = np.array(list(trl))
    padded, plain = (lengths[o].reshape(-1, 4).max(1).sum() for o in (order, unsorted))
    assert padded < plain
    assert (np.sort(order.reshape(-1, 16)) == np.sort(unsorted.reshape(-1, 16))).all()
