"""Every reader of what comes from outside, given what it was not made for.

`fuzz` runs each reader on generated inputs, and lists what it raised beside what its docstring
documents. `bad_inputs` are inputs that are wrong in a known way, through the entry points that
people use: each must end in one sentence and leave its files as they were.
"""

import asyncio
import gzip
import io
import json
import os
import random
import reprlib
import sys
import tempfile
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pyarrow
import pyarrow.parquet
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from sympo._settings import parse_setting
from sympo.judge import KeptReplies, parse_verdict, read_replies
from sympo.preferences import (
    parse_dialogue,
    parse_prompt,
    parse_rows,
    read_flip,
    read_pairs,
    split_dialogues,
)
from sympo.rating import (
    Items,
    RatingFile,
    pair_answers,
    read_rated_rows,
    read_ratings,
    read_sheet,
    write_sheet,
)

__all__ = ["READERS", "BadInput", "Reader", "Tally", "bad_inputs", "check", "fuzz"]


class Reader(NamedTuple):
    """A reader of what comes from outside.

    Attributes:
        strategy: of its inputs.
        read: reads one of them.
        documented: what its docstring says that it raises.
    """

    name: str
    strategy: st.SearchStrategy[Any]
    read: Callable[[Any], object]
    documented: tuple[type[BaseException], ...]


class Tally(NamedTuple):
    """How many inputs a reader was given, and each kind of error that is documented nowhere."""

    name: str
    tried: int
    undocumented: list[str]


_LONGEST = 1000  # ours: characters of a message that a person still reads
_CUT = reprlib.Repr()  # its arguments are of Python 3.12
_CUT.maxstring = _CUT.maxother = 300

# Inputs

# What has ended a reader somewhere: half a character, brackets in brackets, openings, long numbers.
_TEXTS = (
    "",
    " ",
    "\x00",
    "\ud800",
    "\ufeff",
    "\u202e",
    "a\nb",
    "a\r\nb",
    "NaN",
    "1e999",
    "9" * 5000,
    "(" * 3000,
    "[" * 3000,
    "{'a':" * 1000,
    "-" * 3000 + "1",
    "\n\nHuman:",
    "\n\nHuman:\n\nAssistant:",
    "\n\nAssistant:" * 200,
    "<|im_start|>user\n" * 200,
    "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n",
    "</think>" * 50,
    "'" * 200,
    "<script>alert(1)</script>",
    "=1+1",
    "__import__('os')",
    "!!python/object:os.system",
    "&a [*a]",
)
_PIECES = (
    *(text.encode("utf-8", "surrogatepass") for text in _TEXTS),
    b"\xff\xfe",
    b"\n",
    b"\r\n",
    b'"',
    b"}",
    b"]",
    b",",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"[]",
    b"{}",
)

# Half a character is text, too: JSON can write it.
_texts = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(_TEXTS)
_keys = st.integers(0, 2**32)
_NUMBERS = (0, 1, -1, 2, 0.5, 1e308, -0.0, float("nan"), float("inf"), 2**63, 10**400)


def _draw_value(draw: random.Random, depth: int = 0) -> Any:
    """What JSON can hold, of any kind."""
    # By itself: a recursive strategy takes ten times as long.
    match draw.randrange(8 if depth < 3 else 5):
        case 0:
            return draw.choice([None, True, False])
        case 1 | 2:
            return draw.choice(_NUMBERS)
        case 3:
            return "".join(chr(draw.randrange(0x11000)) for _ in range(draw.randrange(4)))
        case 4:
            return draw.choice(_TEXTS)
        case 5:
            return [_draw_value(draw, depth + 1) for _ in range(draw.randrange(4))]
        case _:
            names = (
                draw.choice(("role", "content", *_TEXTS[:4])) for _ in range(draw.randrange(4))
            )
            return {name: _draw_value(draw, depth + 1) for name in names}


_values = _keys.map(lambda key: _draw_value(random.Random(key)))


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


_ROWS: tuple[dict[str, Any], ...] = (
    {"chosen": "\n\nHuman: q\n\nAssistant: yes", "rejected": "\n\nHuman: q\n\nAssistant: no"},
    {"prompt": "q", "chosen": "yes", "rejected": "no", "is_flipped": False},
    {"prompt": "q", "chosen": "yes", "rejected": "no", "score_chosen": 2, "score_rejected": 1.5},
    {
        "prompt": [_message("user", "q")],
        "chosen": [_message("assistant", "yes")],
        "rejected": [_message("assistant", "no")],
    },
    {
        "prompt": "q",
        "chosen": [_message("user", "q"), _message("assistant", "yes")],
        "rejected": [_message("user", "q"), _message("assistant", "no")],
        "metadata": {"score_chosen": 2.0, "score_rejected": 1.0},
    },
    {
        "prompt": "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nq<|im_end|>\n"
        "<|im_start|>assistant\n",
        "chosen": "yes",
        "rejected": "no",
    },
)
_NAMES = (
    "prompt",
    "chosen",
    "rejected",
    "is_flipped",
    "score_chosen",
    "score_rejected",
    "metadata",
)


def _mutate(content: bytes, key: int) -> bytes:
    """`content` with one to four faults: bytes cut off, turned, left out, doubled, or put in."""
    draw = random.Random(key)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(content) + 1)
        to = min(len(content), at + draw.randrange(40))
        match draw.randrange(5):
            case 0:
                content = content[:at]
            case 1:
                content = content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]
            case 2:
                content = content[:at] + content[to:]
            case 3:
                content = content[:to] + content[at:]
            case _:
                content = content[:at] + draw.choice(_PIECES) + content[at:]
    return content


def _mutated(*valid: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes, and more often what is nearly one of `valid`."""
    nearly = st.builds(_mutate, st.sampled_from(valid), _keys)
    return nearly | nearly | st.binary(max_size=60)


def _replace(valid: Mapping[str, Any], names: tuple[str, ...], key: int) -> dict[str, Any]:
    """`valid` with some of its fields left out or of other values."""
    draw = random.Random(key)
    row = dict(valid)
    for _ in range(draw.randrange(4)):
        row[draw.choice(names or tuple(valid))] = _draw_value(draw)
    if draw.randrange(3) == 0:
        row.pop(draw.choice(tuple(valid)), None)
    return row


def _replaced(
    valid: Mapping[str, Any], names: tuple[str, ...] = ()
) -> st.SearchStrategy[dict[str, Any]]:
    return _keys.map(lambda key: _replace(valid, names, key))


def _draw_rows(key: int) -> list[Any]:
    draw = random.Random(key)
    return [
        _replace(draw.choice(_ROWS), _NAMES, draw.getrandbits(32))
        if draw.randrange(4)
        else _draw_value(draw)
        for _ in range(draw.randrange(5))
    ]


_rows = _keys.map(_draw_rows)


def _dump(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


_lines = _rows.map(lambda rows: _dump(*rows))


def _to_parquet(table: pyarrow.Table) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


@cache
def _valid_parquet() -> bytes:
    return _to_parquet(pyarrow.Table.from_pylist([_ROWS[1], _ROWS[2]]))


# One type each for the columns of texts: those that other tools write, and those that hold no text.
_COLUMN_TYPES = (
    pyarrow.string(),
    pyarrow.large_string(),
    pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    pyarrow.binary(),
    pyarrow.list_(pyarrow.string()),
    pyarrow.list_(pyarrow.struct([("role", pyarrow.string())])),
    pyarrow.large_list(pyarrow.struct([("content", pyarrow.string()), ("role", pyarrow.string())])),
    pyarrow.float32(),
    pyarrow.bool_(),
    pyarrow.timestamp("ns"),
    pyarrow.decimal128(25, 2),
    pyarrow.map_(pyarrow.string(), pyarrow.string()),
    pyarrow.null(),
)


def _make_column(kind: pyarrow.DataType, key: int) -> pyarrow.Array:
    """Three values of a type, the second of them null."""
    draw = random.Random(key)
    if pyarrow.types.is_dictionary(kind):
        return _make_column(pyarrow.string(), key).dictionary_encode()
    if pyarrow.types.is_map(kind):
        return pyarrow.array([[("a", "b")], None, []], kind)
    if pyarrow.types.is_list(kind) or pyarrow.types.is_large_list(kind):
        struct = pyarrow.types.is_struct(kind.value_type)
        one = {"role": "assistant", "content": "yes"} if struct else "yes"
        return pyarrow.array([[one], None, [one, None]], kind)
    if pyarrow.types.is_binary(kind):
        return pyarrow.array([b"\xff", None, b"yes"], kind)
    if pyarrow.types.is_null(kind):
        return pyarrow.nulls(3)
    if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        choices = [text for text in _TEXTS if text.isascii()]
        return pyarrow.array([draw.choice(choices), None, draw.choice(choices)], kind)
    return pyarrow.array([draw.randrange(2), None, draw.randrange(2)]).cast(kind)


_parquet = st.builds(
    lambda kinds, key: _to_parquet(
        pyarrow.table({name: _make_column(kind, key + i) for i, (name, kind) in enumerate(kinds)})
    ),
    st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(_COLUMN_TYPES), max_size=4).map(
        lambda kinds: list(kinds.items())
    ),
    _keys,
)


# Readers


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """The folder of this process, deleted when Python ends."""
    return tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True)


def _put(name: str, content: bytes) -> Path:
    path = Path(_folder().name) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _read_pairs(name: str) -> Callable[[bytes], None]:
    def read(content: bytes) -> None:
        dataset, report = read_pairs(_put(name, content))
        counted = report.kept + report.malformed.total() + report.no_preference.total()
        # Every row is kept or counted.
        assert counted == report.rows, str(report)
        assert len(dataset) == report.kept, str(report)
        dataset.to_list()

    return read


def _read_rows(rows: list[Any]) -> None:
    pairs = parse_rows(rows)
    assert pairs.report.rows == len(rows)
    pairs.dataset.to_list()


@cache
def _items() -> Items:
    texts = [f"text {i}" for i in range(3)]
    return pair_answers(texts, texts, texts[::-1], sources=("chosen", "rejected"), seed=0)


@cache
def _valid_ratings() -> bytes:
    path = _put("valid.ratings", b"")
    file = RatingFile(path, _items())
    for item in _items():
        file.add(item.key, "first", rater="ann")
    file.undo(rater="ann")
    return path.read_bytes()


@cache
def _valid_sheet() -> bytes:
    path = Path(_folder().name) / "valid.csv"
    path.unlink(missing_ok=True)
    write_sheet(_items(), path)
    lines = path.read_bytes().split(b"\r\n")
    return b"\r\n".join([lines[0], *(line + b"1" for line in lines[1:-1]), b""])


def _read_ratings(content: bytes) -> None:
    path = _put("some.ratings", content)
    for read in (
        lambda: read_ratings(path, _items()),
        lambda: read_rated_rows(path, parse_rows(_ROWS).dataset),
        lambda: RatingFile(path, _items()),
    ):
        try:
            read()
        except ValueError:
            assert path.read_bytes() == content
            raise


def _read_sheet(content: bytes) -> None:
    str(read_sheet(_put("some.csv", content), _items(), rater="ann"))


_REPLIES = (
    b'{"judge": {"model": "m"}}\n{"key": "0", "score": 0.5, "reason": ""}\n'
    b'{"key": "1", "score": null, "reason": "empty reply"}\n'
)


def _read_replies(content: bytes) -> None:
    path = _put("replies.jsonl", content)
    read_replies(path)
    try:
        with KeptReplies(path, {"model": "m"}) as kept:
            kept.list_replies()
    except ValueError:
        assert path.read_bytes() == content
        raise


_COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": _message("assistant", "Verdict: A")}
    ],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
_completions = st.one_of(
    _replaced(_COMPLETION).map(_dump),
    _replaced({"role": "assistant", "content": "A"}).map(
        lambda message: _dump({**_COMPLETION, "choices": [{"index": 0, "message": message}]})
    ),
    _texts.map(
        lambda text: _dump({**_COMPLETION, "choices": [{"message": _message("assistant", text)}]})
    ),
    _mutated(_dump(_COMPLETION)),
)


def _read_completion(sent: tuple[int, bytes]) -> None:
    import openai

    from sympo.judge import client

    status, content = sent
    http = sys.modules[openai.DefaultAsyncHttpxClient.__base__.__module__.partition(".")[0]]
    transport = http.MockTransport(
        lambda _: http.Response(
            status, content=content, headers={"content-type": "application/json"}
        )
    )

    async def ask() -> None:
        connection = openai.AsyncOpenAI(
            api_key="key",
            base_url="http://127.0.0.1/v1",
            max_retries=0,
            http_client=http.AsyncClient(transport=transport),
        )
        async with connection:
            said = await client.ask(connection, "question", model="m", options={})
        assert said.reply.score in (None, 0, 0.5, 1)

    asyncio.run(ask())


@contextmanager
def _clone() -> Iterator[Path]:
    """A folder that the studies take for the repository, with one small profile."""
    from sympo.studies import profiles

    root = Path(_folder().name) / "clone"
    with (
        mock.patch.object(profiles, "root", return_value=root),
        mock.patch.object(profiles, "_EXERCISES", set()),
    ):
        yield root


_PROFILE = b"""# seconds
minutes:
  05_mnist_losses: 0.4

mnist_losses:
  losses: [logistic, ramp]
  noise_rates: [0.0, 0.4]
  seeds: 3
  epochs: 2
  eval_every: 1
  pairs: 1000
"""


def _read_profile(content: bytes) -> None:
    from sympo.studies import profiles

    with _clone():
        _put("clone/notebooks/profiles/smoke.yaml", content)
        profiles.study_config("mnist_losses", "smoke")


def _read_overrides(overrides: dict[str, Any]) -> None:
    from sympo.studies import profiles

    with _clone():
        _put("clone/notebooks/profiles/smoke.yaml", _PROFILE)
        profiles.study_config("mnist_losses", "smoke", **overrides)


def _record(**other: Any) -> dict[str, Any]:
    from sympo.studies import records

    config = {"study": "s", "method": "m", "noise": "n", "seed": 0}
    record = {"config": config, "version": 1, "metrics": {"a": 1.0}, "history": []}
    record |= {"provenance": {}, **other}
    # what is wrong with it is not that it was changed
    return {"sha256": records.hash_content(record), **record}


def _read_record(content: bytes) -> None:
    from sympo.studies import records

    run = records.Run(study="s", method="m", noise="n", seed=0)
    name = records.file_name(run.config(), 1)
    path = _put(f"records/{name}", content)
    list(records.read_folder(path.parent))
    records.load(run, folder=path.parent, version=1)


def _bundle(record: object, manifest: Mapping[str, Any]) -> bytes:
    """A bundle of one record, whose manifest has other fields."""
    from sympo.studies import records

    content = json.dumps(record).encode()
    name = records.file_name(_record()["config"], 1)
    hashes = {name: sha256(content).hexdigest()}
    told = {"format": 1, "profile": "smoke", "sha256": hashes, **manifest}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        bundle.writestr("manifest.json", json.dumps(told))
        bundle.writestr(name, content)
    return buffer.getvalue()


_MANIFESTS = st.dictionaries(st.sampled_from(["format", "profile", "sha256"]), _values, max_size=1)
_bundles = st.builds(_bundle, _replaced(_record()) | _values, _MANIFESTS) | st.builds(
    lambda key: _mutate(_bundle(_record(), {}), key), _keys
)


def _import_records(content: bytes) -> None:
    from sympo.studies import bundle

    with _clone():
        bundle.import_records("smoke", _put("some.zip", content))


_CONFIG_FIELDS = (
    "loss_type",
    "loss_weights",
    "noise_rate",
    "reward_clip",
    "length_normalized",
    "stop_on_divergence",
    "beta",
    "ropo_alpha",
    "drdpo_beta",
    "holder_gamma",
    "repo_start",
)


def _make_config(fields: dict[str, Any]) -> None:
    from sympo.trainer import SymPOConfig

    config = SymPOConfig(output_dir=_folder().name, use_cpu=True, bf16=False, **fields)
    config.resolve_terms()


_losses = st.sampled_from(["sympo_sigmoid", "cdpo", "ropo", "drdpo", "sympo_holder", "repo", "ipo"])
_config_fields = st.builds(
    lambda fields, loss: {**({} if loss is None else {"loss_type": loss}), **fields},
    st.dictionaries(st.sampled_from(_CONFIG_FIELDS), _values, max_size=2),
    st.none() | _losses | st.lists(_losses, max_size=2),
)


def _read_words(content: bytes) -> None:
    from sympo.audit import command

    command._read_words(_put("words.txt", content))


def _audit(rows: list[Any]) -> None:
    from sympo.audit import audit

    found = audit(parse_rows(rows))
    text, page = found.text(), found.html()
    # Nothing that a terminal obeys, and nothing that a page runs.
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "<script" not in page
    text.encode()
    page.encode()


_dialogues = (
    st.lists(
        st.sampled_from(["\n\nHuman:", "\n\nAssistant:", " q", "\n\n", "a"]) | _texts, max_size=8
    ).map("".join)
    | _texts
)
_prompts = (
    st.lists(
        st.sampled_from(["<|im_start|>", "user\n", "assistant\n", "<|im_end|>\n", "q"]) | _texts,
        max_size=8,
    ).map("".join)
    | _texts
)
_literals = st.lists(
    st.sampled_from(["x", "=", "(", "[", "{", "'", '"', "1", "e9", ",", ":", "-", "lambda", "\\"])
    | _texts,
    max_size=6,
).map(lambda parts: "x=" + "".join(parts))
_verdicts = st.lists(
    st.sampled_from(["Verdict:", " ", "A", "b", "tie", "answer_", "</think>", "*", "\n"]) | _texts,
    max_size=5,
).map("".join)
_headers = st.builds(
    lambda other: _dump({**json.loads(_valid_ratings().split(b"\n")[0]), **other}),
    st.dictionaries(
        st.sampled_from(["sympo_ratings", "items", "seed", "count", "simulated"]),
        _values,
        max_size=2,
    ),
)

READERS = (
    Reader(
        "pairs of a .jsonl", _lines | _mutated(_dump(*_ROWS)), _read_pairs("a.jsonl"), (ValueError,)
    ),
    Reader(
        "pairs of a .jsonl.gz",
        _lines.map(lambda lines: gzip.compress(lines, 1)) | _mutated(gzip.compress(_dump(*_ROWS))),
        _read_pairs("a.jsonl.gz"),
        (ValueError,),
    ),
    Reader(
        "pairs of a .parquet",
        _parquet | st.deferred(lambda: _mutated(_valid_parquet())),
        _read_pairs("a.parquet"),
        (ValueError,),
    ),
    Reader("rows", _rows, _read_rows, ()),
    Reader("a dialogue", _dialogues, parse_dialogue, ()),
    Reader(
        "two dialogues",
        st.tuples(_dialogues, _dialogues, _dialogues),
        lambda texts: split_dialogues(texts[0] + texts[1], texts[0] + texts[2]),
        (ValueError,),
    ),
    Reader("a prompt", _prompts, parse_prompt, (ValueError,)),
    Reader("a flip", _values, read_flip, (ValueError,)),
    Reader("a setting", _texts | _literals, parse_setting, (ValueError,)),
    Reader(
        "a ratings file",
        _headers | st.deferred(lambda: _mutated(_valid_ratings())),
        _read_ratings,
        (ValueError,),
    ),
    Reader("a sheet", st.deferred(lambda: _mutated(_valid_sheet())), _read_sheet, (ValueError,)),
    Reader(
        "kept replies",
        _replaced({"judge": {"model": "m"}, "key": "0", "score": 1, "reason": ""}).map(
            lambda row: _REPLIES + _dump(row)
        )
        | _mutated(_REPLIES),
        _read_replies,
        (ValueError,),
    ),
    Reader("a verdict", _verdicts, parse_verdict, ()),
    Reader(
        "a completion",
        st.tuples(st.sampled_from([200, 200, 200, 400, 429, 500]), _completions),
        _read_completion,
        (),
    ),
    Reader(
        "a record", _replaced(_record()).map(_dump) | _mutated(_dump(_record())), _read_record, ()
    ),
    Reader("a bundle", _bundles, _import_records, (ValueError,)),
    Reader("a profile", _mutated(_PROFILE), _read_profile, (ValueError,)),
    Reader(
        "overrides",
        st.dictionaries(
            st.sampled_from(["losses", "noise_rates", "seeds", "epochs", "eval_every", "pairs"])
            | _texts,
            _values,
            max_size=2,
        ),
        _read_overrides,
        (ValueError,),
    ),
    Reader("a trainer's config", _config_fields, _make_config, (ValueError,)),
    Reader("a list of words", _mutated(b"good\nbad\n"), _read_words, (ValueError,)),
    Reader("an audit", _rows, _audit, ()),
)


def _is_sentence(message: str) -> bool:
    """Whether a person is told one thing, on one line that can be read."""
    return bool(message.strip()) and "\n" not in message.strip() and len(message) <= _LONGEST


def _find_fault(reader: Reader, value: Any) -> tuple[str, str] | None:
    """Where a reader raised what it documents nowhere, or in no sentence, and what that was."""
    try:
        reader.read(value)
    except Exception as error:
        message = str(error)
        if isinstance(error, reader.documented) and _is_sentence(message):
            return None
        ours = [
            frame
            for frame in traceback.extract_tb(error.__traceback__)
            if f"{os.sep}sympo{os.sep}" in frame.filename or frame.filename == __file__
        ]
        where = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
        told = _CUT.repr(message) if isinstance(error, reader.documented) else message
        return where, f"{where}: {type(error).__name__}: {told.partition(chr(10))[0][:200]}"
    return None


def _run(reader: Reader, examples: int, start: int) -> Tally:
    tried = 0
    faults: dict[str, str] = {}

    @seed(start)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(reader.strategy)
    def run(value: Any) -> None:
        nonlocal tried
        tried += 1
        fault = _find_fault(reader, value)
        if fault is not None:
            # One input for each place.
            where, told = fault
            faults.setdefault(where, f"{told} of {_CUT.repr(value)}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()
    return Tally(reader.name, tried, list(faults.values()))


def fuzz(examples: int, seed: int = 0, only: str | None = None) -> list[Tally]:
    """Give every reader its share of `examples` inputs.

    Args:
        seed: another one gives other inputs.
        only: the name of the one reader to run.
    """
    chosen = [reader for reader in READERS if only in (None, reader.name)]
    share = -(-examples // len(chosen))
    return [_run(reader, share, seed) for reader in chosen]


# Bad inputs


class BadInput(NamedTuple):
    """An input that is wrong in a known way.

    Attributes:
        run: gives it to an entry point, whose exit code it returns.
        expects: the exit code, or the error that is raised.
        folder: where its files lie, which have to stay as they are.
        about: what the sentence has to name.
    """

    name: str
    run: Callable[[], object]
    expects: int | type[Exception]
    folder: Path
    about: str = ""


def check(bad: BadInput) -> str | None:
    """What is wrong with what became of a bad input; None where it ended as it should."""
    before = _list_files(bad.folder)
    said = io.StringIO()
    code: object
    with redirect_stderr(said), redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code = bad.run()
        except SystemExit as end:  # of argparse, which prints the usage first
            code = end.code
            told = said.getvalue().strip().rpartition("\n")[2]
        except Exception as error:
            code = type(error)
            told = str(error)
        else:
            told = said.getvalue()
    if isinstance(bad.expects, int):
        if code != bad.expects:
            return f"ended with {code} in place of {bad.expects}: {_CUT.repr(told)}"
    elif not (isinstance(code, type) and issubclass(code, bad.expects)):
        return f"ended with {code} in place of {bad.expects.__name__}: {_CUT.repr(told)}"
    if not _is_sentence(told) or "Traceback" in told:
        return f"said no single sentence: {_CUT.repr(told)}"
    if bad.about not in told:
        return f"does not name {bad.about}: {_CUT.repr(told)}"
    if _list_files(bad.folder) != before:
        return "its files are not as they were"
    return None


def _list_files(folder: Path) -> dict[Path, bytes | None]:
    # Locks are hidden, and stay.
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if not path.name.startswith(".")
    }


def bad_inputs() -> list[BadInput]:
    """All of them, with their files in a folder that is deleted when Python ends."""
    return [
        *_bad_preferences(),
        *_bad_options(),
        *_bad_settings(),
        *_bad_profiles(),
        *_bad_bundles(),
        *_bad_ratings(),
        *_bad_replies(),
        *_bad_configs(),
        *_bad_addresses(),
    ]


def _make_case(name: str, files: Mapping[str, bytes]) -> Path:
    folder = Path(_folder().name) / "bad" / sha256(name.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return folder


def _main(*arguments: str | Path) -> Callable[[], object]:
    def run() -> object:
        from sympo.__main__ import main

        return main([str(argument) for argument in arguments])

    return run


_PAIR = {"prompt": "q", "chosen": "yes", "rejected": "no"}


def _column(name: str, column: pyarrow.Array) -> bytes:
    good = {key: pyarrow.array([value] * len(column)) for key, value in _PAIR.items()}
    return _to_parquet(pyarrow.table({**good, name: column}))


def _preference_files() -> dict[str, bytes]:
    """Files without one row that could be used, by name."""
    gz = gzip.compress(_dump(_PAIR))
    rows = {
        "a-number": 1,
        "a-text": "q",
        "null": None,
        "no-answer": {"prompt": "q", "chosen": "yes"},
        "no-prompt": {"chosen": "yes", "rejected": "no"},
        "equal-answers": {**_PAIR, "rejected": "yes "},
        "half-a-character": {**_PAIR, "chosen": "\ud800"},
        "half-a-prompt": {**_PAIR, "prompt": "\udfff"},
        "number-for-an-answer": {**_PAIR, "chosen": 1},
        "list-for-a-prompt": {**_PAIR, "prompt": [1]},
        "dict-for-a-prompt": {**_PAIR, "prompt": {"role": "user"}},
        "bool-for-a-prompt": {**_PAIR, "prompt": True},
        "empty-prompt": {**_PAIR, "prompt": " "},
        "no-content": {**_PAIR, "prompt": [{"role": "user"}]},
        "role-of-a-number": {**_PAIR, "prompt": [{"role": 1, "content": "q"}]},
        "half-a-role": {**_PAIR, "prompt": [{"role": "\ud800", "content": "q"}]},
        "assistant-last": {**_PAIR, "prompt": [_message("assistant", "q")]},
        "no-answer-messages": {**_PAIR, "chosen": [], "rejected": []},
        "user-answers": {**_PAIR, "chosen": [_message("user", "a")], "rejected": [{}]},
        "nan-scores": {**_PAIR, "score_chosen": float("nan"), "score_rejected": 1},
        "scores-exchanged": {**_PAIR, "score_chosen": 0, "score_rejected": 10**400},
        "equal-scores": {**_PAIR, "score_chosen": 1, "score_rejected": 1.0},
        "flip-of-text": {**_PAIR, "is_flipped": "False"},
        "flip-of-2": {**_PAIR, "is_flipped": 2},
        "open-chatml": {**_PAIR, "prompt": "<|im_start|>user\nq"},
        "unequal-dialogues": {"chosen": "\n\nHuman: q", "rejected": "\n\nHuman: p"},
    }
    texts = pyarrow.array(["yes", "no"])
    files = {f"{name}.jsonl": _dump(row) for name, row in rows.items()}
    return {
        **files,
        "empty.jsonl": b"",
        "blank.jsonl": b"\n \n\r\n",
        "nul.jsonl": b"\x00" * 100 + b"\n",
        "bom.jsonl": b"\xef\xbb\xbf",
        "utf16.jsonl": (json.dumps(_PAIR) + "\n").encode("utf-16")[:-3],
        "not-utf8.jsonl": b'{"prompt": "\xff", "chosen": "a", "rejected": "b"}\n',
        "array.jsonl": json.dumps([_PAIR, _PAIR]).encode(),
        "array-in-lines.jsonl": json.dumps([_PAIR, _PAIR], indent=1).encode(),
        "one-object-in-lines.jsonl": json.dumps(_PAIR, indent=1).encode(),
        "brackets.jsonl": b"[" * 100_000 + b"\n",
        "digits.jsonl": b'{"prompt": ' + b"9" * 5000 + b"}\n",
        "torn.jsonl": json.dumps(_PAIR).encode()[:-5],
        "html.jsonl": b"<html><body>404</body></html>\n",
        "array.json": json.dumps([_PAIR]).encode(),
        "lines.json": _dump(_PAIR),
        "table.csv": b"prompt,chosen,rejected\nq,yes,no\n",
        "noname": _dump(_PAIR),
        "cut.jsonl.gz": gz[:-9],
        "no-gzip.jsonl.gz": _dump(_PAIR),
        "turned.jsonl.gz": gz[:20] + b"\x00\xff" + gz[22:],
        "empty.jsonl.gz": b"",
        "empty.parquet": b"",
        "jsonl.parquet": _dump(_PAIR),
        "cut.parquet": _valid_parquet()[:-20],
        "turned.parquet": _valid_parquet()[:4] + b"\xff" * 60 + _valid_parquet()[64:],
        "other-columns.parquet": _to_parquet(pyarrow.table({"a": [1], "b": [2]})),
        "no-rows.parquet": _to_parquet(pyarrow.table(dict.fromkeys(_PAIR, texts[:0]))),
        "numbers.parquet": _column("chosen", pyarrow.array([1, 2])),
        "bytes.parquet": _column("chosen", pyarrow.array([b"\xff", b"a"])),
        "nulls.parquet": _column("rejected", pyarrow.nulls(2)),
        "lists.parquet": _column("prompt", pyarrow.array([["a"], []])),
    }


def _bad_preferences() -> Iterator[BadInput]:
    from sympo.preferences import load_file

    files = _preference_files()
    for name, content in files.items():
        path = _make_case(name, {name: content}) / name
        out = path.with_name("out")
        page = path.with_name("page.html")
        train = (
            "--model_name_or_path",
            path.with_name("nowhere"),
            "--output_dir",
            out,
            "--use_cpu",
        )
        yield BadInput(
            f"load_file {name}", lambda path=path: load_file(path), ValueError, path.parent
        )
        yield BadInput(f"audit {name}", _main("audit", path, "--html", page), 2, path.parent)
        # the file is read first, so that no model need be there
        yield BadInput(
            f"train {name}",
            _main("train", "--data", path, *train, "--bf16", "false"),
            2,
            path.parent,
            about=path.name,
        )
    folder = _make_case("places", {"good.jsonl": _dump(_PAIR)})
    (folder / "folder.jsonl").mkdir(exist_ok=True)
    (folder / "folder.parquet").mkdir(exist_ok=True)
    for name in (
        "folder.jsonl",
        "folder.parquet",
        "nowhere.jsonl",
        "nowhere.parquet",
        "",
        "n" * 300,
    ):
        path = folder / name
        yield BadInput(f"load_file {name}", lambda path=path: load_file(path), ValueError, folder)
        yield BadInput(f"audit {name}", _main("audit", path), 2, folder)
        yield BadInput(
            f"audit --test {name}", _main("audit", folder / "good.jsonl", "--test", path), 2, folder
        )


def _bad_options() -> Iterator[BadInput]:
    files = {
        "good.jsonl": _dump(*({**_PAIR, "prompt": f"q{i}"} for i in range(5))),
        "binary": b"\xff\xfe\x00",
        "notes.txt": b"no ratings",
    }
    folder = _make_case("options", files)
    (folder / "folder").mkdir(exist_ok=True)
    options: list[tuple[str | Path, ...]] = [
        ("--html", folder / "nowhere" / "page.html"),
        ("--html", folder / "folder"),
        ("--html", folder / "good.jsonl"),
        ("--html", folder / "good.jsonl" / "page.html"),
        ("--html", folder / ("n" * 300)),
        ("--words", folder / "binary"),
        ("--words", folder / "nowhere"),
        ("--words", folder / "folder"),
        ("--ratings", folder / "binary"),
        ("--ratings", folder / "notes.txt"),
        ("--ratings", folder / "nowhere"),
        ("--ratings", folder / "folder"),
        ("--rater", "ann"),
        ("--seed", "-1"),
        ("--seed", "x"),
        ("--seed",),
        ("--processes", "0"),
        ("--processes", "x"),
        ("--lossy",),
        ("another.jsonl",),
    ]
    for given_options in options:
        name = " ".join(str(option).rpartition("/")[2][:40] for option in given_options)
        run = _main("audit", folder / "good.jsonl", *given_options)
        yield BadInput(f"audit good.jsonl {name}", run, 2, folder)
    yield BadInput("audit", _main("audit"), 2, folder)
    commands = (
        ("nothing",),
        (),
        ("run",),
        ("run-all", "--budget", "x"),
        ("run-all", "--budget", "1"),
        ("run-all", "--budget", "nan"),
        ("run-all", "--shard", "0/1"),
        ("run-all", "--shard", "2/1"),
        ("judge", "mnist_losses"),
        ("judge", "hh", "--limit", "0"),
        ("judge", "hh", "--workers", "x"),
        ("judge", "hh", "--prices", "1"),
        ("records",),
        ("records", "move"),
        ("run", "mnist_lossse", "--profile", "smoke"),
        ("run", "mnist_losses", "--profile", "smokee"),
        ("run-all", "--studies", "a,b", "--profile", "smoke"),
        ("fetch", "--studies", "", "--profile", "smoke"),
    )
    for command in commands:
        yield BadInput(" ".join(("sympo", *command)), _in_clone(_main(*command)), 2, folder)


def _in_clone(run: Callable[[], object], profile: bytes = _PROFILE) -> Callable[[], object]:
    def run_there() -> object:
        # What is not refused is not trained, either.
        with _clone(), mock.patch("sympo.studies.mnist.run_study"):
            _put("clone/notebooks/profiles/smoke.yaml", profile)
            return run()

    return run_there


def _bad_settings() -> Iterator[BadInput]:
    settings_of_a_study = (
        "epochs",
        "=3",
        "epochs=",
        "epochs=x",
        "epochs=0",
        "epochs=-1",
        "epochs=1.5",
        "epochs=true",
        "epochs=None",
        "epochs=[1]",
        "epochs=" + "9" * 5000,
        "epochs=" + "(" * 10_000,
        "epochs=" + "[" * 10_000,
        "epochs=" + "-" * 10_000 + "1",
        "epochs=" + "{1:" * 5000,
        "epochs=\x00",
        "epochs=\ud800",
        "epochs=" + "x" * 100_000,
        "epoch=3",
        "x" * 100_000 + "=3",
        "a\nb=3",
        "study=hh",
        "profile=paper",
        "losses=[]",
        "losses=['logistc']",
        "losses=['ramp', 'ramp']",
        "noise_rates=[0.7]",
        "noise_rates=[1e999]",
        "pairs=1e3",
    )
    folder = _make_case("settings", {})
    for setting in settings_of_a_study:
        run = _main("run", "mnist_losses", "--profile", "smoke", "--set", setting)
        yield BadInput(f"run --set {_CUT.repr(setting)[:60]}", _in_clone(run), 2, folder)


def _bad_profiles() -> Iterator[BadInput]:
    contents = {
        "empty": b"",
        "a list": b"- a\n",
        "a text": b"text\n",
        "no section": b"minutes: {}\n",
        "a section that is a number": b"mnist_losses: 3\n",
        "a section that is a list": b"mnist_losses: [1]\n",
        "an unknown field": _PROFILE + b"  epoch: 3\n",
        "a duplicate field": _PROFILE + b"  epochs: 3\n",
        "a duplicate section": _PROFILE + b"mnist_losses: {}\n",
        "infinite": _PROFILE.replace(b"epochs: 2", b"epochs: .inf"),
        "not a number": _PROFILE.replace(b"0.4]", b".nan]"),
        "sexagesimal": _PROFILE.replace(b"epochs: 2", b"epochs: 12:30:45"),
        "a text for a number": _PROFILE.replace(b"epochs: 2", b"epochs: two"),
        "two documents": _PROFILE + b"---\na: 1\n",
        "unclosed": _PROFILE + b"  x: [1, 2\n",
        "a tag": _PROFILE + b"more: !thing {}\n",
        "a tag of Python": _PROFILE + b"more: !!python/object/apply:os.getcwd []\n",
        "a tab": _PROFILE + b"\tx: 1\n",
        "a control character": _PROFILE + b"more: \x07\n",
        "not UTF-8": _PROFILE + b"more: \xff\n",
        "brackets": _PROFILE + b"more: " + b"[" * 5000 + b"\n",
        "an alias without an anchor": _PROFILE + b"more: *a\n",
        "an alias of itself": _PROFILE + b"more: &a [*a]\n" + b"mnist_losses: *a\n",
    }
    folder = _make_case("profiles", {})
    for name, content in contents.items():
        run = _in_clone(_main("run", "mnist_losses", "--profile", "smoke"), content)
        yield BadInput(f"a profile with {name}", run, 2, folder)


def _bad_bundles() -> Iterator[BadInput]:
    whole = _bundle(_record(), {})
    contents = {
        "empty": b"",
        "no zip": b"text",
        "cut": whole[:-30],
        "turned": whole[:60] + b"\xff\xff\xff" + whole[63:],
        "another format": _bundle(_record(), {"format": 2}),
        "another profile": _bundle(_record(), {"profile": "paper"}),
        "a profile that is a list": _bundle(_record(), {"profile": ["x" * 100_000]}),
        "a profile of two lines": _bundle(_record(), {"profile": "a\nb"}),
        "no hashes": _bundle(_record(), {"sha256": None}),
        "another hash": _bundle(_record(), {"sha256": {"s-m-n-seed0-9e811ba7.json": "0"}}),
        "a path": _bundle(_record(), {"sha256": {"../../a.json": "0"}}),
        "a long path": _bundle(_record(), {"sha256": {"../" * 50_000: "0"}}),
        "a member too many": _bundle(_record(), {"sha256": {"nowhere.json": "0"}}),
        "no record": _bundle([1], {}),
        "a record of another name": _bundle(_record(version=2), {}),
        "a record without a field": _bundle({"version": 1}, {}),
    }
    folder = _make_case("bundles", {f"{name}.zip": content for name, content in contents.items()})
    for name in (*contents, "nowhere"):
        run = _main("records", "import", "--profile", "smoke", folder / f"{name}.zip")
        yield BadInput(f"a bundle: {name}", _in_clone(run), 2, folder)


def _bad_ratings() -> Iterator[BadInput]:
    head, *lines = _valid_ratings().splitlines(keepends=True)

    def with_header(**fields: object) -> bytes:
        return _dump({**json.loads(head), **fields})

    def with_line(**fields: object) -> bytes:
        return head + _dump({**json.loads(lines[0]), **fields})

    contents = {
        "text": b"text\n",
        "a list": b"[1]\n",
        "brackets": b"[" * 100_000 + b"\n",
        "digits": b"9" * 5000 + b"\n",
        "not UTF-8": b"\xff\n",
        "preferences": _dump(_PAIR),
        "another version": with_header(sympo_ratings=1),
        "other items": with_header(items="0"),
        "a text for a count": with_header(count="3"),
        "a count of none": with_header(count=0, items="0"),
        "a seed below 0": with_header(seed=-1, items="0"),
        "no JSON": head + b"text\n",
        "brackets in a line": head + b"[" * 100_000 + b"\n",
        "no verdict": with_line(verdict="best"),
        "a long verdict": with_line(verdict="x" * 100_000),
        "a verdict of two lines": with_line(verdict="a\nb"),
        "a number for a verdict": with_line(verdict=1),
        "no such item": with_line(pair="x" * 100_000),
        "no rater": with_line(rater=" "),
        "a second rating": head + lines[0] + lines[0],
        "an undo of nothing": head + _dump({"undo": "p", "rater": "ann"}),
    }
    folder = _make_case("ratings", contents)
    for name in contents:
        path = folder / name
        run = lambda path=path: read_ratings(path, _items())  # noqa: E731
        yield BadInput(f"read_ratings {name}", run, ValueError, folder)
        run = lambda path=path: RatingFile(path, _items())  # noqa: E731
        yield BadInput(f"RatingFile {name}", run, ValueError, folder)
    sheets = {
        "empty.csv": b"",
        "text.csv": b"text\n",
        "nul.csv": b"\x00\x00",
        "no-verdict.csv": b"pair,prompt\np,q\n",
        "other-items.csv": _valid_sheet().replace(b"\r\np", b"\r\nq"),
        "no-verdicts.csv": _valid_sheet().replace(b",1\r\n", b",best\r\n"),
        "long-verdicts.csv": _valid_sheet().replace(b",1\r\n", b"," + b"x" * 100_000 + b"\r\n"),
        "excel.csv": b"PK\x03\x04" + bytes(range(256)),
        "utf16.csv": _valid_sheet().decode("utf-8-sig").encode("utf-16"),
    }
    folder = _make_case("sheets", sheets)
    for name in sheets:
        run = lambda path=folder / name: read_sheet(path, _items(), rater="ann")  # noqa: E731
        yield BadInput(f"read_sheet {name}", run, ValueError, folder)


def _bad_replies() -> Iterator[BadInput]:
    head = _dump({"judge": {"model": "m"}})
    contents = {
        "text": b"text",
        "a line of text": b"text\n",
        "a list": b"[1]\n",
        "a number": b"1\n",
        "brackets": b"[" * 100_000 + b"\n",
        "digits": b"9" * 5000 + b"\n",
        "not UTF-8": b"\xff\n",
        "preferences": _dump(_PAIR),
        "another judge": _dump({"judge": {"model": "n"}}),
        "a judge that is a list": _dump({"judge": [1]}),
        "a score of 7": head + _dump({"key": "0", "score": 7, "reason": ""}),
        "a score of NaN": head + _dump({"key": "0", "score": float("nan"), "reason": ""}),
        "a score of text": head + _dump({"key": "0", "score": "x" * 100_000, "reason": ""}),
        "no score": head + _dump({"key": "0"}),
        "no judge": _dump({"key": "0", "score": 1, "reason": ""}),
    }
    folder = _make_case("replies", contents)

    def open_replies(path: Path) -> None:
        with KeptReplies(path, {"model": "m"}):
            pass

    for name in contents:
        run = lambda path=folder / name: open_replies(path)  # noqa: E731
        yield BadInput(f"KeptReplies {name}", run, ValueError, folder)


def _bad_configs() -> Iterator[BadInput]:
    long = "x" * 100_000
    fields: list[dict[str, Any]] = [
        {"loss_type": None},
        {"loss_type": []},
        {"loss_type": 1},
        {"loss_type": "sympo_rmap"},
        {"loss_type": long},
        {"loss_type": "a\nb"},
        {"loss_type": [["ramp"]]},
        {"loss_type": "sympo_logistic"},
        {"loss_type": "cdpo"},
        {"loss_type": "cdpo", "noise_rate": 0.5},
        {"loss_type": "cdpo", "noise_rate": float("nan")},
        {"loss_type": "cdpo", "noise_rate": True},
        {"loss_type": "cdpo", "noise_rate": long},
        {"noise_rate": 0.1},
        {"reward_clip": 0},
        {"reward_clip": float("inf")},
        {"reward_clip": long},
        {"reward_clip": 10**400},
        {"beta": 0},
        {"beta": float("nan")},
        {"beta": "big"},
        {"beta": 10**400},
        {"loss_weights": [1, 2]},
        {"loss_weights": "1"},
        {"loss_weights": [10**400]},
        {"length_normalized": "false"},
        {"stop_on_divergence": 0},
        {"ropo_alpha": 1.0},
        {"loss_type": "repo", "repo_start": 10**400},
        {"loss_type": "sympo_holder", "holder_gamma": -1},
        {"loss_type": "sympo_holder", "holder_gamma": "x"},
    ]
    folder = _make_case("configs", {})
    for some in fields:
        name = _CUT.repr(some)[:80]
        yield BadInput(
            f"SymPOConfig {name}", lambda some=some: _make_config(some), ValueError, folder
        )


def _bad_addresses() -> Iterator[BadInput]:
    from sympo.judge import EndpointJudge

    folder = _make_case("addresses", {})

    def identify(address: str) -> None:
        with mock.patch.dict(os.environ, {"OPENAI_BASE_URL": address}):
            EndpointJudge().identity  # noqa: B018

    addresses = (
        "",
        "host",
        "https://",
        "https://host:port/v1",
        "https://[::1/v1",
        "ftp://host/v1",
        "http://example.org/v1",
        "http://127.0.0.1.example.org/v1",
        "http://localhost@example.org/v1",
        "http://0.0.0.0/v1",
        "x" * 100_000,
        "https://a\nb/v1",
    )
    for address in addresses:
        run = lambda address=address: identify(address)  # noqa: E731
        yield BadInput(f"OPENAI_BASE_URL={_CUT.repr(address)[:60]}", run, ValueError, folder)
