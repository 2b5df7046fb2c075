"""The alignment pipeline on the tiny world, and its measurements against enumeration of every
answer.
"""

import copy
import itertools
import json
import math

import numpy as np
import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset
from torch.nn.functional import log_softmax
from transformers import LlamaConfig

from sympo import preferences, trainer
from sympo.studies import models, sources
from sympo.studies.alignment import gold
from sympo.studies.alignment import sweep as align

SMALL = {
    "study": "gold",
    "profile": "smoke",
    "methods": ["dpo", "rdpo", "sympo_sigmoid"],
    "noise_rates": [0.0, 0.4],
    "seeds": 1,
    "headline_methods": ["dpo", "sympo_sigmoid"],
    "headline_seeds": 1,
    "frontier_methods": ["dpo"],
    "frontier_seeds": 1,
    "betas": [0.5],
    "pairs": 48,
    "learning_rate": 1e-3,
    "max_new_tokens": 8,
    "samples": 2,
    "batch": 16,
    "micro_batch": 16,
    "model": "tiny",
    "sft_examples": 64,
    "sft_epochs": 3,
    "sft_learning_rate": 3e-3,
    "prompts": 24,
}


def config(**changes):
    return gold.GoldConfig(**{**SMALL, **changes})


def find(method, rate, **changes):
    return next(
        run
        for run in config(**changes).runs()
        if (run["method"], run["noise_rate"], run["beta"]) == (method, rate, 0.1)
    )


@pytest.fixture(scope="module")
def world():
    return gold.build_world(find("dpo", 0.0))


@pytest.fixture(scope="module")
def tokenizer():
    return gold.tiny_tokenizer()


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# Measurements


def toy_models(tokenizer):
    """Two policies that know the first 4 tokens only, so that all answers can be listed."""
    models = [gold.tiny_model(tokenizer, seed=seed) for seed in (0, 1)]
    for model in models:
        torch.nn.init.normal_(model.lm_head.weight, std=0.1)
        bias = torch.full((len(tokenizer),), -torch.inf)
        bias[:4] = 0
        model.lm_head.bias = torch.nn.Parameter(bias)
        model.lm_head.bias.data[4:] = -1e9
    return models


def list_answers(tokenizer, length):
    """Every answer of at most `length` tokens out of 4: it ends with <eos> or is cut."""
    end = tokenizer.eos_token_id
    for tokens in itertools.product(range(4), repeat=length):
        if end not in tokens[:-1]:
            yield tokens
    for n in range(1, length):
        yield from (
            (*tokens, end) for tokens in itertools.product(set(range(4)) - {end}, repeat=n - 1)
        )


def answer_log_prob(model, tokenizer, prompt, tokens):
    given = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    logits = model(torch.tensor([[*given, *tokens]])).logits[0, len(given) - 1 : -1]
    return log_softmax(logits.double(), -1)[range(len(tokens)), list(tokens)].sum().item()


@torch.no_grad()
def test_divergence_by_enumeration(tokenizer):
    policy, reference = toy_models(tokenizer)
    # the second is padded
    prompts = [[{"role": "user", "content": text}] for text in ("cafe monday aunt", "hotel")]
    run = find("dpo", 0.0, max_new_tokens=3)
    drawn = align.sample(policy, tokenizer, prompts, run, samples=1500, seed=0)
    estimates = align.divergences(policy, reference, drawn).reshape(2, -1)
    for prompt, estimate in zip(prompts, estimates, strict=True):
        answers = list(list_answers(tokenizer, 3))
        ours, theirs = (
            np.array([answer_log_prob(model, tokenizer, prompt, a) for a in answers])
            for model in (policy, reference)
        )
        assert np.exp(ours).sum() == pytest.approx(1)
        exact = (np.exp(ours) * (ours - theirs)).sum()
        assert exact > 0.01
        assert estimate.mean() == pytest.approx(
            exact, abs=4 * estimate.std() / math.sqrt(len(estimate)) + 1e-6
        )
        assert (estimate >= 0).all()


@torch.no_grad()
def test_sampling_draws_from_the_whole_distribution(tokenizer):
    policy, _ = toy_models(tokenizer)
    prompt = [{"role": "user", "content": "cafe monday aunt"}]
    drawn = align.sample(
        policy, tokenizer, [prompt], find("dpo", 0.0, max_new_tokens=2), samples=4000, seed=0
    )
    rows = [
        tuple(r[a.bool()].tolist())
        for ids, _, answer in drawn.batches
        for r, a in zip(ids, answer, strict=True)
    ]
    for answer in list_answers(tokenizer, 2):
        expected = math.exp(answer_log_prob(policy, tokenizer, prompt, answer))
        spread = math.sqrt(expected * (1 - expected) / len(rows))
        assert rows.count(answer) / len(rows) == pytest.approx(expected, abs=4 * spread)
    assert drawn.lengths == [len(row) for row in rows]


def test_sampling_is_repeatable_and_leaves_the_generator_alone(world):
    run = find("dpo", 0.0)
    state = torch.get_rng_state()
    one, same, other = (
        align.sample(world.model, world.tokenizer, world.prompts, run, samples=2, seed=s).texts
        for s in (7, 7, 8)
    )
    assert one == same != other
    assert torch.get_rng_state().equal(state)


def test_answers_sampled_together_fit_in_memory():
    shape = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 64,
    }
    # keys and values · layers · heads · head size · float32 · tokens
    row = 2 * 2 * 2 * 16 * 4 * 100
    assert align._count_rows(LlamaConfig(**shape), tokens=100) == align.ROWS
    large = LlamaConfig(**{**shape, "num_hidden_layers": 2000})
    assert align._count_rows(large, tokens=100) == align.CACHE // (1000 * row)
    assert align._count_rows(large, tokens=10**9) == 1


def test_gradients_are_not_cut():
    settings = align.settings(find("dpo", 0.0), "unused")
    assert settings["max_grad_norm"] == math.inf


def test_a_policy_equal_to_the_reference(world):
    run = find("dpo", 0.0, samples=2)
    metrics = align.measure(copy.deepcopy(world.model), world, run)
    assert metrics["kl"] == pytest.approx(0, abs=1e-9)
    assert metrics["win_rate_low"] < 0.5 < metrics["win_rate_high"]


# The world


def test_sft_learns_the_grammar(world):
    unrelated = gold.tiny_model(world.tokenizer, seed=0)
    review = gold.write_review(world.prompts[0], np.random.default_rng(5))
    tokens = world.tokenizer(f"{review} <eos>")["input_ids"]
    trained, untrained = (
        answer_log_prob(m, world.tokenizer, world.prompts[0], tokens)
        for m in (world.model, unrelated)
    )
    assert trained > untrained + 1


def test_pairs_are_on_policy_and_from_training_prompts(world):
    held_out = {prompt[0]["content"] for prompt in world.prompts}
    assert not held_out & {prompt[0]["content"] for prompt in world.train["prompt"]}
    assert {prompt[0]["content"] for prompt in world.test["prompt"]} <= held_out
    assert np.greater(world.test["gold_chosen"], world.test["gold_rejected"]).all()
    assert world.rewards.shape == (24, 2)


def test_the_shared_reference_pass_is_what_a_fresh_one_gives(world):
    flipped = preferences.flip_preferences(world.train, 0.4, seed=0)
    assert 0 < sum(flipped["is_flipped"]) < len(flipped)
    for row in itertools.islice(flipped, 12):
        for side in ("chosen", "rejected"):
            answer = world.tokenizer(f"{row[side][0]['content']} <eos>")["input_ids"]
            assert row[f"{side}_ids"] == answer
            fresh = answer_log_prob(world.model, world.tokenizer, row["prompt"], answer)
            assert row[f"ref_{side}_logps"] == pytest.approx(fresh, abs=1e-4)


def test_there_is_one_reference_pass_and_one_sft_per_seed(world, monkeypatch):
    worlds, passes = [], []
    original = align.PairTrainer.compute_ref_log_probs
    monkeypatch.setattr(align, "margins", lambda made, pairs: np.zeros(len(pairs)))

    def counted(self, model, inputs):
        passes.append(model)
        return original(self, model, inputs)

    monkeypatch.setattr(align.PairTrainer, "compute_ref_log_probs", counted)
    runs = config(methods=["dpo"], frontier_seeds=0, headline_seeds=2).runs()
    before = weights(world.model).clone()
    trained = align.train_runs(runs, build_world=lambda run: worlds.append(run["seed"]) or world)
    assert [run for run, _ in trained] == runs
    assert worlds == [0, 1]
    assert not passes
    assert weights(world.model).equal(before)  # runs leave the reference as it is


# Runs


def test_a_run_has_finite_metrics_and_learns(world):
    run = find("dpo", 0.0, learning_rate=3e-3, epochs=4)
    result = align.train_run(run, world, world.train)
    metrics = result["metrics"]
    assert metrics["fit_flipped"] is None
    assert all(math.isfinite(value) for value in metrics.values() if value is not None)
    assert metrics["kl"] > 0.01
    assert metrics["margin"] > 0
    assert [entry["step"] for entry in result["history"]][-1] == 12
    json.dumps(result)


def test_margins_are_those_of_plain_log_probs(world):
    run = find("dpo", 0.0)
    policy = gold.tiny_model(world.tokenizer, seed=3)
    made = align.build_trainer(
        copy.deepcopy(policy), world.tokenizer, run, "unused", train_dataset=world.train
    )
    found = align.margins(made, world.test)
    for row, margin in itertools.islice(zip(world.test, found, strict=True), 8):
        chosen, rejected = (
            answer_log_prob(policy, world.tokenizer, row["prompt"], row[f"{side}_ids"])
            - answer_log_prob(world.model, world.tokenizer, row["prompt"], row[f"{side}_ids"])
            for side in ("chosen", "rejected")
        )
        assert margin == pytest.approx(0.1 * (chosen - rejected), abs=1e-4)


def test_told_a_rate_of_zero_rdpo_is_dpo(world):
    dpo, rdpo = (
        align.train_run(find(method, 0.0), world, world.train)["metrics"]
        for method in ("dpo", "rdpo")
    )
    assert dpo.pop("fit_flipped") is rdpo.pop("fit_flipped") is None
    assert rdpo == pytest.approx(dpo, rel=1e-4)


def test_batches_are_those_of_trl(world, tmp_path):
    run = find("dpo", 0.0, batch=16, micro_batch=4)
    made = align.build_trainer(
        copy.deepcopy(world.model), world.tokenizer, run, tmp_path, train_dataset=world.train
    )
    given = {"train_dataset": made.train_dataset, "processing_class": world.tokenizer}
    plain = trainer.SymPOTrainer(copy.deepcopy(world.model), args=made.args, **given)
    ours, theirs = (list(each.get_train_dataloader().batch_sampler) for each in (made, plain))
    batches = [
        [sorted(itertools.chain(*o[i : i + 4])) for i in range(0, len(o), 4)]
        for o in (ours, theirs)
    ]
    assert batches[0] == batches[1]


def test_batches_sorted_inside_pad_less():
    lengths = np.random.default_rng(0).integers(1, 100, size=64)
    order = np.array(list(align.BatchBuckets(lengths.tolist(), batch=16, seed=0)))
    unsorted = np.array(
        list(SeedableRandomSampler(lengths, generator=torch.Generator(), data_seed=0))
    )
    padded, plain = (lengths[o].reshape(-1, 4).max(1).sum() for o in (order, unsorted))
    assert padded < plain
    assert (np.sort(order.reshape(-1, 16)) == np.sort(unsorted.reshape(-1, 16))).all()


def test_seeds_in_processes_train_as_one_after_the_other(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    runs = config(
        methods=["dpo"],
        noise_rates=[0.4],
        headline_methods=["dpo"],
        headline_seeds=2,
        frontier_seeds=0,
    ).runs()
    assert {run["seed"] for run in runs} == {0, 1}
    together, alone = (
        {
            run["seed"]: result["metrics"]
            for run, result in train(runs, build_world=gold.build_world)
        }
        for train in (align.train_parallel, align.train_runs)
    )
    assert together.keys() == alone.keys()
    for seed in alone:
        assert together[seed] == pytest.approx(alone[seed], rel=1e-3), seed


def test_several_gpus_in_one_process_are_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"2 GPUs .* CUDA_VISIBLE_DEVICES=0"):
        align.settings(config().runs()[0], str(tmp_path))


def test_study_resumes(world, monkeypatch, tmp_path):
    monkeypatch.setattr(align, "build_folder", lambda profile: tmp_path)
    # another process would not see the world below
    monkeypatch.setattr(align, "train_parallel", align.train_runs)
    monkeypatch.setattr(gold, "build_world", lambda run: world)
    study = config(methods=["dpo"], headline_methods=["sympo_sigmoid"])
    first = gold.run_study(study)
    assert (first.trained, first.loaded) == (len(study.runs()), 0)
    next((tmp_path / "records").glob("gold-sympo_sigmoid-symmetric_0.4-*.json")).unlink()
    again = gold.run_study(study)
    assert (again.trained, again.loaded) == (1, len(study.runs()) - 1)
    assert [r["metrics"] for r in again.records] == [r["metrics"] for r in first.records]


def test_smollm2_goes_the_same_way(monkeypatch, tmp_path, tokenizer):
    gold.tiny_model(tokenizer, seed=0).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    monkeypatch.setitem(
        models.PRETRAINED, "smollm2", lambda: sources.Asset(tmp_path, "a test", "sha")
    )

    def load(*names):
        offset = 0 if names == gold.HH_TRAIN else 200
        prompts = gold.list_prompts()[offset : offset + 80]
        reviews = [gold.write_review(prompt, np.random.default_rng(offset)) for prompt in prompts]
        rows = [
            {"prompt": p, "chosen": r, "rejected": "bad ."}
            for p, r in zip(prompts, reviews, strict=True)
        ]
        said = [
            {
                **row,
                **{s: [{"role": "assistant", "content": row[s]}] for s in ("chosen", "rejected")},
            }
            for row in rows
        ]
        return preferences.Pairs(
            Dataset.from_list([{**row, "is_flipped": False} for row in said]), preferences.Report()
        )

    monkeypatch.setattr(preferences, "load_hh", load)
    run = find("sympo_ramp", 0.4, model="smollm2", methods=["sympo_ramp"])
    made = gold.build_world(run)
    assert len(made.prompts) == 24
    result = align.train_run(run, made, preferences.flip_preferences(made.train, 0.4, seed=0))
    assert 0 <= result["metrics"]["win_rate"] <= 1
    assert result["metrics"]["fit_flipped"] is not None


# The configuration


def test_the_laptop_sweep_has_45_runs_and_completes_seeds_in_turn():
    methods = ["dpo", "cdpo", "rdpo", "ropo", "sympo_sigmoid", "sympo_ramp"]
    headline = {"headline_methods": ["dpo", "sympo_sigmoid", "sympo_ramp"], "headline_seeds": 5}
    study = config(
        methods=methods, noise_rates=[0.0, 0.2, 0.4], seeds=2, frontier_seeds=0, **headline
    )
    runs = study.runs()
    assert len(runs) == 45
    assert [run["seed"] for run in runs] == sorted(run["seed"] for run in runs)
    assert {run["method"] for run in runs if run["seed"] > 1} == set(study.headline_methods)
    assert {run["noise_rate"] for run in runs if run["seed"] > 1} == {0.4}
    frontier = [run for run in config(betas=[0.1, 0.5]).runs() if run["beta"] == 0.5]
    assert [(run["method"], run["noise_rate"], run["seed"]) for run in frontier] == [
        ("dpo", 0.4, 0)
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["dop"]}, "unknown method 'dop'"),
        ({"noise_rates": [0.5]}, "noise_rates"),
        ({"headline_seeds": 1, "seeds": 2}, "headline_seeds = 1 is below seeds = 2"),
        ({"micro_batch": 5}, "micro_batch = 5 does not divide batch = 16"),
        ({"model": "llama"}, "model"),
        ({"beta": 0.0}, "beta"),
    ],
)
def test_config_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)
