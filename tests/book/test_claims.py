"""The map of claims: every entry leads somewhere, and a verdict is what the data say."""

import nbformat
import pandas as pd
import pytest
import yaml

from sympo.book import claims, twins
from sympo.studies import profiles

CLAIMS = yaml.safe_load((profiles.root() / "notebooks" / "claims.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim["notebook"])
def test_every_claim_names_a_notebook_and_a_result_it_makes(claim):
    assert set(claim) <= {"claim", "paper", "notebook", "table", "row"}
    # a ValueError where there is no such notebook
    stems = twins.saved_stems(twins.twin(claim["notebook"]))
    assert claim.get("table") in {*stems, None}


MEASURED = {
    "claim": "a",
    "paper": "1",
    "notebook": "05",
    "table": "table1",
    "row": {"method": "ramp"},
}
DERIVED = {"claim": "b", "paper": "2", "notebook": "01"}


def write_world(tmp_path, monkeypatch, *, verdict: str, checks: list):
    """A repository with one measured and one derived claim."""
    (tmp_path / "notebooks").mkdir()
    data = tmp_path / "build" / "laptop" / "figures" / "data"
    data.mkdir(parents=True)
    text = yaml.safe_dump([MEASURED, DERIVED])
    (tmp_path / "notebooks" / "claims.yaml").write_text(text)
    rows = [("ramp", 0.1, 0.05, 0.15, 5, verdict), ("sigmoid", 9.0, 9.0, 9.0, 9, "contradicted")]
    table = pd.DataFrame(rows, columns=["method", "estimate", "low", "high", "n", "verdict"])
    table.to_csv(data / "table1.csv", index=False)
    tags = {"tags": ["check"]}
    cells = [nbformat.v4.new_code_cell("assert True", metadata=tags, **check) for check in checks]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "01.ipynb")
    monkeypatch.setattr(profiles, "root", lambda: tmp_path)
    return data


PASSED = {"execution_count": 1}
FAILED = {
    "execution_count": 2,
    "outputs": [nbformat.v4.new_output("error", ename="AssertionError", evalue="")],
}
NOT_RUN = {"execution_count": None}


@pytest.mark.parametrize("verdict", ["reproduced", "contradicted"])
def test_a_measured_verdict_is_that_of_its_row(tmp_path, monkeypatch, verdict):
    write_world(tmp_path, monkeypatch, verdict=verdict, checks=[PASSED])
    row = claims.judge_claims("laptop").iloc[0]
    assert (row.verdict, row.evidence) == (verdict, "+0.100 (+0.050 to +0.150), n = 5")


def test_a_result_that_is_missing_gives_no_verdict(tmp_path, monkeypatch):
    data = write_world(tmp_path, monkeypatch, verdict="reproduced", checks=[PASSED])
    (data / "table1.csv").unlink()
    assert claims.judge_claims("laptop").verdict[0] == "not measured"


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ([PASSED] * 2, "derived"),
        ([PASSED, FAILED], "not checked"),
        ([NOT_RUN], "not checked"),
        ([], "not checked"),
    ],
)
def test_a_derivation_holds_when_every_check_passed(tmp_path, monkeypatch, checks, verdict):
    write_world(tmp_path, monkeypatch, verdict="reproduced", checks=checks)
    row = claims.judge_claims("laptop").iloc[1]
    assert row.verdict == verdict
    assert row.evidence.startswith(f"{checks.count(PASSED)} of {len(checks)} ")


def test_results_are_those_the_notebooks_save():
    results = claims.list_results("laptop").set_index("result")
    assert results.notebook["fig1_mnist_losses"] == "05_mnist_losses"
    needs_gpu = results.notebook.isin(["10_hh", "11_ultrafeedback"])
    # what is committed for laptop is complete
    assert (results.profile[~needs_gpu] == "laptop").all()
    assert set(results.profile[needs_gpu]) <= {"gpu", "not made yet"}


def test_a_laptop_shows_what_a_gpu_measured_and_says_so(tmp_path, monkeypatch):
    data = write_world(tmp_path, monkeypatch, verdict="reproduced", checks=[PASSED])
    (tmp_path / "figures" / "gpu").mkdir(parents=True)
    data.rename(tmp_path / "figures" / "gpu" / "data")
    row = claims.judge_claims("laptop").iloc[0]
    assert row.verdict == "reproduced"
    assert row.evidence == "+0.100 (+0.050 to +0.150), n = 5, profile gpu"
    assert claims.judge_claims("smoke").verdict[0] == "not measured"


@pytest.mark.parametrize("place", ["build/laptop/custom", "figures/smoke"])
def test_an_exercise_is_no_evidence_for_a_claim(tmp_path, monkeypatch, place):
    data = write_world(tmp_path, monkeypatch, verdict="reproduced", checks=[PASSED])
    folder = tmp_path / place
    folder.mkdir(parents=True)
    data.rename(folder / "data")
    assert claims.judge_claims("laptop").verdict[0] == "not measured"


def test_a_run_of_ones_own_goes_before_the_committed_one(tmp_path, monkeypatch):
    data = write_world(tmp_path, monkeypatch, verdict="reproduced", checks=[PASSED])
    committed = tmp_path / "figures" / "laptop" / "data"
    committed.mkdir(parents=True)
    text = (data / "table1.csv").read_text()
    (committed / "table1.csv").write_text(text.replace("reproduced", "contradicted"))
    assert claims.judge_claims("laptop").verdict[0] == "reproduced"
    (data / "table1.csv").unlink()
    assert claims.judge_claims("laptop").verdict[0] == "contradicted"
