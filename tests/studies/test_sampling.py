"""Sampled answers and what is measured on them, against enumeration of every answer."""

import copy
import itertools
import math
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_gold import answer_log_prob, find_run
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from sympo.studies import graphs, memory, models
from sympo.studies.alignment import gold, sampling, sweep
from sympo.studies.alignment.config import WHOLE, Decoding, WorldSpec

PROMPT = [{"role": "user", "content": "cafe monday aunt"}]
SHORT_PROMPT = [{"role": "user", "content": "hotel"}]


# the paper's, and one that leaves a token or two
DECODINGS = [WHOLE, Decoding(0.7, 0.95), Decoding(1.5, 0.4)]


class Tempered(WorldSpec):
    """A world whose answers are drawn from its likeliest tokens."""

    decoding = Decoding(0.5, 0.6)


def toy_models(tokenizer):
    """Two policies that know the first 4 tokens only, so that all answers can be listed."""
    models = [gold.tiny_model(tokenizer, seed=seed) for seed in (0, 1)]
    generator = torch.Generator().manual_seed(0)
    for model in models:
        torch.nn.init.normal_(model.lm_head.weight, std=0.1, generator=generator)
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
def test_kl_is_that_of_the_policies_however_answers_are_drawn(gold_tokenizer):
    policy, reference = toy_models(gold_tokenizer)
    spec = Tempered(**find_run("dpo", 0.0, max_new_tokens=3).world.config())
    world = SimpleNamespace(
        spec=spec, model=reference, tokenizer=gold_tokenizer, prompts=[PROMPT] * 3000
    )
    answers = sampling.sample(policy, gold_tokenizer, world.prompts, spec, samples=1, seed=0)
    kl = sweep._measure_kl(policy, world, answers)
    ours, theirs = (
        np.array(
            [answer_log_prob(m, gold_tokenizer, PROMPT, a) for a in list_answers(gold_tokenizer, 3)]
        )
        for m in (policy, reference)
    )
    exact = (np.exp(ours) * (ours - theirs)).sum()
    spread = kl.std() / math.sqrt(len(kl))
    assert kl.mean() == pytest.approx(exact, abs=4 * spread)
    # along the answers that were drawn it would be another number
    along = sampling.divergences(policy, reference, answers)
    assert abs(along.mean() - exact) > 8 * spread


@torch.no_grad()
def test_sampling_draws_from_the_whole_distribution(gold_tokenizer):
    policy, _ = toy_models(gold_tokenizer)
    spec = find_run("dpo", 0.0, max_new_tokens=2).world
    drawn = sampling.sample(policy, gold_tokenizer, [PROMPT], spec, samples=4000, seed=0)
    rows = [tuple(tokens) for tokens in list_tokens(drawn)]
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


def warp(logits, decoding):
    """What is left of logits `(rows, vocabulary)` in transformers' `generate`, as shares."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(decoding.temperature)])
    if decoding.top_p < 1:
        warpers.append(TopPLogitsWarper(decoding.top_p))
    return warpers(None, logits).softmax(-1)


def answer_alone(model, tokenizer, prompt, uniform, decoding):
    """An answer by the book: alone, without padding, everything read anew for each token."""
    ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    answer = []
    for number in uniform.tolist():
        shares = warp(model(torch.tensor([[*ids, *answer]])).logits[:, -1].double(), decoding)[0]
        answer.append(int(np.searchsorted(np.cumsum(shares.numpy()), number)))
        if answer[-1] == tokenizer.eos_token_id:
            break
    return answer


def list_tokens(samples):
    """The tokens of each sampled answer, without padding."""
    return [
        ids[answer.bool()].tolist()
        for batch in samples.batches
        for ids, answer in zip(batch.ids, batch.answer, strict=True)
    ]


@pytest.mark.parametrize("decoding", DECODINGS)
@torch.no_grad()
def test_answers_are_those_of_each_prompt_by_itself(gold_tokenizer, decoding):
    policy, _ = toy_models(gold_tokenizer)
    spec = find_run("dpo", 0.0, max_new_tokens=6).world
    prompts = [PROMPT, SHORT_PROMPT]
    drawn = sampling.sample(
        policy, gold_tokenizer, prompts, spec, samples=20, seed=3, decoding=decoding
    )
    uniform = 1 - torch.rand(40, 6, generator=torch.Generator().manual_seed(3))
    asked = [prompt for prompt in prompts for _ in range(20)]
    expected = [
        answer_alone(policy, gold_tokenizer, prompt, numbers, decoding)
        for prompt, numbers in zip(asked, uniform, strict=True)
    ]
    # some end early and others never, where a token of little probability may be drawn
    lengths = set(map(len, expected))
    assert max(lengths) == 6
    assert min(lengths) < 6 or decoding.top_p < 1
    assert list_tokens(drawn) == expected
    assert drawn.lengths == list(map(len, expected))


@pytest.mark.parametrize("decoding", DECODINGS)
def test_decoding_is_that_of_transformers(decoding):
    logits = torch.randn(200, 50, generator=torch.Generator().manual_seed(0)) * 2
    # nothing to choose from, and a token that is nearly sure
    logits[0, 1:] = -math.inf
    logits[1, 7] = 30.0
    shares = sampling.token_shares(logits, decoding)
    expected = warp(logits, decoding)
    assert ((shares > 0) == (expected > 0)).all()
    torch.testing.assert_close(shares / shares.sum(-1, keepdim=True), expected)
    left = (shares > 0).sum(-1)
    assert left[0] == 1
    assert (left.min() < left.max() < 50) == (decoding != WHOLE)


def test_a_world_says_how_its_answers_are_drawn(gold_tokenizer):
    policy, _ = toy_models(gold_tokenizer)
    spec = find_run("dpo", 0.0, max_new_tokens=6).world
    tempered = Tempered(**spec.config())
    draw = partial(sampling.sample, policy, gold_tokenizer, [PROMPT], samples=20, seed=1)
    assert list_tokens(draw(tempered)) == list_tokens(draw(spec, decoding=tempered.decoding))
    assert list_tokens(draw(tempered)) != list_tokens(draw(spec))
    assert list_tokens(draw(tempered, decoding=WHOLE)) == list_tokens(draw(spec))


def test_a_token_is_where_its_number_lies():
    shares = torch.tensor([0, 0.25, 0, 0.5, 0.25, 0])
    places = {1e-9: 1, 0.25: 1, 0.26: 3, 0.75: 3, 0.76: 4, 1: 4}
    logits = shares.log().expand(len(places), -1)
    assert sampling.invert(logits, torch.tensor([*places])).tolist() == [*places.values()]
    # however the sums of many small numbers are rounded
    logits = torch.zeros(2, 50_000)
    logits[:, 40_000:] = -math.inf
    assert sampling.invert(logits, torch.tensor([2.0**-24, 1])).tolist() == [0, 39_999]
    # of a policy that has diverged
    for decoding in DECODINGS:
        assert sampling.invert(torch.full((1, 5), math.nan), torch.ones(1), decoding) == 0


@torch.no_grad()
def test_a_policy_that_is_sure_writes_what_generate_writes(gold_world):
    policy = copy.deepcopy(gold_world.model)
    policy.lm_head.weight *= 1e4
    tokenizer = gold_world.tokenizer
    prompts = [PROMPT, SHORT_PROMPT, *gold_world.prompts[:6]]
    texts = tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    greedy = policy.generate(**inputs, do_sample=False, max_new_tokens=12)
    drawn = sampling.sample(
        policy, tokenizer, prompts, replace(gold_world.spec, max_new_tokens=12), samples=1, seed=0
    )
    expected = tokenizer.batch_decode(greedy[:, inputs.input_ids.shape[1] :], True)
    assert drawn.texts == expected
    assert len(set(expected)) > 1


def draw(policy, tokenizer, *, tokens=12):
    """Four answers of a toy to each of two prompts; most end soon."""
    spec = find_run("dpo", 0.0, max_new_tokens=tokens).world
    prompts = [PROMPT, SHORT_PROMPT]
    return sampling.sample(policy, tokenizer, prompts, spec, samples=4, seed=5)


def test_an_answer_does_not_depend_on_those_sampled_with_it(gold_tokenizer, monkeypatch):
    policy, _ = toy_models(gold_tokenizer)
    together = draw(policy, gold_tokenizer)
    monkeypatch.setattr(sampling, "ROWS", 3)
    apart = draw(policy, gold_tokenizer)
    assert len(apart.batches) == 3
    assert apart.texts == together.texts
    assert list_tokens(apart) == list_tokens(together)


def test_an_answer_does_not_depend_on_when_it_is_seen_that_all_have_ended(
    gold_tokenizer, monkeypatch
):
    policy, _ = toy_models(gold_tokenizer)
    (soon,) = draw(policy, gold_tokenizer, tokens=50).batches
    monkeypatch.setitem(sampling.LOOK_EVERY, "cpu", 16)
    (late,) = draw(policy, gold_tokenizer, tokens=50).batches
    assert all(map(torch.equal, soon, late))
    # the columns after the longest answer are left out
    assert soon.answer.sum(1).max() < 50
    assert soon.answer[:, -1].any()


def build_sampler(world, *, rows, tokens, device="cpu", decoding=WHOLE):
    """A sampler of some prompts of a world, and its random numbers."""
    texts = world.tokenizer.apply_chat_template(
        world.prompts[:rows], add_generation_prompt=True, tokenize=False
    )
    inputs = world.tokenizer(texts, return_tensors="pt", padding=True).to(device)
    sampler = sampling._Sampler(
        copy.deepcopy(world.model).to(device).eval(),
        inputs.input_ids,
        inputs.attention_mask,
        tokens=tokens,
        end=world.tokenizer.eos_token_id,
        pad=world.tokenizer.pad_token_id,
        decoding=decoding,
    )
    return sampler, 1 - torch.rand(rows, tokens, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_recorded_steps_are_called_steps(gold_world, tapes):
    called, uniform = build_sampler(gold_world, rows=6, tokens=12)
    expected = called.run(uniform)
    recorded, _ = build_sampler(gold_world, rows=6, tokens=12)
    step = graphs.Replay(recorded.step)
    recorded.start(uniform[:, 0])
    for numbers in uniform[:, 1:].unbind(1):
        step(numbers)
    assert len(tapes) == 1
    assert recorded.answers.equal(expected)
    # the answers go on after the steps that are called
    ends = expected == gold_world.tokenizer.eos_token_id
    assert not ends[:, : graphs.WARM_UP + 2].any(1).all()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("decoding", DECODINGS)
def test_a_gpu_samples_what_a_processor_samples(gold_world, decoding):
    build = partial(build_sampler, gold_world, rows=24, tokens=40, decoding=decoding)
    on_cpu, uniform = build()
    on_gpu, _ = build(device="cuda")
    expected = on_cpu.run(uniform)
    assert on_gpu.run(uniform.cuda()).cpu().equal(expected)
    called, _ = build(device="cuda")
    called.start(uniform[:, 0].cuda())
    for numbers in uniform[:, 1:].cuda().unbind(1):
        called.step(numbers)
    assert called.answers.cpu().equal(expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_sampling_on_a_gpu_stays_within_its_estimate():
    tokenizer = models.byte_tokenizer()
    # so large that what libraries take for themselves is little beside it
    shape = LlamaConfig(
        hidden_size=512,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=4,
        vocab_size=16_384,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(shape).cuda().eval()
    rows, columns, tokens = 512, 200, 8
    prompts = torch.randint(2, 100, (rows, columns), device="cuda")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    options = {"end": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    # what sorts tokens takes more than what does not
    options["decoding"] = Decoding(0.7, 0.95)
    sampler = sampling._Sampler(model, prompts, torch.ones_like(prompts), tokens=tokens, **options)
    sampler.run(torch.rand(rows, tokens, device="cuda"))
    used = torch.cuda.max_memory_allocated() - before
    assert used <= rows * sum(sampling._count_bytes(shape, prompt=columns, answer=tokens))


def test_answers_sampled_together_fit_in_memory(monkeypatch):
    shape = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 64,
        "intermediate_size": 96,
        "vocab_size": 50,
    }

    def count(device, prompt, **changes):
        model = SimpleNamespace(
            config=LlamaConfig(**{**shape, **changes}), device=torch.device(device)
        )
        return sampling._count_rows(model, prompt=prompt, answer=20)

    # keys and values · layers · heads · head size · float32 · tokens
    row = 2 * 2 * 2 * 16 * 4 * 100
    assert count("cpu", 80) == sampling.ROWS
    assert count("cpu", 80, num_hidden_layers=2000) == sampling.CACHE // (1000 * row)
    assert count("cpu", 10**9) == 1

    passing = 4 * (14 * 50 + 2 * 80 * 100 + 80 * (3 * 96 + 8 * 64) + 2 * 64 * 100)
    monkeypatch.setattr(memory, "free_on_gpu", lambda: 2 * 1000 * (row + passing))
    assert count("cuda", 80) == 1000
    assert count("cuda", 10**9) == 1


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


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_is_no_loss(value):
    ours = np.array([[value, 1.0], [1.0, 1.0]])
    theirs = np.zeros((2, 3))
    for by_prompt in (sampling.win_rates(ours, theirs), 1 - sampling.win_rates(theirs, ours)):
        assert np.isnan(by_prompt[0])
        assert by_prompt[1] == 1


def test_the_interval_of_a_win_rate_stays_in_0_to_1():
    by_prompt = [1.0, 1.0, 0.9]
    whole = sampling.summarise("reward", by_prompt)
    cut = sampling.summarise("win_rate", by_prompt, proportion=True)
    assert cut["win_rate"] == whole["reward"]
    assert cut["win_rate_low"] == whole["reward_low"]
    assert cut["win_rate_high"] == 1 < whole["reward_high"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_diverged_policy_is_summed_up_as_nan(value):
    summary = sampling.summarise("kl", [1.0, value, 2.0])
    assert list(summary) == ["kl", "kl_low", "kl_high"]
    assert all(math.isnan(number) for number in summary.values())
