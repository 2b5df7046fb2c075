"""A ratings file loses nothing to a kill, and holds no rating twice."""

import csv
import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_rating import draw, make_pairs, rate_all, swap_labels

from sympo import audit, rating


def fill(path, items, verdicts, rater="ann"):
    file = rating.RatingFile(path, items)
    for item, verdict in zip(items, verdicts, strict=False):
        file.add(item.key, verdict, rater=rater)
    return file


def verdicts(ratings):
    return [(each.key, each.rater, each.verdict) for each in ratings]


def test_what_was_added_stands_in_order(tmp_path):
    items = draw(4)
    file = fill(tmp_path / "new" / "r.jsonl", items, ["first", "tie", "cannot say"])
    assert [each.verdict for each in file.ratings] == ["first", "tie", "cannot say"]
    assert verdicts(rating.read_ratings(file.path, items)) == verdicts(file.ratings)
    # the order of the texts is stored, and their authors are not
    lines = [json.loads(line) for line in file.path.read_text().splitlines()]
    for item, line in zip(items, lines[1:], strict=False):
        digests = [hashlib.sha256(json.dumps([text]).encode()).hexdigest() for text in item.shown]
        assert line["shown"] == [digest[:16] for digest in digests]
        assert line["row"] == item.row
    assert "ours" not in file.path.read_text()


def test_undo_appends_and_the_pair_can_be_rated_again(tmp_path):
    items = draw(3)
    file = fill(tmp_path / "r.jsonl", items, ["first", "tie"])
    file.add(items[0].key, "second", rater="bob")
    before = file.path.read_bytes()
    # the rater's own last rating, not the file's
    assert file.undo(rater="ann").key == items[1].key
    assert file.path.read_bytes().startswith(before)
    file.add(items[1].key, "second", rater="ann")
    assert verdicts(file.ratings.of("ann")) == [
        (items[0].key, "ann", "first"),
        (items[1].key, "ann", "second"),
    ]
    for _ in range(2):
        file.undo(rater="ann")
    assert file.undo(rater="ann") is None
    assert file.ratings.raters == ["bob"]


def test_a_pair_is_rated_once_by_each(tmp_path):
    items = draw(2)
    file = fill(tmp_path / "r.jsonl", items, ["first"])
    before = file.path.read_bytes()
    with pytest.raises(ValueError, match=f"ann has already rated the pair {items[0].key}"):
        file.add(items[0].key, "second", rater="ann")
    # another one that has the same file open knows it, too
    with pytest.raises(ValueError, match="already rated"):
        rating.RatingFile(file.path, items).add(items[0].key, "first", rater="ann")
    assert file.path.read_bytes() == before


def test_a_kill_at_any_byte_costs_what_was_being_written_and_nothing_else(tmp_path):
    items = draw(4)
    path = tmp_path / "r.jsonl"
    file = fill(path, items, ["first", "tie"])
    file.undo(rater="ann")
    content = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    standing = [[], ["first"], ["first", "tie"], ["first"]]  # after each line
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        whole = sum(end <= size for end in ends)
        if whole:  # reading mends nothing
            torn = rating.read_ratings(path, items)
            assert [each.verdict for each in torn] == standing[whole - 1]
            assert path.read_bytes() == content[:size]
        mended = rating.RatingFile(path, items)
        assert [each.verdict for each in mended.ratings] == standing[max(whole - 1, 0)]
        mended.add(items[3].key, "second", rater="ann")
        # what was whole is there byte for byte, and the file is JSONL again
        assert path.read_bytes().startswith(content[: ends[whole - 1]] if whole else b"")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert lines[-1]["verdict"] == "second"


def test_files_of_something_else_are_refused_and_left_alone(tmp_path):
    items = draw(4)
    path = fill(tmp_path / "r.jsonl", items, ["first"]).path
    cases = {
        path.read_bytes(): (draw(4, seed=1), False, "is about other items"),
        path.read_bytes() + b" ": (items, True, "is for people's ratings: give simulated ones"),
        b'{"prompt": "a"}\n{"prom': (items, False, "is no ratings file"),
        b"\xff\xfe": (items, False, "is no ratings file"),
        b"[1]\n": (items, False, "is no ratings file"),
        b"[" * 100_000 + b"\n": (items, False, "is no ratings file"),
        path.read_bytes().replace(b'_ratings": 2', b'_ratings": 1'): (
            items, False, "another version of sympo",
        ),
    }  # fmt: skip
    for content, (asked, simulated, sentence) in cases.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=sentence):
            rating.RatingFile(path, asked, simulated=simulated)
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "line 3: no rating"),
        ("[" * 100_000, "line 3: no rating"),
        ("9" * 5000, "line 3: no rating"),
        (
            '{"pair": "p", "rater": "ann", "verdict": "%s"}' % ("x" * 100_000),
            "^.{,500}$",
        ),
        ('{"pair": 1, "rater": "ann", "verdict": "tie"}', "line 3: one of pair, .* is no text"),
        ('{"pair": "p0", "rater": "ann", "verdict": "tie"}', "line 3: no item is called 'p0'"),
        ('{"undo": "p0", "rater": "ann"}', "line 3: takes back a rating that does not stand"),
        ("again", "line 3: ann has already rated"),
    ],
)
def test_a_line_that_is_none_is_named_and_nothing_is_lost(tmp_path, line, sentence):
    items = draw(3)
    path = fill(tmp_path / "r.jsonl", items, ["first", "tie"]).path
    lines = path.read_text().splitlines()
    lines.insert(2, lines[1] if line == "again" else line)
    path.write_text("\n".join(lines) + "\n")
    before = path.read_bytes()
    for act in (rating.RatingFile, rating.read_ratings):
        with pytest.raises(ValueError, match=sentence):
            act(path, items)
    assert path.read_bytes() == before


def test_a_sheet_or_a_simulation_is_added_once(tmp_path):
    items = draw(6)
    simulated = rating.simulate_ratings(items, [1.0] * 6, error_rate=0, seed=0)
    file = rating.RatingFile(tmp_path / "s.jsonl", items, simulated=True)
    assert file.add_all(simulated) == 6
    assert file.add_all(simulated) == 0
    assert verdicts(file.ratings) == verdicts(simulated)
    header, *lines = [json.loads(line) for line in file.path.read_text().splitlines()]
    assert header["simulated"]
    assert all(line["simulated"] is True for line in lines)
    assert str(rating.read_ratings(file.path, items)).startswith("simulated ratings: ")

    with pytest.raises(ValueError, match="is for simulated ratings, and these are people's"):
        file.add_all(rate_all(items))
    other = rating.RatingFile(tmp_path / "p.jsonl", items)
    assert other.add_all(rate_all(items)) == 6
    before = other.path.read_bytes()
    with pytest.raises(ValueError, match="ann has already rated"):
        other.add_all(rate_all(items, "tie"))
    with pytest.raises(ValueError, match="about other items"):
        other.add_all(rate_all(draw(6, seed=1)))
    assert other.path.read_bytes() == before


def test_rated_rows_can_be_read_with_the_dataset_alone(tmp_path):
    pairs = make_pairs()
    items = rating.draw_items(pairs, seed=5, count=12)
    file = fill(tmp_path / "r.jsonl", items, ["first", "second", "tie", "cannot say"])
    rows = rating.read_rated_rows(file.path, pairs)
    assert rows == rating.rated_rows(file.ratings)
    assert [row for row, _ in rows] == [item.row for item in items.items[:3]]
    for other in (make_pairs(50), make_pairs(5)):
        with pytest.raises(ValueError, match="about other"):
            rating.read_rated_rows(file.path, other)


@pytest.mark.parametrize("field", [{"seed": -1}, {"count": 10**30}])
def test_a_header_that_no_draw_can_have_is_one_sentence(tmp_path, field):
    header = {"sympo_ratings": 2, "items": "0", "seed": 0, "count": 1, "simulated": False}
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({**header, **field}) + "\n")
    with pytest.raises(ValueError, match="is about other pairs: name the file"):
        rating.read_rated_rows(path, make_pairs(5))


def test_what_was_said_of_the_texts_holds_when_labels_change(tmp_path):
    """A noisy dataset is rated without error, and read against clean and against wrong labels."""
    clean = make_pairs(60)
    wrong = sorted(np.random.default_rng(0).choice(60, 20, replace=False).tolist())
    noisy = swap_labels(clean, wrong)
    items = rating.draw_items(noisy, seed=2)
    truth = [float(item.a.startswith("alpha")) for item in items]
    told = rating.simulate_ratings(items, truth, error_rate=0, seed=0)
    path = tmp_path / "r.jsonl"
    rating.RatingFile(path, items, simulated=True).add_all(told)
    sheet = tmp_path / "s.csv"
    rating.write_sheet(items, sheet)
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        header, *cells = csv.reader(file)
    with sheet.open("w", encoding="utf-8", newline="") as file:
        filled = [[*row[:-1], "1" if row[2].startswith("alpha") else "2"] for row in cells]
        csv.writer(file).writerows([header, *filled])

    for pairs, share in ((noisy, 40 / 60), (clean, 1.0), (swap_labels(clean, range(60)), 0.0)):
        now = rating.draw_items(pairs, seed=2)
        ours = rating.read_ratings(path, now)
        for ratings in (ours, rating.read_sheet(sheet, now, rater="ann")):
            assert rating.compare_with_labels(ratings).agreed.estimate == share
        rows = rating.read_rated_rows(path, pairs)
        assert len(rows) == 60
        assert np.mean([sign == 1 for _, sign in rows]) == share
        found, _ = audit.rate_from_ratings([sign for _, sign in rows])
        assert found.interval.estimate == pytest.approx(1 - share)
        # one rater before the labels changed and one after
        late = rating.Ratings(now, tuple(one._replace(rater="bob") for one in ours), simulated=True)
        assert rating.compare_raters(told, late).agreed.estimate == 1
        # and the file goes on
        assert rating.RatingFile(path, now, simulated=True).add_all(ours) == 0


def test_the_two_lists_of_answers_may_change_places(tmp_path):
    items = draw(20)
    path = fill(tmp_path / "r.jsonl", items, ["first", "second", "first", "tie"] * 5).path
    # the lists as they were drawn from
    rows = sorted(items, key=lambda item: item.row)
    other = rating.pair_answers(
        [item.prompt for item in rows],
        [item.b for item in rows],
        [item.a for item in rows],
        sources=("theirs", "ours"),
        seed=0,
    )
    scores = rating.read_ratings(path, items).scores()
    assert rating.read_ratings(path, other).scores() == [1 - score for score in scores]


def test_a_kill_in_the_last_line_leaves_what_undo_takes_back(tmp_path):
    """At every byte of the last line: go on, take back the last whole one, rate it again."""
    items = draw(3)
    path = fill(tmp_path / "r.jsonl", items, ["first", "tie", "second"]).path
    content = path.read_bytes()
    start = content[:-1].rfind(b"\n") + 1
    for size in range(start, len(content) + 1):
        path.write_bytes(content[:size])
        again = rating.RatingFile(path, items)
        last = 2 if size == len(content) else 1
        taken = again.undo(rater="ann")
        assert taken[:3] == (items[last].key, "ann", ["first", "tie", "second"][last])
        again.add(taken.key, "cannot say", rater="ann")
        expected = [*["first", "tie"][:last], "cannot say"]
        assert [each.verdict for each in rating.read_ratings(path, items)] == expected


WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_rating import draw
from sympo import rating
items = draw(60)
file = rating.RatingFile(sys.argv[1], items)
print("ready", flush=True)
sys.stdin.readline()
refused = 0
for item in items:
    try:
        file.add(item.key, "first", rater="ann")
    except ValueError as error:
        assert "already rated" in str(error)
        refused += 1
    file.add(item.key, "second", rater=sys.argv[2])
print(refused, flush=True)
"""


def start(path, rater):
    command = [sys.executable, "-c", WORKER, path, rater, Path(__file__).parent]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    return worker


@pytest.mark.slow
def test_two_processes_share_a_file_and_a_kill_frees_it(tmp_path):
    path = tmp_path / "r.jsonl"
    items = draw(60)
    workers = [start(path, name) for name in ("bob", "eve")]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    refused = [int(worker.communicate(timeout=120)[0]) for worker in workers]
    # each pair was rated once as ann, by whichever came first
    assert sum(refused) == 60
    ratings = rating.read_ratings(path, items)
    assert [len(ratings.of(name)) for name in ("ann", "bob", "eve")] == [60, 60, 60]

    # a process that is killed, wherever it is
    path.unlink()
    worker = start(path, "bob")
    worker.stdout.readline()
    worker.stdin.write("go\n")
    worker.stdin.flush()
    while path.read_bytes().count(b"\n") < 20:
        assert worker.poll() is None
    worker.send_signal(signal.SIGKILL)
    worker.communicate()
    left = rating.read_ratings(path, items)
    assert len(left) >= 19
    rating.RatingFile(path, items).add(items[-1].key, "tie", rater="new")
    assert verdicts(rating.read_ratings(path, items))[:-1] == verdicts(left)


def test_a_file_that_stays_locked_is_a_sentence(tmp_path, monkeypatch):
    from filelock import FileLock

    items = draw(2)
    file = fill(tmp_path / "r.jsonl", items, ["first"])
    monkeypatch.setattr("sympo.rating.file._PATIENCE", 0.05)
    with (
        FileLock(tmp_path / ".r.jsonl.lock"),
        pytest.raises(TimeoutError, match=r"another process has kept .* locked"),
    ):
        file.add(items[1].key, "first", rater="ann")
    file.add(items[1].key, "first", rater="ann")
