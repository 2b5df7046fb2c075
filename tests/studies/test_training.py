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

from sympo import preferences
from sympo.studies.alignment import gold, training
from sympo.trainer import SymPOTrainer


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
