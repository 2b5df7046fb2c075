"""Profiles with every defect that a hand can make: a sentence that names file, line or field."""

import math
import shutil

import pytest
from pydantic import Field

from sympo.studies import profiles
from sympo.studies.profiles import StudyConfig


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a text as the profile smoke of a clone."""
    folder = tmp_path / "notebooks" / "profiles"
    shutil.copytree(profiles.root() / "notebooks" / "profiles", folder)
    monkeypatch.setattr(profiles, "root", lambda: tmp_path)

    def write(content):
        path = folder / "smoke.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


SOUND = "minutes:\n  05_mnist_losses: 2\nmnist_losses:\n  epochs: 2\n"


def test_a_sound_profile_is_read(write):
    write(SOUND)
    assert profiles.read_profile("smoke") == {
        "minutes": {"05_mnist_losses": 2},
        "mnist_losses": {"epochs": 2},
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (SOUND + "  epochs: 3\n", "line 5: epochs is given twice"),
        (SOUND + "mnist_losses:\n  epochs: 3\n", "line 5: mnist_losses is given twice"),
        (SOUND + "  batch: 12:30:45\n", "line 5: '12:30:45' is no decimal number"),
        (SOUND + "  rate: 12:30.5\n", "line 5: '12:30.5' is no decimal number"),
        (SOUND + "  batch: 010\n", "line 5: '010' is no decimal number"),
        (SOUND + "  batch: 0_10\n", "line 5: '0_10' is no decimal number"),
        (SOUND + "  batch: 0x10\n", "line 5: '0x10' is no decimal number"),
        (SOUND + "  batch: " + "9" * 5000 + "\n", "cannot be read (ValueError)"),
        (SOUND + "  rate: .inf\n", "line 5: '.inf' is no decimal number"),
        (SOUND + "  date: 2001-99-99\n", "line 5: '2001-99-99' cannot be read (ValueError)"),
        (SOUND + "  date: !!timestamp x\n", "line 5: 'x' cannot be read"),
        (SOUND + "  flag: !!bool x\n", "line 5: 'x' cannot be read"),
        (SOUND + "  batch: !!int ''\n", "line 5: '' is no decimal number"),
        (SOUND + "  1: 2\n", "line 5: '1' is no name"),
        (SOUND + "  <<: {epochs: 7}\n", "line 5: '<<' is no name"),
        ("minutes: {05_mnist_losses: -3}\n", "minutes of 05_mnist_losses are -3"),
        ("a: &a [1]\nb: *a\n", "line 2: no references"),
        ("mnist_losses: [1, 2\n", "line 2: while parsing a flow sequence"),
        ("mnist_losses: !thing {}\n", "line 1: could not determine a constructor"),
        ("mnist_losses: !!python/object/apply:os.system [ls]\n", "line 1: could not determine"),
        ("a: {b: 1}\n---\nb: {c: 2}\n", "line 2: expected a single document"),
        ("? [a]\n: {b: 1}\n", "is no name: a name has to be text"),
        ("mnist_losses:\n\tepochs: 2\n", "line 2: while scanning for the next token"),
        ("", "it holds no sections"),
        ("- a\n- b\n", "it holds no sections"),
        ("mnist_losses: 3\n", "section mnist_losses is 3"),
        ("mnist_losses:\n", "section mnist_losses is None"),
        ("3: {a: 1}\n", "line 1: '3' is no name"),
        ("minutes: {05_mnist_losses: soon}\n", "minutes of 05_mnist_losses are 'soon'"),
        ("minutes: {05_mnist_losses: yes}\n", "minutes of 05_mnist_losses are True"),
        (b"mnist_losses: \xff\n", "no UTF-8 text"),
        (b"mnist_losses: \x00\n", "special characters are not allowed"),
        ("mnist_losses: " + "[" * 5000, "too many brackets"),
    ],
)
def test_a_defect_is_one_sentence_with_the_file(write, content, said):
    path = write(content)
    with pytest.raises(ValueError, match=r"\w") as caught:
        profiles.read_profile("smoke")
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert said in sentence
    assert "\n" not in sentence
    assert len(sentence) < len(str(path)) + 200


def test_a_profile_without_a_file_is_a_sentence(write):
    write(SOUND).unlink()
    with pytest.raises(FileNotFoundError, match="profile 'smoke' has no file"):
        profiles.read_profile("smoke")


def test_every_profile_of_the_project_is_sound():
    for profile in profiles.PROFILES:
        sections = profiles.read_profile(profile)
        for study in set(sections) & set(profiles.STUDIES):
            assert profiles.study_config(study, profile).study == study


class Config(StudyConfig):
    may_be_empty = frozenset({"optional"})

    names: list[str] = Field(["a"])
    optional: list[float] = Field([])
    sizes: dict[str, int] = Field({"a": 1})
    rate: float = 0.1
    count: int = Field(default=1, ge=0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"names": []}, "names: it is empty"),
        ({"sizes": {}}, "sizes: it is empty"),
        ({"names": ["a", "b", "a"]}, "names holds a more than once"),
        ({"optional": [0.5, 0.5]}, "optional holds 0.5 more than once"),
        ({"optional": [math.inf]}, "finite number"),
        ({"rate": math.nan}, "finite number"),
        ({"rate": -math.inf}, "finite number"),
        ({"count": 10**30}, "no study is that large"),
        ({"names": "x" * 10**6}, "valid list"),
        ({"count": "9" * 10**6}, "valid integer"),
    ],
)
def test_values_that_no_study_can_have_are_refused(write, monkeypatch, values, said):
    write("toy: {}\n")
    with pytest.raises(ValueError, match=r"\w") as caught:
        profiles.section_config(Config, "toy", "smoke", **values)
    assert said in str(caught.value)
    # a long value is cut
    assert len(str(caught.value)) < 250


def test_what_may_be_empty_may_be(write):
    write("toy: {}\n")
    assert profiles.section_config(Config, "toy", "smoke", optional=[]).optional == []


def list_sweeps():
    """Every list of every study, in the profile laptop."""
    for study in profiles.STUDIES:
        config = profiles.study_config(study, "laptop")
        for name, value in config:
            if isinstance(value, list | tuple):
                yield study, name


@pytest.mark.parametrize(("study", "name"), [*list_sweeps()])
def test_no_study_takes_a_value_twice_or_a_number_without_end(study, name):
    config = profiles.study_config(study, "laptop")
    value = list(getattr(config, name)) or [0.5]
    bad = [[*value, value[0]]]
    if isinstance(value[0], float):
        bad += [[math.inf], [math.nan]]
    if name not in config.may_be_empty:
        bad += [[]]
    for values in bad:
        with pytest.raises(ValueError, match=name):
            profiles.study_config(study, "laptop", **{name: values})
