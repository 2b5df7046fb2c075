"""SymPO: symmetric losses for preference data with noisy labels (arXiv 2505.24709).

The package is thin: `losses`, `noise`, `stats` and `assets` at the bottom, the studies above them, `paper` on top.
Submodules load on first use, so that `import sympo` costs no torch.
"""

from importlib import import_module
from importlib.metadata import version

__version__ = version("sympo")

_SUBMODULES = ("assets", "config", "losses", "mnist", "noise", "paper", "plots", "stats", "store", "theory")


def __getattr__(name: str):
    if name in _SUBMODULES:
        return import_module(f"sympo.{name}")
    raise AttributeError(f"module 'sympo' has no attribute '{name}'")


def __dir__():
    return sorted([*globals(), *_SUBMODULES])
