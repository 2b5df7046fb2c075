"""The paper page: its map leads somewhere, and its lists hold what they should."""

import json
import re
from itertools import pairwise, product
from urllib.parse import unquote

import nbformat
import numpy as np
import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt
from scipy.special import expit

from sympo.book import claims, figures, paper, twins
from sympo.studies import plan, profiles
from sympo.studies.profiles import study_config

GRAPH = paper.read_map()
VERDICTS = [
    # id, group, claim, paper, notebook, evidence, verdict, decided by
    ("a", "mechanism", "a holds", "1", "01_a", "2 of 2", "derived", "[01 One](01_a.ipynb#One)"),
    ("b", "mechanism", "b wins", "2", "02_b", "+0.1", "contradicted", "[02 Two](02_b.ipynb#Two)"),
    ("c", "trade-off", "c wins", "3", "02_b", "–", "not measured", "[02 Two](02_b.ipynb#Two)"),
    ("d", "trade-off", "d wins", "3", "02_b", "+0.2", "not seen at this scale", "–"),
]


@pytest.fixture(scope="module")
def verdicts():
    return claims.judge_claims("laptop")


@pytest.fixture
def few():
    return pd.DataFrame(VERDICTS, columns=claims.COLUMNS)


# The map


def each(kind):
    return pytest.mark.parametrize(
        "entry", GRAPH[kind], ids=lambda entry: next(iter(entry.values()))
    )


@each("assumptions")
def test_every_counterexample_is_in_a_section_that_checks_it(entry):
    section = paper.find_section(entry["notebook"], entry["heading"])
    assert paper.count_checks(section) > 0
    assert entry["theorems"]
    assert not {*entry["theorems"]} & {*entry.get("enough", [])}
    assert entry["without"].endswith(".")


@each("theorems")
def test_every_theorem_has_check_cells_that_carry_its_claim(entry):
    (claim,) = [claim for claim in claims.read_claims() if claim.id == entry["claim"]]
    cells = twins.read_twin(claim.notebook).cells
    assert [cell for cell in cells if claim.check in cell.metadata.get("tags", [])]
    assert any(entry["id"] in assumption["theorems"] for assumption in GRAPH["assumptions"])


@each("experiments")
def test_every_experiment_leads_to_a_heading_and_decides_claims(entry):
    assert paper.find_section(entry["notebook"], entry["heading"])
    assert entry["text"].startswith(entry["notebook"][:2])
    assert [claim for claim in claims.read_claims() if claim.notebook == entry["notebook"]]


@each("questions")
def test_every_question_has_claims_or_says_what_is_missing(entry):
    found = [c for c in claims.read_claims() if re.fullmatch(entry["claims"], c.id)]
    assert found
    # verdicts are counted, so all claims of a question must say the same thing of it
    assert not [c.id for c in found if re.match("collapse-|pattern-cost-|text-near-ties-", c.id)]


CONDITIONS = {
    # the statements of 03, 04, 13 and 14
    "T5": {"symmetric", "continuous", "monotone", "bounded", "not-constant"},
    "T7": {
        *("symmetric", "monotone", "continuous", "bounded", "not-constant"),
        *("winner", "half", "neighbours", "reachable"),
    },
    "T11": {"symmetric", "winner", "half", "neighbours", "reachable"},
    "T10": {"enough", "symmetric", "winner", "half", "neighbours", "reachable"},
}


@pytest.mark.parametrize("theorem", CONDITIONS)
def test_the_map_links_a_theorem_to_the_conditions_of_its_statement(theorem):
    found = {each["id"] for each in GRAPH["assumptions"] if theorem in paper.list_supported(each)}
    assert found == CONDITIONS[theorem]


def test_continuity_and_monotonicity_are_enough_for_t7_and_not_needed():
    supported = {each["id"]: paper.list_supported(each) for each in GRAPH["assumptions"]}
    spared = {name for name, found in supported.items() if found.get("T7") == "enough"}
    assert spared == {"continuous", "monotone"}
    table = paper.tabulate_assumptions().set_index("assumption")["needed for"]
    assert table["the loss never increases"] == "T5, (T7)"
    assert table["the loss is bounded"] == "T5, T7"


@pytest.mark.parametrize("gaps", [(0.5, 0.7), (0.3, 0.2), (1.0, 2.0)])
def test_what_two_conditions_of_t7_can_be_spared_for(gaps):
    """The 0–1 loss keeps every order; ½ − z/(1 + z²) loses one that monotone losses keep."""
    rewards = np.array([*product(np.linspace(0, 2, 41), repeat=3)])
    margins = rewards @ np.array([[1, 1, 0], [-1, 0, 1], [0, -1, -1]])
    sure = expit([gaps[0], sum(gaps), gaps[1]])
    turning = {
        "0–1": lambda margin: (1 - np.sign(margin)) / 2,
        "turns up": lambda margin: 0.5 - margin / (1 + margin**2),
    }
    for name, loss in turning.items():
        least = (sure * loss(np.ones(3)) + (1 - sure) * loss(-np.ones(3))).sum()
        risk = loss(margins) @ sure + loss(-margins) @ (1 - sure)
        met = risk < least + 1e-9
        # one reward meets all pairs' best margins, and then orders them, exactly for the first
        assert met.any() == (name == "0–1")
        assert (margins[met] > 0).all()


@pytest.mark.parametrize("theorem", ["T3", "T5", "T7", "T8"])
def test_who_wins_more_often_is_more_than_a_theorem_about_the_best_reward_says(theorem):
    (entry,) = [each for each in GRAPH["theorems"] if each["id"] == theorem]
    kinds = paper.list_experiments(entry)
    assert kinds
    assert set(kinds.values()) == {"prompted"}


def test_every_link_of_the_page_leads_to_a_heading(verdicts):
    tables = (
        paper.tabulate_assumptions()["shown in"],
        paper.tabulate_theorems(verdicts)["put to the test in"],
        paper.answer_questions(verdicts)["decided by"],
    )
    texts = [text for table in tables for text in table]
    links = re.findall(r"\[\d\d ([^]]+)\]\((\w+)\.ipynb#([^)]+)\)", "\n".join(texts))
    assert len(links) > len(GRAPH["assumptions"])
    for heading, name, anchor in links:
        assert unquote(anchor) == heading.replace(" ", "-")
        assert paper.find_section(name, heading), f"{name} has no heading “{heading}”"


def test_the_map_has_a_box_for_everything_and_an_arrow_for_every_need(verdicts):
    boxes, arrows = paper.tabulate_map(verdicts)
    assert boxes.id.is_unique
    assert {*arrows.source, *arrows.target} == set(boxes.id)
    column = boxes.set_index("id").column
    steps = {(column[arrow.source], column[arrow.target]) for arrow in arrows.itertuples()}
    order = ["assumption", "theorem", "check", "experiment"]
    assert steps == set(pairwise(order))
    assert set(boxes.state[boxes.column.isin(["assumption", "theorem"])]) == {""}


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (["derived", "reproduced"], "held"),
        (["reproduced", "contradicted"], "mixed"),
        (["reproduced", "not measured"], "held"),
        (["no difference larger than 0.02"], "failed"),
        (["contradicted", "not seen at this scale"], "failed"),
        (["not seen at this scale", "not measured"], "open"),
        (["not seen at this scale", "reproduced"], "mixed"),
        (["not measured", "not checked"], "open"),
        ([], "open"),
    ],
)
def test_a_box_says_what_its_claims_came_to(found, state):
    assert paper._judge(found) == state


@pytest.mark.parametrize(
    ("kind", "entry", "message"),
    [
        ("assumptions", {"theorems": ["T77"]}, "unknown theorem in map.yaml 'T77'"),
        ("assumptions", {"enough": ["T78"]}, "unknown theorem in map.yaml 'T78'"),
        ("theorems", {"experiments": ["05_mnist"]}, "unknown experiment in map.yaml"),
        ("theorems", {"prompts": ["05_mnist"]}, "unknown experiment in map.yaml"),
        ("theorems", {"claim": "clasification"}, "Did you mean 'classification'"),
    ],
)
def test_a_map_that_names_what_is_not_there_is_refused(tmp_path, monkeypatch, kind, entry, message):
    graph = {**GRAPH, kind: [{**GRAPH[kind][0], **entry}, *GRAPH[kind][1:]]}
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "map.yaml").write_text(yaml.safe_dump(graph))
    (folder / "claims.yaml").write_text(
        (profiles.root() / "notebooks" / "claims.yaml").read_text(encoding="utf-8")
    )
    monkeypatch.setattr(profiles, "root", lambda: tmp_path)
    with pytest.raises(ValueError, match=message):
        paper.read_map()


def test_the_map_draws_every_box_within_the_figure_and_every_arrow(verdicts):
    boxes, arrows = paper.tabulate_map(verdicts)
    figure = figures.fig16_map(boxes, arrows)
    (axes,) = figure.axes
    texts = [" ".join(text.get_text().split()) for text in axes.texts]
    # a check is written into the box of its theorem
    checks = boxes[boxes.column == "check"]
    for box in boxes[boxes.column != "check"].itertuples():
        assert [text for text in texts if text.startswith(box.text)]
    for check in checks.itertuples():
        theorem = boxes.set_index("id").text[check.id.removeprefix("check ")]
        assert [text for text in texts if text.startswith(theorem) and check.note in text]
    assert len(axes.patches) == len(boxes) + len(arrows) - 2 * len(checks)
    dashed = sum(patch.get_linestyle() != "solid" for patch in axes.patches)
    assert dashed == arrows.kind.isin(["enough", "prompted"]).sum()
    assert {"enough", "prompted"} < {*arrows.kind}
    figure.draw_without_rendering()
    width, height = figure.canvas.get_width_height()
    for text in axes.texts:
        extent = text.get_window_extent()
        assert extent.x0 >= 0
        assert extent.x1 <= width
        assert extent.y0 >= 0
        assert extent.y1 <= height


def test_no_letters_leave_their_box(verdicts):
    figure = figures.fig16_map(*paper.tabulate_map(verdicts))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    frames = [patch.get_window_extent() for patch in axes.patches]
    headers = 3
    for text in axes.texts[headers:]:
        extent = text.get_window_extent()
        assert any(
            frame.x0 <= extent.x0
            and extent.x1 <= frame.x1
            and frame.y0 <= extent.y0
            and extent.y1 <= frame.y1
            for frame in frames
        ), text.get_text()


def test_the_bars_add_up_to_the_claims(verdicts):
    counts = paper.count_verdicts(verdicts)
    assert counts.claims.sum() == len(verdicts)
    (axes,) = figures.fig16_verdicts(counts).axes
    lengths = sum(bar.get_width() for bar in axes.patches)
    assert lengths == len(verdicts)
    assert sum(int(text.get_text()) for text in axes.texts) == len(verdicts)
    named = [tick.get_text() for tick in axes.get_yticklabels()]
    first = verdicts[(verdicts.group == "key result: win rate") & (verdicts.notebook == "09_gold")]
    place = named.index("key result: win rate · small language models")
    assert axes.texts[place].get_text() == str(len(first))
    assert named[-1].startswith("beyond the paper")


def test_every_figure_and_table_is_listed_below_its_notebook():
    text = paper.write_results("laptop")
    results = claims.list_results("laptop")
    html = MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<td>") == 2 * len(results)
    folded = dict(re.findall(r"\(([^)]+)\.ipynb\)\n(.*?)</details>", text, flags=re.DOTALL))
    assert list(folded) == list(results.notebook.drop_duplicates())
    for row in results.itertuples():
        assert f"| {paper.describe_result(row.result)} | {row.profile} |" in folded[row.notebook]


# Sections


def notebook_of(*cells):
    made = {"#": nbformat.v4.new_markdown_cell, "x": nbformat.v4.new_code_cell}
    return nbformat.v4.new_notebook(cells=[made[cell[0]](cell) for cell in cells])


def test_a_section_ends_where_the_next_one_of_its_level_begins():
    notebook = notebook_of("# T\n\n## A\n\ntext", "x = 1", "### A1", "x = 2", "## B", "x = 3")
    section = [cell.source for cell in paper.read_section(notebook, "A")]
    assert section == ["## A\n\ntext", "x = 1", "### A1", "x = 2"]
    assert [cell.source for cell in paper.read_section(notebook, "A1")] == ["### A1", "x = 2"]
    assert [cell.source for cell in paper.read_section(notebook, "B")] == ["## B", "x = 3"]
    assert paper.read_section(notebook, "C") == []
    # one cell may hold the end of a section and the beginning of the next
    joined = notebook_of("## A\n\nof A\n\n## B\n\nof B")
    assert [cell.source.strip() for cell in paper.read_section(joined, "A")] == ["## A\n\nof A"]


def test_departures_are_those_of_every_notebook_that_lists_some():
    found = paper.collect_departures().set_index("notebook").text
    for name in twins.notebooks():
        text = twins.twin(name).read_text(encoding="utf-8")
        assert (f"# ## {paper.DEPARTURES}\n" in text and name != "16_paper") == (name in found)
    assert found["05_mnist_losses"].startswith("The authors' released code")
    assert "Exercises" not in " ".join(found)


def test_advice_is_what_a_cell_below_its_heading_showed(tmp_path, monkeypatch):
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "notebooks" / "src" / "01_a.py").write_text("")
    text = {"text/markdown": "**Take more pairs.**\n\nIf you can."}
    shown = nbformat.v4.new_output("display_data", data=text)
    # what is shown elsewhere is no advice
    first, cell, last = (nbformat.v4.new_code_cell("x", outputs=[shown]) for _ in range(3))
    heading = nbformat.v4.new_markdown_cell(f"## {paper.ADVICE}")
    after = nbformat.v4.new_markdown_cell("## Exercises")
    notebook = nbformat.v4.new_notebook(cells=[first, heading, cell, after, last])
    nbformat.write(notebook, tmp_path / "notebooks" / "01_a.ipynb")
    monkeypatch.setattr(profiles, "root", lambda: tmp_path)
    advice = "Take more pairs.\n\nIf you can."
    assert paper.collect_advice("laptop").to_numpy().tolist() == [["01_a", advice]]
    (item,) = MarkdownIt().parse(paper.write_advice("laptop"))[1:2]  # a list, and its only item
    assert item.type == "list_item_open"
    html = MarkdownIt().render(paper.write_advice("laptop"))
    assert html.count("<ul>") == html.count("<li>") == 1
    assert html.index("If you can.") < html.index("</li>")
    assert 'href="01_a.ipynb#What-a-practitioner-should-do"' in html


# Claims


def test_every_claim_is_in_exactly_one_group_of_the_page(verdicts):
    page = "\n".join(paper.write_group(verdicts, group) for group in claims.GROUPS)
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    headers = sum(line.startswith(("| claim |", "| --- |")) for line in rows)
    assert len(rows) - headers == len(verdicts)
    for claim in verdicts.claim:
        assert page.count(f"| {claim} |") == verdicts.claim.tolist().count(claim)


def test_a_figure_stands_before_the_claims_that_it_shows(verdicts):
    page = paper.write_group(verdicts, "first experiment")
    shown = re.findall(r'<img src="([^"]+)"', page)
    assert shown == [
        "../figures/laptop/fig1_mnist_losses.png",
        "../figures/laptop/fig2_mnist_noise.png",
    ]
    figure = page.index("fig2_mnist_noise.png")
    assert page.index("fig1_mnist_losses.png") < page.index("Loss ablation") < figure
    assert figure < page.index("equally accurate on average")


def test_what_did_not_replicate_is_listed_the_clearest_first_without_what_is_open(few):
    page = paper.write_not_replicated(few)
    titles = re.findall("<summary>(.*?)</summary>", page)
    assert titles == ["Contradicted: 1", "Not seen at this scale: 1"]
    assert page.index("| b wins |") < page.index("| d wins |")
    assert "a holds" not in page
    assert "c wins" not in page
    assert "<details" not in paper.write_not_replicated(few[:1])


def test_a_summary_counts_the_most_frequent_first(few):
    assert paper.summarise(few.verdict[:1]) == "1 claim: 1 derived"
    assert paper.summarise(["x", "y", "x"]) == "3 claims: 2 x, 1 y"


def test_missing_runs_are_methods_times_rates_times_seeds(verdicts):
    waiting = verdicts.assign(verdict="reproduced")
    assert paper.list_missing_runs(waiting).empty
    for_hh = verdicts.id.str.match(r"hh-sympo_ramp-(dpo|ropo)-0\.4")
    waiting.loc[for_hh, "verdict"] = "not measured"
    (row,) = paper.list_missing_runs(waiting).to_dict("records")
    assert row["claims"] == 2
    assert row["which"] == "ε = 0.4: seeds 0, 1, 2, 3, 4 of DPO, SymPO ramp; seeds 0, 1, 2 of ROPO"
    config = study_config("hh", "gpu")
    planned = [run for run in config.runs() if (run.noise_rate, run.beta) == (0.4, config.beta)]
    methods = ("dpo", "ropo", "sympo_ramp")
    waited = [run for run in planned if run.method in methods]
    assert row["runs"] == str(len(waited))
    seeds = {method: {r.seed for r in waited if r.method == method} for method in methods}
    assert seeds == {"dpo": {*range(5)}, "sympo_ramp": {*range(5)}, "ropo": {*range(3)}}
    assert row["command"] == "`python -m sympo run-all --profile gpu --studies hh`"


@pytest.mark.parametrize("profile", ["gpu", "paper"])
@pytest.mark.parametrize("study", ["hh", "ultrafeedback"])
def test_a_queue_trains_first_what_the_claims_name(study, profile):
    rows = [each.row for each in claims.read_claims() if each.id.startswith(f"{study}-")]
    named = {(row[side], row["noise_rate"]) for row in rows for side in ("method", "baseline")}
    config = study_config(study, profile)
    first = [run for run in config.runs() if config.tier(run) in (plan.HEADLINE, plan.CLAIMED)]
    assert {(run.method, run.noise_rate) for run in first} == named
    assert {run.beta for run in first} == {config.beta}


def test_runs_that_are_committed_are_not_missing(verdicts, monkeypatch, tmp_path):
    policies = [("dpo", 0.4, 0), ("dpo", 0.4, 1), ("ropo", 0.4, 2), ("sympo_ramp", 0.3, 0)]
    path = tmp_path / "fig5_hh_win_rate.csv"
    pd.DataFrame(policies, columns=["method", "noise_rate", "seed"]).to_csv(path, index=False)
    monkeypatch.setattr(
        profiles, "find_result", lambda profile, name: path if path.name in name else None
    )
    waiting = verdicts.assign(verdict="reproduced")
    for_hh = verdicts.id.str.match(r"hh-sympo_ramp-(dpo|ropo)-0\.4")
    waiting.loc[for_hh, "verdict"] = "not measured"
    waiting.loc[for_hh, "evidence"] = "+0.300, n = 1, too few to tell"
    (row,) = paper.list_missing_runs(waiting).to_dict("records")
    assert (row["runs"], row["which"]) == (
        "10",
        "ε = 0.4: seeds 0, 1, 2, 3, 4 of SymPO ramp; seeds 2, 3, 4 of DPO; seeds 0, 1 of ROPO",
    )


def test_every_claim_may_wait(verdicts):
    """A clone in which nothing has been trained yet."""
    nothing = verdicts.assign(verdict="not measured", evidence="not run yet")
    waiting = paper.list_missing_runs(nothing)
    asked = {claim.notebook for claim in claims.read_claims() if claim.notebook}
    assert len(waiting) == len(asked)
    assert waiting.claims.sum() == sum(bool(claim.notebook) for claim in claims.read_claims())


def test_what_was_run_and_reaches_too_few_seeds_waits_for_no_run(verdicts):
    reached = verdicts.assign(verdict="not measured", evidence="measured in too few seeds: 2")
    assert paper.list_missing_runs(reached).empty


def test_a_contradicted_question_of_ours_contradicts_nothing_that_the_paper_says(few):
    few = few.assign(verdict="contradicted").assign(paper=["1", "2, in a study of ours", "3", "4"])
    few.loc[3, "group"] = "beyond the paper"
    few.loc[0, "verdict"] = "reproduced"
    assert paper.say_whose(few) == (
        "Of the 1 reproduced, 1 are statements of the paper in the setting in which it makes them, "
        "0 its statements in a setting of ours, and 0 questions that this companion asks. Of the 3 "
        "contradicted these are 1, 1 and 1."
    )


def test_a_question_without_a_verdict_is_not_measured(verdicts):
    silent = verdicts.assign(verdict="not measured")
    answers = paper.answer_questions(silent).set_index("question")
    assert answers.answer.str.startswith("not measured").all()
    assert (answers["decided by"] == "–").all()
    answers = paper.answer_questions(verdicts).set_index("question").answer
    extended = answers["Can the guarantee be extended to finite samples?"]
    assert extended.startswith("4 claims: 4 derived (the claim: yes, for a table of rewards")
    special = answers["Are ramp and sigmoid special among symmetric losses?"]
    assert special.startswith("10 claims: ")
    recovers = answers["Is there a symmetric loss that recovers magnitudes?"]
    assert recovers == "1 claim: 1 derived (the claim: no symmetric loss does)"


# Minutes and citation


def test_minutes_are_the_profiles_and_training_is_the_records():
    table = paper.tabulate_minutes("laptop").set_index("notebook")
    assert table.minutes.to_dict() == pytest.approx(
        {
            name: profiles.read_profile("laptop")["minutes"].get(name, float("nan"))
            for name in table.index
        },
        nan_ok=True,
    )
    path = profiles.committed_figures("laptop") / "data" / "06_mnist_noise.json"
    seconds = json.loads(path.read_text(encoding="utf-8"))["training_seconds"]
    assert table.training["06_mnist_noise"] == pytest.approx(seconds / 60, abs=0.05)
    assert pd.isna(table.training["01_preferences_as_classification"])


def test_the_citation_is_the_papers():
    text = paper.cite()
    assert "eprint = {2505.24709}" in text
    assert "Nishimori, Soichiro and Zhang, Yu-Jie and Lodkaew, Thanawat and Sugiyama" in text
    assert text.count("{") == text.count("}")
