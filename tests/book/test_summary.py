"""The table that `make paper` ends with."""

import time

from miniature import write_twin

from sympo.book import execute, summary


def read_rows(text):
    return {line.split("  ")[0]: line for line in text.splitlines()}


def test_it_says_time_models_and_results(root):
    save = "from pathlib import Path\nfrom sympo.studies import profiles\n"
    save += "print('trained 3, loaded 97; runs without a record: 2')\nprint('trained 1, loaded 0')"
    write_twin(root, "03_three", save)
    began = time.time()
    execute.run("03_three", "smoke")
    rows = read_rows(summary.write_summary("smoke", since=began))
    assert "4 trained, 97 loaded" in rows["03_three"]
    assert " s " in rows["03_three"]
    # never run, and so not of this make
    assert "up to date" in rows["01_one"]
    assert "trained" not in rows["01_one"]
    later = read_rows(summary.write_summary("smoke", since=time.time() + 1))
    assert "up to date" in later["03_three"]


def test_an_exercise_is_not_noted(root):
    cell = "print(size)"
    write_twin(root, "03_three", cell, parameters='profile = "auto"\nsize = 1')
    execute.run("03_three", "smoke", size=7)
    assert "up to date" in read_rows(summary.write_summary("smoke", since=1))["03_three"]


def test_durations():
    assert [summary.describe_duration(seconds) for seconds in (0.4, 59.6, 125)] == [
        "0 s",
        "1 min 0 s",
        "2 min 5 s",
    ]
