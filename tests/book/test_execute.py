"""The runner of the notebooks, on made-up notebooks in a made-up repository."""

import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sympo.book import execute, figures
from sympo.studies import profiles

HEADER = """\
# ---
# jupyter:
#   accelerator: GPU
#   colab:
#     gpuType: T4
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---
"""
REPOSITORY = Path(__file__).resolve().parents[1]


def write_twin(root: Path, name: str, *cells: str, parameters: str = 'profile = "auto"') -> Path:
    """Write a twin: a title, the bootstrap's address, a parameters cell and `cells`."""
    code = [f'# %% tags=["parameters"]\n{parameters}\n', *(f"# %%\n{cell}\n" for cell in cells)]
    text = f'{HEADER}\n# %% [markdown]\n# # {name}\n\n# %% tags=["bootstrap"]\nrepository = ""  # address\n\n'
    path = root / "notebooks" / "src" / f"{name}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n".join(code))
    return path


def write_section(root: Path, text: str, profile: str = "smoke") -> None:
    path = root / "notebooks" / "profiles" / f"{profile}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with three notebooks: the first imports `alpha` and so `gamma`, the second
    `beta`.
    """
    folder = tmp_path / "repository"
    write_section(folder, "minutes: {01_one: 2, 02_two: 3.5}\none: {epochs: 1}\ntwo: {epochs: 2}\n")
    write_twin(folder, "01_one", "from sympo import alpha", "print(profile)")
    write_twin(folder, "02_two", "import sympo.beta", "2 + 2")
    write_twin(folder, "03_three", "3")
    package = folder / "sympo"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "alpha": "def f():\n    from . import gamma\n",
        "beta": "",
        "gamma": "",
    }.items():
        (package / f"{name}.py").write_text(text)
    (folder / "constraints.txt").write_text("numpy==2.0\n")
    monkeypatch.setattr(profiles, "root", lambda: folder)
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Notebooks that are not executed: the output is the unexecuted notebook."""
    monkeypatch.setattr(execute, "_execute", lambda path, given: None)


def stale(profile: str = "smoke") -> list[str]:
    execute.write_inputs(profile)
    return [name for name in execute.notebooks() if execute._is_stale(name, profile)]


def run_all(profile: str = "smoke") -> None:
    execute.write_inputs(profile)
    for name in execute.notebooks():
        execute.run(name, profile)


class TestInputs:
    def test_follow_imports_through_functions(self, root):
        names = [path.stem for path in execute.modules_of(root / "notebooks/src/01_one.py")]
        assert names == ["__init__", "alpha", "gamma"]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("import sympo\nsympo.beta.f()", {"__init__", "beta"}),
            ("from sympo.alpha import f", {"__init__", "alpha", "gamma"}),
            ("from sympo import nothing_such", {"__init__"}),
            ("import sympy, numpy.linalg", set()),
        ],
    )
    def test_every_form_of_import(self, root, text, expected):
        path = root / "some.py"
        path.write_text(text)
        assert {found.stem for found in execute.modules_of(path)} == expected

    def test_a_study_depends_on_its_module_named_in_config(self, root, monkeypatch):
        monkeypatch.setattr(profiles, "STUDIES", {"three": ("sympo.beta", "Config")})
        assert "sympo/beta.py" in execute.inputs("03_three", "smoke")
        assert "sympo/beta.py" not in execute.inputs("01_one", "smoke")

    def test_new_times_change_nothing(self, root, quick):
        run_all()
        for path in root.rglob("*.py"):
            os.utime(path, (time.time() + 60, time.time() + 60))
        assert stale() == []

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("sympo/gamma.py", ["01_one"]),
            ("sympo/beta.py", ["02_two"]),
            ("sympo/__init__.py", ["01_one", "02_two"]),
            ("notebooks/src/03_three.py", ["03_three"]),
            ("constraints.txt", ["01_one", "02_two", "03_three"]),
        ],
    )
    def test_an_edit_touches_what_depends_on_it(self, root, quick, capsys, path, expected):
        run_all()
        with open(root / path, "a") as file:
            file.write("# edited\n")
        assert stale() == expected
        assert f"{expected[0]} is out of date: {path}" in capsys.readouterr().err

    def test_an_edit_of_one_section_touches_its_study_alone(self, root, quick):
        run_all()
        write_section(root, "# comment\nminutes: {01_one: 9}\ntwo: {epochs: 3}\none: {epochs: 1}\n")
        assert stale() == ["02_two"]

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            (lambda folder: (folder / "fig.pdf").unlink(), ["02_two"]),
            (lambda folder: (folder / "data" / "fig.csv").write_text("an exercise"), ["02_two"]),
            (lambda folder: (folder / "fig.pdf").write_text("drawn again"), []),
            # not made by any of these notebooks
            (lambda folder: (folder / "other.pdf").unlink(), []),
        ],
    )
    def test_results_that_are_not_as_made_make_their_notebook_stale(
        self, root, monkeypatch, change, expected
    ):
        folder = root / "build/smoke/figures"
        write_twin(root, "02_two", "import sympo.beta", "plots.save(drawn, 'fig', table)")

        def draw(path, given):
            if path.name.startswith("02"):
                for name in ("fig.pdf", "other.pdf", "data/fig.csv"):
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_text("made")

        monkeypatch.setattr(execute, "_execute", draw)
        run_all()
        assert stale() == []
        change(folder)
        assert stale() == expected


class TestParameters:
    def given(self, root, *, cell: str, **settings) -> dict:
        write_twin(root, "04_four", parameters=cell)
        return execute.check_parameters(execute.read_twin("04_four"), "04_four", "smoke", settings)

    def test_the_profile_and_values_of_the_cell(self, root):
        cell = 'profile = "auto"  #@param ["auto"]\nrate = 0.4\ncount = 3'
        assert self.given(root, cell=cell, rate=1, count=5) == {
            "profile": "smoke",
            "rate": 1.0,
            "count": 5,
        }

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"raet": 0.2}, "unknown parameter of 04_four 'raet'. Did you mean 'rate'?"),
            ({"rate": "high"}, "'rate' must be of type float"),
            ({"count": True}, "'count' must be of type int"),
            ({"count": 2.5}, "'count' must be of type int"),
            ({"profile": "paper"}, "use --profile"),
        ],
    )
    def test_refuses(self, root, settings, message):
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            self.given(root, cell='profile = "auto"\nrate = 0.4\ncount = 3', **settings)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("line", ["x = 1 + y", "import os", "a = b = 1", "x += 1", "f(3)"])
    def test_the_cell_holds_literals_only(self, root, line):
        with pytest.raises(ValueError, match="name = literal"):
            self.given(root, cell=f'profile = "auto"\n{line}')

    def test_overrides_are_validated_as_the_study_would(self, root, monkeypatch):
        asked = []
        monkeypatch.setattr(
            config,
            "study_config",
            lambda study, profile, **fields: asked.append((study, profile, fields)),
        )
        given = self.given(root, cell='profile = "auto"\noverrides = {}', epochs=2)
        assert given == {"profile": "smoke", "overrides": {"epochs": 2}}
        assert asked == [("four", "smoke", {"epochs": 2})]

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("a=3", 3),
            ("a=0.5", 0.5),
            ("a=1e-3", 1e-3),
            ("a=true", True),
            ("a=ramp", "ramp"),
            ("a=[1, 2]", [1, 2]),
            ("a=x=y", "x=y"),
        ],
    )
    def test_settings_on_the_command_line(self, text, value):
        assert execute.parse_setting(text) == ("a", value)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["run", "01_onee"], "Did you mean '01_one'?"),
            (["run", "01_one", "--profile", "smok"], "smoke"),
            (["run", "01_one", "--set", "epochs"], "--set takes name=value, got 'epochs'"),
            (
                ["run", "01_one", "--set", "epochs=1", "--profile", "smoke"],
                "unknown parameter of 01_one 'epochs'",
            ),
            (["inputs", "--profile", "lptop"], "Did you mean 'laptop'?"),
            (["badges", "owner"], "got 'owner'"),
            (["notebooks", "--profile", "smoke"], "run make paper PROFILE=smoke first"),
            (["figures", "--profile", "smoke"], "run make paper PROFILE=smoke first"),
        ],
    )
    def test_bad_input_is_one_sentence_and_exit_2(self, root, capsys, arguments, message):
        assert execute.main(arguments) == 2
        shown = capsys.readouterr().err
        assert message in shown
        assert shown.count("\n") == 1
        assert not list(root.rglob("*.ipynb"))


class TestRun:
    def test_an_executed_notebook(self, root, capsys):
        path = execute.run("01_one", "smoke")
        assert path == root / "build/smoke/01_one.ipynb"
        cells = nbformat.read(path, as_version=4).cells
        assert cells[-1].outputs[0].text == "smoke\n"
        assert [path.name for path in (root / "build/smoke").glob("*.ipynb")] == ["01_one.ipynb"]
        assert "[1/3] 01_one: about 2 min, 5.5 min left in all" in capsys.readouterr().err

    def test_the_kernel_is_this_python_in_the_notebooks_folder(self, root, monkeypatch, tmp_path):
        # A kernel of the same name in the user's folders runs `false`.
        kernel = tmp_path / "jupyter/kernels/python3"
        kernel.mkdir(parents=True)
        (kernel / "kernel.json").write_text(
            '{"argv": ["false"], "display_name": "other", "language": "python"}'
        )
        monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
        monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
        before = dict(os.environ)
        write_twin(root, "03_three", "import os, sys\nprint(sys.executable, os.getcwd())")
        cells = nbformat.read(execute.run("03_three", "smoke"), as_version=4).cells
        assert cells[-1].outputs[0].text == f"{sys.executable} {root / 'notebooks'}\n"
        assert dict(os.environ) == before

    def test_a_cell_that_raises(self, root, capsys):
        twin = write_twin(root, "03_three", "margin = 3", "raise ArithmeticError('too few pairs')")
        execute.write_inputs("smoke")
        for _ in range(2):
            assert execute.main(["run", "03_three", "--profile", "smoke"]) == 1
            shown = capsys.readouterr().err
            assert "raise ArithmeticError('too few pairs')" in shown
            assert "build/smoke/03_three.failed.ipynb" in shown
            assert "\x1b" not in shown
            assert [path.name for path in (root / "build/smoke").glob("*.ipynb")] == [
                "03_three.failed.ipynb"
            ]
            assert "03_three" in stale()
        twin.write_text(twin.read_text().replace("raise ArithmeticError('too few pairs')", "pass"))
        assert execute.main(["run", "03_three", "--profile", "smoke"]) == 0
        assert [path.name for path in (root / "build/smoke").glob("*.ipynb")] == ["03_three.ipynb"]

    def test_a_failure_keeps_the_last_good_output(self, root, monkeypatch):
        good = execute.run("03_three", "smoke").read_bytes()
        write_twin(root, "03_three", "1 / 0")
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            execute.run("03_three", "smoke")
        assert execute.output("03_three", "smoke").read_bytes() == good
        assert "03_three" in stale()

    def test_a_kernel_that_dies(self, root):
        write_twin(root, "03_three", "import os\nos._exit(1)")
        with pytest.raises(RuntimeError, match="the kernel died"):
            execute.run("03_three", "smoke")

    def test_settings_leave_the_profiles_results_alone(self, root):
        cell = "import os\nprint(size, os.environ['SYMPO_FIGURES'])"
        write_twin(root, "03_three", cell, parameters='profile = "auto"\nsize = 1')
        write_section(root, "minutes: {}", "laptop")
        path = execute.run("03_three", "laptop", size=7)
        assert path.name == "03_three.custom.ipynb"
        assert (
            nbformat.read(path, as_version=4).cells[-1].outputs[0].text
            == f"7 {root / 'build/laptop/custom'}\n"
        )
        assert not execute.output("03_three", "laptop").exists()

    def test_figures_follow_the_runner(self, monkeypatch, tmp_path):
        monkeypatch.setenv("SYMPO_FIGURES", str(tmp_path))
        assert profiles.figures_folder("laptop") == tmp_path

    def test_progress_in_a_log_is_the_last_state_of_the_bar(self, root, tmp_path):
        path = tmp_path / "bar"
        path.write_text("train:  10%|# | 1/10\rtrain:  20%|## | 2/10\r")
        assert execute._last_line(path) == "train:  20%|## | 2/10"
        assert execute._last_line(tmp_path / "none") == ""

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_ends_the_kernel_and_leaves_nothing(self, root, tmp_path, number):
        note = tmp_path / "pid"
        cell = f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(100)"
        write_twin(root, "03_three", cell)
        copy_package(root)
        runner = subprocess.Popen(
            [sys.executable, "-m", "sympo.book.execute", "run", "03_three", "--profile", "smoke"],
            cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True,
            # a job in a shell's background ignores Ctrl-C
            preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
        )  # fmt: skip
        try:
            wait_until(lambda: note.is_file() and note.read_text())
            runner.send_signal(number)
            shown = runner.communicate(timeout=30)[1]
        finally:
            runner.kill()
        assert runner.returncode == 130
        assert shown.splitlines()[1:] == [
            "interrupted: finished notebooks and runs are kept, and make goes on from there"
        ]
        wait_until(lambda: not is_running(int(note.read_text())))
        assert not list((root / "build/smoke").glob("*.ipynb"))


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def copy_package(root: Path) -> None:
    """Put the real package into a made-up repository, so that its root is that repository."""
    shutil.copytree(
        REPOSITORY / "sympo",
        root / "sympo",
        ignore=shutil.ignore_patterns("__pycache__"),
        dirs_exist_ok=True,
    )


class TestMake:
    def make(self, root: Path, *arguments: str) -> subprocess.CompletedProcess:
        # The environment stands already: any file that exists may be its stamp.
        given = [f"PYTHON={sys.executable}", "STAMP=constraints.txt", "PROFILE=smoke", *arguments]
        # The flags of the make that runs these tests are not for the make under test.
        env = {
            key: value
            for key, value in os.environ.items()
            if key not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
        }
        return subprocess.run(
            ["make", *given], cwd=root, capture_output=True, text=True, check=False, env=env
        )

    def test_paper_runs_what_is_out_of_date(self, root):
        copy_package(root)
        shutil.copy(REPOSITORY / "Makefile", root)
        (root / "pyproject.toml").write_text("")
        for name in ("02_two", "03_three"):
            (root / f"notebooks/src/{name}.py").unlink()
        good = write_twin(root, "01_one", "from sympo import alpha").read_text()
        write_twin(root, "00_start_here", "0")
        assert self.make_paper(root) == (0, ["01_one", "00_start_here"])

        os.utime(root / "sympo/alpha.py")
        started = time.monotonic()
        again = self.make(root, "paper")
        assert time.monotonic() - started < 10
        assert (again.returncode, again.stderr) == (0, "")
        assert "nothing to do" in again.stdout

        write_twin(root, "01_one", "raise ArithmeticError('too few pairs')")
        assert self.make_paper(root) == (2, ["01_one"])
        (root / "notebooks/src/01_one.py").write_text(good + "\n# repaired\n")
        assert self.make_paper(root) == (0, ["01_one", "00_start_here"])

    def make_paper(self, root: Path) -> tuple[int, list[str]]:
        """The exit status of `make paper` and the notebooks it began."""
        done = self.make(root, "paper")
        return done.returncode, re.findall(r"^\[\d/\d\] (\w+)", done.stderr, flags=re.M)

    def test_an_unknown_profile_is_refused(self, root):
        copy_package(root)
        shutil.copy(REPOSITORY / "Makefile", root)
        (root / "pyproject.toml").write_text("")
        refused = self.make(root, "paper", "PROFILE=lptop")
        assert refused.returncode != 0
        assert "unknown profile 'lptop'. Did you mean 'laptop'?" in refused.stderr
        assert "Traceback" not in refused.stderr

    def test_no_new_enough_python_is_one_sentence(self, root, tmp_path):
        shutil.copy(REPOSITORY / "Makefile", root)
        (root / "pyproject.toml").write_text("")
        tools = tmp_path / "tools"
        tools.mkdir()
        for tool in (
            "sh",
            "cat",
            "cksum",
            "cut",
            "make",
            "test",
            "echo",
            "sed",
            "touch",
            "mkdir",
            "rm",
            "sort",
        ):
            (tools / tool).symlink_to(shutil.which(tool))
        (tools / "python3").write_text("#!/bin/sh\nexit 1\n")  # what an older Python answers
        (tools / "python3").chmod(0o755)
        refused = subprocess.run(
            ["make", "env"], cwd=root, env={"PATH": str(tools)}, capture_output=True, text=True
        )
        assert refused.returncode != 0
        assert "no Python 3.11 or later on the PATH" in refused.stderr
        assert not (root / ".venv").exists()

    def test_help_is_the_default_and_lists_every_target(self, root):
        shutil.copy(REPOSITORY / "Makefile", root)
        (root / "pyproject.toml").write_text("")
        shown = self.make(root).stdout
        rules = (
            (REPOSITORY / "Makefile").read_text().partition(".PHONY:")[2].splitlines()[0].split()
        )
        for target in {*rules} - {"executed", "force"}:
            assert f"\n  {target} " in shown


class TestCommitted:
    def test_refresh_keeps_outputs_and_drops_the_rest(self, root):
        cell = "from IPython.display import display\nimport ipywidgets\ndisplay(ipywidgets.IntSlider())\nprint(profile)"
        write_twin(root, "03_three", cell, "40 + 2", "40 + 2")
        execute.run("03_three", "smoke")
        assert execute.refresh("03_three", "smoke")
        path = root / "notebooks/03_three.ipynb"
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert [cell.get("execution_count") for cell in notebook.cells] == [None, 1, 2, 3, 4, 5]
        assert [output.output_type for output in notebook.cells[3].outputs] == ["stream"]
        assert notebook.cells[4].outputs[0].data["text/plain"] == "42"
        assert set(notebook.metadata) == {"accelerator", "colab", "kernelspec", "language_info"}
        assert len({cell.id for cell in notebook.cells}) == 6
        assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
        for word in ("papermill", "widget-", "iopub", "injected"):
            assert word not in path.read_text()

        before = path.read_bytes()
        execute.run("03_three", "smoke")
        assert not execute.refresh("03_three", "smoke")
        assert path.read_bytes() == before

    def test_refresh_refuses_another_text(self, root, quick):
        execute.run("03_three", "smoke")
        write_twin(root, "03_three", "4")
        with pytest.raises(
            ValueError, match="another text of 03_three: run make paper PROFILE=smoke first"
        ):
            execute.refresh("03_three", "smoke")

    def test_badges_are_written_once(self, root, quick):
        (root / "README.md").write_text("# SymPO\n\nText.\n")
        for name in execute.notebooks():
            execute.run(name, "smoke")
            execute.refresh(name, "smoke")
        assert len(execute.write_badges("some-one/sympo")) == 4
        twin = (root / "notebooks/src/01_one.py").read_text()
        assert 'repository = "some-one/sympo"  # address' in twin
        assert "colab.research.google.com/github/some-one/sympo/blob/v" in twin
        assert "notebooks/01_one.ipynb" in twin
        cells = nbformat.read(root / "notebooks/01_one.ipynb", as_version=4).cells
        assert [cell.source for cell in cells] == [
            cell.source for cell in execute.read_twin("01_one").cells
        ]
        assert cells[0].source.startswith("# 01_one\n\n[![Open in Colab]")
        assert execute.write_badges("some-one/sympo") == []
        execute.write_badges("other/place")
        text = (root / "README.md").read_text()
        assert "other/place" in text
        assert "some-one" not in text
        assert text.count("Open in Colab") == 1

    @pytest.mark.parametrize(
        "address", ["", "owner", "https://github.com/a/b", "a/b/c", 'a/b"', "a b/c"]
    )
    def test_badges_refuse_what_is_no_address(self, root, address):
        with pytest.raises(ValueError, match="owner and name"):
            execute.write_badges(address)


class TestFigures:
    def test_drawn_again_from_their_csv(self, root, monkeypatch, capsys):
        data = root / "figures/laptop/data"
        data.mkdir(parents=True)
        drawn = {}
        monkeypatch.setattr(
            figures,
            "fig_a",
            lambda table: drawn.update(a=table) or figures.subplots()[0],
            raising=False,
        )
        monkeypatch.setattr(
            figures,
            "fig_b",
            lambda x, y: drawn.update(x=x, y=y) or figures.subplots()[0],
            raising=False,
        )
        for stem in ("fig_a", "fig_b_x", "fig_b_y", "table_c"):
            (data / f"{stem}.csv").write_text("method,estimate\nramp,0.25\n")
        before = {path: path.read_bytes() for path in data.iterdir()}
        assert execute.main(["figures", "--profile", "laptop"]) == 0
        assert all(table["estimate"].tolist() == [0.25] for table in drawn.values())
        assert set(drawn) == {"a", "x", "y"}
        made = {path.name for path in data.parent.iterdir() if path.is_file()}
        assert made == {
            "fig_a.pdf",
            "fig_a.png",
            "fig_b.pdf",
            "fig_b.png",
            "table_c.md",
            "table_c.tex",
        }
        assert {path: path.read_bytes() for path in data.iterdir()} == before

        (data / "fig_d.csv").write_text("x\n1\n")
        assert execute.main(["figures", "--profile", "laptop"]) == 1
        assert "nothing draws fig_d" in capsys.readouterr().err


class TestEnvironment:
    def test_constraints_pin_every_requirement_at_a_version_it_allows(self):
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"].values()
        needed = map(Requirement, [*project["dependencies"], *itertools.chain(*extras)])
        lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
        pins = {}
        for pin in (Requirement(line) for line in lines if not line.startswith("#")):
            (version,) = pin.specifier
            assert version.operator == "=="
            pins.setdefault(canonicalize_name(pin.name), []).append(version.version)
        for requirement in needed:
            if requirement.name == "sympo":
                continue  # one extra names another
            versions = pins[canonicalize_name(requirement.name)]
            assert all(requirement.specifier.contains(version) for version in versions), requirement

    def test_conda_takes_its_packages_from_pyproject(self):
        environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
        names = [re.split(r"[<>=]", entry)[0] for entry in environment["dependencies"][:-1]]
        assert names == ["python", "pip", "make"]
        assert environment["dependencies"][-1] == {
            "pip": ["-c constraints.txt", "-e .[paper,test]"]
        }


class TestVerify:
    table = pd.DataFrame(
        {"method": ["ramp", "dpo"], "n": [5, 5], "accuracy": [0.75, 0.5], "p": [0.01, 0.5]}
    )

    def test_the_same_table(self):
        assert execute.compare(self.table, self.table.copy(), kind="theory") == []

    @pytest.mark.parametrize(
        ("column", "value", "theory", "study"),
        [
            ("accuracy", 0.75004, 0, 0),
            ("accuracy", 0.751, 1, 0),
            ("accuracy", 0.9, 1, 1),
            ("accuracy", float("nan"), 1, 1),
            ("p", 0.2, 1, 0),
            ("n", 4, 1, 1),
            ("method", "hinge", 1, 1),
        ],
    )
    def test_tolerance(self, column, value, theory, study):
        here = self.table.copy()
        here.loc[0, column] = value
        assert len(execute.compare(self.table, here, kind="theory")) == theory
        found = execute.compare(self.table, here, kind="study")
        assert len(found) == study
        assert all(text.startswith(f"row 1, column {column}: ") for text in found)

    def test_missing_numbers_agree(self):
        holed = self.table.assign(accuracy=float("nan"))
        assert execute.compare(holed, holed.copy(), kind="study") == []

    def test_columns_and_rows(self):
        assert (
            "columns" in execute.compare(self.table, self.table.drop(columns="n"), kind="study")[0]
        )
        assert execute.compare(self.table, self.table[:1], kind="study") == [
            "1 rows here, 2 committed"
        ]

    def test_against_the_last_commit(self, root, capsys):
        data = root / "figures/laptop/data"
        data.mkdir(parents=True)
        for name in ("fig_a", "fig_b"):
            self.table.to_csv(data / f"{name}.csv", index=False)
        for command in (["init", "-q"], ["add", "figures"], ["commit", "-qm", "figures"]):
            subprocess.run(
                ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *command],
                cwd=root,
                check=True,
            )
        assert execute.main(["verify", "--profile", "laptop"]) == 0
        self.table.assign(accuracy=[0.75, 0.6]).to_csv(data / "fig_a.csv", index=False)
        (data / "fig_b.csv").rename(data / "fig_c.csv")
        capsys.readouterr()
        assert execute.main(["verify", "--profile", "laptop"]) == 1
        assert capsys.readouterr().err.splitlines() == [
            "fig_b.csv: committed, but not here",
            "fig_c.csv: here, but not committed",
            "fig_a.csv: row 2, column accuracy: 0.6 here, 0.5 committed (off by 0.1, allowed 5.1e-05)",
            "verify: 3 differences beyond the tolerance",
        ]

    def test_without_a_commit(self, root, capsys):
        assert execute.main(["verify", "--profile", "laptop"]) == 2
        assert "git cannot read the committed data" in capsys.readouterr().err

    def test_what_training_made_has_the_wider_tolerance(self, root, monkeypatch):
        monkeypatch.setattr(profiles, "STUDIES", {"two": ("sympo.beta", "Config")})
        write_twin(
            root, "01_one", 'plots.save(figures.fig_x(table), "fig_x", table, profile=profile)'
        )
        write_twin(root, "02_two", 'plots.save_table(table, "table1_two", profile=profile)')
        assert [execute._kind(stem) for stem in ("fig_x", "table1_two", "table1_two_curves")] == [
            "theory",
            "study",
            "study",
        ]
