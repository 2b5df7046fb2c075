"""What notebooks 05 and 06 read of profile gpu."""

import json

import pandas as pd
import pytest

from sympo.book.full_grid import read_full_grid
from sympo.studies import profiles


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "root", lambda: tmp_path)
    folder = tmp_path / "figures" / "gpu" / "data"
    folder.mkdir(parents=True)
    return folder


def write_origin(folder):
    machines = ["torch 2.11 · Linux · a processor · NVIDIA A", "torch 2.9 · Linux · another · B"]
    text = json.dumps({"trained_with": machines, "training_seconds": 77})
    (folder / "05_mnist_losses.json").write_text(text)


def test_tables_come_with_their_origin(data):
    write_origin(data)
    for number, stem in enumerate(("fig_a", "fig_b")):
        pd.DataFrame({"x": [number]}).to_csv(data / f"{stem}.csv", index=False)
    (a, b), origin = read_full_grid("05_mnist_losses", "fig_a", "fig_b")
    assert (a.x.item(), b.x.item()) == (0, 1)
    assert origin == "profile gpu, trained on B, NVIDIA A in 77 seconds"


@pytest.mark.parametrize("there", ["origin", "table"])
def test_without_one_of_them_a_sentence_says_what_to_do(data, there):
    if there == "origin":
        write_origin(data)
    else:
        (data / "fig_a.csv").write_text("x")
    with pytest.raises(FileNotFoundError, match="no results of mnist_losses: git checkout"):
        read_full_grid("05_mnist_losses", "fig_a")
