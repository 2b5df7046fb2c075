"""The map of claims: every claim of the paper is there, leads somewhere, and can come out wrong."""

import inspect
import os
import re
from functools import cache
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
import yaml

from sympo.audit import advice
from sympo.book import claims, twins
from sympo.studies import profiles

CLAIMS = claims.read_claims()
TAG = re.compile("claim-")


def product_of(text, **values):
    """`text` for every combination of values, each a list."""
    ids = [text]
    for key, options in values.items():
        ids = [each.replace(f"{{{key}}}", str(option)) for each in ids for option in options]
    return ids


# What the paper's summary says, heading by heading, against the ids that answer for it.
LOSSES = {"method": ["sigmoid", "ramp"], "baseline": ["logistic", "hinge"]}
POLICIES = {
    "method": ["sympo_sigmoid", "sympo_ramp"],
    "baseline": ["dpo", "cdpo", "rdpo", "ropo"],
}
REGIMES = ["fresh", "memorised"]
SUMMARY = {
    "more than 40% noise, reward accuracy, at both epochs": product_of(
        "mnist-{method}-{baseline}-{rate}-{epoch}",
        **LOSSES,
        rate=[0.4, 0.45],
        epoch=["final", "chosen"],
    ),
    "more than 30% noise, reward accuracy": product_of(
        "mnist-{method}-{baseline}-0.3-{epoch}", **LOSSES, epoch=["final", "chosen"]
    ),
    "more than 30% noise, win rates": product_of(
        "{data}-{method}-{baseline}-{rate}",
        **POLICIES,
        data=["hh", "ultrafeedback"],
        rate=[0.3, 0.4],
    )
    + product_of(
        "{data}-{regime}-{method}-dpo-{rate}",
        data=["gold"],
        regime=REGIMES,
        method=POLICIES["method"],
        rate=[0.3, 0.4],
    )
    + product_of(
        "gold-told-{regime}-{method}-{baseline}-0.4",
        regime=REGIMES,
        method=POLICIES["method"],
        baseline=["cdpo", "rdpo", "ropo"],
    ),
    "mechanism 1": ["classification"],
    "mechanism 2": ["noise-equivalence"],
    "mechanism 3": [
        "same-minimisers",
        "symmetric-family",
        "calibration",
        "rank-preservation",
        "policy-improvement",
    ],
    "rank against magnitude": ["no-magnitudes"],
    "no noise rate to be told": ["correction"],
    "degrades under high noise": [
        "gradient",
        *product_of("poor-policy-{regime}-dpo", regime=REGIMES),
        "falls-behind-ramp-logistic-0.45-final",
        "falls-behind-ramp-hinge-0.45-final",
    ],
    "the wrong loss": ["logistic-reverses", "not-calibrated"],
    "harder to optimise": product_of(
        "harder-to-optimise-{method}-{baseline}-{epoch}", epoch=["final", "chosen"], **LOSSES
    ),
    "experiment 1": product_of("ablation-{method}-{baseline}-0.2-final", **LOSSES),
    "experiment 2": ["equivalence-accuracy", "equivalence-rankings"],
    "experiment 3": product_of(
        "end-to-end-{method}-{baseline}-0.4", method=POLICIES["method"], baseline=["dpo", "rdpo"]
    ),
    "open question 1": ["finite-samples"],
    "open question 2": ["instance-dependent-noise"],
    "open question 3": ["symmetric-and-cpe"],
}


@pytest.mark.parametrize("ids", SUMMARY.values(), ids=SUMMARY)
def test_every_claim_of_the_paper_has_its_row(ids):
    assert set(ids) <= {claim.id for claim in CLAIMS}


def test_the_rows_are_those_and_what_is_ours():
    expected = {name for ids in SUMMARY.values() for name in ids}
    rest = [claim for claim in CLAIMS if claim.id not in expected]
    assert {claim.id for claim in rest if claim.group != "beyond the paper"} == {"policy-origin"}
    assert len({claim.id for claim in CLAIMS}) == len(CLAIMS)
    assert {claim.group for claim in CLAIMS} == set(claims.GROUPS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_what_decides_a_claim_is_made_by_its_notebook(claim):
    if claim.notebook is None:
        assert (claim.table, claim.check, claim.figure) == (None, None, None)
        return
    # a ValueError where there is no such notebook
    stems = twins.saved_stems(twins.twin(claim.notebook))
    assert {claim.figure, claim.table} <= {*stems, None}
    assert bool(claim.table) != bool(claim.check)
    # the cells with its tag, or the one that saves its table
    assert claims.find_heading(claim, read(claim.notebook))


@cache
def read(name):
    return twins.read_twin(name)


def list_tags():
    """Tag → the notebooks that have it."""
    tags = {}
    for name in twins.notebooks():
        for cell in read(name).cells:
            for tag in filter(TAG.match, cell.metadata.get("tags", [])):
                assert "check" in cell.metadata.tags, f"{name}: {tag} on a cell that checks nothing"
                tags.setdefault(tag, set()).add(name)
    return tags


def test_every_tag_is_a_claims_and_every_derived_claims_tag_is_in_its_notebook():
    derived = {(claim.check, claim.notebook) for claim in CLAIMS if claim.check}
    tagged = {(tag, name) for tag, names in list_tags().items() for name in names}
    assert tagged == derived


def test_every_link_leads_to_a_heading_or_a_result():
    table = claims.judge_claims("laptop").set_index("id")
    for claim in CLAIMS:
        links = re.findall(r"\[([^]]+)\]\(([^)]+)\)", table["decided by"][claim.id])
        assert bool(links) == bool(claim.notebook)
        for text, target in links:
            path, _, anchor = target.partition("#")
            if path.endswith(".ipynb"):
                assert (profiles.root() / "notebooks" / path).is_file()
                assert unquote(anchor) in list_anchors(claim.notebook)
            else:
                # words for the reader, and the file behind them
                assert re.fullmatch(r"Figure \S+( \([^_]+\))?|table [^_]+", text)
                folder, file = os.path.split(path)
                assert folder in ("../figures/laptop", "../figures/gpu")
                assert file in (f"{claim.figure}.png", f"{claim.figure}.md", f"{claim.table}.md")
                assert text.startswith("Figure") == file.endswith(".png")


def list_anchors(name):
    sources = [cell.source for cell in read(name).cells if cell.cell_type == "markdown"]
    lines = [line for source in sources for line in source.splitlines()]
    return {re.sub("^#+ ", "", line).replace(" ", "-") for line in lines if re.match("#+ ", line)}


def test_every_verdict_is_one_of_the_known():
    verdicts = set(claims.judge_claims("laptop").verdict)
    assert verdicts <= {
        "derived",
        "reproduced",
        "contradicted",
        "no difference larger than 0.02",
        "not seen at this scale",
        "not checked",
        "not measured",
    }


# A world of two claims

MEASURED = {
    "id": "a",
    "group": "key result: win rate",
    "claim": "a is better",
    "paper": "1",
    "notebook": "05_b",
    "table": "table1",
    "row": {"method": "ramp", "noise_rate": 0.4},
}
DERIVED = {
    "id": "b",
    "group": "mechanism",
    "claim": "b holds",
    "paper": "2",
    "notebook": "01_a",
    "check": "claim-b",
}
PASSED = {"execution_count": 1}
FAILED = {
    "execution_count": 2,
    "outputs": [nbformat.v4.new_output("error", ename="AssertionError", evalue="")],
}
BROKEN = {
    "execution_count": 2,
    "outputs": [nbformat.v4.new_output("error", ename="ImportError", evalue="")],
}
NOT_RUN = {"execution_count": None}


class World:
    """A repository with one measured and one derived claim."""

    def __init__(self, root):
        self.root = root
        self.notebooks = root / "notebooks"
        self.data = root / "build" / "laptop" / "figures" / "data"
        self.data.mkdir(parents=True)
        (self.notebooks / "src").mkdir(parents=True)
        cell = '# %% [markdown]\n# # One\n\n# %% tags=["check", "claim-b"]\nassert 1\n'
        (self.notebooks / "src" / "01_a.py").write_text(cell)
        save = 'figures.save_table(table, "table1", profile=profile)'
        (self.notebooks / "src" / "05_b.py").write_text(f"# %% [markdown]\n# # B\n\n# %%\n{save}\n")
        self.write_claims(MEASURED, DERIVED)
        self.write_table()
        self.write_checks("notebooks/01_a.ipynb", PASSED)

    def write_claims(self, *entries):
        (self.notebooks / "claims.yaml").write_text(yaml.safe_dump(list(entries)))

    def write_table(
        self, *, estimate=0.1, low=0.05, high=0.15, n=5, verdict="reproduced", folder=None
    ):
        rows = [
            ("ramp", 0.4, estimate, low, high, n, 0.01, verdict),
            ("ramp", 0.2, 9.0, 9.0, 9.0, 9, 0.01, "contradicted"),
            ("sigmoid", 0.4, 9.0, 9.0, 9.0, 9, 0.01, "contradicted"),
        ]
        columns = ["method", "noise_rate", "estimate", "low", "high", "n", "p_holm", "verdict"]
        folder = folder or self.data
        folder.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows, columns=columns).to_csv(folder / "table1.csv", index=False)

    def write_checks(self, path, *checks, tag="claim-b", age=0):
        """A notebook whose cells with the tag ran as `checks`, beside one of another claim."""
        tagged = {"tags": ["check", tag]}
        cells = [
            nbformat.v4.new_code_cell("assert 1", metadata=tagged, **check) for check in checks
        ]
        other = {"tags": ["check", "claim-c"]}
        cells.append(nbformat.v4.new_code_cell("assert 0", metadata=other, **FAILED))
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=cells), target)
        os.utime(target, (1e9 - age, 1e9 - age))


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "root", lambda: tmp_path)
    return World(tmp_path)


def judge(profile="laptop"):
    return claims.judge_claims(profile).set_index("id")


@pytest.mark.parametrize("verdict", ["reproduced", "contradicted"])
def test_a_measured_verdict_is_that_of_its_row(world, verdict):
    world.write_table(verdict=verdict)
    row = judge().loc["a"]
    assert (row.verdict, row.evidence) == (verdict, "+0.100 (+0.050 to +0.150), n = 5")


def test_of_two_seeds_no_interval_is_shown(world):
    world.write_table(low=None, high=None, n=2, verdict="not seen at this scale")
    row = judge().loc["a"]
    # the study has only begun
    assert (row.verdict, row.evidence) == ("not measured", "+0.100, n = 2, too few to tell")


def test_a_row_of_too_few_seeds_is_not_measured_and_says_so(world):
    world.write_table(low=None, high=None, n=4, verdict="not measured", estimate=None)
    row = judge().loc["a"]
    assert (row.verdict, row.evidence) == ("not measured", "measured in too few seeds: 4")


# What the summary says of standard losses, and what the paper asks at one β: the same of SymPO
# losses, at other β, at equal KL and in other units are questions of this companion's.
OURS = "gold-(own-beta|equal-kl|accuracy|falls-less)-.*|poor-policy-.*-sympo_.*"


def test_what_the_paper_does_not_claim_is_beyond_it():
    found = [claim for claim in CLAIMS if re.fullmatch(OURS, claim.id)]
    assert len(found) == 3 * 8 + 4 + 4
    assert {(claim.group, claim.paper) for claim in found} == {("beyond the paper", "ours")}


def test_the_largest_of_several_gains_is_no_claim_about_one():
    assert not [claim.id for claim in CLAIMS if re.search("15.points|15%", claim.claim)]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.02, 0.02, "reproduced"),
        (-0.03, 0.01, "not seen at this scale"),
        (-0.01, 0.03, "not seen at this scale"),
        (0.021, 0.05, "contradicted"),
        (-0.05, -0.021, "contradicted"),
        (None, None, "not seen at this scale"),
    ],
)
def test_that_nothing_differs_is_compared_with_the_interval(world, low, high, expected):
    world.write_claims({**MEASURED, "within": 0.02})
    world.write_table(low=low, high=high, verdict="no difference larger than 0.02")
    assert judge().verdict["a"] == expected


def test_a_result_that_is_missing_gives_no_verdict(world):
    world.write_claims({**MEASURED, "row": {"method": "hinge"}})
    assert judge().verdict["a"] == "not measured"
    # a table of another shape
    world.write_claims({**MEASURED, "row": {"epoch": "final"}})
    assert judge().verdict["a"] == "not measured"
    # a row that is not told from others
    world.write_claims({**MEASURED, "row": {"method": "ramp"}})
    assert judge().loc["a", ["verdict", "evidence"]].to_list() == [
        "not measured",
        "2 such rows in table1.csv",
    ]
    (world.data / "table1.csv").unlink()
    assert judge().loc["a", ["verdict", "evidence"]].to_list() == [
        "not measured",
        "not run yet",
    ]


@pytest.mark.parametrize(
    ("checks", "verdict"),
    [
        ([PASSED] * 2, "derived"),
        ([PASSED, FAILED], "contradicted"),
        ([PASSED, FAILED, NOT_RUN], "contradicted"),
        ([PASSED, NOT_RUN], "not checked"),
        ([PASSED, BROKEN], "not checked"),
        ([], "not checked"),
    ],
)
def test_a_derived_claim_counts_its_own_checks_and_can_be_contradicted(world, checks, verdict):
    world.write_checks("notebooks/01_a.ipynb", *checks)
    row = judge().loc["b"]
    assert row.verdict == verdict
    assert row.evidence == f"{checks.count(PASSED)} of {len(checks)} checks pass"


def test_the_newest_run_counts_whether_it_failed_or_not(world):
    world.write_checks("notebooks/01_a.ipynb", PASSED, age=30)
    world.write_checks("build/laptop/01_a.ipynb", PASSED, PASSED, age=20)
    assert judge().evidence["b"] == "2 of 2 checks pass"
    world.write_checks("build/laptop/01_a.failed.ipynb", FAILED, age=10)
    assert judge().verdict["b"] == "contradicted"
    # mended, and run again
    world.write_checks("build/laptop/01_a.ipynb", PASSED, age=5)
    assert judge().verdict["b"] == "derived"
    # what another profile ran does not count
    assert judge("smoke").evidence["b"] == "1 of 1 checks pass"
    (world.notebooks / "01_a.ipynb").unlink()
    assert judge("smoke").loc["b", ["verdict", "evidence"]].to_list() == [
        "not checked",
        "the notebook has not been run",
    ]


def test_a_claim_that_nothing_decides_says_so(world):
    open_question = {key: DERIVED[key] for key in ("id", "group", "claim", "paper")}
    world.write_claims(open_question)
    row = judge().loc["b"]
    assert (row.verdict, row["decided by"], row.notebook) == ("not checked", "–", "–")


def test_links_go_to_the_heading_and_to_the_committed_results(world):
    claims_text = judge()["decided by"]
    assert claims_text["b"] == "[01 One](01_a.ipynb#One)"
    assert claims_text["a"] == "[05 B](05_b.ipynb#B)"
    (world.data.parent / "table1.md").write_text("")
    links = judge()["decided by"]["a"]
    assert links == "[05 B](05_b.ipynb#B), [table](../figures/laptop/table1.md)"


def test_one_entry_can_stand_for_many_claims(world):
    each = {"method": ["ramp", "sympo_ramp"], "noise_rate": [0.2, 0.4]}
    sweep = {"id": "{method}-{noise_rate}", "claim": "{method} at {noise_rate}", "each": each}
    world.write_claims({**MEASURED, **sweep, "row": {"value": "win_rate"}})
    read = claims.read_claims()
    assert [claim.id for claim in read] == [
        "ramp-0.2",
        "ramp-0.4",
        "sympo_ramp-0.2",
        "sympo_ramp-0.4",
    ]
    assert read[3].claim == "SymPO ramp at 0.4"
    assert read[3].row == {"value": "win_rate", "method": "sympo_ramp", "noise_rate": 0.4}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([DERIVED, {**MEASURED, "id": "b"}], "two claims of claims.yaml have one id"),
        ([{**DERIVED, "group": "mechanisms"}], "Did you mean 'mechanism'"),
        ([{**DERIVED, "check": "claim-bb"}], "unknown check of claim b 'claim-bb'.* 'claim-b'"),
        ([{**DERIVED, "table": "table1"}], "claim b has a table and a check"),
    ],
)
def test_a_map_that_is_wrong_is_refused(world, entries, message):
    world.write_claims(*entries)
    with pytest.raises(ValueError, match=message):
        claims.judge_claims("laptop")


def test_an_unknown_field_is_refused(world):
    world.write_claims({**DERIVED, "verdict": "derived"})
    with pytest.raises(TypeError, match="verdict"):
        claims.read_claims()


def test_results_are_those_the_notebooks_save():
    results = claims.list_results("laptop").set_index("result")
    assert results.notebook["fig1_mnist_losses"] == "05_mnist_losses"
    needs_gpu = results.notebook.isin(["10_hh", "11_ultrafeedback"])
    needs_gpu |= results.index.str.startswith("table_gold_smollm2")
    # what is committed for laptop is complete
    assert (results.profile[~needs_gpu] == "laptop").all()
    assert set(results.profile[needs_gpu]) <= {"gpu", "not made yet"}


def test_a_laptop_shows_what_a_gpu_measured_and_says_so(world):
    (world.root / "figures" / "gpu").mkdir(parents=True)
    world.data.rename(world.root / "figures" / "gpu" / "data")
    row = judge().loc["a"]
    assert row.verdict == "reproduced"
    assert row.evidence == "+0.100 (+0.050 to +0.150), n = 5, profile gpu"
    assert judge("smoke").verdict["a"] == "not measured"


@pytest.mark.parametrize("place", ["build/laptop/custom", "figures/smoke"])
def test_an_exercise_is_no_evidence_for_a_claim(world, place):
    folder = world.root / place
    folder.mkdir(parents=True)
    world.data.rename(folder / "data")
    assert judge().verdict["a"] == "not measured"


def test_a_smoke_run_decides_nothing(world):
    world.write_claims(MEASURED, {**MEASURED, "id": "c", "within": 0.1})
    world.write_table(folder=world.root / "build" / "smoke" / "figures" / "data")
    assert set(judge("smoke").verdict) == {"smoke: these numbers mean nothing"}


def test_a_run_of_ones_own_goes_before_the_committed_one(world):
    committed = world.root / "figures" / "laptop" / "data"
    world.write_table(verdict="contradicted", folder=committed)
    assert judge().verdict["a"] == "reproduced"
    (world.data / "table1.csv").unlink()
    assert judge().verdict["a"] == "contradicted"


def test_what_an_audit_says_of_language_models_is_what_the_verdicts_say(repository):
    """Its advice is read where there are no notebooks, so that the sentence cannot be computed."""
    told = " ".join(re.findall(r'"([^"]*)"', inspect.getsource(advice))).replace("  ", " ")
    assert (
        "Small language models trained with SymPO won a little more often than with DPO at the "
        "paper's β; most lay too far from the reference to be compared at equal KL."
    ) in told
    saved = pd.read_csv(repository / "figures/laptop/data/table0_claims.csv").set_index("id")
    at_beta, at_kl = (
        saved.verdict[saved.index.str.match(pattern)]
        for pattern in ("gold-(fresh|memorised)-.*-dpo-", "gold-equal-kl-")
    )
    assert (at_beta == "reproduced").mean() > 0.5
    assert (at_kl == "not measured").mean() > 0.5
