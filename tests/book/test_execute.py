"""Running notebooks, and what is committed of them."""

import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from miniature import list_stale, write_section, write_twin

from sympo.book import execute, staleness, twins
from sympo.book.__main__ import main
from sympo.studies import profiles


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

    def test_what_a_persons_shell_holds_does_not_reach_a_notebook(
        self, root, monkeypatch, tmp_path
    ):
        startup = tmp_path / "startup.py"
        startup.write_text("print('hello from my shell')\nmine = 1")
        style = tmp_path / "matplotlibrc"
        style.write_text("figure.figsize: 1, 1\nfont.size: 40\n")
        mine = {
            "PYTHONSTARTUP": str(startup),
            # checks are assert statements, which this takes out
            "PYTHONOPTIMIZE": "2",
            "PYTHONWARNINGS": "error",
            "PYTHONPATH": str(tmp_path),
            "PYTHONHASHSEED": "7",
            "PYTHONIOENCODING": "ascii",
            "IPYTHONDIR": str(tmp_path / "ipython"),
            "MPLBACKEND": "agg",
            "MPLCONFIGDIR": str(tmp_path),
            "MATPLOTLIBRC": str(style),
            "TQDM_DISABLE": "1",
        }
        cells = (
            "import os, sys, warnings\nwarnings.warn('a warning is no error')",
            "print(sys.flags.optimize, sys.flags.hash_randomization, 'mine' in globals())",
            f"print([name for name, value in {mine}.items() if os.environ.get(name) == value])",
            "import matplotlib\nprint(matplotlib.rcParams['figure.figsize'], 'σ')",
            "assert False, 'a check that fails'",
        )
        write_twin(root, "03_three", *cells)
        for name, value in mine.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(RuntimeError, match="a check that fails"):
            execute.run("03_three", "smoke")
        assert os.environ["PYTHONOPTIMIZE"] == "2"
        failed = execute.output("03_three", "smoke").with_suffix(".failed.ipynb")
        outputs = [cell.get("outputs") for cell in nbformat.read(failed, as_version=4).cells]
        texts = [each[0].get("text") for each in outputs if each]
        assert "a warning is no error" in texts[-5]
        # hash_randomization is 0 for the seed 0 alone
        assert texts[-4:-1] == ["0 0 False\n", "[]\n", "[6.4, 4.8] σ\n"]

    @pytest.mark.parametrize(
        ("raised", "said"),
        [
            ("OSError(28, 'No space left on device', '/data/a')", "free some space"),
            ("PermissionError(13, 'Permission denied', '/data/a')", "there is no permission"),
        ],
    )
    def test_a_cell_that_cannot_write_is_a_sentence(self, root, capsys, raised, said):
        write_twin(root, "03_three", f"raise {raised}")
        assert main(["run", "03_three", "--profile", "smoke"]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 3
        assert "'/data/a'" in lines[1]
        assert said in lines[1]
        assert "03_three.failed.ipynb" in lines[2]

    def test_an_output_that_cannot_be_written_is_a_sentence(self, root, capsys):
        (root / "build").write_text("a file")
        assert main(["run", "03_three", "--profile", "smoke"]) == 1
        said = capsys.readouterr().err.splitlines()[-1]
        assert str(root / "build") in said
        assert "a part of this path is a file" in said
        assert (root / "build").read_text() == "a file"

    @pytest.mark.slow
    def test_of_two_runs_of_one_notebook_one_waits_and_takes_what_the_other_made(
        self, root, copy_package
    ):
        note = root / "ran.txt"
        cell = f"import time\nopen({str(note)!r}, 'a').write('once\\n')\ntime.sleep(3)"
        write_twin(root, "03_three", cell)
        copy_package(root)
        command = [sys.executable, "-m", "sympo.book", "run", "03_three", "--profile", "smoke"]
        both = [
            subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) for _ in range(2)
        ]
        said = sorted((each.communicate(timeout=120)[1] for each in both), key=len)
        assert [each.returncode for each in both] == [0, 0]
        assert note.read_text() == "once\n"
        assert any("another process is at work on 03_three" in text for text in said)
        assert any("another process has run it meanwhile" in text for text in said)

    def test_a_cell_that_raises(self, root, capsys):
        twin = write_twin(root, "03_three", "margin = 3", "raise ArithmeticError('too few pairs')")
        staleness.write_inputs("smoke")
        for _ in range(2):
            assert main(["run", "03_three", "--profile", "smoke"]) == 1
            shown = capsys.readouterr().err
            assert "raise ArithmeticError('too few pairs')" in shown
            assert "build/smoke/03_three.failed.ipynb" in shown
            assert "\x1b" not in shown
            assert [path.name for path in (root / "build/smoke").glob("*.ipynb")] == [
                "03_three.failed.ipynb"
            ]
            assert "03_three" in list_stale()
        twin.write_text(twin.read_text().replace("raise ArithmeticError('too few pairs')", "pass"))
        assert main(["run", "03_three", "--profile", "smoke"]) == 0
        assert [path.name for path in (root / "build/smoke").glob("*.ipynb")] == ["03_three.ipynb"]

    def test_a_failure_keeps_the_last_good_output(self, root, monkeypatch):
        good = execute.run("03_three", "smoke").read_bytes()
        write_twin(root, "03_three", "1 / 0")
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            execute.run("03_three", "smoke")
        assert execute.output("03_three", "smoke").read_bytes() == good
        assert "03_three" in list_stale()

    def test_a_kernel_that_dies(self, root):
        write_twin(root, "03_three", "import os\nos._exit(1)")
        with pytest.raises(RuntimeError, match="the kernel died"):
            execute.run("03_three", "smoke")

    @pytest.mark.parametrize(
        ("study", "profile", "left"),
        [("three", "smoke", True), ("three", "gpu", False), ("one", "smoke", False)],
    )
    def test_without_its_data_a_notebook_is_left_out_where_it_may_be(
        self, root, capsys, monkeypatch, study, profile, left
    ):
        monkeypatch.setattr(execute, "MAY_LACK_DATA", {study: ("smoke", "laptop")})
        write_section(root, "minutes: {}", "gpu")
        execute.run("03_three", "smoke")
        execute.refresh("03_three", "smoke")
        write_twin(
            root,
            "03_three",
            "class AssetError(Exception): pass",
            "raise AssetError('no comparisons')",
        )
        code = main(["run", "03_three", "--profile", profile])
        shown = capsys.readouterr().err
        assert "no comparisons" in shown
        assert twins.is_left_out("03_three", profile) == left
        assert code == (0 if left else 1)
        assert execute.output("03_three", profile).with_suffix(".failed.ipynb").exists() != left
        if left:
            assert f"sympo.book run 03_three --profile {profile}" in shown
            kept, committed = (
                nbformat.read(path, as_version=4)
                for path in (execute.output("03_three", profile), execute._committed("03_three"))
            )
            assert kept.cells == committed.cells
            assert "03_three" not in list_stale()
            assert not execute.refresh("03_three", profile)
            assert not staleness.results_file("03_three", profile).exists()

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
        assert profiles.caveat("laptop")

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("profile", "overrides", "folder", "caveat"),
        [
            ("laptop", {}, "figures", ""),
            ("laptop", {"pairs": 64}, "custom", "an exercise: no evidence"),
            ("smoke", {}, "figures", "smoke: these numbers mean nothing"),
        ],
    )
    def test_a_notebook_in_lab_never_writes_into_figures_and_says_what_is_no_evidence(
        self, root, repository, copy_package, profile, overrides, folder, caveat
    ):
        """Without the runner, which sets SYMPO_FIGURES: a kernel alone, as in JupyterLab."""
        copy_package(root)
        text = (repository / f"notebooks/profiles/{profile}.yaml").read_text()
        write_section(root, text, profile)
        twin = write_twin(
            root,
            "09_gold",
            "import pandas as pd\nfrom IPython.display import Markdown\n"
            "from sympo.book import figures\nfrom sympo.studies.profiles import study_config",
            'config = study_config("gold", profile, **overrides)',
            "config.table()",
            'Markdown("Ramp wins.")',
            'figures.save_table(pd.DataFrame({"verdict": ["reproduced"]}), "t", profile=profile)',
            "margin = 1",
            parameters=f'profile = "{profile}"\noverrides = {overrides}',
        )
        path = root / "build" / "lab.ipynb"
        path.parent.mkdir()
        execute._write_notebook(execute.read_twin(twin.stem), path)
        with execute._set_environment({"PYTHONPATH": str(root)}):
            execute._execute(path, {})
        *_, config, sentence, table, last = nbformat.read(path, as_version=4).cells
        for cell in (config, sentence, table):
            texts = [each.data.get("text/markdown") for each in cell.outputs]
            # above what the cell shows
            assert texts[:-1] == ([f"**{caveat}**"] if caveat else [])
        assert sentence.outputs[-1].data["text/markdown"] == "Ramp wins."
        assert not last.outputs
        (written,) = root.rglob("t.csv")
        assert written == root / "build" / profile / folder / "data" / "t.csv"
        assert (written.read_text() == "verdict\nreproduced\n") == (not caveat)

    def test_progress_in_a_log_is_the_last_state_of_the_bar(self, root, tmp_path):
        path = tmp_path / "bar"
        path.write_text("train:  10%|# | 1/10\rtrain:  20%|## | 2/10\r")
        assert execute._read_last_line(path) == "train:  20%|## | 2/10"
        assert execute._read_last_line(tmp_path / "none") == ""

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_ends_the_kernel_and_leaves_nothing(
        self, root, copy_package, tmp_path, number
    ):
        note = tmp_path / "pid"
        cell = f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(100)"
        write_twin(root, "03_three", cell)
        copy_package(root)
        runner = subprocess.Popen(
            [sys.executable, "-m", "sympo.book", "run", "03_three", "--profile", "smoke"],
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


class TestCommitted:
    def test_refresh_keeps_outputs_and_drops_the_rest(self, root):
        imports = "import ipywidgets\nfrom IPython.display import display"
        cell = f"{imports}\ndisplay(ipywidgets.IntSlider())\nprint(profile)"
        write_twin(root, "03_three", cell, "40 + 2", "40 + 2")
        execute.run("03_three", "smoke")
        assert execute.refresh("03_three", "smoke")
        path = root / "notebooks/03_three.ipynb"
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert [cell.get("execution_count") for cell in notebook.cells] == [None, 1, 2, 3, 4, 5]
        assert [output.output_type for output in notebook.cells[3].outputs] == ["stream"]
        assert notebook.cells[4].outputs[0].data["text/plain"] == "42"
        expected = {"accelerator", "colab", "kernelspec", "language_info", twins.TEXT}
        assert set(notebook.metadata) == expected
        assert len({cell.id for cell in notebook.cells}) == 6
        assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
        for word in ("papermill", "widget-", "iopub", "injected"):
            assert word not in path.read_text()

        before = path.read_bytes()
        execute.run("03_three", "smoke")
        assert not execute.refresh("03_three", "smoke")
        assert path.read_bytes() == before

    def test_another_run_with_the_same_results_changes_nothing(self, root):
        cells = ("print('0.81')", "print(1)  # save_provenance(")
        write_twin(root, "03_three", *cells)
        execute.run("03_three", "smoke")
        assert execute.refresh("03_three", "smoke")
        before = (root / "notebooks/03_three.ipynb").read_bytes()
        # the same text, executed on another machine
        path = execute.output("03_three", "smoke")
        good = path.read_text()
        path.write_text(good.replace('"1\\n"', '"2\\n"'))
        assert path.read_text() != good
        assert not execute.refresh("03_three", "smoke")
        assert (root / "notebooks/03_three.ipynb").read_bytes() == before
        # a number moved: then everything is as it was run
        path.write_text(path.read_text().replace('"0.81\\n"', '"0.82\\n"'))
        assert execute.refresh("03_three", "smoke")
        shown = (root / "notebooks/03_three.ipynb").read_text()
        assert "0.82" in shown
        assert '"2\\n"' in shown

    def test_an_edit_of_the_committed_notebook_is_never_lost(self, root, quick, capsys):
        path = root / "notebooks/03_three.ipynb"
        execute.run("03_three", "smoke")
        execute.refresh("03_three", "smoke")
        before = nbformat.read(path, as_version=4)
        edits = {
            "source": lambda cells: cells[-1].update(source="4"),
            "tags": lambda cells: cells[-1].metadata.update(tags=["check"]),
            "one cell less": lambda cells: cells.pop(),
        }
        for edit in edits.values():
            edited = nbformat.from_dict(before)
            edit(edited.cells)
            nbformat.write(edited, path)
            text = path.read_text()
            with pytest.raises(ValueError, match=r"03_three\.ipynb was edited.*jupytext --sync"):
                execute.refresh("03_three", "smoke")
            assert path.read_text() == text
            # make says that it runs the twin
            assert main(["inputs", "--profile", "smoke"]) == 0
            assert "not run: notebooks/03_three.ipynb was edited" in capsys.readouterr().err
        # what Lab alone writes is no edit, and an edit of the twin loses nothing
        opened = nbformat.from_dict(before)
        opened.metadata["jupytext"] = {"formats": "ipynb,py:percent"}
        nbformat.write(opened, path)
        write_twin(root, "03_three", "5")
        execute.run("03_three", "smoke")
        assert execute.refresh("03_three", "smoke")

    def test_refresh_refuses_another_text(self, root, quick):
        execute.run("03_three", "smoke")
        write_twin(root, "03_three", "4")
        with pytest.raises(
            ValueError, match="another text of 03_three: run make paper PROFILE=smoke first"
        ):
            execute.refresh("03_three", "smoke")
