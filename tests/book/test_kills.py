"""The short version of `make faults`, and whether its checks can fail."""

import sys

import pytest


@pytest.fixture(scope="module", autouse=True)
def importable(repository):
    pytest.importorskip("hypothesis")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "scripts" / "faults"))
        yield


@pytest.mark.slow
def test_a_killed_make_paper_goes_on_and_ends_as_if_nobody_had_killed_it(tmp_path):
    from kills import kill_paper

    tally = kill_paper(tmp_path, 2, seed=0, notebooks=("01_preferences_as_classification",))
    assert tally.tried >= 1
    assert not tally.lost
    assert not tally.undocumented


@pytest.mark.slow
def test_a_disk_that_fails_loses_nothing_and_is_a_sentence(tmp_path):
    from disk import FAULTS, fill_disk

    tally = fill_disk(tmp_path, most=1)
    assert tally.tried == len(FAULTS)
    assert not tally.lost
    assert not tally.undocumented


@pytest.mark.nightly
def test_what_dies_or_runs_twice_is_a_sentence(tmp_path):
    from processes import kill_kernels, run_twice

    for tally in (run_twice(tmp_path / "twice", rounds=1), kill_kernels(tmp_path / "deaths")):
        assert tally.tried
        assert not tally.lost
        assert not tally.undocumented


def test_what_is_gone_or_new_or_differs_is_noticed():
    from clone import compare

    assert compare({"a": "1", "b": "2"}, {"a": "1", "b": "2"}) == []
    assert compare({"a": "1", "b": "2"}, {"a": "3", "c": "4"}) == [
        "a differs",
        "b is gone",
        "c is new",
    ]


def test_a_secret_is_found_wherever_it_is(tmp_path):
    from clone import SECRETS, find_secrets

    assert find_secrets(tmp_path, "all is well") == []
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "note.ipynb").write_text(f"token = {SECRETS['HF_TOKEN']}")
    said = f"401 for {SECRETS['OPENAI_API_KEY']}"
    found = find_secrets(tmp_path, said)
    assert found == ["stderr holds OPENAI_API_KEY", "note.ipynb holds HF_TOKEN"]


@pytest.mark.parametrize(
    ("code", "said", "fault"),
    [
        (1, "clone/build/a.json: the disk is full: free some space, or name another place", None),
        (0, "trained 4", "exit code 0"),
        (1, "something failed", "no sentence"),
        (1, "Traceback (most recent call last):\n  …\nOSError: full", "a traceback: OSError: full"),
    ],
)
def test_an_end_that_is_no_sentence_is_noticed(code, said, fault):
    from disk import _find_fault

    found = _find_fault(code, said, "ENOSPC")
    assert found is None if fault is None else fault in found


def test_the_injected_error_hits_the_writes_of_one_folder_alone(tmp_path, repository):
    """The program of disk.py, with a command that only writes."""
    import subprocess

    inside = tmp_path / "build"
    inside.mkdir()
    (tmp_path / "sympo").mkdir()
    (tmp_path / "sympo" / "__init__.py").touch()
    (tmp_path / "sympo" / "__main__.py").write_text(
        "def main(names):\n"
        "    for name in names:\n"
        "        try:\n"
        "            open(name, 'w').write('x')\n"
        "            print('written')\n"
        "        except OSError as error:\n"
        "            print(error.strerror)\n"
    )
    names = [str(path) for path in (tmp_path / "outside", inside / "a", inside / "b")]
    program = str(repository / "scripts" / "faults" / "inject.py")
    command = [sys.executable, program, "builtins.open", "ENOSPC", "1", str(inside), *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["written", "written", "No space left on device"]
