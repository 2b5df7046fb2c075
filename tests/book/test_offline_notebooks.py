"""Notebooks 10 and 11 on made-up pairs: with and without data, and with committed results."""

import ast

import nbformat
import pandas as pd
import pytest
from IPython.display import Markdown
from matplotlib.figure import Figure
from scipy.stats import ttest_rel

from sympo.book import __main__ as book
from sympo.book import execute
from sympo.studies import profiles, sources
from sympo.studies.alignment import sweep

# notebook → the stems of what it saves
NOTEBOOKS = {
    "10_hh": (
        "fig5_hh_win_rate",
        "table_hh_metrics",
        "table_hh_contrasts",
        "table_hh_probe",
        "table_hh_settings",
        "table_hh_judged",
    ),
    "11_ultrafeedback": (
        "fig6_ultrafeedback_win_rate",
        "table_ultrafeedback_metrics",
        "table_ultrafeedback_contrasts",
        "table_ultrafeedback_probe",
        "table_ultrafeedback_settings",
        "table_ultrafeedback_judged",
    ),
}
# sizes that train in seconds
FEW = {
    "seeds": 1,
    "headline_seeds": 1,
    "pairs": 16,
    "validation_pairs": 4,
    "judge_pairs": 8,
    "sft_examples": 8,
    "test_pairs": 8,
    "prompts": 2,
}

each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_preferences):
    return write_preferences(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def data(folder, monkeypatch):
    monkeypatch.setenv("SYMPO_DATA", str(folder))


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    monkeypatch.setenv("SYMPO_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with these notebooks and no results; policies are trained in this process."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "notebooks").symlink_to(profiles.root() / "notebooks")
    monkeypatch.setattr(profiles, "root", lambda: folder)
    monkeypatch.setattr(sweep, "train_parallel", train_here)
    with pd.option_context("display.max_colwidth", 50):
        yield folder


def train_here(runs, *, build_world):
    return sweep.Workbench(build_world).train_runs(runs)


def run_cells(name, profile, **overrides):
    """What the cells of a notebook show, run one after the other in this process."""
    _, shown = run_in_scope(name, profile, **overrides)
    return shown


def run_in_scope(name, profile, **overrides):
    """What its cells leave behind, by name, and what they show."""
    scope, shown = {}, []
    for cell in execute.read_twin(name).cells:
        if cell.cell_type == "code":
            body = ast.parse(cell.source).body
            last = ast.parse("None", mode="eval")
            if isinstance(body[-1], ast.Expr):
                last = ast.Expression(body.pop().value)
            exec(compile(ast.Module(body, []), name, "exec"), scope)
            shown.append(eval(compile(last, name, "eval"), scope))
        if "parameters" in cell.metadata.get("tags", []):
            scope.update(profile=profile, overrides=overrides)
    return scope, shown


def texts(shown):
    return "\n".join(each.data for each in shown if isinstance(each, Markdown))


def results(root):
    return sorted(path.name for path in root.rglob("*.*") if "figures" in path.parts)


def invent_records():
    """Results of profile gpu in which sympo_ramp wins and accuracy says nothing."""
    cells = pd.MultiIndex.from_product(
        [["dpo", "sympo_sigmoid", "sympo_ramp"], [0.0, 0.4], range(4)],
        names=["method", "noise_rate", "seed"],
    )
    table = cells.to_frame(index=False).assign(model="smollm2", pairs=2048, judge_accuracy=0.62)
    # of alternating sign, so that no method is better over the four seeds
    lead = table.method.map({"dpo": 0.0, "sympo_sigmoid": 0.01, "sympo_ramp": -0.02})
    table["accuracy"] = 0.55 + lead * (-1) ** table.seed
    table["win_rate"] = table.accuracy + 0.1 * (table.method == "sympo_ramp")
    # the same order, and a lower level
    table["win_rate_chosen"] = table.win_rate - 0.2
    table["sft_chosen"] = 0.35
    rest = ["win_rate_low", "win_rate_high", "margin", "reward", "reward_sft", "kl", "length"]
    rest += ["win_rate_chosen_low", "win_rate_chosen_high"]
    return table.assign(**dict.fromkeys(rest, 0.1 * table.index), fit_flipped=0.4)


def invent_verdicts(table):
    """What a language model says of those policies against the chosen answers: a little more."""
    said = table[["method", "noise_rate", "seed"]].assign(win_rate=table.win_rate_chosen + 0.05)
    fixed = {"judge": "m", "opponent": "chosen", "judged": 40, "unparsed": 2, "swayed": 0.25}
    fixed["files"] = "chosen-01234567"
    rest = dict.fromkeys(["win_rate_low", "win_rate_high", "win_rate_second"], said.win_rate)
    return said.assign(**fixed, **rest, position_bias=-0.125)


@pytest.mark.nightly
@each_notebook
def test_notebook_runs_in_the_smoke_profile(name):
    data = profiles.build_folder("smoke") / "custom" / "data"
    *saved, judged = [data / f"{stem}.csv" for stem in NOTEBOOKS[name]]
    stems = [path.stem for path in (*saved, judged)]
    assert {*stems} == {*execute.saved_stems(execute.twin(name))}
    for path in saved:
        path.unlink(missing_ok=True)
    notebook = nbformat.read(execute.run(name, "smoke", seeds=1, headline_seeds=1), as_version=4)
    assert all(path.is_file() for path in saved)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    shown = "".join(output.get("data", {}).get("text/markdown", "") for output in outputs)
    assert "is not at hand" not in shown
    assert "ot measured" not in shown
    # and no language model is asked by a notebook
    assert f"python -m sympo judge {name[3:]} --profile smoke" in shown
    assert not judged.is_file()


@pytest.mark.slow
def test_make_goes_on_without_data(no_data):
    assert book.main(["run", "10_hh", "--profile", "smoke", "--set", "samples=2"]) == 0


@each_notebook
def test_notebook_without_data_says_so_and_measures_nothing(name, root, no_data):
    text = texts(run_cells(name, "smoke"))
    sentence = (
        "is not at hand, so no pair is shown and nothing is trained below.** "
        "Set SYMPO_DATA to a folder that holds"
    )
    assert text.count(sentence) == 1
    assert "**Not measured here**: there are no smoke records" in text
    assert results(root) == [f"{name}.json"]


@pytest.mark.parametrize("profile", ["gpu", "paper"])
@each_notebook
def test_a_full_run_needs_its_data(name, profile, root, no_data):
    with pytest.raises(sources.AssetError, match="could not be had"):
        run_cells(name, profile)


@pytest.mark.slow
@each_notebook
def test_laptop_neither_draws_nor_saves_its_few_steps(name, root):
    shown = run_cells(name, "laptop", **FEW)
    assert "**Not measured here**: there are no gpu records" in texts(shown)
    assert not [each for each in shown if isinstance(each, Figure)]
    # an exercise of few runs leaves the profile's results as they were
    assert results(root) == []


@each_notebook
def test_laptop_shows_the_committed_records(name, root, no_data):
    stem = NOTEBOOKS[name][0]
    table = invent_records()
    path = root / "figures" / "gpu" / "data" / f"{stem}.csv"
    path.parent.mkdir(parents=True)
    table.to_csv(path, index=False)
    judged = path.with_name(f"{NOTEBOOKS[name][-1]}.csv")
    invent_verdicts(table).to_csv(judged, index=False)
    scope, shown = run_in_scope(name, "laptop")
    assert len([each for each in shown if isinstance(each, Figure)]) == 1
    contrasts = scope["contrasts"]
    assert set(contrasts.noise_rate) == {0.0, 0.4}
    for row in contrasts.itertuples():
        values = table[table.noise_rate == row.noise_rate].pivot(index="seed", columns="method")
        ours = values[row.value][row.method]
        dpo = values[row.value].dpo
        expected = ((ours - dpo).mean(), ttest_rel(ours, dpo).pvalue, 4)
        assert (row.estimate, row.p, row.n) == pytest.approx(expected, abs=1e-9)
    highest = contrasts[contrasts.noise_rate == 0.4].set_index(["value", "method"])
    # differences of ±0.01 that alternate are known to 0.018, those of ±0.02 to 0.037
    assert highest.verdict.to_dict() == {
        ("win_rate", "sympo_ramp"): "reproduced",
        ("win_rate", "sympo_sigmoid"): "no difference larger than 0.02",
        ("win_rate_chosen", "sympo_ramp"): "reproduced",
        ("win_rate_chosen", "sympo_sigmoid"): "no difference larger than 0.02",
        ("accuracy", "sympo_ramp"): "not seen at this scale",
        ("accuracy", "sympo_sigmoid"): "no difference larger than 0.02",
    }
    # the claimed ones are those that a reader sees
    claimed, *_ = [each for each in shown if isinstance(each, pd.DataFrame) and "verdict" in each]
    assert claimed.verdict.to_list() == contrasts.verdict[contrasts.noise_rate == 0.4].to_list()
    sentences = texts(shown)
    assert sentences.count("would have been seen four times in five") == 6 + 2
    assert "**m, against chosen**: 24 policies, 40 pairs each; without a verdict 5.0%" in sentences
    assert "Not measured" not in texts(shown)
    assert "agrees with 62.0%" in texts(shown)
    assert results(root) == sorted([f"{name}.json", f"{stem}.csv", judged.name])


@each_notebook
def test_a_judge_at_chance_is_said_beside_the_claim_and_in_the_reading(name, root, no_data):
    path = root / "figures" / "gpu" / "data" / f"{NOTEBOOKS[name][0]}.csv"
    path.parent.mkdir(parents=True)
    sentence = "**Win rates by the judge mean nothing here.**"
    for judged, times in ((0.51, 2), (0.9, 0)):
        invent_records().assign(judge_accuracy=judged).to_csv(path, index=False)
        assert texts(run_cells(name, "laptop")).count(sentence) == times
