"""SymPO: symmetric losses for preference data with noisy labels (arXiv 2505.24709).

Three parts. The library, for anyone with preferences: `losses`, `noise`, `preferences`, `trainer`,
`judge`, `rating`, `audit`, `stats`. The studies of the paper, `sympo.studies`, and what makes
figures, tables and notebooks of them, `sympo.book`; both need the extra `paper` and a clone of the
repository. Imports go one way: book → studies → library.

Modules load on first use, so that `import sympo` costs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# What `__getattr__` gives at run time, said to type checkers.
if TYPE_CHECKING:
    from sympo import audit, judge, losses, noise, preferences, rating, stats, trainer
    from sympo.trainer import (
        SymmetricRewardConfig,
        SymmetricRewardTrainer,
        SymPOConfig,
        SymPOTrainer,
    )

__version__ = "0.1.0"

__all__ = [
    "SymPOConfig",
    "SymPOTrainer",
    "SymmetricRewardConfig",
    "SymmetricRewardTrainer",
    "audit",
    "judge",
    "losses",
    "noise",
    "preferences",
    "rating",
    "stats",
    "trainer",
]


def __getattr__(name: str) -> Any:
    """A module of the library or a class of its trainer, imported on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'sympo' has no attribute '{name}'")
    # Modules are in lower case; every class here is the trainer's.
    if name[0].islower():
        return import_module(f"sympo.{name}")
    return getattr(import_module("sympo.trainer"), name)


def __dir__() -> list[str]:
    """The names that are there, and those that are imported on first use."""
    return sorted({*globals(), *__all__})
