"""`python -m sympo.book`: bad input, and settings as text."""

import pytest

from sympo._settings import parse_setting
from sympo.book.__main__ import main


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
def test_settings_on_the_command_line(text, value):
    assert parse_setting(text) == ("a", value)


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
def test_bad_input_is_one_sentence_and_exit_2(root, capsys, arguments, message):
    assert main(arguments) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert shown.count("\n") == 1
    assert not list(root.rglob("*.ipynb"))


def test_inputs_says_what_is_out_of_date_and_prints_the_profile_alone(root, quick, capsys):
    for command in (["inputs"], ["run", "01_one"], ["inputs"]):
        assert main([*command, "--profile", "smoke"]) == 0
        if command[0] == "inputs":
            assert capsys.readouterr() == ("smoke\n", "")
        capsys.readouterr()
    (root / "sympo/gamma.py").write_text("# edited\n")
    assert main(["inputs", "--profile", "smoke"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "smoke\n"
    assert shown.err == "01_one is out of date: sympo/gamma.py\n"
