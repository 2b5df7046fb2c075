import ast
import io
import json
import platform
import subprocess
import sys
import types

import numpy as np
import pytest

from sympo.book import figures
from sympo.studies import progress, records


def make_config(seed=0, **others):
    return {"study": "toy", "method": "sigmoid", "noise": 0.4, "seed": seed, "epochs": 2, **others}


def make_result(config):
    seed = config["seed"]
    return {
        "metrics": {"accuracy": 0.5 + seed},
        "history": [{"epoch": e, "loss": seed + e} for e in (1, 2)],
    }


class Trainer:
    """Yields results in reverse order, and notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, configs):
        self.asked.append([config["seed"] for config in configs])
        for config in reversed(configs):
            yield config, make_result(config)


@pytest.fixture
def runs(tmp_path):
    def call(configs, train=None, version="v1", **options):
        return records.run_all(
            configs, train or Trainer(), folder=tmp_path, version=version, **options
        )

    return call


def test_a_second_call_loads_what_the_first_trained(runs):
    configs = [make_config(seed) for seed in range(3)]
    trainer = Trainer()
    first, second = runs(configs, trainer), runs(configs, trainer)
    assert (str(first), str(second)) == ("trained 3, loaded 0", "trained 0, loaded 3")
    assert trainer.asked == [[0, 1, 2]]
    assert first.records == second.records
    assert [record["config"] for record in second.records] == configs


def test_only_missing_configs_are_trained_and_order_is_kept(runs):
    runs([make_config(1)])
    trainer = Trainer()
    result = runs([make_config(2), make_config(1), make_config(0)], trainer)
    assert trainer.asked == [[2, 0]]
    assert [record["metrics"]["accuracy"] for record in result.records] == [2.5, 1.5, 0.5]
    assert str(result) == "trained 2, loaded 1"


def test_any_field_and_the_version_tell_records_apart(runs, tmp_path):
    for config, version in (
        (make_config(), "v1"),
        (make_config(epochs=3), "v1"),
        (make_config(), "v2"),
    ):
        assert runs([config], version=version).trained == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"] * 3


def test_one_config_twice_is_trained_once(runs):
    trainer = Trainer()
    result = runs([make_config(), make_config()], trainer)
    assert trainer.asked == [[0]]
    assert len(result.records) == 2


def test_an_interrupt_keeps_what_was_finished(runs, tmp_path):
    def interrupted(configs):
        yield configs[0], make_result(configs[0])
        raise KeyboardInterrupt

    configs = [make_config(seed) for seed in range(3)]
    with pytest.raises(KeyboardInterrupt):
        runs(configs, interrupted)
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]
    trainer = Trainer()
    assert str(runs(configs, trainer)) == "trained 2, loaded 1"
    assert trainer.asked == [[1, 2]]


def test_an_interrupt_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    records.write_atomically(path, "old")

    def interrupt(*_):
        raise KeyboardInterrupt

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(records.os, step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                records.write_atomically(path, "new")
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]
    records.write_atomically(path, "new")
    assert path.read_text() == "new"


def corrupt_config(text):
    return json.dumps({**json.loads(text), "config": make_config(seed=7)})


@pytest.mark.parametrize(
    ("corrupt", "fault"),
    [
        (lambda text: text[: len(text) // 2], "line"),
        (lambda text: "", "Expecting value"),
        (lambda text: "[]", "not a JSON object"),
        (lambda text: "\udcff", "utf-8"),
        (lambda text: text.replace('"metrics"', '"metric"'), "field 'metrics'"),
        (lambda text: text.replace('"history": [', '"history": 3, "rest": ['), "field 'history'"),
        (lambda text: text.replace('"v1"', '"v0"'), "config and version"),
        (corrupt_config, "config and version"),
    ],
)
def test_a_corrupt_record_is_set_aside_and_made_again(runs, tmp_path, corrupt, fault):
    configs = [make_config(0), make_config(1)]
    before = runs(configs).records
    path = next(tmp_path.glob("*-seed1-*.json"))
    text = corrupt(path.read_text())
    path.write_text(text, errors="surrogateescape")
    trainer = Trainer()
    with pytest.warns(UserWarning, match=fault) as caught:
        after = runs(configs, trainer)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert trainer.asked == [[1]]
    assert [record["metrics"] for record in after.records] == [
        record["metrics"] for record in before
    ]
    assert (tmp_path / f"{path.name}.corrupt").read_text(errors="surrogateescape") == text
    assert runs(configs).trained == 0


def test_file_names_say_what_they_hold_and_are_safe(runs, tmp_path):
    runs(
        [make_config(seed=3), make_config(method="../a b:c*é", noise="(0.1, 0.3)", study="x" * 300)]
    )
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names[0].startswith("toy-sigmoid-0.4-seed3-")
    assert all(
        name.isascii() and len(name) < 255 and not set(name) & set(' /\\:*?"<>|()')
        for name in names
    )


def test_numpy_and_nan_values_come_back_as_plain_ones(runs):
    def train(configs):
        for config in configs:
            yield (
                config,
                {
                    "metrics": {"a": np.float32(0.5), "b": np.nan},
                    "history": [{"epoch": np.int64(1)}],
                },
            )

    made = runs([make_config(seed=np.int64(2))], train).records[0]
    loaded = runs([make_config(seed=2)]).records[0]
    assert made["metrics"]["a"] == loaded["metrics"]["a"] == 0.5
    assert np.isnan(loaded["metrics"]["b"])
    assert type(made["history"][0]["epoch"]) is int


def test_bad_configs_and_results_are_refused(runs):
    incomplete = make_config()
    del incomplete["noise"]
    with pytest.raises(ValueError, match="no field 'noise'"):
        runs([incomplete])
    with pytest.raises(ValueError, match="not asked for"):
        runs(
            [make_config(0)], lambda configs: iter([(make_config(9), make_result(make_config(9)))])
        )
    with pytest.raises(ValueError, match="'history'"):
        runs([make_config(0)], lambda configs: iter([(configs[0], {"metrics": {}})]))
    with pytest.raises(RuntimeError, match="no result for 1 configs"):
        runs(
            [make_config(0), make_config(1)],
            lambda configs: iter([(configs[0], make_result(configs[0]))]),
        )


def test_records_hold_their_provenance_and_seconds(runs):
    record = runs([make_config()], provenance={"data": "made up"}).records[0]
    assert record["provenance"]["data"] == "made up"
    assert record["provenance"]["seconds"] >= 0


def test_run_makes_one_record(tmp_path):
    calls = []

    def fn(config):
        calls.append(config)
        return make_result(config)

    for _ in range(2):
        record = records.run(make_config(4), fn, folder=tmp_path, version="v1")
    assert record["metrics"] == {"accuracy": 4.5}
    assert calls == [make_config(4)]


def test_tables_have_a_row_per_record_and_per_entry(runs):
    records = runs([make_config(0), make_config(1)]).records
    metrics, history = records.metrics_table(records), records.history_table(records)
    assert metrics[["seed", "noise", "accuracy"]].to_numpy().tolist() == [
        [0, 0.4, 0.5],
        [1, 0.4, 1.5],
    ]
    assert history[["seed", "epoch", "loss"]].to_numpy().tolist() == [
        [0, 1, 1],
        [0, 2, 2],
        [1, 1, 2],
        [1, 2, 3],
    ]


SOURCE = '''"""About."""
RATE = 0.1

def double(x):
    """Twice x."""
    return 2 * x
'''


@pytest.fixture
def version_of(tmp_path):
    def version(*sources):
        modules = []
        for index, source in enumerate(sources):
            modules.append(types.ModuleType(f"m{index}"))
            modules[-1].__file__ = str(tmp_path / f"m{index}.py")
            (tmp_path / f"m{index}.py").write_text(source)
        return {records.code_version(*modules), records.code_version(*reversed(modules))}

    return version


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""About."""', '"""About this."""'),
        ('    """Twice x."""\n', ""),
        ("0.1\n", "0.1  # the rate\n\n\n"),
        ("2 * x", "(2\n            * x)"),
    ],
)
def test_comments_docstrings_and_layout_keep_the_version(version_of, old, new):
    assert old in SOURCE
    assert version_of(SOURCE) == version_of(SOURCE.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"), [("0.1", "0.2"), ("2 * x", "x * 2"), ("(x)", "(x=1)"), ("RATE", "LEVEL")]
)
def test_a_changed_constant_or_formula_changes_the_version(version_of, old, new):
    assert old in SOURCE
    assert version_of(SOURCE) != version_of(SOURCE.replace(old, new))


def test_the_version_covers_every_module_in_any_order(version_of):
    assert len(version_of(SOURCE, "A = 1")) == 1
    assert version_of(SOURCE, "A = 1") != version_of(SOURCE, "A = 2")


def test_provenance_names_versions_and_imports_nothing_heavy():
    code = "import sys; from sympo import store; p = provenance.collect(data='d'); print(p, 'torch' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip().endswith("False")
    made = ast.literal_eval(out.rsplit(" ", 1)[0])
    assert made["numpy"] == np.__version__
    assert made["data"] == "d"
    assert {"commit", "modified", "python", "platform", "cpu", "gpu", "threads"} <= made.keys()


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


def test_provenance_is_saved_beside_the_csv(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMPO_FIGURES", str(tmp_path))
    records = [{"provenance": {"seconds": seconds}} for seconds in (1.6, 2.6)]
    shown = figures.save_provenance("05_made_up", records, profile="smoke", data="made up")
    saved = json.loads((tmp_path / "data" / "05_made_up.json").read_text())
    assert saved["training_seconds"] == 4
    assert saved["trained_with"] == ["None · None · None · None · None"]
    assert saved["data"] == "made up"
    assert saved["python"] == platform.python_version()
    assert "training_seconds" not in shown.index  # a notebook's outputs hold no timings
