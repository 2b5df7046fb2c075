"""SymPO: symmetric losses for preference data with noisy labels (arXiv 2505.24709).

The package is thin: `losses`, `noise`, `stats` and `assets` at the bottom, the studies above them, `paper` on top.
Submodules load on first use, so that `import sympo` costs no torch.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("sympo")

_SUBMODULES = ("align", "assets", "bench", "claims", "config", "gold", "judge", "kernels", "losses", "mnist", "models")
_SUBMODULES += ("noise", "offline", "paper", "plots", "preferences", "stats", "store", "theory", "trainer")
_CLASSES = ("SymPOConfig", "SymPOTrainer", "SymmetricRewardConfig", "SymmetricRewardTrainer")


def __getattr__(name: str):
    if name in _SUBMODULES:
        return import_module(f"sympo.{name}")
    if name in _CLASSES:
        return getattr(import_module("sympo.trainer"), name)
    raise AttributeError(f"module 'sympo' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *_SUBMODULES, *_CLASSES])
