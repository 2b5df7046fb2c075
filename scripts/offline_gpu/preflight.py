"""Before any job, in half a minute: the versions, and whether all that studies import is here.

Exit code 1 where an import fails, 0 otherwise.
"""

import importlib
import sys
import time
from importlib.metadata import PackageNotFoundError, version

DISTRIBUTIONS = (
    *("torch", "triton", "numpy", "numba", "pandas", "pyarrow", "scipy", "statsmodels"),
    *("transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors"),
    *("huggingface-hub", "gguf", "vaderSentiment", "pydantic", "pyyaml", "tqdm", "psutil"),
    *("matplotlib", "sympy", "pytest", "hypothesis"),
)
MODULES = (
    "sympo",
    "sympo.trainer",
    "sympo.studies.mnist",
    "sympo.studies.alignment.gold",
    "sympo.studies.alignment.offline",
    "sympo.studies.queue",
    "sympo.book.bench",
    "gguf",
    "vaderSentiment.vaderSentiment",
)


def describe(distribution: str) -> str:
    """The name and version of a distribution, or that it is missing."""
    try:
        return f"{distribution} {version(distribution)}"
    except PackageNotFoundError:
        return f"{distribution} MISSING"


def describe_cuda() -> str:
    """Python, CUDA and the device."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no device"
    return f"python {sys.version.split()[0]}; CUDA {torch.version.cuda}; {device}"


def try_import(name: str) -> bool:
    """Import a module, and print how long it took or why it failed."""
    start = time.perf_counter()
    try:
        importlib.import_module(name)
    # A broken package may fail with any error, and the next one is still worth a try.
    except Exception as error:
        print(f"{name}: {type(error).__name__}: {error}")
        return False
    print(f"{name}: {time.perf_counter() - start:.1f} s")
    return True


def main() -> int:
    """Print it all; 1 where a module cannot be imported."""
    print("; ".join(describe(distribution) for distribution in DISTRIBUTIONS))
    print(describe_cuda())
    imported = [try_import(name) for name in MODULES]
    return 0 if all(imported) else 1


if __name__ == "__main__":
    sys.exit(main())
