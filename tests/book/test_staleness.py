"""What makes a notebook out of date, and what does not."""

import os
import time

import pytest
from miniature import list_stale, run_all, write_section, write_twin

from sympo.book import execute, staleness
from sympo.book.__main__ import main
from sympo.studies import profiles


def write_package(root, files):
    """Write modules under sympo/, `__init__` of every folder among them."""
    for name, text in files.items():
        path = root / "sympo" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(text)


def name_modules(root, text):
    """The modules behind a file in the repository's folder that holds `text`, below sympo/."""
    path = root / "some.py"
    path.write_text(text)
    modules = staleness.modules_of(path)
    return {module.relative_to(root / "sympo").as_posix() for module in modules}


class TestModules:
    def test_follow_imports_through_functions(self, root):
        modules = staleness.modules_of(root / "notebooks/src/01_one.py")
        assert [path.stem for path in modules] == ["__init__", "alpha", "gamma"]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("import sympo\nsympo.beta.f()", {"__init__.py", "beta.py"}),
            ("from sympo.alpha import f", {"__init__.py", "alpha.py", "gamma.py"}),
            ("from sympo import nothing_such", {"__init__.py"}),
            ("import sympy, numpy.linalg", set()),
        ],
    )
    def test_every_form_of_import(self, root, text, expected):
        assert name_modules(root, text) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "from sympo.studies import digits",
            "import sympo.studies.digits as d",
            "from sympo.studies.digits import Grid",
            "import sympo\nsympo.studies.digits.Grid()",
            "def f():\n    from sympo.studies.digits import fast",
        ],
    )
    def test_packages_count_with_what_they_import(self, root, text):
        write_package(
            root,
            {
                "studies/digits/fast/grid": "from .. import data\nfrom ...records import write",
                "studies/digits/data": "def load():\n    from sympo import beta",
                "studies/digits/other": "",
                "studies/records": "",
            },
        )
        package = root / "sympo/studies/digits/__init__.py"
        package.write_text("from sympo.studies.digits.fast.grid import Grid")
        assert name_modules(root, text) == {
            "__init__.py",
            "beta.py",
            "studies/__init__.py",
            "studies/records.py",
            "studies/digits/__init__.py",
            "studies/digits/data.py",
            "studies/digits/fast/__init__.py",
            "studies/digits/fast/grid.py",
        }

    def test_imports_for_a_type_checker_count_only_for_names_that_load_on_first_use(self, root):
        write_package(root, {"gamma": "if TYPE_CHECKING:\n    from sympo import beta"})
        lazy = "if typing.TYPE_CHECKING:\n    from sympo.alpha import Thing\n"
        (root / "sympo/__init__.py").write_text(lazy)
        assert name_modules(root, "import sympo") == {"__init__.py"}
        assert name_modules(root, "import sympo.gamma") == {"__init__.py", "gamma.py"}
        expected = {"__init__.py", "alpha.py", "gamma.py"}
        assert name_modules(root, "from sympo import Thing") == expected
        assert name_modules(root, "import sympo\nsympo.Thing()") == expected

    @pytest.mark.parametrize(
        ("name", "module"),
        [
            ("05_mnist_losses", "sympo/studies/mnist/fast/grid.py"),
            ("09_gold", "sympo/studies/alignment/gold.py"),
            ("09_gold", "sympo/trainer/dpo.py"),
            ("10_hh", "sympo/studies/alignment/offline.py"),
            ("00_start_here", "sympo/book/claims.py"),
        ],
    )
    def test_of_the_real_notebooks(self, name, module):
        lines = staleness.inputs(name, "smoke").splitlines()
        assert module in {line.partition(" ")[2] for line in lines}

    def test_what_reads_a_study_depends_on_its_section_too(self):
        lines = staleness.inputs("07_mnist_policy", "smoke")
        for section in ("mnist_policy", "mnist_losses"):
            assert f"section {section} of profile smoke" in lines
        assert "section mnist_policy" not in staleness.inputs("05_mnist_losses", "smoke")

    @pytest.mark.parametrize("module", ["sympo/trainer/dpo.py", "sympo/judge/endpoint.py"])
    def test_a_derivation_does_not_depend_on_training(self, module):
        assert module not in staleness.inputs("01_preferences_as_classification", "smoke")


class TestInputs:
    @pytest.mark.parametrize("module", ["sympo.beta", "sympo.tasks.three"])
    def test_a_study_depends_on_its_module_named_in_profiles(self, root, monkeypatch, module):
        write_package(root, {"tasks/three": "from sympo import beta"})
        monkeypatch.setattr(profiles, "STUDIES", {"three": (module, "Config")})
        path = f"{module.replace('.', '/')}.py"
        assert path in staleness.inputs("03_three", "smoke")
        assert "sympo/beta.py" in staleness.inputs("03_three", "smoke")
        assert path not in staleness.inputs("01_one", "smoke")

    def test_what_judges_the_claims_depends_on_them(self, root):
        write_package(root, {"book/claims": ""})
        (root / "notebooks/claims.yaml").write_text("[]")
        write_twin(root, "03_three", "from sympo.book import claims")
        assert "notebooks/claims.yaml" in staleness.inputs("03_three", "smoke")
        assert "notebooks/claims.yaml" not in staleness.inputs("01_one", "smoke")

    def test_a_laptop_depends_on_what_a_gpu_recorded_of_the_offline_studies(self, root):
        path = root / "figures/gpu/data/fig5_hh_win_rate.csv"
        path.parent.mkdir(parents=True)
        path.write_text("x\n1\n")
        write_section(root, "minutes: {}", "laptop")
        for number in ("03_three", "10_hh"):
            write_twin(root, number, "3")
        assert "figures/gpu/data/fig5_hh_win_rate.csv" in staleness.inputs("10_hh", "laptop")
        assert "figures/gpu" not in staleness.inputs("10_hh", "smoke")
        assert "figures/gpu" not in staleness.inputs("03_three", "laptop")

    def test_09_on_a_laptop_depends_on_what_a_gpu_recorded_of_smollm2(self, root):
        path = root / "figures/gpu/data/table_gold_smollm2.csv"
        path.parent.mkdir(parents=True)
        path.write_text("x\n1\n")
        write_section(root, "minutes: {}", "laptop")
        write_twin(root, "09_gold", "3")
        assert "figures/gpu/data/table_gold_smollm2.csv" in staleness.inputs("09_gold", "laptop")

    def test_new_times_change_nothing(self, root, quick):
        run_all()
        for path in root.rglob("*.py"):
            os.utime(path, (time.time() + 60, time.time() + 60))
        assert list_stale() == []

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
    def test_an_edit_touches_what_depends_on_it(self, root, quick, path, expected):
        run_all()
        with open(root / path, "a") as file:
            file.write("# edited\n")
        sentences = staleness.write_inputs("smoke")
        assert sentences == [f"{name} is out of date: {path}" for name in expected]
        assert list_stale() == expected

    def test_an_edit_of_one_section_touches_its_study_alone(self, root, quick):
        run_all()
        write_section(root, "# comment\nminutes: {01_one: 9}\ntwo: {epochs: 3}\none: {epochs: 1}\n")
        assert list_stale() == ["02_two"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda folder: (folder / "fig.pdf").unlink(), ["02_two"]),
        (lambda folder: (folder / "data" / "fig.csv").write_text("an exercise"), ["02_two"]),
        (lambda folder: (folder / "fig.pdf").write_text("drawn again"), []),
        # saved by none of these notebooks
        (lambda folder: (folder / "other.pdf").unlink(), []),
    ],
)
def test_results_that_are_not_as_saved_make_their_notebook_stale(
    root, monkeypatch, change, expected
):
    folder = root / "build/smoke/figures"
    write_twin(root, "02_two", "import sympo.beta", "figures.save(drawn, 'fig', table)")

    def draw(path, values):
        if path.name.startswith("02"):
            for name in ("fig.pdf", "other.pdf", "data/fig.csv"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text("drawn")

    monkeypatch.setattr(execute, "_execute", draw)
    run_all()
    assert list_stale() == []
    change(folder)
    assert list_stale() == expected


@pytest.mark.parametrize("text", ['{"figures/t.csv": "0a', "", "[]", '{"a": 3}', "[" * 100_000])
def test_a_note_of_results_that_was_cut_makes_its_notebook_stale_and_stops_nothing(
    root, quick, capsys, text
):
    run_all()
    staleness.results_file("01_one", "smoke").write_text(text)
    assert main(["inputs", "--profile", "smoke"]) == 0
    assert capsys.readouterr().out == "smoke\n"
    assert "01_one" in list_stale()
    assert main(["summary", "--profile", "smoke"]) == 0
    execute.run("01_one", "smoke")
    assert "01_one" not in list_stale()


@pytest.mark.parametrize("text", ['{"ended": 1, "sec', "[]", '{"ended": "x", "seconds": 1}'])
def test_a_note_of_times_that_was_cut_is_none(root, quick, capsys, text):
    run_all()
    (root / "build" / "smoke" / "times" / "01_one.json").write_text(text)
    assert main(["summary", "--profile", "smoke"]) == 0
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("01_one")]
    assert "up to date" in line


@pytest.mark.parametrize("content", [b"", b'{"cells": [', b"\xff\xfe\x80", b'{"metadata": {}}'])
def test_half_an_output_is_run_again_and_stops_nothing(root, quick, capsys, content):
    run_all()
    output = execute.output("01_one", "smoke")
    output.write_bytes(content)
    assert main(["summary", "--profile", "smoke"]) == 0
    assert "01_one" in list_stale()
    execute.run("01_one", "smoke")
    assert list_stale() == []


def test_inputs_that_are_no_text_make_their_notebook_stale_and_stop_nothing(root, quick, capsys):
    run_all()
    (root / "build" / "smoke" / "inputs" / "01_one.txt").write_bytes(b"\xff\xfe\x80")
    assert main(["inputs", "--profile", "smoke"]) == 0
    assert "01_one is out of date" in capsys.readouterr().err
    assert "01_one" in list_stale()
