"""A tiny run of every study gives the numbers of golden.json, or its VERSION has been raised.

Records outlive every edit of the code as long as their study's VERSION stays. So whoever changes
what a study computes has to raise it, and these tests say when: they train each study in seconds
and compare what comes out. After raising a VERSION, write the numbers again with

    python tests/studies/test_golden.py [STUDY ...]

The numbers are smooth ones (risks, means), compared to `RTOL`: wide enough for another processor's
rounding, and far below what a changed formula, constant or random draw does.
"""

import gc
import gzip
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, get_args
from unittest import mock

import numpy as np
import pytest
import torch
from tiny_mnist import banded_digits

from sympo import losses
from sympo.studies import mnist, records, sources, text
from sympo.studies.alignment import gold, grammar, offline, sweep
from sympo.studies.alignment.config import AlignmentRun
from sympo.studies.alignment.world import World
from sympo.studies.mnist import family, network, patterns, sizes

PATH = Path(__file__).with_name("golden.json")
RTOL = 1e-3


class Golden(NamedTuple):
    """How a study is tried.

    Attributes:
        module: the name of the module that holds its VERSION.
        train: a tiny run; gives numbers by name, none of them near 0, where a relative tolerance
            means nothing.
    """

    module: str
    train: Callable[[], dict[str, float]]


# -- MNIST ----------------------------------------------------------------------------------------


def train_mnist_losses() -> dict[str, float]:
    """Every loss at one noise rate."""
    config = mnist.LossesConfig(
        study="mnist_losses",
        profile="smoke",
        losses=sorted(losses.LOSSES),
        noise_rates=[0.3],
        seeds=1,
        **MNIST_SIZES,
    )
    return train_mnist(config.runs())


def train_mnist_noise() -> dict[str, float]:
    """The three noise models for one pair of rates."""
    config = mnist.NoiseConfig(
        study="mnist_noise",
        profile="smoke",
        losses=["sigmoid"],
        noise_pairs=[(0.1, 0.5)],
        first_rate=0.9,
        seeds=1,
        **MNIST_SIZES,
    )
    return train_mnist(config.runs())


def train_noise_patterns() -> dict[str, float]:
    """Every pattern with one loss."""
    config = mnist.PatternsConfig(
        study="noise_patterns",
        profile="smoke",
        losses=["sigmoid"],
        patterns=list(get_args(patterns.Pattern)),
        mean_rate=0.2,
        first_seed=0,
        seeds=1,
        **MNIST_SIZES,
    )
    return train_mnist(config.runs())


def train_loss_family() -> dict[str, float]:
    """Each knob that a run can turn."""
    config = family.FamilyConfig(
        study="loss_family",
        profile="smoke",
        losses=["sigmoid", "cauchy"],
        noise_rates=[0.3],
        seeds=1,
        first_seed=5,
        temperatures=[1.0],
        tuning_seed=0,
        tuning_seeds=1,
        clip_losses=["sigmoid"],
        clips=[0.05],
        warm_losses=["sigmoid"],
        warm_epochs=[1],
        **MNIST_SIZES,
    )
    tempered = {("sigmoid", 0.3): 4.0, ("cauchy", 0.3): 0.5}
    runs = [*config.own_runs(tempered), *config.ablation_runs(tempered)]
    # told apart by their knobs and not by their noise
    named = [replace(run, noise=str(tuple(run.knobs()))) for run in runs]
    return train_mnist(named)


def train_finite_sample() -> dict[str, float]:
    """Two sizes, which take equal steps."""
    config = sizes.SizesConfig(
        study="finite_sample",
        profile="smoke",
        losses=["sigmoid"],
        noise_rates=[0.3],
        shares=[0.25, 1.0],
        seeds=1,
        first_seed=5,
        **{**MNIST_SIZES, "batch": 20},
    )
    # told apart by their size and not by their noise
    named = [replace(run, noise=f"{run.pairs} pairs") for run in config.runs()]
    return train_mnist(named[:1]) | train_mnist(named[1:])


# The last of the three batches is smaller than the others.
MNIST_SIZES = {
    "epochs": 3,
    "eval_every": 2,
    "pairs": 80,
    "validation_pairs": 20,
    "batch": 32,
    "learning_rate": 3e-3,
}


def train_mnist(runs: list[mnist.MnistRun]) -> dict[str, float]:
    with mock.patch.object(sources, "mnist", partial(banded_digits, 250, 150)), double_precision():
        results = list(mnist.train_models(runs, device="cpu"))
    return {
        f"{run.method} {run.noise}: {name}": number
        for run, result in results
        for name, number in summarise_rewards(result).items()
    }


def summarise_rewards(result: records.Result) -> dict[str, float]:
    rewards = np.array(result.metrics["rewards"])
    chosen = result.metrics["chosen"]
    return {
        "train_risk": result.metrics["train_risk"],
        "test_risk": result.metrics["test_risk"],
        "mean reward": rewards.mean(),
        "spread of rewards": rewards.std(),
        "chosen epoch": chosen["epoch"],
        "spread of rewards, chosen epoch": np.std(chosen["rewards"]),
    }


@contextmanager
def double_precision() -> Iterator[None]:
    """Float64 as the default dtype.

    In float32 the gradient of a bias before a batch norm is nothing but rounding, which Adam
    scales up to whole steps: another processor would take others.
    """
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


# -- Alignment ------------------------------------------------------------------------------------

# Two sets of flips, SFT and training in several steps, and micro-batches: nothing that a policy
# goes through is left out. The SymPO losses are functions of `losses.LOSSES`, which the MNIST runs
# try one by one.
ALIGNMENT_SIZES = {
    "profile": "smoke",
    "model": "tiny",
    "noise_rates": [0.2],
    "seeds": 1,
    "headline_methods": ["sympo_sigmoid"],
    "headline_seeds": 1,
    "frontier_methods": [],
    "frontier_seeds": 0,
    "betas": [],
    "batch": 8,
    "micro_batch": 4,
    "sft_epochs": 2,
    "sft_learning_rate": 3e-3,
    "learning_rate": 3e-3,
    "samples": 2,
    "max_new_tokens": 8,
}


def train_gold() -> dict[str, float]:
    """Every pair loss that is not SymPO's, and one that is."""
    config = gold.GoldConfig(
        study="gold",
        methods=list(losses.PAIR_LOSSES),
        pairs=24,
        validation_pairs=4,
        sft_examples=48,
        epochs=2,
        prompts=12,
        **ALIGNMENT_SIZES,
    )
    return train_policies(config.runs(), gold.build_world)


def train_gold_grammar() -> dict[str, float]:
    """Both regimes of two methods, one of which is told the noise rate."""
    config = grammar.GrammarConfig(
        study="gold_grammar",
        profile="smoke",
        methods=["rdpo", "sympo_sigmoid"],
        seeds=1,
        noise_rates=[0.2],
        betas=[0.3],
        other_methods=[],
        other_seeds=0,
        regimes={"fresh": {"pairs": 32, "epochs": 1}, "memorised": {"pairs": 16, "epochs": 3}},
        sft_examples=64,
        sft_epochs=4,
        sft_learning_rate=3e-3,
        validation_pairs=8,
        prompts=12,
        samples=4,
        learning_rate=3e-3,
        batch=8,
    )
    with double_precision():
        results = list(grammar.Workbench(grammar.build_world).train_runs([*config.runs()]))
    shown = ("margin", "validation", "fit_clean", "kl", "reward", "length")
    return {
        f"{run.method}, {run.used} pairs: {name}": result.metrics[name]
        for run, result in results
        for name in shown
    }


def train_offline(study: str) -> dict[str, float]:
    """Two methods on made-up comparisons, read from files and judged by a reward model."""
    config = offline.OfflineConfig(
        study=study,
        methods=["dpo"],
        train_files=["train"],
        test_files=["test"],
        pairs=16,
        validation_pairs=4,
        sft_examples=16,
        epochs=2,
        prompts=4,
        test_pairs=8,
        judge_share=0.5,
        judge_pairs=16,
        judge_epochs=2,
        judge_learning_rate=3e-3,
        temperature=0.7,
        top_p=0.9,
        **ALIGNMENT_SIZES,
    )
    with TemporaryDirectory() as folder, mock.patch.dict("os.environ", SYMPO_DATA=folder):
        write_comparisons(Path(folder))
        return train_policies(config.runs(), offline.build_world)


def train_policies(
    runs: list[AlignmentRun], build_world: Callable[[Any], World]
) -> dict[str, float]:
    # TRL ends each training with a full collection, which walks every imported module.
    gc.freeze()
    with double_precision():
        results = list(sweep.Workbench(build_world).train_runs(runs))
    gc.unfreeze()
    return {
        f"{run.method}: {name}": number
        for run, result in results
        for name, number in summarise_policy(result).items()
    }


def summarise_policy(result: records.Result) -> dict[str, float]:
    shown = ("margin", "validation", "kl", "reward", "length")
    return {
        "training loss": np.mean([entry["loss"] for entry in result.history]),
        "training margin": result.history[-1]["margin_true"],
        **{name: result.metrics[name] for name in shown},
    }


def write_comparisons(folder: Path) -> None:
    """Both data sets, a file for training and one for tests: "yes" is preferred to "no".

    Their formats are the originals', so that reading them is part of the run.
    """
    for part in ("hh", "ultrafeedback"):
        (folder / part).mkdir()
    for first, name, sample in ((0, "train", "train_clean"), (50, "test", "eval_clean")):
        dialogues, questions = [], []
        for i in range(first, first + 50):
            chosen, rejected = f"yes, {i}", "no" * (i % 3 + 1)
            prompt = f"\n\nHuman: hi\n\nAssistant: ask\n\nHuman: is it {i}?\n\nAssistant: "
            dialogues.append({"chosen": prompt + chosen, "rejected": prompt + rejected})
            scores = {"score_chosen": 5.0 + i % 4, "score_rejected": 4.0}
            questions.append({"prompt": f"{i}?", "chosen": chosen, "rejected": rejected})
            questions[-1]["metadata"] = scores
        (folder / "hh" / f"{name}.jsonl.gz").write_bytes(gzip.compress(to_jsonl(dialogues)))
        (folder / "ultrafeedback" / f"{sample}.jsonl").write_bytes(to_jsonl(questions))


def to_jsonl(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


# -- Real comparisons -----------------------------------------------------------------------------


def train_real_text() -> dict[str, float]:
    """Two losses on made-up comparisons, with uniform flips and with flips that know the scores."""
    config = text.TextConfig(
        study="real_text",
        profile="smoke",
        corpora=["ultrafeedback"],
        losses=["logistic", "ramp"],
        noise_rates=[0.0, 0.3],
        seeds=1,
        probe_seeds=1,
        epochs=3,
        batch=16,
        pairs=100,
        features=["length", "words"],
        learning_rates=[0.01],
        weight_decays=[1.0],
        shared_features="words",
        score_rates=[0.3],
    )
    with TemporaryDirectory() as folder, mock.patch.dict("os.environ", SYMPO_DATA=folder):
        write_comparisons(Path(folder))
        hashes = {"data_sha256": "", "weights_sha256": ""}
        own = {
            ("ultrafeedback", loss, rate): text.Setting("length", 0.01, 1.0)
            for loss in config.losses
            for rate in config.noise_rates
        }
        runs = [*config.shared_runs(hashes), *config.own_runs(own, hashes)]
        with double_precision():
            results = list(text.Bench(config.pairs, folder=Path(folder)).train(runs))
    return {
        f"{run.describe()}: {name}": result.metrics[name]
        for run, result in results
        for name in ("train_risk", "margin")
    }


# -- All studies ----------------------------------------------------------------------------------

STUDIES = {
    "mnist_losses": Golden("sympo.studies.mnist.study", train_mnist_losses),
    "mnist_noise": Golden("sympo.studies.mnist.study", train_mnist_noise),
    "finite_sample": Golden("sympo.studies.mnist.sizes", train_finite_sample),
    "loss_family": Golden("sympo.studies.mnist.family", train_loss_family),
    "noise_patterns": Golden("sympo.studies.mnist.study", train_noise_patterns),
    "real_text": Golden("sympo.studies.text.study", train_real_text),
    "gold": Golden("sympo.studies.alignment.gold", train_gold),
    "gold_grammar": Golden("sympo.studies.alignment.grammar", train_gold_grammar),
    "hh": Golden("sympo.studies.alignment.offline", partial(train_offline, "hh")),
    "ultrafeedback": Golden(
        "sympo.studies.alignment.offline", partial(train_offline, "ultrafeedback")
    ),
}


def check(study: str) -> None:
    """Fail with a sentence that says what to do, if `study` differs from golden.json."""
    golden = json.loads(PATH.read_text(encoding="utf-8"))[study]
    again = f"write its numbers again: python tests/studies/test_golden.py {study}"
    if golden["version"] != current_version(study):
        pytest.fail(f"the VERSION of {study} has changed: {again}")

    numbers = STUDIES[study].train()
    if numbers.keys() != golden["numbers"].keys():
        pytest.fail(f"the tiny run of {study} has other parts than before: {again}")
    moved = [
        f"{name}: {old:.8g}, now {numbers[name]:.8g}"
        for name, old in golden["numbers"].items()
        if not math.isclose(numbers[name], old, rel_tol=RTOL)
    ]
    if moved:
        module = import_module(STUDIES[study].module)
        shown = "\n  ".join(moved[:5])
        pytest.fail(
            f"{study} computes something else than before ({len(moved)} of {len(numbers)} numbers "
            f"moved):\n  {shown}\nIf that is meant, its records are no longer valid: raise VERSION "
            f"in {module.__file__}, and {again}"
        )


def current_version(study: str) -> int:
    return import_module(STUDIES[study].module).VERSION


# language models take longer than a quick test may
QUICK = ("mnist_losses", "mnist_noise")
each_study = pytest.mark.parametrize(
    "study",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in STUDIES],
)


@pytest.mark.slow
@each_study
def test_numbers_move_with_the_version_alone(study):
    check(study)


@pytest.mark.parametrize(
    ("study", "module", "constant", "value"),
    [
        ("mnist_losses", network, "DROPOUT", 0.25),
        # far from 0.2: it has to change a label of two dozen
        pytest.param("gold", gold, "TEMPERATURE", 2.0, marks=pytest.mark.slow),
    ],
)
def test_a_changed_constant_asks_for_another_version(study, module, constant, value, monkeypatch):
    monkeypatch.setattr(module, constant, value)
    with pytest.raises(pytest.fail.Exception, match=r"raise VERSION\s+in .*(study|gold)\.py"):
        check(study)


def test_another_version_asks_for_other_numbers(monkeypatch):
    monkeypatch.setattr(sys.modules["sympo.studies.mnist.study"], "VERSION", 1_000)
    with pytest.raises(pytest.fail.Exception, match=r"VERSION of mnist_noise has changed"):
        check("mnist_noise")


def write(studies: list[str]) -> None:
    """Write the numbers of `studies` into golden.json."""
    kept = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}
    for study in studies:
        numbers = {name: float(f"{value:.10g}") for name, value in STUDIES[study].train().items()}
        kept[study] = {"version": current_version(study), "numbers": numbers}
    PATH.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:] or list(STUDIES))
