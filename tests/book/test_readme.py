"""The README: its code runs, or what it would run exists; its tables are those of the notebooks.

Every code block is executed as it stands, or compared with what would read it: the parsers of the
commands, the Makefile, pyproject.toml, the folders. A line that none of these rules covers fails.
"""

import json
import re
import runpy
import shlex
import shutil
import tomllib
from itertools import pairwise
from pathlib import Path
from string import Template

import pandas as pd
import pytest
from packaging.requirements import Requirement

from sympo import __main__ as sympo_main
from sympo._settings import parse_setting
from sympo.book import __main__ as book_main
from sympo.book import paper, twins
from sympo.studies import plan, profiles

ROOT = profiles.root()
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = {
    name: (text, results)
    for name, text, results in re.findall(
        r"^\| \[\d\d [^]]+\]\(notebooks/(\w+)\.ipynb\) \| ([^|]*) \| ([^|]*)\|$",
        README,
        re.MULTILINE,
    )
}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(language, text) for _, language, text in FENCE.findall(README)]
PYTHON = [text for language, text in BLOCKS if language == "python"]
PLAIN = [text for language, text in BLOCKS if language == ""]
# The map of the folders is drawn, and not typed into a shell.
MAPS = [text for text in PLAIN if text.startswith("sympo/ ")]
LINES = [line for text in PLAIN if text not in MAPS for line in text.splitlines() if line]
# `make book` in the middle of a sentence is a command as well.
INLINE = [
    " ".join(text.split())
    for text in re.findall(r"`([^`]+)`", FENCE.sub("", README))
    if re.match(r"(make|pip|conda|python|accelerate) ", text)
]
COMMANDS = list(dict.fromkeys(LINES + INLINE))
# These are for a file of your own, and train or audit in seconds.
OWN = [
    line for line in COMMANDS if line.startswith(("python -m sympo audit", "python -m sympo train"))
]
# What SLURM tells each task of `--array=1-4`.
TASKS = 4
SBATCH = ("--gres=gpu:1", "--time=01:00:00", f"--array=1-{TASKS}")


def test_every_block_has_a_rule():
    assert {language for language, _ in BLOCKS} == {"python", ""}
    assert README.count("```") == 2 * len(BLOCKS)
    assert len(MAPS) == 1


@pytest.fixture(scope="module")
def own_files(tmp_path_factory) -> Path:
    """A reader's own model and preferences, tiny ones, under the names of the README."""
    folder = tmp_path_factory.mktemp("own")
    stand_ins = runpy.run_path(str(ROOT / "tests/library/train_two_steps.py"))
    for build in ("build_model", "build_tokenizer"):
        stand_ins[build]().save_pretrained(folder / "my-model")
    rows = [
        {"prompt": f"{word} {i}", "chosen": f"{word} yes", "rejected": f"{word} no"}
        for i in range(4)
        for word in ("yes", "no", "maybe")
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "preferences.jsonl").write_text(text)
    return folder


@pytest.fixture
def users_folder(own_files, frozen_modules, tmp_path, monkeypatch) -> None:
    """A folder with these is the working folder."""
    shutil.copytree(own_files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("users_folder")
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.splitlines()[1])
def test_a_python_block_runs_as_it_stands(block):
    exec(block, {"__name__": "__main__"})  # the README's own


@pytest.mark.slow
@pytest.mark.usefixtures("users_folder")
@pytest.mark.parametrize("line", OWN)
def test_a_command_for_your_own_file_runs(line):
    words = shlex.split(line)[3:]
    # as the README says of a machine without a GPU
    settings = ["--use_cpu", "--bf16", "false"] if words[0] == "train" else []
    assert sympo_main.main([*words, *settings]) == 0
    (written,) = [new for flag, new in pairwise(words) if flag in ("--html", "--output_dir")]
    assert Path(written).exists()


@pytest.mark.parametrize("line", [line for line in COMMANDS if line not in OWN])
def test_what_a_command_names_exists(line):
    check_command(shlex.split(line, comments=not line.startswith("#SBATCH")))


def check_command(words: list[str]) -> None:
    match words:
        case ["make", *targets]:
            check_make(targets)
        case ["pip", "install", wanted]:
            check_extras(wanted)
        case ["conda", "env", "create", "-f", path]:
            assert (ROOT / path).is_file()
        case ["python", "-m", "sympo", *rest]:
            check_study(rest)
        case ["python", "-m", "sympo.book", "run", *rest]:
            options = book_main._build_parser().parse_args(["run", *rest])
            assert options.name in twins.notebooks()
            profiles.resolve_profile(options.profile)
        case ["accelerate", "launch", *rest]:
            check_launch(rest)
        case ["#SBATCH", option]:
            assert option in SBATCH
        case ["srun", *rest]:
            check_tasks(rest)
        case _:
            pytest.fail(f"no rule covers this line of the README: {shlex.join(words)}")


def check_make(words: list[str]) -> None:
    """Each target is one, and each setting one that the Makefile reads."""
    makefile = (ROOT / "Makefile").read_text()
    (targets,) = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for word in words:
        name, is_setting, value = word.partition("=")
        if not is_setting:
            assert name in targets.split()
            continue
        assert f"$({name})" in makefile
        if name == "PROFILE" and value:
            profiles.resolve_profile(value)


def check_extras(wanted: str) -> None:
    """`wanted` is this package, or the folder that it lies in, with extras that it has."""
    requirement = Requirement(re.sub(r"^\.", "sympo", wanted))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert requirement.name == project["name"]
    assert requirement.extras <= set(project["optional-dependencies"])


def check_study(words: list[str]) -> None:
    """The parser knows every option, and the profile every study and field that is set."""
    options = sympo_main._parse_arguments(words)
    profiles.resolve_profile(options.profile)
    if options.command == "run":
        settings = dict(map(parse_setting, options.settings))
        profiles.study_config(options.study, options.profile, **settings)
    for study in getattr(options, "studies", None) or []:
        profiles.study_config(study, options.profile)


def check_launch(words: list[str]) -> None:
    """Accelerate's parser takes the line, and sympo's the rest of it."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    options = launch_command_parser().parse_args(words)
    load_config_from_file(str(ROOT / options.config_file))
    assert options.module
    check_command(["python", "-m", options.training_script, *options.training_script_args])


def check_tasks(words: list[str]) -> None:
    """The tasks of the array take a shard each: none is left out."""
    shards = []
    for task in range(1, TASKS + 1):
        # as the shell would fill them in
        known = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": TASKS}
        filled = [Template(word).substitute(known) for word in words]
        check_command(filled)
        shards.append(sympo_main._parse_arguments(filled[3:]).shard)
    assert shards == [(task, TASKS) for task in range(1, TASKS + 1)]
    # the hour of the time limit, which ends whatever has not ended
    assert sympo_main._parse_arguments(filled[3:]).budget < 3600


@pytest.mark.parametrize(
    "line",
    [
        "make papers",
        "make paper PROFIL=gpu",
        "make paper PROFILE=large",
        "pip install '.[audits]'",
        "pip install simpo",
        "python -m sympo run mnist_loss",
        "python -m sympo run mnist_losses --profile laptop --set epoch=5",
        "python -m sympo run-all --budgets 600",
        "python -m sympo.book run 10_h --profile paper",
        "accelerate launch --config nowhere.yaml -m sympo run hh --profile paper",
        "accelerate launch --config_file notebooks/profiles/accelerate/fsdp.yaml -m sympo runs hh",
        "srun python -m sympo run-all --shard $SLURM_ARRAY_TASK_ID/8",
        "git clone somewhere",
    ],
)
def test_a_mistake_would_be_noticed(line):
    with pytest.raises((Exception, SystemExit, pytest.fail.Exception)):
        check_command(shlex.split(line))


def test_the_map_of_the_folders_is_right():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    parents: list[str] = []
    for line in MAPS[0].splitlines():
        name = line.split()[0].rstrip("/").replace("<profile>", "laptop")
        depth = (len(line) - len(line.lstrip())) // 2
        parents = [*parents[:depth], name]
        # what git ignores need not be there yet
        assert ROOT.joinpath(*parents).is_dir() or f"{name.split('/')[0]}/" in ignored, line


def test_every_notebook_has_its_row():
    assert list(ROWS) == sorted(twins.notebooks())


@pytest.mark.parametrize("name", twins.notebooks())
def test_a_row_names_every_figure_and_table_that_its_notebook_saves(name):
    named = re.findall(r"`([^`]+)`", ROWS[name][1])
    assert sorted(named) == sorted(set(twins.saved_stems(twins.twin(name))))


def test_the_minutes_are_those_of_the_profile():
    expected = paper.write_minutes("laptop")
    assert expected in README, f"the README's minutes are not the profile's; they are:\n{expected}"


def test_what_is_said_of_the_whole_is_the_sum():
    minutes = profiles.read_profile("laptop")["minutes"]
    assert set(minutes) == set(twins.notebooks())
    (said,) = re.findall(r"about (\d+) minutes on two cores", README)
    assert int(said) == round(sum(minutes.values()))


@pytest.mark.parametrize("study", ["hh", "ultrafeedback"])
def test_the_runs_that_the_claims_wait_for_are_counted(study):
    config = profiles.study_config(study, "gpu")
    named = (plan.HEADLINE, plan.CLAIMED)
    assert f"{sum(config.tier(run) in named for run in config.runs())} policies\nfor each" in README
    seed = [run for run in config.runs() if run.seed == 0 and config.tier(run) == plan.HEADLINE]
    assert len(seed) == 3


def test_what_came_of_the_claims_is_what_the_verdicts_say():
    told = " ".join(README.split())
    claims = pd.read_csv(ROOT / "figures/laptop/data/table0_claims.csv").set_index("notebook")
    accuracy = claims[claims.group == "key result: reward accuracy"].loc["05_mnist_losses"].verdict
    assert (
        f"{sum(accuracy == 'reproduced')} of {len(accuracy)} claims about reward accuracy are "
        f"reproduced, and {sum(accuracy == 'contradicted')} contradicted"
    ) in told
    derived = claims[claims.index.str[:2].isin(["01", "02", "03", "04"])].verdict
    assert set(derived) == {"derived"}, "README says that all of it holds"
    wins = claims[claims.group == "key result: win rate"]
    known = claims.loc["09_gold"].reset_index()  # at equal KL the question is ours
    more_often = known[known.claim.str.endswith("wins more often than DPO.")]
    at_beta, at_kl = (
        more_often.verdict[more_often.claim.str.contains(distance)]
        for distance in ("the paper’s β", "equal KL")
    )
    assert (
        f"at the paper's β in {sum(at_beta == 'reproduced')} of {len(at_beta)} comparisons"
    ) in told
    assert (
        f"at the same distance {sum(at_kl == 'not measured')} of {len(at_kl)} could not be "
        f"measured and {sum(at_kl == 'reproduced')} are reproduced."
    ) in told
    waiting = (wins.loc[["10_hh", "11_ultrafeedback"]].verdict == "not measured").sum()
    assert f"On HH and UltraFeedback {waiting} claims about win rates wait for a GPU" in told


def list_links() -> list[tuple[str, str]]:
    """What the documents that GitHub shows link to, without the pages of other hosts."""
    found = []
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        targets = re.findall(r"\]\(([^)\s]+)\)", (ROOT / name).read_text(encoding="utf-8"))
        found += [(name, target) for target in targets if not target.startswith("http")]
    return found


@pytest.mark.parametrize(("document", "target"), list_links())
def test_a_link_leads_somewhere(document, target):
    path, _, _ = target.partition("#")
    assert (ROOT / path).exists(), f"{document} links to {target}"


def test_a_path_in_backquotes_exists():
    paths = re.findall(r"`((?:sympo|tests|notebooks|docs|scripts|figures)/[\w./-]+)`", README)
    assert len(paths) > 10
    assert not [path for path in paths if not (ROOT / path).exists()]
