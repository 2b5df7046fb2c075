"""What a model card says of the method: the loss that was used, and whose it is."""

import re
from typing import NamedTuple

from trl import DPOTrainer, RewardTrainer

from sympo.losses import PairLoss
from sympo.trainer.config import CONSTANTS, SymmetricRewardConfig, SymPOConfig

SYMPO_PAPER = {
    "title": "On Symmetric Losses for Robust Policy Optimization with Noisy Preferences",
    "id": "2505.24709",
    "citation": """\
@article{nishimori2025symmetric,
  title         = {{On Symmetric Losses for Robust Policy Optimization with Noisy Preferences}},
  author        = {Nishimori, Soichiro and Zhang, Yu-Jie and Lodkaew, Thanawat and
                   Sugiyama, Masashi},
  journal       = {arXiv preprint arXiv:2505.24709},
  eprint        = {2505.24709},
  archiveprefix = {arXiv},
  year          = {2025}
}""",
}


class Card(NamedTuple):
    """The name of a method, its paper (title, id, citation; empty if there is none), and tags."""

    name: str
    paper: dict[str, str]
    tags: list[str]


def _describe_settings(args: SymPOConfig | SymmetricRewardConfig, names: str) -> str:
    """The losses, and the numbers that were set for them."""
    settings = {name: getattr(args, name) for name in ("noise_rate", *CONSTANTS)}
    numbers = [f"{name} {value:g}" for name, value in settings.items() if value is not None]
    return ", ".join([f"loss_type {names}", *numbers])


def describe_policy(args: SymPOConfig, loss: PairLoss | None) -> Card:
    """The card of a policy: a baseline has its own name and paper, and is not called SymPO.

    Args:
        loss: the first of our losses, None where TRL's run alone.
    """
    tags = list(DPOTrainer._tag_names)
    used = _describe_settings(args, ", ".join(args.loss_type))
    if args.loss_weights is not None:
        used = f"{used}, loss_weights {', '.join(f'{weight:g}' for weight in args.loss_weights)}"
    if args.length_normalized:
        used = f"{used}, length_normalized"
    if loss is None:
        return Card(f"DPO ({used})", DPOTrainer._paper, tags)
    if loss.name.startswith("sympo_"):
        return Card(f"SymPO ({used})", SYMPO_PAPER, [*tags, "sympo"])
    # The registry names the paper in words, such as "Rafailov et al. 2023 (arXiv 2305.18290)".
    number = re.search(r"\(arXiv ([\d.]+)\)", loss.source)
    paper = {"title": loss.source[: number.start()].strip(), "id": number[1]} if number else {}
    return Card(f"{loss.label} ({used})", paper, tags)


def describe_reward_model(args: SymmetricRewardConfig, loss: PairLoss) -> Card:
    """The card of a reward model; with a loss that is not symmetric it is no method of SymPO's."""
    tags = list(RewardTrainer._tag_names)
    used = _describe_settings(args, args.loss_type)
    if loss.symmetric:
        name = f"symmetric reward modelling ({used})"
        return Card(name, SYMPO_PAPER, [*tags, "sympo"])
    return Card(f"Reward ({used})", RewardTrainer._paper, tags)
