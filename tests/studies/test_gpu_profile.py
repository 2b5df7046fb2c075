"""A dry run of the gpu profile on a CPU: every method, loss and noise model of it, from command
line to records.

Sizes are tiny, and what stands for SmolLM2's weights is random and knows no sentiment; the lists of
methods, the files, the model's name and the rest are the profile's. What only CUDA does (bfloat16,
pinned memory) is not reached.
"""

import json

import numpy as np
import pytest
from test_offline import TEST, TRAIN, write_hh, write_ultrafeedback

from sympo import __main__
from sympo.studies import models, profiles, sources
from sympo.studies.alignment import gold
from sympo.studies.alignment import sweep as align
from sympo.studies.mnist import study as mnist

MNIST = {"pairs": 40, "batch": 20, "epochs": 2, "eval_every": 2, "seeds": 1}
ALIGN = {
    "pairs": 8,
    "sft_examples": 8,
    "prompts": 4,
    "samples": 2,
    "max_new_tokens": 4,
    "batch": 8,
    "micro_batch": 4,
}
ALIGN |= {"seeds": 1, "headline_seeds": 1, "noise_rates": [0.4]}
JUDGE = {"judge_pairs": 8, "judge_epochs": 1, "test_pairs": 8}
SIZES = {
    "mnist_losses": {**MNIST, "headline_seeds": 2},
    "mnist_noise": MNIST,
    "gold": {**ALIGN, "frontier_seeds": 1, "betas": [1.0]},
    "hh": {**ALIGN, **JUDGE},
    "ultrafeedback": {**ALIGN, **JUDGE},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """SYMPO_DATA with made-up dialogues, and a small model under SmolLM2's name."""
    made = tmp_path_factory.mktemp("data")
    for first, name in enumerate((*TRAIN, *TEST)):
        write_hh(made, name, 65 * first)
    write_ultrafeedback(made, "train_clean", 0)
    write_ultrafeedback(made, "eval_clean", 70)
    model, tokenizer = models.load("tiny", seed=0)
    for part in (model, tokenizer):
        part.save_pretrained(made / "smollm2-135m-instruct")
    return made


@pytest.fixture(autouse=True)
def elsewhere(folder, tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    images, digits = (
        generator.integers(256, size=(200, 28, 28), dtype=np.uint8),
        generator.integers(10, size=200),
    )
    data = sources.MNIST(images, digits, images[:90], digits[:90], "made up", "0")
    monkeypatch.setattr(sources, "mnist", lambda: data)
    monkeypatch.setenv("SYMPO_DATA", str(folder))
    monkeypatch.setattr(gold, "reward", lambda answer: sum(answer.encode()) % 7 / 7)
    for module in (align, mnist, config):
        monkeypatch.setattr(module, "build_folder", lambda profile: tmp_path / profile)


def test_every_study_of_the_profile_is_here():
    sections = set(profiles.read_profile("gpu")) - {"minutes", "bench"}
    assert sections == set(SIZES)


@pytest.mark.parametrize("study", SIZES)
def test_dry_run(study, tmp_path, capsys):
    settings = [f"--set={name}={value}" for name, value in SIZES[study].items()]
    expected = profiles.study_config(study, "gpu", **SIZES[study]).runs()
    assert __main__.main(["run", study, "--profile=gpu", *settings]) == 0
    assert f"trained {len(expected)}, loaded 0" in capsys.readouterr().out
    records = [
        json.loads(path.read_text()) for path in (tmp_path / "gpu" / "records").glob("*.json")
    ]
    found = sorted(
        (r["config"]["method"], r["config"]["noise"], r["config"]["seed"]) for r in records
    )
    assert found == sorted((run["method"], run["noise"], run["seed"]) for run in expected)
    profile = profiles.read_profile("gpu")[study]
    assert {r["config"]["method"] for r in records} == set(
        profile.get("methods") or profile["losses"]
    )
    for record in records:
        assert 0 <= record["metrics"]["accuracy"] <= 1
        assert record["config"].get("weights_sha256") == record["provenance"].get("weights_sha256")
    assert __main__.main(["run", study, "--profile=gpu", *settings]) == 0
    assert f"trained 0, loaded {len(expected)}" in capsys.readouterr().out
