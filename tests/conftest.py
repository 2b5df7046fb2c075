"""What several test files share: the clone, a copy of the package, and stand-ins for real data.

Fixtures whose names are verbs give functions, so that a test (or a fixture of any scope) says how
much it needs.
"""

import gc
import gzip
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from loopback import KEY, Endpoint

if TYPE_CHECKING:
    from sympo.studies import sources

# A GPU machine without a network runs its tests where hypothesis may be missing.
with suppress(ModuleNotFoundError):
    from hypothesis import settings

    # A busy machine is slow, and not wrong.
    settings.register_profile("any machine", deadline=None)
    settings.load_profile("any machine")

REPOSITORY = Path(__file__).resolve().parents[1]

HH_FILES = (
    "helpful-online/test",
    "helpful-rejection-sampled/test",
    "helpful-base/test",
    "harmless-base/test",
)
ULTRAFEEDBACK_FILES = ("train_clean", "eval_clean")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The clone that these tests belong to, found without the package's help."""
    return REPOSITORY


@pytest.fixture(scope="session")
def copy_package(repository: Path) -> Callable[[Path], Path]:
    """`copy_package(folder)` puts the package into a folder, which then is a repository's root."""

    def copy(folder: Path) -> Path:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / "sympo", folder / "sympo", ignore=ignore, dirs_exist_ok=True)
        return folder

    return copy


@pytest.fixture
def in_double() -> Iterator[None]:
    """Tensors are float64 unless they say otherwise: for comparisons that rounding would blur."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def frozen_modules() -> Iterator[None]:
    """Keep what is imported out of garbage collection.

    TRL ends each training with a full collection, which walks every imported module: half of the
    time of a test that trains for a few steps.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def random_mnist() -> Callable[..., "sources.MNIST"]:
    """`random_mnist(train, test)` is MNIST in miniature: noise for images, random digits."""
    # Here and not above: the library's tests must run where the studies' packages are missing.
    from sympo.studies import sources

    def draw(train: int, test: int, *, seed: int = 0) -> sources.MNIST:
        generator = np.random.default_rng(seed)
        images = generator.integers(0, 256, (train + test, 28, 28)).astype(np.uint8)
        labels = generator.integers(0, 10, train + test).astype(np.uint8)
        parts = (images[:train], labels[:train], images[train:], labels[train:])
        return sources.MNIST(*parts, "made up", "none")

    return draw


@pytest.fixture(scope="session")
def write_preferences() -> Callable[[Path], Path]:
    """`write_preferences(folder)` fills a folder for SYMPO_DATA with short comparisons.

    The files are those that hh and ultrafeedback read in the small profiles: 70 rows each, and
    five prompts of each HH file are also in the next one.
    """

    def write(folder: Path) -> Path:
        for number, name in enumerate(HH_FILES):
            write_hh(folder / "hh" / f"{name}.jsonl.gz", first=65 * number)
        for number, name in enumerate(ULTRAFEEDBACK_FILES):
            write_ultrafeedback(folder / "ultrafeedback" / f"{name}.jsonl", first=70 * number)
        return folder

    return write


def write_hh(path: Path, *, first: int) -> None:
    """70 short dialogues, every other one with a turn before; the last has equal answers."""
    rows = []
    for i in range(first, first + 70):
        before = f"\n\nHuman: is {i} big?\n\nAssistant: say more" if i % 2 else ""
        prompt = f"{before}\n\nHuman: and {i}, or bread?\n\nAssistant:"
        rejected = "" if i % 3 else "no no no"
        rows.append({"chosen": f"{prompt} yes, {i}", "rejected": f"{prompt} no {rejected}"})
    rows[-1]["rejected"] = rows[-1]["chosen"]
    path.parent.mkdir(parents=True)
    # Without a time in the header, so that the file's sha256 is the same in every run.
    path.write_bytes(gzip.compress(to_jsonl(rows).encode(), mtime=0))


def write_ultrafeedback(path: Path, *, first: int) -> None:
    """70 questions; every tenth pair ties on score."""
    rows = []
    for i in range(first, first + 70):
        scores = {"score_chosen": 8.0, "score_rejected": 8.0 if i % 10 == 0 else 5.0}
        row = {
            "prompt": f"Is {i} big, as owls go?",
            "chosen": f"yes, {i}",
            "rejected": "no" * (i % 3 + 1),
            "metadata": scores,
        }
        rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_jsonl(rows))


def to_jsonl(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def endpoint(monkeypatch) -> Iterator[Callable[..., Endpoint]]:
    """Starts endpoints, points the environment at the latest, and stops them all."""
    pytest.importorskip("openai", reason="the extra 'judge' is not installed")
    servers = []

    def start(behave: Callable[[str, int], object]) -> Endpoint:
        server = Endpoint(behave)
        servers.append(server)
        serve = {"target": server.serve_forever, "kwargs": {"poll_interval": 0.01}}
        threading.Thread(**serve, daemon=True).start()
        monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        # A proxy that the environment names would be asked for the loopback address.
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
