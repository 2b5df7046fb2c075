"""Sampled answers and what is measured on them, against enumeration of every answer."""

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_gold import answer_log_prob, find_run
from transformers import LlamaConfig

from sympo.studies.alignment import gold, sampling, sweep

PROMPT = [{"role": "user", "content": "cafe monday aunt"}]
SHORT_PROMPT = [{"role": "user", "content": "hotel"}]


def toy_models(tokenizer):
    """Two policies that know the first 4 tokens only, so that all answers can be listed."""
    models = [gold.tiny_model(tokenizer, seed=seed) for seed in (0, 1)]
    for model in models:
        torch.nn.init.normal_(model.lm_head.weight, std=0.1)
        bias = torch.zeros(len(tokenizer))
        bias[4:] = -1e9
        model.lm_head.bias = torch.nn.Parameter(bias)
    return models


def list_answers(tokenizer, length):
    """Every answer of at most `length` tokens out of 4: it ends with <eos> or is cut."""
    end = tokenizer.eos_token_id
    for tokens in itertools.product(range(4), repeat=length):
        if end not in tokens[:-1]:
            yield tokens
    others = set(range(4)) - {end}
    for n in range(1, length):
        yield from ((*tokens, end) for tokens in itertools.product(others, repeat=n - 1))


@torch.no_grad()
def test_divergence_by_enumeration(gold_tokenizer):
    policy, reference = toy_models(gold_tokenizer)
    # of two lengths, so that one is padded
    prompts = [PROMPT, SHORT_PROMPT]
    spec = find_run("dpo", 0.0, max_new_tokens=3).world
    drawn = sampling.sample(policy, gold_tokenizer, prompts, spec, samples=1500, seed=0)
    estimates = sampling.divergences(policy, reference, drawn).reshape(2, -1)
    answers = list(list_answers(gold_tokenizer, 3))
    for prompt, estimate in zip(prompts, estimates, strict=True):
        ours, theirs = (
            np.array([answer_log_prob(model, gold_tokenizer, prompt, a) for a in answers])
            for model in (policy, reference)
        )
        assert np.exp(ours).sum() == pytest.approx(1)
        exact = (np.exp(ours) * (ours - theirs)).sum()
        assert exact > 0.01
        spread = estimate.std() / math.sqrt(len(estimate))
        assert estimate.mean() == pytest.approx(exact, abs=4 * spread + 1e-6)
        assert (estimate >= 0).all()


@torch.no_grad()
def test_sampling_draws_from_the_whole_distribution(gold_tokenizer):
    policy, _ = toy_models(gold_tokenizer)
    spec = find_run("dpo", 0.0, max_new_tokens=2).world
    drawn = sampling.sample(policy, gold_tokenizer, [PROMPT], spec, samples=4000, seed=0)
    rows = [
        tuple(ids[answer.bool()].tolist())
        for batch in drawn.batches
        for ids, answer in zip(batch.ids, batch.answer, strict=True)
    ]
    for answer in list_answers(gold_tokenizer, 2):
        expected = math.exp(answer_log_prob(policy, gold_tokenizer, PROMPT, answer))
        spread = math.sqrt(expected * (1 - expected) / len(rows))
        assert rows.count(answer) / len(rows) == pytest.approx(expected, abs=4 * spread)
    assert drawn.lengths == [len(row) for row in rows]


def test_sampling_is_repeatable_and_leaves_the_generator_alone(gold_world):
    def draw(seed):
        return sampling.sample(
            gold_world.model,
            gold_world.tokenizer,
            gold_world.prompts,
            gold_world.spec,
            samples=2,
            seed=seed,
        ).texts

    state = torch.get_rng_state()
    assert draw(7) == draw(7) != draw(8)
    assert torch.get_rng_state().equal(state)


def test_the_draws_of_all_worlds_have_different_seeds():
    first = find_run("dpo", 0.0).world
    specs = [replace(first, seed=seed) for seed in range(5)]
    seeds = [(spec.pairs_seed, spec.sft_seed, spec.policy_seed) for spec in specs]
    assert len(set(itertools.chain(*seeds))) == 3 * len(specs)


def test_answers_sampled_together_fit_in_memory():
    shape = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 64,
    }
    # keys and values · layers · heads · head size · float32 · tokens
    row = 2 * 2 * 2 * 16 * 4 * 100
    assert sampling._count_rows(LlamaConfig(**shape), tokens=100) == sampling.ROWS
    large = LlamaConfig(**{**shape, "num_hidden_layers": 2000})
    assert sampling._count_rows(large, tokens=100) == sampling.CACHE // (1000 * row)
    assert sampling._count_rows(large, tokens=10**9) == 1


def test_a_policy_equal_to_the_reference(gold_world):
    metrics = sweep.measure(copy.deepcopy(gold_world.model), gold_world)
    assert metrics["kl"] == pytest.approx(0, abs=1e-9)
    assert metrics["win_rate_low"] < 0.5 < metrics["win_rate_high"]


def test_win_rates_by_enumeration():
    ours = np.array([[1.0, 0.0], [0.5, 0.5]])
    theirs = np.array([[0.0, 0.0, 2.0], [0.5, 0.4, 0.6]])
    # prompt 1: 1 beats 0, 0, loses to 2; 0 ties 0, 0, loses to 2. Prompt 2: each ties, wins and
    # loses once.
    assert sampling.win_rates(ours, theirs) == pytest.approx([(2 + 1) / 6, 0.5])
    assert sampling.win_rates(theirs, ours) == pytest.approx([(6 - 3) / 6, 0.5])


def test_win_rate_of_a_policy_against_itself_is_one_half():
    rewards = np.random.default_rng(0).normal(size=(400, 8)).round(1)
    by_prompt = sampling.win_rates(rewards[:, :4], rewards[:, 4:])
    win_rate = sampling.summarise("win_rate", by_prompt)
    assert win_rate["win_rate_low"] < 0.5 < win_rate["win_rate_high"]
    assert win_rate["win_rate_high"] - win_rate["win_rate_low"] < 0.1
    assert sampling.win_rates(rewards, rewards) == pytest.approx(0.5)


def test_the_interval_of_a_win_rate_stays_in_0_to_1():
    by_prompt = [1.0, 1.0, 0.9]
    whole = sampling.summarise("reward", by_prompt)
    cut = sampling.summarise("win_rate", by_prompt, proportion=True)
    assert cut["win_rate"] == whole["reward"]
    assert cut["win_rate_low"] == whole["reward_low"]
    assert cut["win_rate_high"] == 1 < whole["reward_high"]
