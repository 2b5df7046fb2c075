"""The README's tables: every notebook with all that it saves, and the minutes of the profile."""

import re

import pytest

from sympo.book import paper, twins
from sympo.studies import profiles

README = (profiles.root() / "README.md").read_text(encoding="utf-8")
ROWS = {
    name: (text, results)
    for name, text, results in re.findall(
        r"^\| \[\d\d [^]]+\]\(notebooks/(\w+)\.ipynb\) \| ([^|]*) \| ([^|]*)\|$",
        README,
        re.MULTILINE,
    )
}


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
