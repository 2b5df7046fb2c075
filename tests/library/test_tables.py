"""Files are read in blocks and datasets written in batches: the same rows, in bounded memory."""

import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, concatenate_datasets

from sympo import _tables
from sympo import preferences as prefs

COUNT = 2500


def make_rows(count):
    """Rows of HH's form; some are no pairs, some prompts come again."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        prompt = f"\n\nHuman: {i % 900} " + "so " * int(rng.integers(20))
        answers = [f"\n\nAssistant: {word} {i} ’" for word in rng.permutation(["yes", "no"])]
        rows.append({"chosen": prompt + answers[0], "rejected": prompt + answers[1]})
    for i in (5, 700, 2400):
        rows[i]["rejected"] = rows[i]["chosen"]
    for i in (1, 1200, 1201, 2450, 2451):
        rows[i] = {"chosen": f"no pair {i}", "rejected": ""}
    return rows


@pytest.fixture
def files(tmp_path, monkeypatch):
    """The rows as JSON lines, plain and packed, and as parquet; read in many blocks."""
    monkeypatch.setattr(prefs, "_BLOCK", 30_000)
    rows = make_rows(COUNT)
    # a blank line in between is no row
    text = "\n".join(map(json.dumps, rows)).replace("\n", "\n\n", 1).encode()
    (tmp_path / "rows.jsonl").write_bytes(text)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(text))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    return [tmp_path / f"rows.{kind}" for kind in ("jsonl", "jsonl.gz", "parquet")]


@pytest.mark.parametrize("processes", [1, 2])
def test_blocks_and_processes_change_nothing(files, processes):
    expected = prefs.parse_rows(make_rows(COUNT))
    for path in files:
        dataset, report = prefs.read_pairs(path, processes=processes)
        assert dataset.to_list() == expected.dataset.to_list()
        assert dataset._fingerprint == expected.dataset._fingerprint
        assert str(report) == str(expected.report)
        shown = [example.row for example in report.examples if "Human" in example.reason]
        # parquet has rows, JSON has lines, of which the second is blank
        assert shown == [2, 1201, 1202] if path.suffix == ".parquet" else [3, 1202, 1203]


def test_large_datasets_go_to_a_file_and_small_ones_do_not(files, tmp_path, monkeypatch):
    small = prefs.read_pairs(files[0], cache=tmp_path / "small").dataset
    assert not small.cache_files
    assert not (tmp_path / "small").exists()
    monkeypatch.setattr(_tables, "IN_MEMORY", 100_000)
    monkeypatch.setattr(_tables, "_MAPPED", 1000)
    large = prefs.read_pairs(files[0], cache=tmp_path / "large").dataset
    assert [Path(file["filename"]) for file in large.cache_files] == [
        tmp_path / "large" / f"sympo-{large._fingerprint}.arrow"
    ]
    # whatever is done with the two gives the same, in the same columns
    selection = np.random.default_rng(1).permutation(len(small))[:2000]
    results = []
    for dataset in (small, large):
        some = dataset.select(selection)
        flipped = prefs.flip_preferences(some, 0.3, seed=4, cache=tmp_path / "flips")
        back = prefs.swap_answers(flipped, flipped["is_flipped"])
        assert back.to_list() == some.to_list()
        train, test = prefs.hold_out(dataset, fraction=0.2, seed=0)
        kept, dropped = prefs.drop_overlap(dataset, test)
        assert (kept.to_list(), dropped) == (train.to_list(), len(test))
        assert flipped.features == dataset.features
        results.append((dataset._fingerprint, flipped._fingerprint, back._fingerprint))
        results.append((dataset.to_list(), flipped.to_list(), test.to_list()))
    assert results[:2] == results[2:]
    assert len({small._fingerprint, *results[0]}) == 3


def test_equal_rows_have_equal_fingerprints_and_others_have_others(files):
    dataset = prefs.read_pairs(files[0]).dataset
    flipped = prefs.flip_preferences(dataset, 0.2, seed=0)
    assert prefs.swap_answers(flipped, flipped["is_flipped"])._fingerprint == dataset._fingerprint
    assert prefs.flip_preferences(dataset, 0, seed=0)._fingerprint == dataset._fingerprint
    others = [prefs.flip_preferences(dataset, 0.2, seed=seed)._fingerprint for seed in range(3)]
    assert len({dataset._fingerprint, *others}) == 4
    assert others[0] == flipped._fingerprint
    # what a column says and where its rows end both count
    texts = [("p", "ab", "c"), ("p", "a", "bc"), ("pa", "b", "c")]
    rows = [{"prompt": p, "chosen": a, "rejected": b} for p, a, b in texts]
    assert len({prefs.parse_rows([row]).dataset._fingerprint for row in rows}) == 3


def test_a_folder_that_cannot_be_written_is_one_sentence(files, tmp_path, monkeypatch):
    monkeypatch.setattr(_tables, "IN_MEMORY", 100_000)
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match=r"cannot write the pairs to .*taken: .*cache") as caught:
        prefs.read_pairs(files[0], cache=tmp_path / "taken")
    assert "\n" not in str(caught.value)


def test_half_a_file_is_not_left_behind(files, tmp_path, monkeypatch):
    monkeypatch.setattr(_tables, "IN_MEMORY", 100_000)
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:-1000])
    with pytest.raises(ValueError, match=r"cannot read rows\.jsonl\.gz"):
        prefs.read_pairs(files[1], cache=tmp_path / "large")
    assert list((tmp_path / "large").iterdir()) == []


def test_text_that_is_not_utf8_is_one_bad_row_of_a_parquet_file(tmp_path):
    table = pyarrow.Table.from_pylist(
        [
            {"prompt": b"p", "chosen": b"x\xe9" if i == 3 else b"x", "rejected": b"y"}
            for i in range(9)
        ]
    )
    text = pyarrow.schema([(name, pyarrow.string()) for name in table.column_names])
    columns = [
        pyarrow.Array.from_buffers(pyarrow.string(), 9, column.chunk(0).buffers())
        for column in table.columns
    ]
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=text), tmp_path / "rows.parquet")
    report = prefs.read_pairs(tmp_path / "rows.parquet").report
    assert (report.kept, report.malformed) == (8, {"not a JSON object": 1})
    assert report.examples[0].row == 4


@pytest.mark.parametrize("processes", [0, -1])
def test_processes_that_do_not_exist_are_refused(files, processes):
    with pytest.raises(ValueError, match=f"processes = {processes}: give"):
        prefs.read_pairs(files[0], processes=processes)


def test_a_process_that_dies_is_one_sentence(files, monkeypatch):
    monkeypatch.setattr(prefs, "_check_block", kill_itself)
    with pytest.raises(ValueError, match=r"rows of rows\.jsonl ended before its time: give proc"):
        prefs.read_pairs(files[0], processes=2)


def kill_itself(*block):
    os._exit(1)


MEMORY = """
import os, re, sys
from sympo import _tables, preferences as prefs

# so that a few thousand rows fill what may be kept
_tables.IN_MEMORY = 2**22
_tables._MAPPED = 2**22
for path in sys.argv[1:]:
    dataset = prefs.load_file(path).dataset
    noisy = prefs.flip_preferences(dataset, 0.3, seed=0)
    train, test = prefs.hold_out(noisy, fraction=0.1, seed=0)
    prefs.drop_overlap(noisy, test)
    (file,) = dataset.cache_files
    # of this program alone: getrusage's peak counts what pytest had when it forked
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
    print(len(dataset), os.path.getsize(file["filename"]), 1024 * int(peak))
"""


@pytest.mark.nightly
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says what was resident")
def test_memory_does_not_grow_with_the_file(tmp_path):
    row = {"chosen": "\n\nHuman: %d" + " why" * 300 + "\n\nAssistant: yes %d" + " so" * 150}
    row["rejected"] = row["chosen"].replace("yes", "no")
    line = json.dumps(row) + "\n"
    paths = []
    for count in (15_000, 50_000):
        paths.append(tmp_path / f"{count}.jsonl")
        paths[-1].write_text("".join(line.replace("%d", str(i)) for i in range(count)))
    environment = {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *paths], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    (few, small, before), (many, large, after) = (
        map(int, line.split()) for line in done.stdout.splitlines()
    )
    assert (few, many) == (15_000, 50_000)
    assert before < 2**30
    # Of a file that is mapped as a whole, all that it has more would be resident.
    assert after - before < 0.5 * (large - small)
    # and what was written is gone with the process
    assert list((tmp_path / "cache").iterdir()) == []


def test_files_are_mapped_anew_through_joins_and_selections(tmp_path):
    Dataset.from_dict({"a": [*range(5000)]}).save_to_disk(tmp_path)
    mapped = Dataset.load_from_disk(tmp_path)
    joined = concatenate_datasets([mapped, mapped]).select(range(9000, -1, -3))
    for dataset in (mapped, joined):
        read = [
            value
            for table in _tables.iter_tables(dataset, ["a"])
            for value in table["a"].to_pylist()
        ]
        assert read == dataset["a"][:]

    def locate(table):
        return table.table.column("a").chunk(0).buffers()[1].address

    assert locate(_tables._map_anew(mapped.data)) != locate(mapped.data)


_HOLD = """
import datasets, sys, time
from pathlib import Path
datasets.config.HF_DATASETS_CACHE = sys.argv[1]
from sympo import _tables
folder = _tables._make_temporary()
(folder / "large.arrow").write_text("")
print(folder, flush=True)
if len(sys.argv) > 2:
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_deleted_and_what_a_living_one_has_is_not(tmp_path):
    def start():
        command = [sys.executable, "-c", _HOLD, str(tmp_path), "stay"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return process, Path(process.stdout.readline().strip())

    others = tmp_path / "sympo-of-somebody-else"
    others.mkdir()
    killed, left = start()
    living, held = start()
    try:
        killed.kill()
        killed.wait()
        assert (left / "large.arrow").exists()
        command = [sys.executable, "-c", _HOLD, str(tmp_path)]
        last = subprocess.run(command, capture_output=True, text=True, check=True)
        own = Path(last.stdout.strip())
        assert not left.exists()
        assert (held / "large.arrow").exists()
        # The last one has ended by itself: its folder and its lock are gone, too.
        assert not own.exists()
        locks = [path for path in tmp_path.iterdir() if path.suffix == ".lock"]
        assert locks == [tmp_path / f".{held.name}.lock"]
        assert others.exists()
    finally:
        for process in (killed, living):
            process.kill()
            process.wait()
            process.stdout.close()


# What a file holds beyond what a row may be


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
@pytest.mark.parametrize("ended", [True, False])
def test_a_line_that_is_too_long_is_one_refused_row(tmp_path, monkeypatch, pack, ended):
    monkeypatch.setattr(prefs, "LONGEST", 1000)
    monkeypatch.setattr(prefs, "_BLOCK", 300)
    good = json.dumps({"prompt": "p", "chosen": "x", "rejected": "y"}).encode()
    long = json.dumps({"prompt": "p" * 5000, "chosen": "x", "rejected": "y"}).encode()
    lines = [good, long, good, long, long, good, *([long] if not ended else [good])]
    path = tmp_path / ("a.jsonl" if pack is bytes else "a.jsonl.gz")
    path.write_bytes(pack(b"\n".join(lines)))
    report = prefs.read_pairs(path).report
    assert (report.kept, report.malformed.total()) == ((4, 3) if ended else (3, 4))
    assert [example.row for example in report.examples] == [2, 4, 5]
    assert {example.reason for example in report.examples} == {prefs._TOO_LONG}


def test_a_small_file_that_unpacks_to_one_huge_line_takes_little_memory(tmp_path):
    path = tmp_path / "bomb.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"prompt": "')
        for _ in range(200):
            file.write(b" " * 2**20)
        file.write(b'"}\n{"prompt": "p", "chosen": "x", "rejected": "y"}\n')
    tracemalloc.start()
    report = prefs.read_pairs(path).report
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (report.rows, report.kept) == (2, 1)
    assert peak < 100 * 2**20


def test_a_parquet_file_that_claims_to_unpack_to_much_more_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(prefs, "_UNPACKED", 2**20)
    texts = ["so " * 2**20, "no " * 2**20]
    table = pyarrow.table({"prompt": texts, "chosen": texts, "rejected": texts[::-1]})
    path = tmp_path / "bomb.parquet"
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    with pytest.raises(ValueError, match=r"bomb\.parquet.* unpacks [\d,]+ bytes to 6,"):
        prefs.read_pairs(path)
    # What is stored once and repeated is none.
    pyarrow.parquet.write_table(pyarrow.concat_tables([table.slice(0, 1)] * 50), path)
    monkeypatch.setattr(prefs, "_UNPACKED", 2**28)
    assert prefs.read_pairs(path).report.rows == 50


def test_a_parquet_file_that_claims_rows_without_bytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(prefs, "_MANY_ROWS", 1000)
    rows = 10**6
    columns = {name: pyarrow.nulls(rows, pyarrow.string()) for name in ("chosen", "rejected")}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"rows\.parquet.* bytes are 1,000,000 rows"):
        prefs.read_pairs(tmp_path / "rows.parquet")


def test_rows_of_a_parquet_file_that_are_too_long_are_refused_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(prefs, "LONGEST", 1000)
    monkeypatch.setattr(prefs, "_UNPACKED", 2000)
    rows = [{"prompt": "p" * n, "chosen": "x", "rejected": "y"} for n in (1, 5000, 2)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    report = prefs.read_pairs(tmp_path / "rows.parquet").report
    assert (report.kept, report.malformed) == (2, {prefs._TOO_LONG: 1})
    assert report.examples[0].row == 2


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.large_string(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    ],
    ids=str,
)
def test_texts_of_other_types_are_texts(tmp_path, kind):
    columns = {name: pyarrow.array([name], kind) for name in ("prompt", "chosen", "rejected")}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
    (row,) = prefs.read_pairs(tmp_path / "rows.parquet").dataset
    assert row["chosen"][0]["content"] == "chosen"


@pytest.mark.parametrize(
    "bad",
    [
        pyarrow.array([b"a", b"b", None]),
        pyarrow.array([[{"role": "user"}], [None], None]),
        pyarrow.array([1.5, float("nan"), None]),
        pyarrow.array([10**15, -(10**15), 0], pyarrow.timestamp("s")),
    ],
    ids=lambda column: str(column.type),
)
def test_rows_of_other_types_are_counted(tmp_path, bad):
    good = pyarrow.array(["a", "b", "c"])
    table = pyarrow.table({"prompt": bad, "chosen": good, "rejected": good.take([2, 0, 1])})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    report = prefs.read_pairs(tmp_path / "rows.parquet").report
    # A null is no prompt, and the answers are then whole dialogues.
    assert (report.kept, report.malformed.total()) == (0, 3)
