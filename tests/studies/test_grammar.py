"""The bare loops of study gold_grammar against SymPOTrainer, single tokens and counting."""

import copy
import tempfile

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_gold import answer_log_prob

from sympo import preferences
from sympo.studies import plan
from sympo.studies.alignment import gold, grammar, training
from sympo.trainer import SymPOConfig, SymPOTrainer

SIZES = {
    "study": "gold_grammar",
    "profile": "smoke",
    "methods": ["dpo", "sympo_ramp"],
    "seeds": 2,
    "noise_rates": [0.0, 0.3, 0.4],
    "betas": [0.1, 1.0],
    "other_methods": ["rdpo"],
    "other_seeds": 1,
    "regimes": {"fresh": {"pairs": 64, "epochs": 1}, "memorised": {"pairs": 32, "epochs": 4}},
    "sft_examples": 256,
    "sft_epochs": 4,
    "sft_learning_rate": 3e-3,
    "validation_pairs": 32,
    "prompts": 12,
    "samples": 4,
    "learning_rate": 1e-3,
    "batch": 32,
}


def config(**changes):
    return grammar.GrammarConfig(**{**SIZES, **changes})


def find_run(method, noise_rate, regime="memorised", beta=0.1, **changes):
    for run in config(**changes).runs():
        if (run.method, run.noise_rate, run.regime, run.beta) == (method, noise_rate, regime, beta):
            return run
    raise LookupError(f"no run of {method} at {noise_rate}")


@pytest.fixture(scope="module")
def world():
    return grammar.build_world(find_run("dpo", 0.4).world)


@pytest.fixture(scope="module")
def pairs(world):
    return grammar.Pairs.encode(world, world.train)


def test_log_probs_are_those_of_single_tokens(world, pairs):
    model = world.model
    row = world.train[0]
    for side, name in enumerate(("chosen", "rejected")):
        tokens = world.tokenizer(f"{row[name][0]['content']} <eos>")["input_ids"]
        by_hand = answer_log_prob(model, world.tokenizer, row["prompt"], tokens)
        assert pairs.reference[side, 0] == pytest.approx(by_hand, abs=1e-4)
    # of a model that is its own reference
    assert np.allclose(pairs.margins(model, 0.1), 0, atol=1e-6)


def test_signs_are_the_flips_of_the_library(world, pairs):
    for rate in (0.0, 0.3, 0.4):
        flipped = preferences.flip_preferences(world.train, rate, seed=world.spec.seed)
        assert np.array_equal(pairs.signs(rate) < 0, flipped["is_flipped"][:])


@pytest.mark.parametrize("method", ["dpo", "rdpo", "cdpo", "sympo_sigmoid", "sympo_ramp"])
def test_a_policy_is_the_one_of_sympo_trainer(method, world, pairs):
    changes = {"methods": [method], "other_methods": [], "learning_rate": 3e-3}
    # all pairs in every step, so that their order is the same
    run = find_run(method, 0.4, **changes)
    policy = grammar.train_policy(run, world, pairs)

    flipped = preferences.flip_preferences(world.train, 0.4, seed=run.seed)
    with training.quietly(), tempfile.TemporaryDirectory() as folder:
        arguments = SymPOConfig(
            output_dir=folder,
            loss_type=method,
            noise_rate=0.4 if method in ("cdpo", "rdpo") else None,
            beta=run.beta,
            learning_rate=run.learning_rate,
            warmup_steps=run.world.warmup,
            per_device_train_batch_size=run.used,
            num_train_epochs=run.epochs,
            max_grad_norm=0,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
        )
        trainer = SymPOTrainer(
            copy.deepcopy(world.model),
            copy.deepcopy(world.model),
            arguments,
            train_dataset=flipped.select(range(run.used)),
            processing_class=world.tokenizer,
        )
        trainer.train()
    start = dict(world.model.named_parameters())
    moved = 0.0
    for (name, ours), theirs in zip(
        policy.named_parameters(), trainer.model.parameters(), strict=True
    ):
        assert torch.allclose(ours, theirs.cpu(), atol=2e-5), name
        moved = max(moved, float((ours - start[name]).abs().max()))
    assert moved > 1e-3  # something was trained


def test_every_epoch_has_each_row_once():
    batches = grammar.draw_batches(10, batch=3, epochs=4, seed=0)
    assert batches.shape == (12, 3)
    for epoch in batches.view(4, 9):
        assert len(epoch.unique()) == 9
    assert not batches[:3].equal(batches[3:6])
    assert batches.equal(grammar.draw_batches(10, batch=3, epochs=4, seed=0))
    assert not batches.equal(grammar.draw_batches(10, batch=3, epochs=4, seed=1))


def test_fine_tuning_teaches_the_grammar(world):
    untrained = gold.load_tiny(world.spec)
    examples = untrained.examples
    ids = grammar.encode(world.tokenizer, examples["prompt"][:], examples["completion"][:])
    before = grammar.log_probs(untrained.model, ids).mean()
    assert grammar.log_probs(world.model, ids).mean() > before + 5


def test_a_run_is_measured(world, pairs):
    run = find_run("dpo", 0.4)
    test = grammar.Pairs.encode(world, world.test)
    result = grammar.train_run(run, world, pairs, test)
    again = grammar.train_run(run, world, pairs, test)
    assert result == again
    metrics = result.metrics
    assert metrics["kl"] > 0
    answers = len(world.prompts) * world.spec.samples
    assert (metrics["reviews"] * answers) % 1 == pytest.approx(0, abs=1e-9)
    assert len(metrics["generations"]) == len(world.prompts)
    # by heart: more labels of either kind than a coin would
    assert metrics["fit_clean"] > 0.5

    policy = grammar.train_policy(run, world, pairs)
    margins = pairs.margins(policy, run.beta)
    flipped = pairs.signs(0.4).numpy() < 0
    fitted = margins[: run.used][flipped[: run.used]] < 0
    assert metrics["fit_flipped"] == pytest.approx(fitted.mean())
    held_out = np.where(flipped, -margins, margins)[-world.spec.validation_pairs :]
    assert metrics["validation"] == pytest.approx((held_out > 0).mean())
    assert metrics["accuracy"] == pytest.approx((test.margins(policy, 0.1) > 0).mean())


def test_clean_labels_have_no_flips(world, pairs):
    test = grammar.Pairs.encode(world, world.test)
    assert (
        grammar.train_run(find_run("dpo", 0.0), world, pairs, test).metrics["fit_flipped"] is None
    )


def test_too_few_pairs_are_refused(world, pairs):
    run = find_run("dpo", 0.4, regime="fresh", regimes={"fresh": {"pairs": 96, "epochs": 1}})
    with pytest.raises(ValueError, match="fewer than the 96 of regime fresh"):
        grammar.train_run(run, world, pairs, pairs)


def test_runs():
    runs = config().runs()
    # per seed and regime: two methods at one β without noise, at two β with each of two rates
    assert sum(run.method != "rdpo" for run in runs) == 2 * 2 * (2 + 2 * 2 * 2)
    assert {(run.seed, run.noise_rate, run.beta) for run in runs if run.method == "rdpo"} == {
        (0, 0.4, 0.1)
    }
    assert len(set(runs)) == len(runs)
    assert {run.beta for run in runs if run.noise_rate == 0} == {0.1}
    # one rate above 0 has all of them
    assert {run.beta for run in config(noise_rates=[0.4]).runs()} == {0.1, 1.0}
    tiers = {(run.method, run.noise_rate): config().tier(run) for run in runs}
    assert tiers["dpo", 0.4] == plan.HEADLINE
    assert tiers["dpo", 0.3] == plan.OTHER_RATES
    assert tiers["rdpo", 0.4] == plan.OTHER_METHODS
    assert "memorised pairs" in find_run("dpo", 0.4).describe()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"methods": ["dpo", "sigmoid"]}, "method 'sigmoid'"),
        ({"methods": ["repo"]}, "method 'repo'"),
        ({"betas": [0.1, 0.1]}, "betas holds 0.1 more than once"),
        ({"batch": 48}, "batch = 48 does not divide the 64 pairs of fresh"),
        ({"regimes": {"fresh": {"pairs": 64}}}, "epochs"),
        ({"samples": 3}, "multiple of 2"),
        ({"other_methods": ["dpo"]}, "methods and other_methods holds dpo more than once"),
        ({"sft_examples": 16}, "sft_examples = 16 is below batch = 32"),
        ({"betas": []}, "betas"),
        ({"regimes": {}}, "regimes"),
    ],
)
def test_configs_are_refused(changes, sentence):
    with pytest.raises(ValidationError, match=sentence):
        config(**changes)
