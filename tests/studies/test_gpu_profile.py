"""A dry run of the gpu profile on a CPU: every method, loss and noise model of it.

From the command line to the records. Sizes are tiny, and what stands for SmolLM2's weights is
random and knows no sentiment; the lists of methods, the files, the model's name and the rest are
the profile's. What only CUDA does (bfloat16, pinned memory) is not reached.
"""

import json
from itertools import product

import pytest

from sympo import __main__
from sympo.studies import models, profiles, sources, text
from sympo.studies.alignment import gold
from sympo.studies.mnist import family
from sympo.studies.text import features

pytestmark = pytest.mark.slow

MNIST = {"pairs": 40, "validation_pairs": 10, "batch": 20, "epochs": 2, "eval_every": 2, "seeds": 1}
ALIGNMENT = {
    "pairs": 8,
    "validation_pairs": 4,
    # the rate that all methods share: the probe adds no run but its own
    "learning_rates": [2e-5],
    "sft_examples": 8,
    "prompts": 4,
    "samples": 2,
    "max_new_tokens": 4,
    "batch": 8,
    "micro_batch": 4,
    "seeds": 1,
    "headline_seeds": 1,
    "frontier_seeds": 1,
    "noise_rates": [0.4],
}
OFFLINE = {**ALIGNMENT, "judge_pairs": 8, "judge_epochs": 1, "test_pairs": 8}
SIZES = {
    "mnist_losses": MNIST,
    "mnist_noise": MNIST,
    "loss_family": {**MNIST, "noise_rates": [0.4], "temperatures": [1.0], "tuning_seeds": 1},
    "noise_patterns": MNIST,
    "finite_sample": {**MNIST, "shares": [0.5, 1.0]},
    "gold_grammar": {
        **{"seeds": 1, "other_seeds": 1, "noise_rates": [0.0, 0.4], "betas": [0.1]},
        "regimes": {"fresh": {"pairs": 8, "epochs": 1}},
        **{"validation_pairs": 4, "sft_examples": 8, "prompts": 4, "samples": 2, "batch": 8},
    },
    "real_text": {
        **{"seeds": 1, "probe_seeds": 1, "epochs": 1, "pairs": 30},
        **{"noise_rates": [0.0, 0.4], "score_rates": [0.4]},
    },
    "gold": {**ALIGNMENT, "betas": [1.0]},
    "hh": OFFLINE,
    "ultrafeedback": OFFLINE,
}


# Each of them takes the way of another one here.
ALIKE = ("ultrafeedback", "gold", "mnist_noise", "noise_patterns", "gold_grammar")


def as_parameter(study):
    return pytest.param(study, marks=pytest.mark.nightly) if study in ALIKE else study


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_preferences):
    """SYMPO_DATA with made-up dialogues, and a small model under SmolLM2's name."""
    folder = write_preferences(tmp_path_factory.mktemp("data"))
    for part in models.load("tiny", seed=0):
        part.save_pretrained(folder / "smollm2-135m-instruct")
    return folder


@pytest.fixture(autouse=True)
def elsewhere(folder, random_mnist, tmp_path, monkeypatch):
    digits = random_mnist(200, 90)
    monkeypatch.setattr(sources, "mnist", lambda: digits)
    monkeypatch.setenv("SYMPO_DATA", str(folder))
    # what stands for MiniLM and WordLlama knows the length of an answer, and no more
    for name in ("minilm", "wordllama"):
        monkeypatch.setattr(sources, name, lambda: sources.Asset(folder, "here", "0" * 64))
    for name in ("embed", "mean_vectors"):
        monkeypatch.setattr(features, name, lambda texts, path: features.measure_lengths(texts))
    monkeypatch.setattr(gold, "reward", lambda answer: sum(answer.encode()) % 7 / 7)
    monkeypatch.setattr(profiles, "build_folder", lambda profile: tmp_path / profile)
    # records are written without CUDA here, and all the same trained on
    monkeypatch.setenv("SYMPO_RECORDS", "train")


def test_every_study_of_the_profile_is_here():
    # a section that trains nothing has no runs
    sections = set(profiles.read_profile("gpu")) - {"minutes", "bench", "mnist_policy", "your_data"}
    assert sections == set(SIZES)


def list_runs(config):
    """The runs of a study, those of its probe and those that follow it included."""
    if isinstance(config, text.TextConfig):
        hashes = {"data_sha256": "", "weights_sha256": ""}
        cells = product(config.corpora, config.losses, config.noise_rates)
        own = dict.fromkeys(cells, text.Setting("length", 0.1, 0.0))
        followers = config.own_runs(own, hashes)
        return [*config.shared_runs(hashes), *config.probe_runs(hashes), *followers]
    if isinstance(config, family.FamilyConfig):
        # with one temperature the probe decides nothing, and every loss is trained as it is
        own = {(run.method, run.rate_pos): run.temperature for run in config.probe_runs()}
        return [*config.runs(), *config.ablation_runs(own)]
    return [*config.runs(), *(config.probe_runs() if hasattr(config, "probe_runs") else [])]


@pytest.mark.parametrize("study", [*map(as_parameter, SIZES)])
def test_dry_run(study, tmp_path, capsys):
    settings = [f"--set={name}={value}" for name, value in SIZES[study].items()]
    expected = list_runs(profiles.study_config(study, "gpu", **SIZES[study]))
    assert __main__.main(["run", study, "--profile=gpu", *settings]) == 0
    assert f"trained {len(expected)}, loaded 0" in capsys.readouterr().out
    paths = (tmp_path / "gpu" / "records").glob("*.json")
    records = [json.loads(path.read_text()) for path in paths]
    trained = sorted(
        (r["config"]["method"], r["config"]["noise"], r["config"]["seed"]) for r in records
    )
    assert trained == sorted((run.method, run.noise, run.seed) for run in expected)
    section = profiles.read_profile("gpu")[study]
    methods = section.get("methods") or section["losses"]
    methods = [*methods, *section.get("other_methods", [])]
    assert {r["config"]["method"] for r in records} == set(methods)
    for record in records:
        assert 0 <= record["metrics"]["accuracy"] <= 1
        assert record["config"].get("weights_sha256") == record["provenance"].get("weights_sha256")
    assert __main__.main(["run", study, "--profile=gpu", *settings]) == 0
    assert f"trained 0, loaded {len(expected)}" in capsys.readouterr().out
