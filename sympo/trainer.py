"""Drop-ins for TRL: `SymPOTrainer` for DPOTrainer and `SymmetricRewardTrainer` for RewardTrainer.

A TRL user changes the class and `loss_type`. Everything else, from PEFT to checkpoints, stays
TRL's: it makes the forward pass and its own metrics, and only the loss of the margin is ours. Names
that TRL knows run TRL's code: its `hinge` and `ipo` are exactly the losses meant here, so neither
has a second copy. Its `sigmoid` is the logistic loss, our `dpo`; the symmetric sigmoid is
`sympo_sigmoid`.
"""

import difflib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from sympo import losses

FLIP_COLUMN = "is_flipped"  # true where chosen and rejected were swapped by label noise
ROPO_ALPHA = 14
DRDPO_BETA = 1.0  # β′
REPO_START, REPO_MEMORY = 0.9, 0.9  # η₀, and the weight of the old η in its running mean
SYMPO_CLIP = 10.0  # bound on each reward; the authors' for language models

# DPOTrainer dispatches on these in a private method and lists them nowhere else; a test reads them
# off its source.
TRL_LOSSES = frozenset(
    "sigmoid hinge ipo exo_pair nca_pair robust bco_pair sppo_hard aot aot_unpaired apo_zero apo_down discopop sft "  # noqa: SIM905
    "sigmoid_norm".split()
)
NEEDS_NOISE_RATE = frozenset({"cdpo", "rdpo"})


def _cdpo(margin: Tensor, rate: float | Tensor) -> Tensor:
    return -(1 - rate) * logsigmoid(margin) - rate * logsigmoid(-margin)


def _rdpo(margin: Tensor, rate: float) -> Tensor:
    return (rate * logsigmoid(-margin) - (1 - rate) * logsigmoid(margin)) / (1 - 2 * rate)


def _ropo(margin: Tensor, _: None) -> Tensor:
    return (
        4
        * ROPO_ALPHA
        / (1 + ROPO_ALPHA) ** 2
        * (ROPO_ALPHA * torch.sigmoid(-margin) - logsigmoid(margin))
    )


def _drdpo(margin: Tensor, _: None) -> Tensor:
    log_mean = torch.logsumexp(logsigmoid(margin) / DRDPO_BETA, dim=0) - math.log(len(margin))
    return (-DRDPO_BETA * log_mean).expand_as(margin)


def _plain(name: str) -> Callable[[Tensor, None], Tensor]:
    return lambda margin, _: losses.get(name).fn(margin)


def repo_posterior(margin: Tensor, eta: float) -> Tensor:
    """The probability that a label is right, w = ηs/(ηs + (1−η)(1−s)) with s = σ(h); `(pairs,)`,
    detached.
    """
    # w reaches 1 in float32, and η with it; held inside (0, 1), its log-odds stay finite.
    eta = min(max(eta, 1e-6), 1 - 1e-6)
    return torch.sigmoid(margin.detach() + math.log(eta / (1 - eta)))


_PAIR_LOSSES: dict[str, Callable[[Tensor, float | None], Tensor]] = {
    "dpo": _plain("logistic"),  # Rafailov et al. 2023 (arXiv 2305.18290)
    "cdpo": _cdpo,  # Mitchell 2023, a note on DPO with noisy preferences
    "rdpo": _rdpo,  # Chowdhury et al. 2024 (arXiv 2403.00409)
    "ropo": _ropo,  # Liang et al. 2024 (arXiv 2404.04102)
    "drdpo": _drdpo,  # Wu et al. 2024 (arXiv 2407.07880)
    "holder": _plain("holder"),  # Fujisawa et al. 2025 (arXiv 2505.17859), γ = 2
    # Cao et al. 2025 (arXiv 2509.24159)
    "repo": lambda margin, eta: _cdpo(margin, 1 - repo_posterior(margin, eta)),
    **{f"sympo_{name}": _plain(name) for name, loss in losses.LOSSES.items() if loss.symmetric},
}
LOSS_TYPES = (*_PAIR_LOSSES, *sorted(TRL_LOSSES))


def pair_loss(name: str, margin: Tensor, *, rate: float | None = None) -> Tensor:
    """Per-pair loss ℓ(h), h = β·(log-ratio chosen − log-ratio rejected).

    Args:
        name: one of `LOSS_TYPES` that is not TRL's.
        margin: `(pairs,)` h, nats, after clipping if there is any.
        rate: ε for cdpo and rdpo, η for repo, else None.
    Raises:
        ValueError: no such name.
    Returns:
        `(pairs,)`, unreduced; the trainer takes the mean. drdpo couples the batch, and gives its
        one value to every pair: it alone depends on how a batch is split over accumulation steps
            and processes.
    Source: beside each name in the code. Check:
    tests/test_trainer.py::test_pair_loss_is_its_formula.
    """
    _check_name("loss_type", name, _PAIR_LOSSES)
    return _PAIR_LOSSES[name](margin, rate)


def _check_name(field_name: str, name: str, names: Iterable[str]) -> None:
    if name not in (names := list(names)):
        nearest = difflib.get_close_matches(str(name), names, n=1)
        hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
        raise ValueError(f"unknown {field_name} '{name}'.{hint} Names: {', '.join(names)}.")


def _resolve_clip(reward_clip: float | str | None, *, default: float | None) -> float | None:
    """The bound that `reward_clip` asks for; the command line gives it as a string."""
    if reward_clip == "auto":
        return default
    if reward_clip in (None, "none"):
        return None
    try:
        clip = float(reward_clip)
    except (TypeError, ValueError):
        clip = math.nan
    if not 0 < clip < math.inf:
        raise ValueError(
            f"reward_clip = {reward_clip!r}: give a positive number, None (off) or 'auto'"
        )
    return clip


@dataclass
class SymPOConfig(DPOConfig):
    """DPOConfig with the paper's losses.

    Args:
        loss_type: one of `LOSS_TYPES`: our names, or TRL's (which may be mixed among themselves).
            "sympo_sigmoid" if none is given; "sigmoid" is TRL's name for the logistic loss.
        noise_rate: ε in [0, ½), the rate of wrong labels; required by cdpo and rdpo, refused
            elsewhere.
        reward_clip: bound on each implicit reward before the margin is taken; beyond it a reward
            has no gradient. "auto": 10 for the SymPO losses, off for the others; None: off.
    Raises:
        ValueError: when it is built: an unknown name, a noise rate that is missing, out of range or
            unused, a setting that would not act on the chosen loss.
    Check: tests/test_trainer.py::test_config_refuses.
    """

    loss_type: list[str] = field(
        default_factory=lambda: ["sympo_sigmoid"],
        metadata={"help": f"One of {', '.join(LOSS_TYPES)}."},
    )
    noise_rate: float | None = field(
        default=None, metadata={"help": "Rate of wrong labels; for cdpo and rdpo only."}
    )
    reward_clip: float | str | None = field(
        default="auto",
        metadata={
            "help": "Bound on implicit rewards: a number, none, or auto (10 for SymPO losses)."
        },
    )

    def __post_init__(self):
        names = [self.loss_type] if isinstance(self.loss_type, str) else list(self.loss_type)
        for name in names or [""]:
            _check_name("loss_type", name, LOSS_TYPES)
        if own := [name for name in names if name in _PAIR_LOSSES]:
            self._check_own(own[0], names)
        self._check_noise_rate(names)
        self.reward_clip = _resolve_clip(
            self.reward_clip, default=SYMPO_CLIP if own and own[0].startswith("sympo_") else None
        )
        if self.reward_clip and not own:
            raise ValueError(
                f"reward_clip does not act on TRL's loss '{names[0]}': leave it out, or take a SymPO loss"
            )
        super().__post_init__()

    def _check_own(self, name: str, names: list[str]) -> None:
        """Refuse the settings of TRL's losses that would be ignored in silence."""
        if len(names) > 1:
            raise ValueError(f"loss_type '{name}' cannot be mixed with {names}: give it alone")
        inert = {
            "f_divergence_type": "reverse_kl",
            "ld_alpha": None,
            "loss_weights": None,
            "use_weighting": False,
            "label_smoothing": 0.0,
        }
        for setting, off in inert.items():
            if (value := getattr(self, setting)) != off:
                remedy = (
                    "give the noise rate as noise_rate"
                    if setting == "label_smoothing"
                    else f"leave it at {off!r}"
                )
                raise ValueError(
                    f"{setting} = {value!r} does not act on loss_type '{name}': {remedy}"
                )

    def _check_noise_rate(self, names: list[str]) -> None:
        name, rate = names[0], self.noise_rate
        if name not in NEEDS_NOISE_RATE:
            if rate is not None:
                raise ValueError(
                    f"noise_rate = {rate} does not act on loss_type '{name}': leave it out"
                )
        elif rate is None:
            raise ValueError(
                f"loss_type '{name}' needs noise_rate, the rate of wrong labels, in [0, 0.5)"
            )
        elif not 0 <= rate < 0.5:
            raise ValueError(f"noise_rate = {rate} is out of range: give a number in [0, 0.5)")


@dataclass
class SymmetricRewardConfig(RewardConfig):
    """RewardConfig with the margin losses of `sympo.losses`.

    Args:
        loss_type: a name in `sympo.losses.LOSSES`; "logistic" is what RewardTrainer minimises.
        reward_clip: bound on each reward before the margin is taken. "auto": 10 for symmetric
            losses, off for the others; None: off.
    Raises:
        ValueError: when it is built: an unknown name, or a bound that is not positive.
    Check: tests/test_trainer.py::test_config_refuses.
    """

    loss_type: str = field(
        default="sigmoid", metadata={"help": f"One of {', '.join(losses.LOSSES)}."}
    )
    reward_clip: float | str | None = field(
        default="auto",
        metadata={"help": "Bound on rewards: a number, none, or auto (10 for symmetric losses)."},
    )

    def __post_init__(self):
        symmetric = losses.get(self.loss_type).symmetric
        self.reward_clip = _resolve_clip(
            self.reward_clip, default=SYMPO_CLIP if symmetric else None
        )
        super().__post_init__()


@dataclass
class FlipCollator:
    """Another collator's batch, with `is_flipped` as a bool tensor `(pairs,)` where the rows have
    it.
    """

    collate: Callable[[list[dict[str, Any]]], dict[str, Any]]

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collate(examples)
        if FLIP_COLUMN in examples[0]:
            batch[FLIP_COLUMN] = torch.tensor([bool(example[FLIP_COLUMN]) for example in examples])
        return batch


class _TrueLabels:
    """What both trainers share: the flip column reaches the loss, and margins are measured on true
    labels.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.data_collator = FlipCollator(self.data_collator)

    def _set_signature_columns_if_needed(self):
        super()._set_signature_columns_if_needed()
        self._signature_columns = list(dict.fromkeys([*self._signature_columns, FLIP_COLUMN]))

    def _clip(self, rewards: Tensor) -> Tensor:
        """`rewards` `(2, pairs)` within ±reward_clip; the share outside is logged as
        `clip_fraction`.
        """
        if (bound := self.args.reward_clip) is None:
            return rewards
        self._keep(clip_fraction=self._gather((rewards.detach().abs() > bound).float().mean(dim=0)))
        return rewards.clamp(-bound, bound)

    def _measure(self, margin: Tensor, flipped: Tensor | None) -> None:
        """Log, of unclipped margins `(pairs,)`: accuracy and mean on true labels, and the share of
        flips fitted.
        """
        if flipped is None:
            return
        margin, flipped = self._gather(
            torch.stack([margin.detach().float(), flipped.float()], dim=1)
        ).unbind(dim=1)
        true_margin = torch.where(flipped > 0, -margin, margin)
        self._keep(
            accuracy_true=true_margin > 0,
            margin_true=true_margin,
            flipped_fit=margin[flipped > 0] > 0,
        )

    def _gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes; in evaluation without those that only fill up the last
        batch.
        """
        return (
            self.accelerator.gather(rows)
            if self.model.training
            else self.accelerator.gather_for_metrics(rows)
        )

    def _keep(self, **values: Tensor) -> None:
        """Add values to TRL's running means one by one, so that a mean is over pairs however they
        were batched.
        """
        for name, value in values.items():
            if len(value):
                self._metrics["train" if self.model.training else "eval"][name].extend(
                    value.float().tolist()
                )


class SymPOTrainer(_TrueLabels, DPOTrainer):
    """DPOTrainer that minimises `SymPOConfig.loss_type`; takes what DPOTrainer takes.

    With a boolean column `is_flipped` in the data it logs, beside TRL's metrics (which see noisy
    labels), `accuracy_true`, `margin_true` (β·log-ratio difference, nats) and `flipped_fit` (the
    share of flipped pairs whose wrong label the policy agrees with); with a clip, `clip_fraction`;
    for repo, `eta`.

    Every loss is a mean over pairs, so that batch 8 is 2 × 4 accumulated and 2 processes × 4,
    except `drdpo`, which couples the pairs of a batch. With `precompute_ref_log_probs=True`, data
    that already has `ref_chosen_logps` and `ref_rejected_logps` keeps them: one reference pass
    serves a sweep (a flip swaps these two columns as well).
    Source: Section 4. Check: tests/test_trainer.py.
    """

    _tag_names = ("trl", "sympo")
    _name = "SymPO"
    _paper = {  # noqa: RUF012 — the type that TRL's model card reads
        "title": "On Symmetric Losses for Robust Policy Optimization with Noisy Preferences",
        "id": "2505.24709",
    }

    def __init__(self, model, ref_model=None, args: SymPOConfig | None = None, *rest, **kwargs):
        args = SymPOConfig() if args is None else args
        if not isinstance(args, SymPOConfig):
            raise TypeError(f"args is a {type(args).__name__}: SymPOTrainer takes a SymPOConfig")
        super().__init__(model, ref_model, args, *rest, **kwargs)
        self._posteriors: list[Tensor] = []
        self._own_loss = args.loss_type[0] if args.loss_type[0] in _PAIR_LOSSES else None
        if self._own_loss:
            self.loss_types, self.loss_weights = [], []  # TRL then adds no loss, and still measures

    @property
    def eta(self) -> float:
        """repo's estimate of the share of right labels; it lives in TrainerState, and so in every
        checkpoint.
        """
        return self.state.stateful_callbacks.get("repo_eta", REPO_START)

    def _precompute_ref_logps(self, dataset, name, batch_size):
        if {"ref_chosen_logps", "ref_rejected_logps"} <= set(dataset.column_names or ()):
            return dataset
        return super()._precompute_ref_logps(dataset, name, batch_size)

    def compute_ref_log_probs(self, model, inputs):
        """TRL's, without the flip column: `(chosen, rejected)` log-probabilities `(pairs,)`,
        nats.
        """
        return super().compute_ref_log_probs(
            model, {k: v for k, v in inputs.items() if k != FLIP_COLUMN}
        )

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """TRL's forward pass and metrics, and the mean of our loss over the pairs."""
        inputs = dict(inputs)
        flipped = inputs.pop(FLIP_COLUMN, None)
        if not self.precompute_ref_logps:
            reference = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
            inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = reference
        result, log_probs = self._forward(model, inputs, return_outputs=return_outputs)
        loss = result[0] if return_outputs else result
        # with it TRL's rewards are not log-ratios, and none of this applies
        if self.ld_alpha is None:
            rewards = self._rewards(log_probs, inputs)
            self._measure(rewards[0] - rewards[1], flipped)
            if self._own_loss:
                chosen, rejected = self._clip(rewards)
                loss = loss + self._margin_loss(chosen - rejected)
        return (loss, result[1]) if return_outputs else loss

    def _forward(self, model, inputs, *, return_outputs: bool):
        """TRL's `compute_loss` on a batch that holds the reference, and its log-probs,
        `(2·pairs, tokens)`.
        """
        seen = []

        def recorded(*args, **kwargs):
            seen.append(model(*args, **kwargs))
            return seen[-1]

        precomputed, self.precompute_ref_logps = self.precompute_ref_logps, True
        try:
            result = super().compute_loss(recorded, inputs, return_outputs=return_outputs)
        finally:
            self.precompute_ref_logps = precomputed
        return result, seen[0].log_probs

    def _rewards(self, log_probs: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Implicit rewards β·log π/π_ref, `(2, pairs)`: chosen, rejected."""
        # prompt-learning PEFT puts virtual tokens before them
        tokens = inputs["completion_mask"].size(1) - 1
        policy = log_probs[:, -tokens:].sum(dim=1)  # zero outside the completion
        return self.beta * (
            policy - torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]])
        ).view(2, -1)

    def _margin_loss(self, margin: Tensor) -> Tensor:
        if self._own_loss != "repo":
            return pair_loss(self._own_loss, margin, rate=self.args.noise_rate).mean()
        loss = pair_loss("repo", margin, rate=self.eta).mean()
        if self.model.training:
            self._update_eta(repo_posterior(margin, self.eta))
        self._metrics["train" if self.model.training else "eval"]["eta"] = [self.eta]
        return loss

    def _update_eta(self, posterior: Tensor) -> None:
        """η ← 0.9·η + 0.1·mean(w), once per optimiser step, over its micro-batches and
        processes.
        """
        self._posteriors.append(posterior.float())
        if self.accelerator.sync_gradients:
            seen = torch.cat(self._posteriors)
            total, pairs = self.accelerator.reduce(
                torch.stack([seen.sum(), seen.new_tensor(len(seen))])
            ).tolist()
            self.state.stateful_callbacks["repo_eta"] = (
                REPO_MEMORY * self.eta + (1 - REPO_MEMORY) * total / pairs
            )
            self._posteriors.clear()


class SymmetricRewardTrainer(_TrueLabels, RewardTrainer):
    """RewardTrainer that minimises a margin loss ℓ(r(chosen) − r(rejected)) of `sympo.losses`.

    Takes what RewardTrainer takes; logs what SymPOTrainer logs, with the margin of the rewards.
    Source: Section 3. Check: tests/test_trainer.py.
    """

    _tag_names = ("trl", "sympo", "reward-trainer")

    def __init__(self, model, args: SymmetricRewardConfig | None = None, *rest, **kwargs):
        args = SymmetricRewardConfig() if args is None else args
        if not isinstance(args, SymmetricRewardConfig):
            raise TypeError(
                f"args is a {type(args).__name__}: SymmetricRewardTrainer takes a SymmetricRewardConfig"
            )
        super().__init__(model, args, *rest, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """TRL's forward pass and metrics, and the mean of our loss over the pairs."""
        inputs = dict(inputs)
        flipped = inputs.pop(FLIP_COLUMN, None)
        _, outputs = super().compute_loss(model, inputs, return_outputs=True)
        rewards = outputs.logits.reshape(2, -1)
        self._measure(rewards[0] - rewards[1], flipped)
        chosen, rejected = self._clip(rewards)
        loss = (
            losses.get(self.args.loss_type).fn(chosen - rejected - inputs.get("margin", 0)).mean()
        )
        if (weight := self.args.center_rewards_coefficient) is not None:
            loss = loss + weight * rewards.sum(dim=0).square().mean()
        return (loss, outputs) if return_outputs else loss
