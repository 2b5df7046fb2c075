"""Notebook 15's example, its audits of published files, and Figure 15."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from sympo import preferences
from sympo.book import figures, your_data
from sympo.studies import profiles
from sympo.studies.alignment import gold


@pytest.fixture(scope="module")
def config():
    return profiles.section_config(your_data.YourDataConfig, "your_data", "smoke")


def test_the_better_review_comes_first():
    rows = your_data.draw_comparisons(50, seed=0)
    assert len(rows) == 50
    assert all(gold.reward(better) > gold.reward(worse) for _, better, worse in rows)
    assert rows == your_data.draw_comparisons(50, seed=0) != your_data.draw_comparisons(50, seed=1)


def test_a_file_has_its_rows_and_three_that_are_broken(tmp_path):
    rows = [
        {"prompt": prompt, "chosen": better, "rejected": worse}
        for prompt, better, worse in your_data.draw_comparisons(20, seed=0)
    ]
    path = tmp_path / "folder" / "reviews.jsonl"
    your_data.write_file(path, rows)
    assert [json.loads(line) for line in path.read_text().splitlines()[:20]] == rows
    report = preferences.read_pairs(path).report
    assert (report.kept, report.malformed.total()) == (20, 3)


def test_published_files_are_audited_where_they_are(
    config, write_preferences, tmp_path, monkeypatch
):
    monkeypatch.setenv("SYMPO_DATA", str(write_preferences(tmp_path)))
    audits, table, where = your_data.find_audits(config)
    assert [each.source for each in audits] == ["hh helpful-base/test", "ultrafeedback test"]
    assert list(table.rows) == [each.findings.rows for each in audits]
    assert where == "Audited here."


def test_without_the_files_the_committed_table_is_shown(config, monkeypatch):
    def refuse(*names):
        raise your_data.AssetError("there is no network")

    monkeypatch.setattr(your_data.comparisons, "LOADERS", {"hh": refuse, "ultrafeedback": refuse})
    audits, table, where = your_data.find_audits(config)
    committed = profiles.find_result("laptop", "data/table15_audits.csv")
    pd.testing.assert_frame_equal(table, pd.read_csv(committed))
    assert audits == []
    assert "there is no network" in where


def test_figure_15_draws_every_interval_and_marks_the_misses():
    table = pd.DataFrame(
        {
            "route": ["a"] * 4 + ["b"] * 2,
            "noise_rate": [0.1, 0.1, 0.3, 0.3, 0.1, 0.3],
            "seed": [0, 1, 0, 1, 0, 0],
            "low": [0.05, 0.12, 0.2, 0.25, 0.0, 0.0],
            "high": [0.15, 0.2, 0.4, 0.35, 0.2, 0.4],
        }
    )
    table["covered"] = table.noise_rate.between(table.low, table.high)
    axes = figures.fig15_noise_routes(table).axes
    assert [axis.get_title() for axis in axes] == ["a", "b"]
    drawn = {
        tuple(np.round(segment[:, 1], 6)): to_hex(lines.get_color()[0])
        for axis in axes
        for lines in axis.collections
        for segment in lines.get_segments()
    }
    assert set(drawn) == {*zip(table.low, table.high, strict=True)}
    missed = drawn.pop((0.12, 0.2))
    assert set(drawn.values()) == {drawn[0.05, 0.15]} != {missed}
    assert [text.get_text() for text in axes[0].texts] == ["1", "2"]
