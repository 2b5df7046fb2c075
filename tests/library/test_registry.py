"""One entry in the registry is a loss everywhere: `tanh`, added at run time, is known at once.

The figures' and the derivations' side of it is tested with the book.
"""

import math
from dataclasses import FrozenInstanceError

import pytest
import sympy
import torch
from tiny_trainers import build, build_reward, compute_rewards, draw_pairs, settings

from sympo import losses, trainer
from sympo.losses import Loss

MARGIN = torch.linspace(-3, 3, 13, dtype=torch.float64)


@pytest.fixture
def tanh(monkeypatch) -> Loss:
    """(1 − tanh z)/2, the sigmoid loss of 2z under another name."""
    loss = Loss(
        "tanh",
        fn=lambda z: (1 - torch.tanh(z)) / 2,
        formula=lambda sp, z: (1 - sp.tanh(z)) / 2,
        constant=1,
        convex=False,
        source="this test",
    )
    monkeypatch.setitem(losses.LOSSES, "tanh", loss)
    return loss


def test_the_registry_knows_it(tanh):
    assert losses.get("tanh") is tanh
    assert tanh.label == "tanh"
    pair_loss = losses.pair_losses()["sympo_tanh"]
    assert pair_loss.symmetric
    assert pair_loss.label == "SymPO tanh"
    torch.testing.assert_close(pair_loss.fn(MARGIN), torch.sigmoid(-2 * MARGIN))
    h = sympy.Symbol("h", real=True)
    assert pair_loss.expr(h) == (1 - sympy.tanh(h)) / 2


def test_a_loss_that_is_not_symmetric_is_no_method_of_sympo(monkeypatch):
    monkeypatch.setitem(losses.LOSSES, "cubic", Loss("cubic", torch.abs, abs, None, True, "test"))
    assert "sympo_cubic" not in losses.pair_losses()


def test_the_trainers_know_it(tanh, tmp_path):
    assert "sympo_tanh" in trainer.loss_types()
    config = trainer.SymPOConfig(**settings(tmp_path, loss_type="sympo_tanh"))
    assert config.resolve_clip() == trainer.SYMPO_CLIP
    reward_config = trainer.SymmetricRewardConfig(**settings(tmp_path, loss_type="tanh"))
    assert reward_config.resolve_clip() == trainer.SYMPO_CLIP


def test_the_policy_minimises_it(tanh, tmp_path):
    rows = draw_pairs(6)
    policy = build("sympo_tanh", tmp_path, data=rows, evaluation=rows, max_steps=2)
    chosen, rejected = compute_rewards(policy, rows)
    expected = [(1 - math.tanh(h)) / 2 for h in chosen.clip(-10, 10) - rejected.clip(-10, 10)]
    assert policy.evaluate()["eval_loss"] == pytest.approx(sum(expected) / 6, abs=2e-6)
    policy.train()
    assert len(policy.seen) == 2
    assert policy.seen[0] != policy.seen[1]


def test_the_reward_model_minimises_it(tanh, tmp_path):
    model = build_reward(tmp_path, loss_type="tanh", max_steps=2)
    model.train()
    assert len(model.seen) == 2
    assert all(0 < loss < 1 for loss in model.seen)


@pytest.mark.parametrize("name", ["cdpo", "rdpo"])
def test_noise_rate_and_reliability_are_two_arguments(name):
    loss = losses.get_pair(name)
    assert loss.needs == "noise_rate"
    with pytest.raises(ValueError, match=f"pair loss '{name}' needs noise_rate"):
        loss.fn(MARGIN, reliability=0.9)
    with pytest.raises(ValueError, match=f"pair loss '{name}' needs noise_rate"):
        loss.expr(sympy.Symbol("h"), beta=0.1)
    with pytest.raises(ValueError, match="pair loss 'repo' needs reliability"):
        losses.get_pair("repo").fn(MARGIN, noise_rate=0.2)


@pytest.mark.parametrize("name", ["ipo", "hinge"])
def test_what_trl_runs_has_a_formula_and_no_function(name):
    loss = losses.get_pair(name)
    assert name in trainer.TRL_LOSSES
    with pytest.raises(ValueError, match="TRL's own code runs it"):
        loss.fn(MARGIN)
    assert loss.expr(sympy.Symbol("h", real=True), beta=0.1).has(sympy.Symbol("h", real=True))


def test_ipo_needs_beta():
    with pytest.raises(ValueError, match="pair loss 'ipo' needs beta"):
        losses.get_pair("ipo").expr(sympy.Symbol("h"))


def test_an_entry_is_never_changed_in_place():
    """The dictionaries may grow; a loss that others already hold stays what it is."""
    for entry in (losses.get("ramp"), losses.get_pair("dpo")):
        with pytest.raises(FrozenInstanceError):
            entry.symmetric = True


def test_hinge_and_ipo_by_hand():
    h = sympy.Symbol("h", real=True)
    hinge = losses.get_pair("hinge").expr(h)
    assert [hinge.subs(h, at) for at in (-1, 0.5, 1.5)] == [2, 0.5, 0]
    # the log-ratio is h/β, and ipo draws it to 1/(2β)
    ipo = losses.get_pair("ipo").expr(h, beta=0.25)
    assert [ipo.subs(h, at) for at in (-1, 0.5, 1)] == [36, 0, 4]


def test_what_is_held_fixed_is_positive():
    assert losses.CONFIDENCE.is_positive
    assert losses.BATCH_MEAN.is_positive


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"unknown pair loss 'sympo_rmap'\. Did you mean 'sympo_"):
        losses.get_pair("sympo_rmap")
    with pytest.raises(AttributeError, match="no attribute 'CONFIDENSE'"):
        losses.CONFIDENSE  # noqa: B018


# Values for what a formula holds fixed or is told.
TOLD = {"noise_rate": sympy.Rational(1, 5), "beta": sympy.Rational(1, 10)}
RUN_HERE = [name for name in losses.pair_losses() if name not in trainer.TRL_LOSSES]


@pytest.mark.parametrize("name", RUN_HERE)
def test_the_formula_is_the_function_and_has_its_gradient(name):
    """Also where a formula holds a symbol fixed: RE-PO's confidence, Dr.DPO's batch mean.

    Dr.DPO's formula alone has another value than its function: it is linear in one pair's share.
    """
    loss = losses.get_pair(name)
    margin = (MARGIN + 0.013).requires_grad_()  # off the kinks
    value = loss.fn(margin, noise_rate=0.2, reliability=0.9)
    # Dr.DPO gives each pair the batch's one value, so that the mean is the loss.
    total = value.mean() if name == "drdpo" else value.sum()
    (gradient,) = torch.autograd.grad(total, margin)

    at = margin.detach()
    h = sympy.Symbol("h", real=True)
    expr = loss.expr(h, **TOLD)
    held = (losses.CONFIDENCE, losses.BATCH_MEAN)
    fixed = (losses.repo_posterior(at, 0.9).numpy(), torch.sigmoid(at).mean().item())

    def evaluate(expression):
        function = sympy.lambdify((h, *held), expression, ["scipy", "numpy"])
        return torch.as_tensor(function(at.numpy(), *fixed)) * torch.ones_like(at)

    slope = evaluate(expr.diff(h))
    if name == "drdpo":
        slope = slope / len(at)
    else:
        torch.testing.assert_close(value.detach(), evaluate(expr), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(gradient, slope, rtol=1e-9, atol=1e-12)
