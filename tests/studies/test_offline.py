"""Studies hh and ultrafeedback on made-up files: who sees which pairs, what the judge is worth."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from sympo import preferences
from sympo.studies import comparisons, models, profiles
from sympo.studies.alignment import offline, sampling, sweep
from sympo.studies.alignment.config import WHOLE

# what the fixture `write_preferences` writes
TRAIN = ("helpful-online/test", "helpful-rejection-sampled/test")
TEST = ("helpful-base/test",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_preferences):
    return write_preferences(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def data(folder, monkeypatch):
    monkeypatch.setenv("SYMPO_DATA", str(folder))


def small(**changes):
    sizes = {
        "pairs": 20,
        "validation_pairs": 4,
        "judge_pairs": 16,
        "test_pairs": 20,
        "prompts": 6,
        "sft_examples": 10,
    }
    return profiles.study_config("hh", "smoke", **{**sizes, **changes})


# The configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge_share": 0.0}, "judge_share: Input should be greater than 0"),
        ({"judge_share": 1.0}, "judge_share: Input should be less than 1"),
        ({"judge_pairs": 0}, "judge_pairs: Input should be greater than or equal to 1"),
        ({"model": "gpt"}, "model: Input should be 'tiny', 'smollm2' or 'llama'"),
        ({"train_files": "train"}, "train_files: Input should be a valid list"),
        ({"judge_pair": 3}, "unknown parameter of hh 'judge_pair'. Did you mean 'judge_pairs'"),
        ({"temperature": 0.0}, "temperature: Input should be greater than 0"),
        ({"top_p": 0.0}, "top_p: Input should be greater than 0"),
        ({"test_share": 0.0}, "test_share: Input should be greater than 0"),
        ({"test_share": 1.1}, "test_share: Input should be less than or equal to 1"),
        ({"top_p": 1.1}, "top_p: Input should be less than or equal to 1"),
        ({"train_files": ["a", "b", "a"]}, "train_files holds a more than once"),
        ({"test_files": ["a", "a"]}, "test_files holds a more than once"),
        ({"methods": ["sympo_ram"]}, "unknown method 'sympo_ram'"),
    ],
)
def test_config_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.parametrize("profile", profiles.PROFILES)
@pytest.mark.parametrize("study", ["hh", "ultrafeedback"])
def test_runs_are_scalars_that_name_their_files(study, profile):
    config = profiles.study_config(study, profile)
    rows = [run.config() for run in config.runs()]
    for row in rows:
        assert all(isinstance(value, str | int | float) for value in row.values())
        assert row["train_files"].split() == config.train_files
        assert row["test_files"].split() == config.test_files
    assert len({json.dumps(row) for row in rows}) == len(rows)


def test_prompts_of_the_test_files_that_are_not_tested_train():
    whole = comparisons.load_split("hh", TRAIN, TEST)
    split = offline.load_split(small(test_share=0.4))
    train, test, before = (
        set(preferences.prompt_keys(part)) for part in (split.train, split.test, whole.test)
    )
    assert test < before
    assert 0.2 < len(test) / len(before) < 0.6
    assert not train & test
    assert train == set(preferences.prompt_keys(whole.train)) | (before - test)
    # of the same files: what is tested is part of what a world is
    assert split.source() == whole.source()
    spec = small(test_share=0.4).world_spec(0)
    assert spec.config()["test_share"] == 0.4
    assert spec != small().world_spec(0)
    for seed in (0, 1):
        parts = offline._draw_pairs(small(test_share=0.4).world_spec(seed), models.byte_tokenizer())
        assert set(preferences.prompt_keys(parts.test)) <= test
        assert set(preferences.prompt_keys(parts.train)) <= train
        assert set(preferences.prompt_keys(parts.judge)) <= train


def test_files_and_judge_are_part_of_what_a_world_is():
    spec = small().world_spec(0)
    assert spec == small().world_spec(0)
    assert spec != replace(spec, train_files=TRAIN[:1])
    assert spec != replace(spec, judge_epochs=spec.judge_epochs + 1)
    assert spec != small().world_spec(0, data_sha256="of other files")


def test_answers_are_drawn_as_the_config_says():
    assert small().world_spec(0).decoding == WHOLE
    spec = small(temperature=0.7, top_p=0.95).world_spec(0)
    assert spec.decoding == (0.7, 0.95)
    assert spec.config()["temperature"] == 0.7
    assert spec.config()["top_p"] == 0.95


# The world


@pytest.fixture(scope="module")
def seen():
    return {}


@pytest.fixture(scope="module")
def world(folder, seen):
    """A world whose judge had time to learn; `seen` holds what the judge was trained with."""
    original = offline.train_judge

    def watch(model, tokenizer, pairs, test, spec):
        weights = [parameter.detach().clone() for parameter in model.parameters()]
        seen.update(pairs=pairs, test=test, weights=weights)
        return original(model, tokenizer, pairs, test, spec)

    spec = small(judge_epochs=8, judge_learning_rate=3e-3).world_spec(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYMPO_DATA", str(folder))
        patch.setattr(offline, "train_judge", watch)
        return offline.build_world(spec)


def test_no_prompt_is_shared_by_policies_judge_and_test(world, seen):
    split = comparisons.load_split("hh", TRAIN, TEST)
    assert split.overlap == 4  # of the five in two files, one has equal answers
    policy, judge, test = (
        set(preferences.prompt_keys(part)) for part in (world.train, seen["pairs"], world.test)
    )
    assert [len(part) for part in (policy, judge, test)] == [24, 16, 20]
    assert len(policy | judge | test) == 24 + 16 + 20
    assert policy | judge <= set(preferences.prompt_keys(split.train))
    assert test == set(preferences.prompt_keys(seen["test"]))
    assert test <= set(preferences.prompt_keys(split.test))
    assert world.prompts == seen["test"]["prompt"][:6]
    assert not any(seen["pairs"]["is_flipped"])


def test_judge_accuracy_is_the_share_of_held_out_pairs_that_it_orders(world, seen):
    classifier = world.score.__wrapped__.__self__.model

    def reward(messages):
        ids = world.tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        with torch.no_grad():
            return classifier(torch.tensor([ids])).logits.item()

    right = sum(
        reward([*row["prompt"], *row["chosen"]]) > reward([*row["prompt"], *row["rejected"]])
        for row in seen["test"]
    )
    assert world.facts["judge_accuracy"] == right / 20
    assert right >= 16  # it learned that "yes" wins, and not that "no" does


def test_judge_leaves_the_policies_where_they_were(world, seen):
    assert not any(
        parameter.requires_grad and parameter.grad is not None
        for parameter in world.model.parameters()
    )
    plain = models.load("tiny", seed=0)[0]
    assert all(a.equal(b) for a, b in zip(plain.parameters(), seen["weights"], strict=True))
    judged = world.score.__wrapped__.__self__.model.model.parameters()
    assert not all(a.equal(b) for a, b in zip(judged, seen["weights"], strict=True))


def test_rewards_are_the_judges_of_the_sft_answers(world):
    assert world.rewards.shape == (6, 2)
    assert np.isfinite(world.rewards).all()
    assert len(world.train) == 24
    assert {"ref_chosen_logps", "ref_rejected_logps"} <= set(world.train.column_names)


def test_chosen_answers_are_cut_as_sampled_ones_are(world):
    tokens = world.spec.max_new_tokens
    pairs = {row["prompt"][-1]["content"]: row["chosen"][0]["content"] for row in world.test}
    texts = [pairs[prompt[-1]["content"]] for prompt in world.prompts]
    # the tokens of this model are bytes
    assert world.chosen.texts == [text.encode()[:tokens].decode() for text in texts]
    assert world.chosen.rewards.tolist() == world.score(world.prompts, world.chosen.texts)
    assert offline._score_chosen(
        [], ["yes, 12345"], world.tokenizer, lambda *rest: [], tokens=6
    ).texts == ["yes, 1"]


def test_both_opponents_are_met(world):
    policy = models.load("tiny", seed=3)[0]
    metrics = sweep.measure(policy, world)
    spec = world.spec
    answers = sampling.sample(
        policy, world.tokenizer, world.prompts, spec, samples=2, seed=spec.policy_seed
    ).texts
    wins = {"win_rate_chosen": [], "sft_chosen": []}
    for row, prompt in enumerate(world.prompts):
        ours = world.score([prompt] * 2, answers[2 * row : 2 * row + 2])
        chosen = world.chosen.rewards[row]
        for name, rewards in (("win_rate_chosen", ours), ("sft_chosen", world.rewards[row])):
            wins[name] += [(reward > chosen) + (reward == chosen) / 2 for reward in rewards]
    assert metrics["win_rate_chosen"] == pytest.approx(np.mean(wins["win_rate_chosen"]))
    assert world.facts["sft_chosen"] == pytest.approx(np.mean(wins["sft_chosen"]))
    assert metrics["win_rate_chosen_low"] <= metrics["win_rate_chosen"]

    rows = metrics["generations"]
    assert [row["dialogue"] for row in rows] == world.prompts
    assert [row["chosen"] for row in rows] == world.chosen.texts
    assert [row["policy"] for row in rows] == answers[::2]
    assert [row["sft"] for row in rows] == world.answers


@pytest.mark.parametrize(
    ("field", "count"), [("pairs", 1000), ("judge_pairs", 500), ("test_pairs", 90)]
)
def test_too_few_pairs_is_one_sentence_that_names_the_field(field, count):
    beside = " with validation_pairs = 4" if field == "pairs" else ""
    sentence = rf"^{field} = {count}{beside}, but \d+ pairs fit .*: lower {field}$"
    with pytest.raises(ValueError, match=sentence):
        offline.build_world(small(**{field: count}).world_spec(0))


def test_pairs_that_do_not_fit_are_left_out():
    spec = small(
        max_length=55, pairs=4, validation_pairs=1, judge_pairs=5, test_pairs=5
    ).world_spec(0)
    tokenizer = models.byte_tokenizer()
    for part in offline._draw_pairs(spec, tokenizer):
        assert len(part) == 5
        for row in part:
            for side in ("chosen", "rejected"):
                text = tokenizer.apply_chat_template([*row["prompt"], *row[side]], tokenize=False)
                assert len(text.replace("<eos>", "e")) <= 55


def test_records_of_other_data_are_not_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        sweep, "run_sweep", lambda config, *rest, find_source, **options: find_source(config)
    )
    before = offline.run_study(small())
    assert before["data"].count("SYMPO_DATA") == 3
    assert before["weights"] == "scratch"
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    hh = tmp_path / "hh"
    shutil.copy(hh / f"{TRAIN[0]}.jsonl.gz", hh / f"{TEST[0]}.jsonl.gz")
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    assert offline.run_study(small())["data_sha256"] != before["data_sha256"]


def test_hashes_of_data_and_weights_are_part_of_every_run():
    runs = offline.plan_study(small()).list_runs(lambda run: None)
    assert {run.world.data_sha256 for run in runs} == {
        comparisons.load_split("hh", TRAIN, TEST).source()["data_sha256"]
    }
    assert all("weights_sha256" in run.config() for run in runs)
