"""What the trainers can beside one loss of the paper: each against a formula or against TRL."""

import json
import math
import re

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset
from scipy.special import expit
from scipy.stats import mannwhitneyu
from tiny_trainers import (
    WORDS,
    build,
    build_reward,
    compute_rewards,
    draw_pairs,
    settings,
    train,
    weights,
    write_formula,
)
from torch.nn.functional import log_softmax
from transformers import TrainerCallback
from trl import DPOTrainer

from sympo import losses
from sympo.trainer import CONSTANTS, SymmetricRewardConfig, SymPOConfig, reward_loss_types

SGD = {"optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 0.1, "max_steps": 1}


def evaluate(loss_type, folder, rows, **changes):
    """The evaluation loss over `rows` in one batch, and the trainer."""
    trainer = build(
        loss_type,
        folder,
        data=rows,
        evaluation=rows,
        per_device_eval_batch_size=len(rows),
        **changes,
    )
    return trainer.evaluate()["eval_loss"], trainer


def compute_margins(trainer, rows):
    chosen, rejected = compute_rewards(trainer, rows)
    return chosen - rejected


def count_tokens(rows, side):
    """Tokens of the answers, <eos> among them."""
    return np.array([len(row[side].split()) + 1 for row in rows])


def reward_margins(trainer, rows):
    """r(chosen) − r(rejected), one sequence at a time."""
    words = trainer.processing_class

    def reward(row, side):
        tokens = words(f"{row['prompt']}{row[side]} <eos>", return_tensors="pt")
        with torch.no_grad():
            return trainer.model(**tokens).logits.item()

    return np.array([reward(row, "chosen") - reward(row, "rejected") for row in rows])


# --- losses in a mix


def test_a_mix_is_the_weighted_sum_with_the_sft_term_per_token(tmp_path):
    rows = draw_pairs(6)
    mixed, trainer = evaluate(["sympo_sigmoid", "sft"], tmp_path, rows, loss_weights=[1.0, 0.2])
    words = trainer.processing_class
    nats = []
    for row in rows:
        start = len(words(row["prompt"])["input_ids"])
        ids = words(f"{row['prompt']}{row['chosen']} <eos>")["input_ids"]
        with torch.no_grad():
            log_probs = log_softmax(trainer.model(torch.tensor([ids])).logits[0], dim=-1)
        nats += [-log_probs[i - 1, ids[i]].item() for i in range(start, len(ids))]
    own = write_formula("sympo_sigmoid", compute_margins(trainer, rows)).mean()
    assert mixed == pytest.approx(own + 0.2 * np.mean(nats), abs=1e-5)


@pytest.mark.parametrize(
    ("mix", "shares"),
    [
        (["sympo_sigmoid", "sft"], [1.0, 0.2]),
        (["sigmoid", "sympo_ramp"], [0.5, 2.0]),
        (["sympo_cauchy", "dpo"], [3.0, 0.5]),
        (["ropo", "sympo_erf", "hinge"], None),
    ],
)
def test_the_gradient_of_a_mix_is_the_weighted_sum(mix, shares, tmp_path):
    """One step of plain gradient descent moves weights by the sum of what each loss moves."""
    before = weights(build("dpo", tmp_path))

    def moves(loss_type, **changes):
        after = weights(train(loss_type, tmp_path, **SGD, **changes))
        return {name: after[name] - before[name] for name in before}

    alone = [moves(name) for name in mix]
    together = moves(mix, loss_weights=shares)
    for name in before:
        parts = zip(shares or [1.0] * len(mix), alone, strict=True)
        expected = sum(share * moved[name] for share, moved in parts)
        torch.testing.assert_close(together[name], expected, rtol=1e-4, atol=2e-6)


def test_a_mix_of_trl_and_ours_equals_trls_own_mix(tmp_path):
    ours = train(["dpo", "sft"], tmp_path, loss_weights=[1.0, 0.2])
    theirs = train(["sigmoid", "sft"], tmp_path, base=DPOTrainer, loss_weights=[1.0, 0.2])
    np.testing.assert_allclose(ours.seen, theirs.seen, atol=1e-5, rtol=0)


def test_each_loss_of_a_mix_has_its_own_bound():
    plain = {"use_cpu": True, "bf16": False}
    mix = ["sympo_ramp", "dpo", "sft"]
    terms = SymPOConfig(**plain, loss_type=mix).resolve_terms()
    assert [(term.loss.name, term.clip) for term in terms] == [("sympo_ramp", 10.0), ("dpo", None)]
    terms = SymPOConfig(**plain, loss_type=mix, reward_clip=3).resolve_terms()
    assert [term.clip for term in terms] == [3.0, 3.0]


# --- weights of pairs


@pytest.mark.parametrize("name", ["sympo_ramp", "dpo", "repo"])
def test_weights_scale_pairs_and_the_mean_is_over_their_number(name, tmp_path):
    counts = [0.0, 0.5, 1.0, 2.0, 1.0, 3.0]
    rows = draw_pairs(6).add_column("weight", counts)
    loss, trainer = evaluate(name, tmp_path, rows)
    each = write_formula(name, compute_margins(trainer, rows))
    assert loss == pytest.approx((counts * each).sum() / 6, abs=2e-6)


def test_a_pair_without_a_weight_counts_as_any_other(tmp_path):
    given = draw_pairs(4).add_column("weight", [2.0, None, 0.5, None])
    written = draw_pairs(4).add_column("weight", [2.0, 1.0, 0.5, 1.0])
    loss, _ = evaluate("sympo_ramp", tmp_path, given)
    assert loss == evaluate("sympo_ramp", tmp_path, written)[0]


def test_weighted_batches_accumulate(tmp_path):
    rows = draw_pairs(8).add_column("weight", [0, 3, 1, 1, 2, 0, 1, 4])  # integers as well
    whole = train("sympo_erf", tmp_path, data=rows, per_device_train_batch_size=8, **SGD)
    halves = train(
        *("sympo_erf", tmp_path),
        data=rows,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        **SGD,
    )
    plain = train(
        *("sympo_erf", tmp_path), data=draw_pairs(8), per_device_train_batch_size=8, **SGD
    )
    moved = weights(whole)
    for name, weight in weights(halves).items():
        torch.testing.assert_close(weight, moved[name], rtol=0, atol=2e-6)
    assert any((weight - moved[name]).abs().max() > 1e-4 for name, weight in weights(plain).items())


def test_a_reward_model_heeds_weights(tmp_path):
    counts = np.array([0.0, 0.5, 1.0, 2.0, 1.0, 3.0])
    rows = draw_pairs(6).add_column("weight", list(counts))
    trainer = build_reward(tmp_path, data=rows, loss_type="ramp", per_device_eval_batch_size=6)
    each = np.clip(0.5 - reward_margins(trainer, rows) / 2, 0, 1)
    assert trainer.evaluate()["eval_loss"] == pytest.approx((counts * each).mean(), abs=1e-6)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, "2", True])
def test_impossible_weights_are_refused(value, tmp_path):
    rows = draw_pairs(3).add_column("weight", [value] * 3)
    message = f"row 0 of the dataset 'train': weight = {value!r}: give a number from 0 on"
    with pytest.raises(ValueError, match=re.escape(message)):
        build("dpo", tmp_path, data=rows)
    # A stream is checked as it comes.
    stream = IterableDataset.from_generator(lambda: ({**row, "weight": value} for row in rows))
    with pytest.raises(ValueError, match=re.escape(f"row 0 of a batch: weight = {value!r}")):
        train("dpo", tmp_path, data=stream)


@pytest.mark.parametrize(
    ("loss_type", "reason"),
    [
        ("sigmoid", "a loss of TRL's averages the pairs"),
        (["sympo_ramp", "sft"], "a loss of TRL's averages the pairs"),
        ("drdpo", "'drdpo' couples the pairs"),
    ],
)
def test_weights_that_would_not_act_are_refused(loss_type, reason, tmp_path):
    rows = draw_pairs(4).add_column("weight", [1.0] * 4)
    with pytest.raises(ValueError, match=f"a column 'weight', which cannot act: {reason}"):
        build(loss_type, tmp_path, data=rows)
    stream = IterableDataset.from_generator(lambda: iter(rows))
    with pytest.raises(ValueError, match=f"a column 'weight', which cannot act: {reason}"):
        train(loss_type, tmp_path, data=stream)


# --- margins per token


@pytest.mark.parametrize("name", ["sympo_sigmoid", "cdpo"])
def test_length_normalized_margins(name, tmp_path):
    rows = draw_pairs(6)
    loss, trainer = evaluate(name, tmp_path, rows, length_normalized=True)
    chosen, rejected = compute_rewards(trainer, rows)
    h = chosen / count_tokens(rows, "chosen") - rejected / count_tokens(rows, "rejected")
    assert np.abs(h - (chosen - rejected)).max() > 0.1
    assert loss == pytest.approx(write_formula(name, h).mean(), abs=2e-6)
    true_margin = np.where(rows["is_flipped"], -h, h)
    assert trainer.evaluate()["eval_margin_true"] == pytest.approx(true_margin.mean(), abs=1e-5)


def test_dpo_per_token_is_trls_sigmoid_norm(tmp_path):
    ours = train("dpo", tmp_path, length_normalized=True)
    theirs = train("sigmoid_norm", tmp_path, base=DPOTrainer)
    np.testing.assert_allclose(ours.seen, theirs.seen, atol=1e-6, rtol=0)
    assert ours.seen[0] != pytest.approx(train("dpo", tmp_path).seen[0], abs=1e-3)


# --- constants


def write_ropo(s, a):
    return 4 * a / (1 + a) ** 2 * (a * (1 - s) - np.log(s))


@pytest.mark.parametrize(
    ("name", "setting", "formula"),
    [
        ("ropo", {"ropo_alpha": 6}, lambda s: write_ropo(s, 6)),
        ("drdpo", {"drdpo_beta": 2.5}, lambda s: -2.5 * np.log(np.mean(s**0.4))),
        ("holder", {"holder_gamma": 3.0}, lambda s: 3 * s**4 - 4 * s**3),
        ("repo", {"repo_start": 0.6}, lambda s: None),
    ],
)
def test_constants_reach_both_trainers(name, setting, formula, tmp_path):
    rows = draw_pairs(6)
    loss, trainer = evaluate(name, tmp_path, rows, **setting)
    reward = build_reward(
        tmp_path, data=rows, loss_type=name, per_device_eval_batch_size=6, **setting
    )
    measured = {loss: compute_margins(trainer, rows)}
    measured[reward.evaluate()["eval_loss"]] = reward_margins(reward, rows)
    for value, margin in measured.items():
        s = expit(margin)
        expected = formula(s)
        if name == "repo":
            w = 0.6 * s / (0.6 * s + 0.4 * (1 - s))
            expected = -w * np.log(s) - (1 - w) * np.log(1 - s)
        assert value == pytest.approx(np.mean(expected), abs=2e-6)
    if name == "repo":
        assert trainer.eta == reward.eta == 0.6


def test_every_constant_of_the_registry_is_a_field_of_both_configs():
    assert {*CONSTANTS} == {n for loss in losses.pair_losses().values() for n in loss.constants}
    for config in (SymPOConfig, SymmetricRewardConfig):
        fields = config.__dataclass_fields__
        assert all(fields[name].metadata["help"] for name in CONSTANTS)


def test_a_constant_that_does_not_act_on_a_reward_model_is_refused(tmp_path):
    message = "holder_gamma = 3 does not act on loss_type 'ramp': leave it out"
    with pytest.raises(ValueError, match=message):
        SymmetricRewardConfig(**settings(tmp_path, loss_type="ramp", holder_gamma=3))
    # Hölder's loss is symmetric at γ = 2 alone, and its bound goes with that.
    clips = [
        SymmetricRewardConfig(
            **settings(tmp_path, loss_type="holder", holder_gamma=gamma)
        ).resolve_clip()
        for gamma in (None, 2, 3)
    ]
    assert clips == [10.0, 10.0, None]


# --- a loss of your own


def test_a_function_is_minimised_and_bounded_if_symmetric(tmp_path):
    rows = draw_pairs(6)
    given = {"loss": lambda h: torch.sigmoid(-h / 2), "reward_clip": "auto"}
    loss, trainer = evaluate("custom", tmp_path, rows, **given)
    assert trainer.symmetric
    assert trainer.args.resolve_terms(trainer._terms[0].loss)[0].clip == 10.0
    margin = compute_margins(trainer, rows)
    assert loss == pytest.approx(expit(-margin / 2).mean(), abs=2e-6)
    trainer.train()
    assert trainer.seen[0] != trainer.seen[-1]
    json.dumps(trainer.args.to_dict())
    # One that is not symmetric is not bounded.
    _, hinge = evaluate("custom", tmp_path, rows, loss=lambda h: (1 - h).clamp(min=0))
    assert not hinge.symmetric
    assert "eval_clip_fraction" not in hinge.evaluate()


def test_a_loss_of_your_own_in_a_mix(tmp_path):
    mix, _ = evaluate(
        ["custom", "dpo"], tmp_path, draw_pairs(6), loss=losses.get("ramp"), loss_weights=[2, 0.5]
    )
    ramp, _ = evaluate("sympo_ramp", tmp_path, draw_pairs(6))
    dpo, _ = evaluate("dpo", tmp_path, draw_pairs(6))
    assert mix == pytest.approx(2 * ramp + 0.5 * dpo, abs=1e-5)


def test_an_entry_of_the_registry_is_a_loss_type(tmp_path, monkeypatch):
    mine = losses.PairLoss(
        "mine",
        function=lambda h: torch.exp(-h.clamp(max=3)),
        formula=lambda sp, h, **_: sp.exp(-h),
        source="this test",
    )
    monkeypatch.setitem(losses.PAIR_LOSSES, "mine", mine)
    rows = draw_pairs(6)
    loss, trainer = evaluate("mine", tmp_path, rows)
    margin = compute_margins(trainer, rows)
    assert loss == pytest.approx(np.exp(-margin.clip(max=3)).mean(), rel=1e-5)
    assert "mine" in reward_loss_types()


def test_a_reward_model_takes_a_function(tmp_path):
    rows = draw_pairs(6)
    trainer = build_reward(
        tmp_path, data=rows, loss_type="custom", loss=torch.nn.Softplus(), max_steps=1
    )
    expected = np.log1p(np.exp(reward_margins(trainer, rows))).mean()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, abs=1e-5)


def test_a_loss_and_its_name_go_together(tmp_path):
    with pytest.raises(ValueError, match="names 'custom', and there is no such loss: give the"):
        build("custom", tmp_path)
    with pytest.raises(ValueError, match="loss_type = sympo_ramp does not use it: put 'custom'"):
        build("sympo_ramp", tmp_path, loss=torch.sigmoid)
    with pytest.raises(ValueError, match="give one loss per pair, and take no mean"):
        build("custom", tmp_path, loss=lambda h: torch.sigmoid(-h).mean())
    with pytest.raises(ValueError, match="names 'custom', and there is no such loss"):
        build_reward(tmp_path, loss_type="custom")


def test_a_custom_entry_that_is_told_a_rate(tmp_path):
    cdpo = losses.get_pair("cdpo")
    rows = draw_pairs(6)
    loss, _ = evaluate("custom", tmp_path, rows, loss=cdpo, noise_rate=0.2)
    assert loss == evaluate("cdpo", tmp_path, rows)[0]
    build_reward(tmp_path, loss_type="custom", loss=cdpo, noise_rate=0.2)
    for make in (build, lambda name, *rest, **more: build_reward(*rest, loss_type=name, **more)):
        with pytest.raises(ValueError, match="loss 'cdpo' needs noise_rate, the rate of wrong"):
            make("custom", tmp_path, loss=cdpo)
        with pytest.raises(ValueError, match=r"noise_rate = 0.2 does not act on loss 'ramp'"):
            make("custom", tmp_path, loss=losses.get("ramp"), noise_rate=0.2)
        with pytest.raises(ValueError, match="loss 'ipo' has no function here"):
            make("custom", tmp_path, loss=losses.get_pair("ipo"))


# --- methods for reward models


@pytest.mark.parametrize("name", ["cdpo", "rdpo", "repo"])
def test_methods_train_reward_models(name, tmp_path):
    rows = draw_pairs(8)
    rate = None if name == "repo" else 0.2
    trainer = build_reward(
        *(tmp_path,),
        data=rows,
        loss_type=name,
        noise_rate=rate,
        per_device_eval_batch_size=8,
        per_device_train_batch_size=8,
        max_steps=1,
    )
    margin = reward_margins(trainer, rows)
    metrics = trainer.evaluate()
    assert metrics["eval_loss"] == pytest.approx(write_formula(name, margin).mean(), abs=2e-6)
    trainer.train()
    if name == "repo":
        s = expit(margin)
        step = 0.9 * 0.9 + 0.1 * np.mean(0.9 * s / (0.9 * s + 0.1 * (1 - s)))
        assert metrics["eval_eta"] == 0.9
        assert trainer.eta == pytest.approx(step, abs=1e-6)


# --- several evaluation sets


@pytest.mark.parametrize("kind", ["policy", "reward"])
def test_metrics_of_several_sets_are_apart(kind, tmp_path):
    sets = {"clean": draw_pairs(5, seed=1), "noisy": draw_pairs(7, seed=2)}

    def make(evaluation):
        if kind == "policy":
            return build("sympo_ramp", tmp_path, evaluation=evaluation, max_steps=1)
        trainer = build_reward(tmp_path, loss_type="ramp", max_steps=1)
        trainer.eval_dataset = {
            name: trainer._prepare_dataset(
                rows, trainer.processing_class, trainer.args, dataset_name=name
            )
            for name, rows in evaluation.items()
        }
        return trainer

    both = make(sets)
    # What an earlier call leaves is in nobody's mean.
    both.predict(both.eval_dataset["noisy"])
    together = both.evaluate()
    # TRL's own metrics have the names of their sets as well.
    accuracy = "rewards/accuracies" if kind == "policy" else "accuracy"
    for name, rows in sets.items():
        alone = both.evaluate(rows)
        for metric in ("loss", accuracy, "accuracy_true", "margin_true", "flipped_fit"):
            assert together[f"eval_{name}_{metric}"] == alone[f"eval_{metric}"], metric
        logged = [log for log in both.state.log_history if f"eval_{name}_loss" in log]
        assert logged[0][f"eval_{name}_accuracy_true"] == alone["eval_accuracy_true"]
    assert together["eval_clean_margin_true"] != together["eval_noisy_margin_true"]
    assert not [name for name in together if re.match("eval_(accuracy|margin|rewards)", name)]


# --- which labels are wrong


def write_posterior(h, rate):
    """Bayes' rule as it is written, with P(wrong) = ε and the label's likelihoods σ(−h), σ(h)."""
    wrong = rate * expit(-h)
    return wrong / (wrong + (1 - rate) * expit(h))


@pytest.mark.parametrize("changes", [{}, {"precompute_ref_log_probs": True}])
def test_the_posterior_of_a_policy_is_bayes_rule(changes, tmp_path):
    rows = draw_pairs(13)
    trainer = build("cdpo", tmp_path, data=rows, evaluation=rows, reward_clip=0.1, **changes)
    margin = compute_margins(trainer, rows)
    before = trainer.evaluate()
    for dataset in (rows, trainer.eval_dataset, trainer.train_dataset):
        posterior = trainer.noise_posterior(dataset)
        np.testing.assert_allclose(posterior, write_posterior(margin, 0.2), atol=1e-5)
    told = trainer.noise_posterior(rows, noise_rate=0.4)
    np.testing.assert_allclose(told, write_posterior(margin, 0.4), atol=1e-5)
    # Unclipped: margins go far beyond what 0.1 allows.
    assert np.ptp(posterior) > 0.3
    assert (trainer.noise_posterior(rows, noise_rate=0) == 0).all()
    # It is no evaluation: it leaves neither logs nor metrics for the next log.
    assert len(trainer.state.log_history) == 1
    trainer.log({"mine": 1.0})
    assert trainer.state.log_history.pop().keys() <= {"mine", "epoch", "step"}
    assert trainer.evaluate()["eval_margin_true"] == before["eval_margin_true"]


@pytest.mark.parametrize("make", [build, build_reward])
def test_a_posterior_in_the_middle_of_training_changes_no_log(make, tmp_path):
    rows = draw_pairs(8)

    def log_steps(*callbacks):
        changes = {"data": rows, "loss_type": "sigmoid", "max_steps": 2, "logging_steps": 1}
        trainer = make(folder=tmp_path, **changes)
        for callback in callbacks:
            trainer.add_callback(callback(trainer))
        trainer.train()
        times = ("runtime", "per_second")
        return [
            {name: value for name, value in log.items() if not name.endswith(times)}
            for log in trainer.state.log_history
        ]

    class Ask(TrainerCallback):
        def __init__(self, trainer):
            self.trainer = trainer

        def on_step_end(self, *_, **__):
            self.trainer.noise_posterior(rows, noise_rate=0.2)

    assert log_steps(Ask) == log_steps()


def test_the_posterior_of_a_reward_model_keeps_rows_in_place(tmp_path):
    rows = draw_pairs(9, flips=False)
    trainer = build_reward(tmp_path, data=rows, loss_type="repo", max_length=8, max_steps=2)
    trainer.train()
    posterior = trainer.noise_posterior(rows)
    dropped = np.isnan(posterior)
    prompt = np.array([len(row["prompt"].split()) for row in rows])
    longest = np.maximum(count_tokens(rows, "chosen"), count_tokens(rows, "rejected")) + prompt
    np.testing.assert_array_equal(dropped, longest > 8)
    assert 0 < dropped.sum() < 9
    expected = write_posterior(reward_margins(trainer, rows), 1 - trainer.eta)
    np.testing.assert_allclose(posterior[~dropped], expected[~dropped], atol=1e-5)


def test_what_has_no_posterior_is_refused(tmp_path):
    rows = draw_pairs(4)
    trainer = build("sympo_ramp", tmp_path, data=rows)
    with pytest.raises(ValueError, match="noise_rate is missing: give the rate of wrong labels"):
        trainer.noise_posterior(rows)
    with pytest.raises(ValueError, match=r"noise_rate = 0.5 is out of range"):
        trainer.noise_posterior(rows, noise_rate=0.5)
    with pytest.raises(ValueError, match="the dataset has a column '_row', which is needed here"):
        trainer.noise_posterior(rows.add_column("_row", [0] * 4), noise_rate=0.2)
    assert trainer.noise_posterior(rows.select([]), noise_rate=0.2).shape == (0,)
    doubtful = build("repo", tmp_path, data=rows, repo_start=0.4)
    with pytest.raises(ValueError, match=r"η = 0.4 of the share of right labels is below ½"):
        doubtful.noise_posterior(rows)
    stream = IterableDataset.from_generator(lambda: iter(rows))
    with pytest.raises(ValueError, match="is a IterableDataset: give a datasets"):
        trainer.noise_posterior(stream, noise_rate=0.2)
    # After training, a reference that was not kept cannot be had; what was precomputed can.
    trained = train("dpo", tmp_path, data=rows, max_steps=1, precompute_ref_log_probs=True)
    trained.ref_model = None
    with pytest.raises(ValueError, match="keeps no reference model, and the model has been"):
        trained.noise_posterior(rows, noise_rate=0.2)
    assert trained.noise_posterior(trained.train_dataset, noise_rate=0.2).shape == (4,)
    shared = build("hinge", tmp_path, data=rows, ld_alpha=0.5)
    with pytest.raises(ValueError, match="with ld_alpha there are no margins"):
        shared.noise_posterior(rows, noise_rate=0.2)


def draw_known_world(rows, noise_rate, seed):
    """Answers of which the one with more high words is better; labels flipped at `noise_rate`."""
    draw = np.random.default_rng(seed)
    high = WORDS[: len(WORDS) // 2]
    low = WORDS[len(WORDS) // 2 :]
    pairs = []
    for _ in range(rows):
        better = list(draw.choice(high, 4)) + list(draw.choice(low, 1))
        worse = list(draw.choice(high, 1)) + list(draw.choice(low, 4))
        answers = [" ".join(draw.permutation(words)) for words in (better, worse)]
        flipped = bool(draw.random() < noise_rate)
        chosen, rejected = reversed(answers) if flipped else answers
        pair = {"prompt": "w0 ", "chosen": chosen, "rejected": rejected, "is_flipped": flipped}
        pairs.append(pair)
    return Dataset.from_list(pairs)


@pytest.mark.parametrize("loss_type", ["logistic", "sigmoid"])
def test_flipped_pairs_stand_out_among_held_out_ones(loss_type, tmp_path):
    """A reward model trained on noisy labels; ranked by its posterior, wrong labels come first."""
    trainer = build_reward(
        tmp_path,
        data=draw_known_world(192, 0.25, seed=0),
        loss_type=loss_type,
        max_steps=60,
        per_device_train_batch_size=16,
    )
    trainer.train()
    held_out = draw_known_world(80, 0.25, seed=1)
    posterior = trainer.noise_posterior(held_out, noise_rate=0.25)
    flipped = np.array(held_out["is_flipped"])
    # Of a wrong and a right label, how often the wrong one is thought worse: ½ without knowledge.
    ranked = mannwhitneyu(posterior[flipped], posterior[~flipped]).statistic
    assert ranked / (flipped.sum() * (~flipped).sum()) > 0.85
    # Those above ½ are mostly wrong, although three of four labels are right.
    suspects = posterior > 0.5
    assert flipped[suspects].mean() > 0.7
