"""Studies hh and ultrafeedback on made-up files: who sees which pairs, what the judge is worth, and
their notebooks.
"""

import ast
import gzip
import json

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure
from scipy.stats import ttest_rel

from sympo import preferences
from sympo.book import execute
from sympo.studies import profiles, sources
from sympo.studies.alignment import offline
from sympo.studies.alignment import sweep as align

TRAIN, TEST = ("helpful-online/test", "helpful-rejection-sampled/test"), ("helpful-base/test",)
NOTEBOOKS = {
    "10_hh": ("fig5_hh_win_rate", "table_hh_metrics", "table_hh_contrasts"),
    "11_ultrafeedback": (
        "fig6_ultrafeedback_win_rate",
        "table_ultrafeedback_metrics",
        "table_ultrafeedback_contrasts",
    ),
}


def write_hh(folder, name, first):
    """70 short dialogues, half of one turn; the last has equal answers."""
    rows = []
    for i in range(first, first + 70):
        before = f"\n\nHuman: is {i} big?\n\nAssistant: say more" if i % 2 else ""
        prompt = f"{before}\n\nHuman: and {i}, or bread?\n\nAssistant:"
        rows.append(
            {
                "chosen": f"{prompt} yes, {i}",
                "rejected": f"{prompt} no {'' if i % 3 else 'no no no'}",
            }
        )
    rows[-1]["rejected"] = rows[-1]["chosen"]
    path = folder / "hh" / f"{name}.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)
    )


def write_ultrafeedback(folder, name, first):
    """70 questions; every tenth pair ties on score."""
    rows = [
        {
            "prompt": f"Is {i} big, as owls go?",
            "chosen": f"yes, {i}",
            "rejected": "no" * (i % 3 + 1),
        }
        | {"metadata": {"score_chosen": 8.0, "score_rejected": 8.0 if i % 10 == 0 else 5.0}}
        for i in range(first, first + 70)
    ]
    path = folder / "ultrafeedback" / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("data")
    for first, name in enumerate((*TRAIN, *TEST)):
        write_hh(made, name, 65 * first)  # five prompts of each file are also in the next
    write_ultrafeedback(made, "train_clean", 0)
    write_ultrafeedback(made, "eval_clean", 70)
    return made


@pytest.fixture(autouse=True)
def data(folder, monkeypatch):
    monkeypatch.setenv("SYMPO_DATA", str(folder))


@pytest.fixture
def no_data(tmp_path, monkeypatch):
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    monkeypatch.setenv("SYMPO_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def small(**changes):
    sizes = {"pairs": 24, "judge_pairs": 16, "test_pairs": 20, "prompts": 6, "sft_examples": 10}
    return profiles.study_config("hh", "smoke", **{**sizes, **changes})


# The configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge_share": 0.0}, "judge_share: Input should be greater than 0"),
        ({"judge_share": 1.0}, "judge_share: Input should be less than 1"),
        ({"judge_pairs": 0}, "judge_pairs: Input should be greater than or equal to 1"),
        ({"model": "gpt"}, "model: Input should be 'tiny', 'smollm2' or 'llama'"),
        ({"train_files": "train"}, "train_files: Input should be a valid list"),
        ({"judge_pair": 3}, "unknown parameter of hh 'judge_pair'. Did you mean 'judge_pairs'"),
        ({"methods": ["sympo_ram"]}, "unknown method 'sympo_ram'"),
    ],
)
def test_config_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.parametrize("profile", profiles.PROFILES)
@pytest.mark.parametrize("study", ["hh", "ultrafeedback"])
def test_runs_are_scalars_that_name_their_files(study, profile):
    made = profiles.study_config(study, profile)
    for run in made.runs():
        assert all(isinstance(value, str | int | float) for value in run.values())
        assert run["train_files"].split() == made.train_files
        assert run["test_files"].split() == made.test_files
    assert len({json.dumps(run) for run in made.runs()}) == len(made.runs())


# The world


@pytest.fixture(scope="module")
def seen():
    return {}


@pytest.fixture(scope="module")
def world(folder, seen):
    """A world whose judge had time to learn, and what it was given."""
    original = offline.train_judge

    def watched(model, tokenizer, pairs, test, run):
        seen.update(
            pairs=pairs, test=test, weights=[p.detach().clone() for p in model.parameters()]
        )
        return original(model, tokenizer, pairs, test, run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYMPO_DATA", str(folder))
        patch.setattr(offline, "train_judge", watched)
        return offline.build_world(small(judge_epochs=8, judge_learning_rate=3e-3).runs()[0])


def test_no_prompt_is_shared_by_policies_judge_and_test(world, seen):
    split = offline.load_split("hh", TRAIN, TEST)
    assert split.overlap == 4  # of the five in two files, one has equal answers
    parts = [
        set(preferences.prompt_keys(part)) for part in (world.train, seen["pairs"], world.test)
    ]
    assert [len(part) for part in parts] == [24, 16, 20]
    assert len(set.union(*parts)) == 24 + 16 + 20
    assert parts[0] | parts[1] <= set(preferences.prompt_keys(split.train))
    assert (
        parts[2]
        == set(preferences.prompt_keys(seen["test"]))
        <= set(preferences.prompt_keys(split.test))
    )
    assert world.prompts == seen["test"]["prompt"][:6]
    assert not any(seen["pairs"]["is_flipped"])


def test_judge_accuracy_is_the_share_of_held_out_pairs_that_it_orders(world, seen):
    classifier, tokenizer = world.score.__self__.model, world.tokenizer
    right = 0
    for row in seen["test"]:
        rewards = []
        for side in ("chosen", "rejected"):
            ids = tokenizer.apply_chat_template([*row["prompt"], *row[side]], return_dict=True)[
                "input_ids"
            ]
            with torch.no_grad():
                rewards.append(classifier(torch.tensor([ids])).logits.item())
        right += rewards[0] > rewards[1]
    assert world.facts == {"judge_accuracy": right / 20}
    assert right >= 16  # it learned that "yes" wins, and not that "no" does


def test_judge_leaves_the_policies_where_they_were(world, seen):
    assert not any(
        parameter.requires_grad and parameter.grad is not None
        for parameter in world.model.parameters()
    )
    plain = offline.models.load("tiny", seed=0)[0]
    assert all(a.equal(b) for a, b in zip(plain.parameters(), seen["weights"], strict=True))
    judged = world.score.__self__.model.model.parameters()
    assert not all(a.equal(b) for a, b in zip(judged, seen["weights"], strict=True))


def test_rewards_are_the_judges_of_the_sft_answers(world):
    assert world.rewards.shape == (6, 2)
    assert np.isfinite(world.rewards).all()
    assert len(world.train) == 24
    assert {"ref_chosen_logps", "ref_rejected_logps"} <= set(world.train.column_names)


@pytest.mark.parametrize(
    ("field", "count"), [("pairs", 1000), ("judge_pairs", 500), ("test_pairs", 90)]
)
def test_too_few_pairs_is_one_sentence_that_names_the_field(field, count):
    with pytest.raises(
        ValueError, match=rf"^{field} = {count}, but \d+ pairs fit .*: lower {field}$"
    ):
        offline.build_world(small(**{field: count}).runs()[0])


def test_pairs_that_do_not_fit_are_left_out():
    run = small(max_length=55, pairs=5, judge_pairs=5, test_pairs=5).runs()[0]
    tokenizer = offline.models.byte_tokenizer()
    for part in offline._draw_pairs(run, tokenizer):
        assert len(part) == 5
        for row in part:
            for side in ("chosen", "rejected"):
                text = tokenizer.apply_chat_template([*row["prompt"], *row[side]], tokenize=False)
                assert len(text.replace("<eos>", "e")) <= 55


def test_records_of_other_data_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(align, "run_sweep", lambda *given, **source: source)
    before = offline.run_study(small())
    assert before["data"].count("SYMPO_DATA") == 3
    assert before["weights"] == "scratch"
    for first, name in enumerate((*TRAIN, *TEST)):
        write_hh(tmp_path, name, 65 * first + (name in TEST))
    monkeypatch.setenv("SYMPO_DATA", str(tmp_path))
    assert offline.run_study(small())["data_sha256"] != before["data_sha256"]


# The notebooks


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with these notebooks and no results; seeds are trained in this process."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "notebooks").symlink_to(profiles.root() / "notebooks")
    monkeypatch.setattr(profiles, "root", lambda: folder)
    monkeypatch.setattr(align, "train_parallel", align.train_runs)
    with pd.option_context("display.max_colwidth", 50):
        yield folder


def execute(name, profile, **overrides):
    """What the cells of a notebook show, run one after the other in this process."""
    scope, shown = {}, []
    for cell in execute.read_twin(name).cells:
        if cell.cell_type == "code":
            body = ast.parse(cell.source).body
            last = (
                ast.Expression(body.pop().value)
                if isinstance(body[-1], ast.Expr)
                else ast.parse("None", mode="eval")
            )
            exec(compile(ast.Module(body, []), name, "exec"), scope)
            shown.append(eval(compile(last, name, "eval"), scope))
        if "parameters" in cell.metadata.get("tags", []):
            scope |= {"profile": profile, "overrides": overrides}
    return shown


def texts(shown):
    return "\n".join(each.data for each in shown if isinstance(each, Markdown))


def results(root):
    return sorted(path.name for path in root.rglob("*.*") if "figures" in path.parts)


FEW = {
    "seeds": 1,
    "headline_seeds": 1,
    "pairs": 16,
    "judge_pairs": 8,
    "sft_examples": 8,
    "test_pairs": 8,
    "prompts": 2,
}


def made_up_records():
    """Made-up records of profile gpu in which sympo_ramp wins and accuracy says nothing."""
    names = ["method", "noise_rate", "seed"]
    cells = pd.MultiIndex.from_product(
        [["dpo", "sympo_sigmoid", "sympo_ramp"], [0.0, 0.4], range(4)], names=names
    )
    table = cells.to_frame(index=False).assign(model="smollm2", pairs=2048, judge_accuracy=0.62)
    by_seed = (
        table.method.map({"dpo": 0.0, "sympo_sigmoid": 0.01, "sympo_ramp": -0.02})
        * (-1) ** table.seed
    )
    table["accuracy"] = 0.55 + by_seed
    table["win_rate"] = table.accuracy + 0.1 * (table.method == "sympo_ramp")
    rest = ["win_rate_low", "win_rate_high", "margin", "reward", "reward_sft", "kl", "length"]
    return table.assign(**dict.fromkeys(rest, 0.1 * table.index), fit_flipped=0.4)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_in_the_smoke_profile(name):
    data = profiles.build_folder("smoke") / "custom" / "data"
    saved = [data / f"{stem}.csv" for stem in NOTEBOOKS[name]]
    assert {path.stem for path in saved} == {*execute.saved_stems(execute.twin(name))}
    for path in saved:
        path.unlink(missing_ok=True)
    notebook = nbformat.read(execute.run(name, "smoke", seeds=1, headline_seeds=1), as_version=4)
    assert all(path.is_file() for path in saved)
    outputs = [
        output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    ]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 1
    shown = "".join(output.get("data", {}).get("text/markdown", "") for output in outputs)
    assert "is not at hand" not in shown
    assert "ot measured" not in shown


def test_make_goes_on_without_data(no_data):
    assert execute.main(["run", "10_hh", "--profile", "smoke", "--set", "samples=2"]) == 0


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_without_data_says_so_and_measures_nothing(name, root, no_data):
    text = texts(execute(name, "smoke"))
    sentence = "is not at hand, so no pair is shown and nothing is trained below.** Set SYMPO_DATA to a folder that holds"
    assert text.count(sentence) == 1
    assert "**Not measured**: there are no smoke records" in text
    assert results(root) == [f"{name}.json"]


@pytest.mark.parametrize("profile", ["gpu", "paper"])
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_full_run_needs_its_data(name, profile, root, no_data):
    with pytest.raises(sources.AssetError, match="could not be had"):
        execute(name, profile)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_laptop_neither_draws_nor_saves_its_few_steps(name, root):
    shown = execute(name, "laptop", **FEW)
    assert "**Not measured**: there are no gpu records" in texts(shown)
    assert not [each for each in shown if isinstance(each, Figure)]
    assert results(root) == [f"{name}.json"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_laptop_shows_the_committed_records(name, root, no_data):
    stem, table = NOTEBOOKS[name][0], made_up_records()
    path = root / "figures" / "gpu" / "data" / f"{stem}.csv"
    path.parent.mkdir(parents=True)
    table.to_csv(path, index=False)
    shown = execute(name, "laptop")
    assert len([each for each in shown if isinstance(each, Figure)]) == 1
    (contrasts,) = [each for each in shown if isinstance(each, pd.DataFrame) and "verdict" in each]
    values = table[table.noise_rate == 0.4].pivot(index="seed", columns="method")
    for row in contrasts.itertuples():
        ours, dpo = values[row.value][row.method], values[row.value].dpo
        assert (row.estimate, row.p, row.n) == pytest.approx(
            ((ours - dpo).mean(), ttest_rel(ours, dpo).pvalue, 4), abs=1e-9
        )
    verdicts = contrasts.set_index(["value", "method"]).verdict
    assert verdicts["win_rate", "sympo_ramp"] == "reproduced"
    assert set(verdicts.drop(("win_rate", "sympo_ramp"))) == {"not seen at this scale"}
    assert "Not measured" not in texts(shown)
    assert "agrees with 62.0%" in texts(shown)
    assert results(root) == sorted([f"{name}.json", f"{stem}.csv"])
