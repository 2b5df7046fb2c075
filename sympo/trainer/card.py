"""What a model card says of the method: the loss that was used, and whose it is."""

import re
from typing import NamedTuple

from trl import DPOTrainer, RewardTrainer

from sympo import losses
from sympo.trainer.config import SymmetricRewardConfig, SymPOConfig, own_losses

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


def describe_policy(args: SymPOConfig) -> Card:
    """The card of a policy: a baseline has its own name and paper, and is not called SymPO."""
    tags = list(DPOTrainer._tag_names)
    used = f"loss_type {', '.join(args.loss_type)}"
    if args.noise_rate is not None:
        used = f"{used}, noise_rate {args.noise_rate:g}"
    loss = own_losses().get(args.loss_type[0])
    if loss is None:
        return Card(f"DPO ({used})", DPOTrainer._paper, tags)
    if loss.name.startswith("sympo_"):
        return Card(f"SymPO ({used})", SYMPO_PAPER, [*tags, "sympo"])
    # The registry names the paper in words, such as "Rafailov et al. 2023 (arXiv 2305.18290)".
    number = re.search(r"\(arXiv ([\d.]+)\)", loss.source)
    paper = {"title": loss.source[: number.start()].strip(), "id": number[1]} if number else {}
    return Card(f"{loss.label} ({used})", paper, tags)


def describe_reward_model(args: SymmetricRewardConfig) -> Card:
    """The card of a reward model; with a loss that is not symmetric it is no method of SymPO's."""
    tags = list(RewardTrainer._tag_names)
    used = f"loss_type {args.loss_type}"
    if losses.get(args.loss_type).symmetric:
        name = f"symmetric reward modelling ({used})"
        return Card(name, SYMPO_PAPER, [*tags, "sympo"])
    return Card(f"Reward ({used})", RewardTrainer._paper, tags)
