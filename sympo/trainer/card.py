"""What a model card says of the method: the loss that was used, and whose it is."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from trl import DPOTrainer, RewardTrainer

from sympo.losses import LOSSES, PAIR_LOSSES, PairLoss
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


def _is_sympo(loss: PairLoss) -> bool:
    """Whether a loss is one of SymPO's, by its name there or as the margin loss that it is made of.

    Hölder's is both, under two names; by the second one its own method is meant.
    """
    margin_loss = loss.symmetric and loss.name in LOSSES and loss.name not in PAIR_LOSSES
    return margin_loss or loss.name.startswith("sympo_")


def _find_paper(loss: PairLoss) -> dict[str, str]:
    if _is_sympo(loss):
        return SYMPO_PAPER
    # The registry names the paper in words, such as "Rafailov et al. 2023 (arXiv 2305.18290)".
    number = re.search(r"\(arXiv ([\d.]+)\)", loss.source)
    if number is None:
        return {}
    # TRL cites DPO in full.
    dpo: dict[str, str] = DPOTrainer._paper
    return (
        dpo
        if number[1] == dpo["id"]
        else {"title": loss.source[: number.start()].strip(), "id": number[1]}
    )


def describe_policy(args: SymPOConfig, own: Sequence[PairLoss]) -> Card:
    """The card of a policy: a baseline has its own name and paper, and is not called SymPO.

    Args:
        own: our losses; none where TRL's run alone. All are named, and the paper is SymPO's where
            one of them is, and the first one's elsewhere.
    """
    tags = list(DPOTrainer._tag_names)
    used = _describe_settings(args, ", ".join(args.loss_type))
    if args.loss_weights is not None:
        used = f"{used}, loss_weights {', '.join(f'{weight:g}' for weight in args.loss_weights)}"
    if args.length_normalized:
        used = f"{used}, length_normalized"
    if not own:
        return Card(f"DPO ({used})", DPOTrainer._paper, tags)
    labels = dict.fromkeys("SymPO" if _is_sympo(loss) else loss.label for loss in own)
    name = f"{' and '.join(labels)} ({used})"
    if any(map(_is_sympo, own)):
        return Card(name, SYMPO_PAPER, [*tags, "sympo"])
    return Card(name, _find_paper(own[0]), tags)


def describe_reward_model(args: SymmetricRewardConfig, loss: PairLoss) -> Card:
    """The card of a reward model; with a loss that is not symmetric it is no method of SymPO's."""
    tags = list(RewardTrainer._tag_names)
    used = _describe_settings(args, args.loss_type)
    if loss.symmetric:
        name = f"symmetric reward modelling ({used})"
        return Card(name, SYMPO_PAPER, [*tags, "sympo"])
    return Card(f"Reward ({used})", RewardTrainer._paper, tags)
