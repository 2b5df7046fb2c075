"""Records on disk; what says where they come from; progress bars."""

import ast
import hashlib
import io
import json
import re
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from sympo.studies import profiles, progress, provenance, records
from sympo.studies.records import Result, Run


@dataclass(frozen=True, kw_only=True)
class ToyRun(Run):
    epochs: int = 2


def make_run(seed=0, **changes):
    fields = {"study": "toy", "method": "sigmoid", "noise": "symmetric-0.4", "seed": seed}
    return ToyRun(**{**fields, **changes})


def make_result(run):
    history = [{"epoch": epoch, "loss": run.seed + epoch} for epoch in (1, 2)]
    return Result({"accuracy": 0.5 + run.seed}, history)


def list_records(folder):
    """The names of the files in a folder of records, but for locks, which stay."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


class Trainer:
    """Yields results in reverse order, and notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, runs):
        self.asked.append([run.seed for run in runs])
        for run in reversed(runs):
            yield run, make_result(run)


@pytest.fixture
def run_all(tmp_path):
    def call(runs, train=None, version=1, **options):
        return records.run_all(
            runs, train or Trainer(), folder=tmp_path, version=version, **options
        )

    return call


def test_a_second_call_loads_what_the_first_trained(run_all):
    runs = [make_run(seed) for seed in range(3)]
    trainer = Trainer()
    first = run_all(runs, trainer)
    second = run_all(runs, trainer)
    assert (str(first), str(second)) == ("trained 3, loaded 0", "trained 0, loaded 3")
    assert trainer.asked == [[0, 1, 2]]
    assert first.records == second.records
    assert [record["config"] for record in second.records] == [run.config() for run in runs]


def test_a_config_is_flat_and_holds_every_field():
    assert make_run(seed=4).config() == {
        "study": "toy",
        "method": "sigmoid",
        "noise": "symmetric-0.4",
        "seed": 4,
        "epochs": 2,
    }


def test_only_missing_runs_are_trained_and_order_is_kept(run_all):
    run_all([make_run(1)])
    trainer = Trainer()
    result = run_all([make_run(2), make_run(1), make_run(0)], trainer)
    assert trainer.asked == [[2, 0]]
    assert [record["metrics"]["accuracy"] for record in result.records] == [2.5, 1.5, 0.5]
    assert str(result) == "trained 2, loaded 1"


def test_any_field_and_the_version_tell_records_apart(run_all, tmp_path):
    for run, version in ((make_run(), 1), (make_run(epochs=3), 1), (make_run(), 2)):
        assert run_all([run], version=version).trained == 1
    assert len(list_records(tmp_path)) == 3


def test_each_version_reads_its_own_records(run_all):
    for version in (1, 2):
        run_all([make_run()], version=version)
    for version in (1, 2):
        result = run_all([make_run()], version=version)
        assert result.loaded == 1
        assert result.records[0]["version"] == version


def test_one_run_twice_is_trained_once(run_all):
    trainer = Trainer()
    result = run_all([make_run(), make_run()], trainer)
    assert trainer.asked == [[0]]
    assert len(result.records) == 2


def test_an_interrupt_keeps_what_was_finished(run_all, tmp_path):
    def interrupted(runs):
        yield runs[0], make_result(runs[0])
        raise KeyboardInterrupt

    runs = [make_run(seed) for seed in range(3)]
    with pytest.raises(records.Interrupted, match="1 of 3 runs are recorded") as stopped:
        run_all(runs, interrupted)
    # what Jupyter shows, in place of the stack
    assert stopped.value._render_traceback_() == [str(stopped.value)]
    assert len(list_records(tmp_path)) == 1
    trainer = Trainer()
    assert str(run_all(runs, trainer)) == "trained 2, loaded 1"
    assert trainer.asked == [[1, 2]]


def change(text, **fields):
    """The text of a record with other fields, and the sha256 of what it holds now."""
    record = {**json.loads(text), **fields}
    return json.dumps({**record, "sha256": records.hash_content(record)})


@pytest.mark.parametrize(
    ("corrupt", "fault"),
    [
        (lambda text: text[: len(text) // 2], "line"),
        (lambda text: "", "Expecting value"),
        (lambda text: "[]", "not a JSON object"),
        (lambda text: "\udcff", "utf-8"),
        (lambda text: text.replace('"metrics"', '"metric"'), "field 'metrics'"),
        (lambda text: text.replace('"history": [', '"history": 3, "rest": ['), "field 'history'"),
        (lambda text: text.replace('"version": 1', '"version": "1"'), "field 'version'"),
        (lambda text: change(text, version=2), "config and version"),
        (lambda text: change(text, config=make_run(seed=7).config()), "config and version"),
        (lambda text: text.replace('"accuracy": 1.5', '"accuracy": 0.9'), "sha256: it was changed"),
        (lambda text: text.replace('"loss": 2', '"loss": 1'), "sha256: it was changed"),
        (lambda text: text.replace('"seconds": ', '"seconds": 1'), "sha256: it was changed"),
        (lambda text: text.replace('"sha256"', '"sha1"'), "field 'sha256'"),
    ],
)
def test_a_corrupt_record_is_set_aside_and_trained_again(run_all, tmp_path, corrupt, fault):
    runs = [make_run(0), make_run(1)]
    before = run_all(runs).records
    path = next(tmp_path.glob("*-seed1-*.json"))
    text = corrupt(path.read_text())
    path.write_text(text, errors="surrogateescape")
    trainer = Trainer()
    with pytest.warns(UserWarning, match=fault) as caught:
        after = run_all(runs, trainer).records
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert trainer.asked == [[1]]
    assert [record["metrics"] for record in after] == [record["metrics"] for record in before]
    assert (tmp_path / f"{path.name}.corrupt").read_text(errors="surrogateescape") == text
    assert run_all(runs).trained == 0


def test_every_corruption_of_a_record_is_kept(run_all, tmp_path):
    run_all([make_run()])
    (path,) = tmp_path.glob("*.json")
    for text in ("first", "second", "third"):
        path.write_text(text)
        with pytest.warns(UserWarning, match="set aside"):
            assert run_all([make_run()]).trained == 1
    kept = [tmp_path / f"{path.name}.corrupt{number}" for number in ("", ".1", ".2")]
    assert [each.read_text() for each in kept] == ["first", "second", "third"]


def test_the_sha256_is_of_every_other_field(run_all):
    record = run_all([make_run()]).records[0]
    content = {name: value for name, value in record.items() if name != "sha256"}
    text = json.dumps(content, sort_keys=True)
    assert record["sha256"] == hashlib.sha256(text.encode()).hexdigest()


def test_file_names_say_what_they_hold_and_are_safe(run_all, tmp_path):
    unsafe = make_run(method="../a b:c*é", noise="(0.1, 0.3)", study="x" * 300)
    run_all([make_run(seed=3), unsafe])
    names = list_records(tmp_path)
    assert names[0].startswith("toy-sigmoid-symmetric_0.4-seed3-")
    for name in names:
        assert name.isascii()
        assert len(name) < 255
        assert not set(name) & set(' /\\:*?"<>|()')


def test_numpy_and_nan_values_come_back_as_plain_ones(run_all):
    def train(runs):
        for run in runs:
            metrics = {"a": np.float32(0.5), "b": np.nan}
            yield run, Result(metrics, [{"epoch": np.int64(1)}])

    new = run_all([make_run(seed=np.int64(2))], train).records[0]
    loaded = run_all([make_run(seed=2)]).records[0]
    assert new["metrics"]["a"] == loaded["metrics"]["a"] == 0.5
    assert np.isnan(loaded["metrics"]["b"])
    assert type(new["history"][0]["epoch"]) is int


def test_a_run_lacks_no_field():
    with pytest.raises(TypeError, match="noise"):
        Run(study="toy", method="sigmoid", seed=0)


def test_results_that_answer_no_run_are_refused(run_all):
    with pytest.raises(ValueError, match="not asked for"):
        run_all([make_run(0)], lambda runs: iter([(make_run(9), make_result(make_run(9)))]))
    with pytest.raises(ValueError, match="or twice"):
        run_all([make_run(0)], lambda runs: iter(2 * [(runs[0], make_result(runs[0]))]))
    with pytest.raises(RuntimeError, match="no result for 1 runs"):
        run_all([make_run(1), make_run(2)], lambda runs: iter([(runs[0], make_result(runs[0]))]))


@pytest.mark.parametrize(
    ("result", "field"),
    [
        (Result({}, None), "history"),
        (Result({}, {"epoch": 1}), "history"),
        (Result([0.5], []), "metrics"),
        ({"metrics": {}}, "metrics"),  # no Result
        (None, "metrics"),
    ],
)
def test_a_result_that_is_no_metrics_and_history_is_refused(run_all, tmp_path, result, field):
    with pytest.raises(ValueError, match=rf"cannot be recorded: its field '{field}'") as caught:
        run_all([make_run()], lambda runs: iter([(runs[0], result)]))
    assert "\n" not in str(caught.value)
    assert not list_records(tmp_path)


def test_records_hold_their_provenance_and_seconds(run_all):
    record = run_all([make_run()], provenance={"data": "made up"}).records[0]
    assert record["provenance"]["data"] == "made up"
    assert record["provenance"]["seconds"] >= 0


def test_tables_have_a_row_per_record_and_per_entry(run_all):
    new = run_all([make_run(0), make_run(1)]).records
    metrics = records.metrics_table(new)[["seed", "noise", "accuracy"]]
    history = records.history_table(new)[["seed", "epoch", "loss"]]
    assert metrics.to_numpy().tolist() == [[0, "symmetric-0.4", 0.5], [1, "symmetric-0.4", 1.5]]
    assert history.to_numpy().tolist() == [[0, 1, 1], [0, 2, 2], [1, 1, 2], [1, 2, 3]]


@pytest.mark.slow
def test_records_outlive_an_edit_of_the_code_until_the_version_is_raised(copy_package, tmp_path):
    """A study is trained, its code edited, its version raised, each time by a fresh import."""
    copy_package(tmp_path)
    (tmp_path / "notebooks" / "profiles").mkdir(parents=True)  # what makes a folder a clone
    code = """
        import sys
        from pathlib import Path
        from unittest import mock

        def count_trained():
            for name in [name for name in sys.modules if name.startswith(("sympo", "tiny_"))]:
                del sys.modules[name]
            from sympo.studies import mnist, sources
            from sympo.studies.mnist import study
            from sympo.studies.records import Result
            from tiny_mnist import banded_digits, make_run
            sources.mnist = banded_digits
            # What training gives is of no interest here, and it takes long.
            study._train_chunk = lambda runs, *_: [(run, Result({}, [])) for run in runs]
            config = mock.Mock(profile="smoke")
            config.runs.return_value = [make_run("sigmoid"), make_run("ramp")]
            return mnist.run_study(config).trained

        def edit(name, old, new):
            path = Path("sympo/studies/mnist") / name
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new))

        assert count_trained() == 2
        edit("network.py", "DROPOUT = 0.2", "DROPOUT = 0.25")
        edit("study.py", "def count_workers", "# to think about\\n\\n\\ndef count_workers")
        assert count_trained() == 0
        edit("study.py", "VERSION = ", "VERSION = 1000 + ")
        assert count_trained() == 2
    """
    path = [str(tmp_path), str(profiles.root() / "tests" / "studies")]
    program = f"import sys\nsys.path[:0] = {path}\n{textwrap.dedent(code)}"
    subprocess.run([sys.executable, "-B", "-c", program], cwd=tmp_path, check=True)
    assert len(list((tmp_path / "build" / "smoke" / "records").glob("*.json"))) == 4


def test_provenance_names_versions_and_imports_nothing_heavy():
    code = (
        "import sys; from sympo.studies import provenance; "
        "print(provenance.collect(data='d'), 'torch' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip().endswith("False")
    collected = ast.literal_eval(out.rsplit(" ", 1)[0])
    assert collected["numpy"] == np.__version__
    assert collected["data"] == "d"
    assert {"commit", "modified", "python", "platform", "cpu", "gpu", "threads"} <= set(collected)


def test_provenance_without_git_is_none(monkeypatch):
    monkeypatch.setenv("PATH", "")
    collected = provenance.collect()
    assert collected["commit"] is None
    assert collected["modified"] is None


def test_provenance_without_a_clone_is_none(monkeypatch, tmp_path):
    def no_clone():
        raise FileNotFoundError("studies need a clone")

    for root in (no_clone, lambda: tmp_path):  # nowhere, and in a folder that is no repository
        monkeypatch.setattr(profiles, "root", root)
        collected = provenance.collect()
        assert collected["commit"] is None
        assert collected["modified"] is None


def test_a_copy_inside_another_repository_has_not_that_ones_commit(monkeypatch, tmp_path):
    def git(*arguments):
        settings = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", tmp_path, *settings, *arguments], check=True)

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message=theirs")
    copy = tmp_path / "copy"
    copy.mkdir()
    monkeypatch.setattr(profiles, "root", lambda: copy)
    monkeypatch.delenv("SYMPO_COMMIT", raising=False)
    assert provenance.collect()["commit"] is None
    monkeypatch.setenv("SYMPO_COMMIT", "0123abc")
    collected = provenance.collect()
    assert (collected["commit"], collected["modified"]) == ("0123abc", None)
    monkeypatch.setenv("SYMPO_COMMIT", "0123abc-dirty")
    collected = provenance.collect()
    assert (collected["commit"], collected["modified"]) == ("0123abc", True)
    monkeypatch.setenv("SYMPO_COMMIT", "main")
    with pytest.raises(ValueError, match="SYMPO_COMMIT is 'main'"):
        provenance.collect()
    # where git knows, it is git that is asked
    monkeypatch.setattr(profiles, "root", lambda: tmp_path)
    assert provenance.collect()["commit"] not in (None, "main")


def test_provenance_without_metadata_leaves_versions_out(monkeypatch):
    def no_metadata(name):
        raise provenance.PackageNotFoundError(name)

    monkeypatch.setattr(provenance, "version", no_metadata)
    collected = provenance.collect()
    assert "numpy" not in collected
    assert collected["python"]


def test_progress_goes_to_the_named_file_alone(tmp_path, monkeypatch, capfd):
    path = tmp_path / "progress"
    monkeypatch.setenv("SYMPO_PROGRESS", str(path))
    assert list(progress.progress(range(3), "training")) == [0, 1, 2]
    with progress.progress(5, "second") as bar:
        bar.update(5)
    text = path.read_text()
    assert "training: 100%" in text
    assert "3/3" in text
    assert "second: 100%" in text
    assert capfd.readouterr() == ("", "")


def test_progress_is_for_people(monkeypatch):
    monkeypatch.delenv("SYMPO_PROGRESS", raising=False)
    shown = {}
    for person in (False, True):
        stream = io.StringIO()
        stream.isatty = lambda person=person: person
        monkeypatch.setattr(sys, "stderr", stream)
        list(progress.progress(range(3), "training"))
        shown[person] = stream.getvalue()
    assert shown[False] == ""
    assert "training" in shown[True]


NOTEBOOK = """
import time
from sympo.studies import progress
with progress.stage("reading"):
    time.sleep(0.1)
for step in progress.progress(range(3), "training"):
    time.sleep(0.3)
print("trained")
"""


@pytest.mark.parametrize("place", ["no folder/progress", "a folder", "a file/progress"])
def test_progress_that_cannot_be_written_stops_nothing(tmp_path, monkeypatch, place):
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a file").write_text("")
    monkeypatch.setenv("SYMPO_PROGRESS", str(tmp_path / place))
    with progress.stage("reading"):
        assert list(progress.progress(range(3), "training")) == [0, 1, 2]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"RANK": "1"}, "RANK is 1 and WORLD_SIZE is not set: unset RANK"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE is 2"),
        ({"RANK": "first"}, "RANK is 'first': unset it"),
        ({"RANK": "-1", "WORLD_SIZE": "2"}, "RANK is '-1'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0': unset it, or give 1 or more"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE is '2.0'"),
        ({"WORLD_SIZE": "9" * 5000}, "WORLD_SIZE is '999"),
    ],
)
def test_processes_that_cannot_be_are_refused_before_anything_is_trained(
    run_all, monkeypatch, variables, said
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    trainer = Trainer()
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        run_all([make_run()], trainer)
    assert not trainer.asked
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("variables", "processes", "main"),
    [({}, 1, True), ({"RANK": "0"}, 1, True), ({"RANK": "1", "WORLD_SIZE": "2"}, 2, False)],
)
def test_processes_that_can_be(monkeypatch, variables, processes, main):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert progress.processes() == processes
    assert progress.is_main_process() == main


def test_what_is_under_way_is_a_line_of_the_file_of_progress(monkeypatch, tmp_path):
    monkeypatch.setenv("SYMPO_PROGRESS", str(tmp_path / "bars"))
    with progress.stage("reading MNIST"):
        assert (tmp_path / "bars").read_text() == "reading MNIST …\n"


@pytest.mark.slow
def test_progress_in_a_notebook_is_seen_and_leaves_nothing(monkeypatch):
    """A kernel as JupyterLab starts it; what the cell sends, and what is saved of it."""
    monkeypatch.delenv("SYMPO_PROGRESS", raising=False)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    sent = []

    class Watching(NotebookClient):
        def process_message(self, message, cell, index):
            sent.append(message)
            return super().process_message(message, cell, index)

    Watching(notebook, kernel_name="python3").execute()
    shown = [
        message["content"]["data"].get("text/plain", "")
        for message in sent
        if message["msg_type"] in ("display_data", "update_display_data")
    ]
    assert any("training" in text and "3/3" in text for text in shown)
    assert shown[0] == "reading …"
    *lines, printed = notebook.cells[0].outputs
    assert [line.data for line in lines] == [{}, {}]
    assert printed.text == "trained\n"
