"""Runs, their worlds and their order: from the config of an alignment study to its records."""

import json
import math
import weakref
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny_gold import SIZES, config, find_run, train_here

from sympo import preferences
from sympo.studies import comparisons, models, profiles, sources
from sympo.studies.alignment import gold, sweep, training
from sympo.studies.alignment.config import AlignmentRun
from sympo.studies.records import Result


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# What a run is


def test_the_laptop_sweep_has_45_runs_and_completes_seeds_in_turn():
    study = config(
        methods=["dpo", "cdpo", "rdpo", "ropo", "sympo_sigmoid", "sympo_ramp"],
        noise_rates=[0.0, 0.2, 0.4],
        seeds=2,
        headline_methods=["dpo", "sympo_sigmoid", "sympo_ramp"],
        headline_seeds=5,
        frontier_seeds=0,
    )
    runs = study.runs()
    assert len(runs) == 45
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert {run.method for run in runs if run.seed > 1} == set(study.headline_methods)
    assert {run.noise_rate for run in runs if run.seed > 1} == {0.4}
    frontier = [run for run in config(betas=[0.1, 0.5]).runs() if run.beta == 0.5]
    assert [(run.method, run.noise_rate, run.seed) for run in frontier] == [("dpo", 0.4, 0)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["dop"]}, "unknown method 'dop'"),
        ({"noise_rates": [0.5]}, "noise_rates"),
        ({"headline_seeds": 1, "seeds": 2}, "headline_seeds = 1 is below seeds = 2"),
        ({"micro_batch": 5}, "micro_batch = 5 does not divide batch = 16"),
        ({"model": "llama"}, "model"),
        ({"beta": 0.0}, "beta"),
        ({"noise_rates": [0.4, 0.1, 0.4]}, "noise_rates holds 0.4 more than once: list each"),
        ({"methods": ["dpo", "dpo"]}, "methods holds dpo more than once"),
        ({"headline_methods": ["dpo", "dpo"]}, "headline_methods holds dpo more than once"),
        ({"frontier_methods": ["dpo", "dpo"]}, "frontier_methods holds dpo more than once"),
        ({"betas": [0.5, 0.5]}, "betas holds 0.5 more than once"),
    ],
)
def test_config_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_a_config_that_several_processes_cannot_share_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match=r"micro_batch = 8 on 3 processes does not divide batch"):
        config(micro_batch=8)


def test_a_run_is_one_flat_row_that_holds_every_size():
    run = find_run("rdpo", 0.4)
    row = run.config()
    assert all(isinstance(value, str | int | float) for value in row.values())
    # what only the list of runs depends on
    sweeps = {
        "profile",
        "methods",
        "noise_rates",
        "seeds",
        "headline_methods",
        "headline_seeds",
        "frontier_methods",
        "frontier_seeds",
        "betas",
    }
    sizes = SIZES.keys() - sweeps
    assert {name: row[name] for name in sizes} == {name: SIZES[name] for name in sizes}
    drawn = ("method", "noise", "noise_rate", "beta", "seed")
    assert [row[name] for name in drawn] == ["rdpo", "symmetric-0.4", 0.4, 0.1, 0]


def test_worlds_are_the_same_if_all_that_shapes_them_is():
    runs = config(headline_seeds=2).runs()
    by_seed = {run.seed: run.world for run in runs}
    assert [run.world == by_seed[run.seed] for run in runs] == [True] * len(runs)
    assert len({run.world for run in runs}) == 2
    # what only a policy's training depends on does not make another world
    assert {run.world for run in config(learning_rate=1e-4, epochs=3, beta=1.0).runs()} == {
        by_seed[0]
    }
    for field in fields(by_seed[0]):
        value = getattr(by_seed[0], field.name)
        other = replace(by_seed[0], **{field.name: value + (1 if value != str(value) else "x")})
        assert other != by_seed[0], field.name


def test_a_run_of_another_seed_or_study_than_its_world_is_refused():
    run = find_run("dpo", 0.0)
    assert isinstance(run, AlignmentRun)
    for changes in ({"seed": 1}, {"study": "hh"}):
        with pytest.raises(ValueError, match=r"in a world of study gold, seed 0"):
            replace(run, **changes)


# The world


def test_pairs_are_on_policy_and_from_training_prompts(gold_world):
    held_out = {prompt[0]["content"] for prompt in gold_world.prompts}
    assert not held_out & {prompt[0]["content"] for prompt in gold_world.train["prompt"]}
    assert {prompt[0]["content"] for prompt in gold_world.test["prompt"]} <= held_out
    assert np.greater(gold_world.test["gold_chosen"], gold_world.test["gold_rejected"]).all()
    assert gold_world.rewards.shape == (24, 2)


@pytest.mark.slow
def test_there_is_one_reference_pass_and_one_sft_per_seed(gold_world, monkeypatch):
    built = []
    passes = []
    original = training.PairTrainer.compute_ref_log_probs
    monkeypatch.setattr(training, "margins", lambda trainer, pairs: np.zeros(len(pairs)))

    def count(self, model, inputs):
        passes.append(model)
        return original(self, model, inputs)

    def build_world(spec):
        built.append(spec.seed)
        return replace(gold_world, spec=spec)

    monkeypatch.setattr(training.PairTrainer, "compute_ref_log_probs", count)
    runs = config(methods=["dpo"], frontier_seeds=0, headline_seeds=2).runs()
    before = weights(gold_world.model).clone()
    trained = sweep.Workbench(build_world).train_runs(runs)
    assert [run for run, _ in trained] == runs
    assert built == [0, 1]
    assert not passes
    assert weights(gold_world.model).equal(before)  # runs leave the reference as it is


def test_a_world_is_freed_before_the_next_is_built_and_flips_once_per_rate(gold_world, monkeypatch):
    alive = []
    flips = []
    original = preferences.flip_preferences

    def build_world(spec):
        assert not any(world() for world in alive)
        world = replace(gold_world, spec=spec)
        alive.append(weakref.ref(world))
        return world

    def flip(pairs, noise_rate, *, seed):
        flips.append((seed, noise_rate))
        return original(pairs, noise_rate, seed=seed)

    monkeypatch.setattr(sweep, "train_run", lambda run, world, pairs: Result({}, []))
    monkeypatch.setattr(preferences, "flip_preferences", flip)
    runs = config(seeds=2, headline_seeds=2).runs()
    assert len(list(sweep.Workbench(build_world).train_runs(runs))) == len(runs)
    assert flips == [(0, 0.0), (0, 0.4), (1, 0.0), (1, 0.4)]
    assert not any(world() for world in alive)


# Runs


def test_a_run_has_finite_metrics_and_learns(gold_world):
    run = find_run("dpo", 0.0, learning_rate=3e-3, epochs=4)
    result = sweep.train_run(run, gold_world, gold_world.train)
    metrics = result.metrics
    assert metrics["fit_flipped"] is None
    generations = metrics.pop("generations")
    assert all(math.isfinite(value) for value in metrics.values() if value is not None)
    assert metrics["kl"] > 0.01
    # of the pairs themselves: 24 held-out ones are too few to tell what 48 have taught
    assert result.history[-1]["margin_true"] > 0.1 > abs(result.history[0]["margin_true"])
    assert [entry["step"] for entry in result.history][-1] == 12
    # one answer of each to every prompt
    assert [row["prompt"] for row in generations] == [p[-1]["content"] for p in gold_world.prompts]
    assert [row["sft"] for row in generations] == gold_world.answers
    assert {row["policy"] for row in generations} != {row["sft"] for row in generations}
    json.dumps(result)


def test_validation_pairs_are_not_trained_on_and_keep_their_flips(gold_world, monkeypatch):
    seen = {}

    def train(run, world, pairs, validation):
        seen.update(pairs=pairs, validation=validation)
        return world.model, {}, []

    monkeypatch.setattr(sweep, "_train_policy", train)
    noisy = preferences.flip_preferences(gold_world.train, 0.4, seed=1)
    sweep.train_run(find_run("dpo", 0.4), gold_world, noisy)
    held_out = gold_world.spec.validation_pairs
    assert seen["pairs"].to_list() == noisy.to_list()[:-held_out]
    assert seen["validation"].to_list() == noisy.to_list()[-held_out:]
    assert any(seen["validation"]["is_flipped"])


def test_validation_that_leaves_nothing_to_train_on_is_refused(gold_world):
    few = gold_world.train.select(range(gold_world.spec.validation_pairs))
    with pytest.raises(ValueError, match="validation_pairs = 8 leaves nothing of 8 pairs"):
        sweep.train_run(find_run("dpo", 0.0), gold_world, few)


def test_agreement_counts_ties_half_and_passes_nan_on():
    assert sweep.agreement(np.array([0.3, -0.1, 0.0, 2.0])) == 2.5 / 4
    assert math.isnan(sweep.agreement(np.array([0.3, math.nan])))


def test_told_a_rate_of_zero_rdpo_is_dpo(gold_world):
    dpo, rdpo = (
        sweep.train_run(find_run(method, 0.0), gold_world, gold_world.train).metrics
        for method in ("dpo", "rdpo")
    )
    assert dpo.pop("fit_flipped") is rdpo.pop("fit_flipped") is None
    assert rdpo.pop("generations") == dpo.pop("generations")
    # margins are a thousandth of a nat, of which float32 has but a few digits
    assert rdpo == pytest.approx(dpo, rel=1e-4, abs=1e-6)


@pytest.mark.nightly
def test_seeds_in_processes_train_as_one_after_the_other(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    runs = config(
        methods=["dpo"],
        noise_rates=[0.4],
        headline_methods=["dpo"],
        headline_seeds=2,
        frontier_seeds=0,
    ).runs()
    assert {run.seed for run in runs} == {0, 1}
    together, alone = (
        {run.seed: result.metrics for run, result in train(runs, build_world=gold.build_world)}
        for train in (sweep.train_parallel, train_here)
    )
    assert together.keys() == alone.keys()
    for seed in alone:
        assert together[seed].pop("generations") == alone[seed].pop("generations")
        assert together[seed] == pytest.approx(alone[seed], rel=1e-3), seed


def test_an_interrupted_study_has_the_most_telling_policies(monkeypatch, tmp_path):
    """In the order of the tiers, over all seeds, as in a queue."""
    trained = []
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path)
    monkeypatch.setattr(sweep.Workbench, "train", lambda self, run: trained.append(run))
    study = config(headline_seeds=2)
    planned = gold.plan_study(study)
    runs = study.runs()
    tiers = [study.tier(run) for run in runs]
    assert tiers != sorted(tiers)
    assert [run for run, _ in planned.train(runs)] == trained
    assert trained == sorted(runs, key=study.tier)


@pytest.mark.slow
def test_study_resumes(gold_world, monkeypatch, tmp_path):
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path)
    # another process would not see the world below
    monkeypatch.setattr(sweep, "train_parallel", train_here)
    monkeypatch.setattr(gold, "build_world", lambda spec: gold_world)
    study = config(methods=["dpo"], headline_methods=["sympo_sigmoid"])
    first = gold.run_study(study)
    assert (first.trained, first.loaded) == (len(study.runs()), 0)
    next((tmp_path / "records").glob("gold-sympo_sigmoid-symmetric_0.4-*.json")).unlink()
    again = gold.run_study(study)
    assert (again.trained, again.loaded) == (1, len(study.runs()) - 1)
    assert [r["metrics"] for r in again.records] == [r["metrics"] for r in first.records]


def test_smollm2_goes_the_same_way(monkeypatch, tmp_path, gold_tokenizer):
    gold.tiny_model(gold_tokenizer, seed=0).save_pretrained(tmp_path)
    gold_tokenizer.save_pretrained(tmp_path)
    asset = sources.Asset(tmp_path, "a test", "sha")
    monkeypatch.setitem(models.PRETRAINED, "smollm2", lambda: asset)
    monkeypatch.setattr(comparisons, "load_hh", load_reviews)
    run = find_run("sympo_ramp", 0.4, model="smollm2", methods=["sympo_ramp"])
    world = gold.build_world(run.world)
    assert len(world.prompts) == 24
    pairs = preferences.flip_preferences(world.train, 0.4, seed=0)
    metrics = sweep.train_run(run, world, pairs).metrics
    assert 0 <= metrics["win_rate"] <= 1
    assert metrics["fit_flipped"] is not None


def load_reviews(*names):
    """Reviews of the grammar in the place of Anthropic HH's files."""
    # of the 84 prompts, 60 to train on, twice each
    train = names == gold.HH_TRAIN
    prompts = gold.list_prompts()[:60] * 2 if train else gold.list_prompts()[60:]
    rows = [
        {
            "prompt": prompt,
            "chosen": say(gold.write_review(prompt, np.random.default_rng(seed))),
            "rejected": say("bad ."),
            "is_flipped": False,
        }
        for seed, prompt in enumerate(prompts)
    ]
    return preferences.Pairs(Dataset.from_list(rows), preferences.Report())


def say(text):
    return [{"role": "assistant", "content": text}]
