"""Drop-ins for TRL: `SymPOTrainer` for DPOTrainer and `SymmetricRewardTrainer` for RewardTrainer.

A TRL user changes the two classes, trainer and config, and sets `loss_type`. Everything else, from
PEFT to checkpoints, stays TRL's: it makes the forward pass and its own metrics, and only the loss
of the margin is ours. Names that TRL knows run TRL's code: its `hinge` and `ipo` are exactly the
losses meant here, so neither has a second copy. Its `sigmoid` is the logistic loss, our `dpo`; the
symmetric sigmoid is `sympo_sigmoid`.

Where things are: `config` what can be set, and what is refused; `shared` flips, metrics and
divergence; `objective` what is minimised; `posterior` which labels are probably wrong; `dpo` and
`reward` the two trainers; `card` what a model card says; `contract` what is asked of TRL.
"""

from sympo.trainer.config import (
    CONSTANTS,
    SYMPO_CLIP,
    TRL_LOSSES,
    SymmetricRewardConfig,
    SymPOConfig,
    loss_types,
    own_losses,
    reward_loss_types,
)
from sympo.trainer.dpo import REFERENCE_COLUMNS, SymPOTrainer
from sympo.trainer.reward import SymmetricRewardTrainer
from sympo.trainer.shared import FLIP_COLUMN, WEIGHT_COLUMN, DivergedError, FlipCollator

__all__ = [
    "CONSTANTS",
    "FLIP_COLUMN",
    "REFERENCE_COLUMNS",
    "SYMPO_CLIP",
    "TRL_LOSSES",
    "WEIGHT_COLUMN",
    "DivergedError",
    "FlipCollator",
    "SymPOConfig",
    "SymPOTrainer",
    "SymmetricRewardConfig",
    "SymmetricRewardTrainer",
    "loss_types",
    "own_losses",
    "reward_loss_types",
]
