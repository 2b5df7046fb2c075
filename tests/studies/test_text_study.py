"""Study real_text: what is kept apart, what a seed draws, and how settings are chosen."""

import json

import numpy as np
import pytest
import torch

from sympo import preferences
from sympo.studies import comparisons, plan, profiles, text
from sympo.studies.text import corpora, features, study
from sympo.studies.text.config import PROBE_SEED

HASHES = {"data_sha256": "", "weights_sha256": ""}
VALUES = {
    "corpora": ["helpful", "ultrafeedback"],
    "losses": ["logistic", "sigmoid"],
    "noise_rates": [0.0, 0.4],
    "seeds": 2,
    "probe_seeds": 1,
    "epochs": 2,
    "batch": 16,
    "pairs": 60,
    "features": ["length"],
    "learning_rates": [0.01, 0.1],
    "weight_decays": [0.0],
    "shared_features": "words",
    "score_rates": [0.4],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_preferences):
    return write_preferences(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def made_up_comparisons(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SYMPO_DATA", str(folder))
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / profile)


@pytest.fixture
def config():
    return text.TextConfig(study="real_text", profile="smoke", **VALUES)


@pytest.mark.parametrize("name", ["helpful", "harmless", "ultrafeedback"])
def test_no_prompt_is_trained_on_and_tested(name):
    corpus = text.load(name, most=60)
    train, test = (set(preferences.prompt_keys(part)) for part in (corpus.train, corpus.test))
    assert train
    assert test
    assert not train & test


def test_the_cap_draws_whole_files_evenly_and_nested():
    few, many = (text.load("helpful", most=most) for most in (20, 40))
    counts = {name: list(many.test["subset"]).count(name) for name in set(many.test["subset"])}
    assert counts["helpful-base"] == 40
    answers = [{row["chosen"][0]["content"] for row in each.test} for each in (few, many)]
    assert answers[0] <= answers[1]


def test_only_ultrafeedback_has_gaps_and_they_are_those_of_its_scores():
    assert np.isnan(text.load("harmless", most=60).train["gap"]).all()
    corpus = text.load("ultrafeedback", most=60)
    # of the stand-in: 8 and 5, and ties are dropped
    assert set(corpus.train["gap"]) == {3.0}


CHATML = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
ANSWERS = [[{"role": "assistant", "content": answer}] for answer in ("yes", "no")]


def with_messages(question):
    before = {"role": "user", "content": question}
    chosen, rejected = ([before, *answer] for answer in ANSWERS)
    return {"prompt": question, "chosen": chosen, "rejected": rejected}


@pytest.mark.parametrize(
    "build",
    [
        lambda question: {"prompt": question, "chosen": "yes", "rejected": "no"},
        lambda question: {"prompt": CHATML.format(question), "chosen": "yes", "rejected": "no"},
        lambda question: {
            "prompt": [{"role": "user", "content": question}],
            "chosen": ANSWERS[0],
            "rejected": ANSWERS[1],
        },
        with_messages,
    ],
    ids=["texts", "ChatML", "TRL's messages", "the hub's messages"],
)
def test_equal_answers_to_other_prompts_have_gaps_of_their_own(build, tmp_path, monkeypatch):
    cut = {"prompt": "<|im_start|>user\nhm", "chosen": "yes", "rejected": "no"}
    unanswered = {"prompt": "Is it new?", "rejected": "no"}
    rows = [build("Is it big?"), build("Is it old?"), cut, unanswered]
    for row, score in zip(rows, (8.0, 6.0, 9.0, 7.0), strict=True):
        row["metadata"] = {"score_chosen": score, "score_rejected": 5.0}
    rows.append({**build("Is it red?"), "metadata": 7})
    rows.append({**build("Is it hot?"), "score_chosen": "high", "score_rejected": "low"})
    (tmp_path / "ultrafeedback").mkdir()
    path = tmp_path / "ultrafeedback" / "train_clean.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    gaps = comparisons.ultrafeedback_gaps("train")
    assert gaps == {("Is it big?", "yes", "no"): 3.0, ("Is it old?", "yes", "no"): 1.0}


def test_a_seed_keeps_the_pairs_of_a_prompt_together_and_nests_its_flips(config):
    corpus = text.load("helpful", most=60)
    draws = study.draw(corpus, 0, train_share=0.8)
    other = study.draw(corpus, 1, train_share=0.8)
    assert 0.6 < draws.trained.mean() < 0.95
    assert (draws.trained != other.trained).any()
    keys = preferences.prompt_keys(corpus.train)
    for key in set(keys):
        assert len({draws.trained[at] for at, each in enumerate(keys) if each == key}) == 1
    low, high = (draws.numbers < rate for rate in (0.2, 0.4))
    assert high[low].all()


def test_the_study_trains_loads_and_follows_its_probe(config):
    runs = text.run_study(config)
    # 2 seeds × 2 corpora × 2 rates × 2 losses, with a shared and an own setting; 8 probes; and
    # 2 seeds × 2 losses × (none, uniform, near ties)
    assert len(runs.records) == 16 + 16 + 8 + 12
    assert str(text.run_study(config)) == "trained 0, loaded 52"
    probes = [record for record in runs.records if record["config"]["seed"] >= PROBE_SEED]
    chosen = text.choose_settings(probes)
    for record in runs.records:
        if (fields := record["config"]).get("setting") != "own":
            continue
        setting = chosen[fields["corpus"], fields["method"], fields["noise_rate"]]
        assert fields["learning_rate"] == setting.learning_rate
        assert fields["features"] == "length"


def test_a_record_tells_the_outcome_of_every_test_pair(config):
    bench = text.Bench(config.pairs, folder=profiles.build_folder("smoke"))
    (run, *_) = config.shared_runs(HASHES)
    ((_, result),) = bench.train([run])
    outcomes = text.read_outcomes(result.metrics["outcomes"])
    assert len(outcomes) == len(text.load(run.corpus, most=60).test)
    assert outcomes.mean() == pytest.approx(result.metrics["accuracy"], abs=1e-6)
    validation = [row["validation"] for row in result.history]
    assert result.metrics["chosen_epoch"] == 1 + validation.index(max(validation))


def test_features_are_computed_by_all_threads(config, tmp_path, monkeypatch):
    threads = []
    compute = features.differences

    def watch(*args, **options):
        threads.append(torch.get_num_threads())
        return compute(*args, **options)

    monkeypatch.setattr(features, "differences", watch)
    # as if there were two, wherever the test runs
    monkeypatch.setattr(torch, "get_num_threads", lambda: at_hand[-1])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: at_hand.append(count))
    at_hand = [2]
    runs = [*config.shared_runs(HASHES)[:1], *config.probe_runs(HASHES)]
    assert len(list(text.Bench(config.pairs, folder=tmp_path).train(runs))) == len(runs)
    # the words of one corpus, the lengths of both
    assert threads == [2, 2, 2]
    assert at_hand == [2, 1, 2]


def test_outcomes_survive_their_digits(config):
    values = torch.tensor([0.0, 0.5, 1.0, 1.0])
    (run, *_) = config.shared_runs(HASHES)
    assert study.write_outcomes(values, run) == "0122"
    assert text.read_outcomes("0122").tolist() == values.tolist()


def test_a_head_that_diverged_has_no_record(config, tmp_path):
    huge = config.model_copy(update={"shared_learning_rate": 1e300})
    (run, *_) = huge.shared_runs(HASHES)
    with pytest.raises(ValueError, match=r"head of helpful, logistic.* seed 0 diverged: give"):
        list(text.Bench(huge.pairs, folder=tmp_path).train([run]))


def test_an_epoch_or_a_setting_that_diverged_is_never_chosen(config):
    nan = float("nan")
    (run, *_) = config.shared_runs(HASHES)
    history = [
        {"epoch": at, "validation": value, "outcomes": torch.ones(2)}
        for at, value in enumerate((nan, 0.6, 0.7, 0.7), start=1)
    ]
    result = study.summarise(run, dict.fromkeys(study.list_columns(run), history))
    assert result.metrics["chosen_epoch"] == 3
    (probe, *_) = config.probe_runs(HASHES)
    reached = dict(zip(study.list_columns(probe), (nan, 0.6), strict=True))
    rows = {column: [{"validation": value}] for column, value in reached.items()}
    result = study.summarise(probe, rows)
    assert result.metrics["accuracy"] == 0.6
    (chosen,) = text.choose_settings(
        [{"config": probe.config(), "history": result.history}]
    ).values()
    assert chosen.learning_rate == 0.1


def test_the_best_mean_validation_is_chosen_and_the_first_of_equals(config):
    def record(seed, values):
        rows = [
            {"features": "length", "learning_rate": rate, "weight_decay": 0.0, "validation": value}
            for rate, value in zip((0.01, 0.1, 1.0), values, strict=True)
        ]
        fields = {"corpus": "helpful", "method": "ramp", "noise_rate": 0.4, "seed": seed}
        return {"config": fields, "history": rows}

    # means .6, .6 and .5
    chosen = text.choose_settings([record(0, (0.5, 0.6, 0.7)), record(1, (0.7, 0.6, 0.3))])
    assert chosen == {("helpful", "ramp", 0.4): text.Setting("length", 0.01, 0.0)}


def test_what_matters_most_comes_first(config):
    tiers = {run.describe(): config.tier(run) for run in config.shared_runs(HASHES)}
    assert {tier for name, tier in tiers.items() if "scored" not in name} == {plan.HEADLINE}
    assert {tier for name, tier in tiers.items() if "scored" in name} == {plan.OTHER_RATES}
    assert {config.tier(run) for run in config.probe_runs(HASHES)} == {plan.PROBE}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ["sigmoidd"]}, "sigmoid"),
        ({"losses": ["ramp", "ramp"]}, "more than once"),
        ({"noise_rates": [0.5]}, "less than 0.5"),
        ({"score_rates": [0.0]}, "greater than 0"),
        ({"learning_rates": [float("inf")]}, "finite"),
        ({"weight_decays": [float("inf")]}, "finite"),
        ({"noise_rates": []}, "list at least one value"),
        ({"features": []}, "list at least one value"),
        ({"learning_rates": []}, "list at least one value"),
        ({"weight_decays": []}, "list at least one value"),
        ({"corpora": []}, "list at least one value"),
        ({"losses": []}, "list at least one value"),
        ({"corpora": ["hh"]}, "helpful"),
        ({"features": ["words", "bert"]}, "minilm"),
    ],
)
def test_a_wrong_value_is_refused_in_a_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        text.TextConfig(study="real_text", profile="smoke", **{**VALUES, **changes})


def test_the_sources_of_corpora_have_one_hash():
    both = [text.load(name, most=60) for name in ("helpful", "ultrafeedback")]
    source = corpora.join_sources(both)
    assert len(source["data_sha256"]) == 64
    assert source["data_sha256"] != corpora.join_sources(both[:1])["data_sha256"]
    assert "train_clean.jsonl from SYMPO_DATA" in source["data"]
