"""Notebooks by name, and strict parameters."""

import re

import pytest
from miniature import write_twin

from sympo.book import twins
from sympo.studies import profiles


def test_the_notebooks_that_run_last_exist_and_run_last():
    names = twins.notebooks()
    assert set(twins.LAST) <= set(names)
    assert names[-len(twins.LAST) :] == list(twins.LAST)


def test_stems_are_those_of_figures_and_tables(root):
    cells = ['figures.save(draw(table), "fig_a", table)', 'figures.save_table(table, "table_b")']
    path = write_twin(root, "01_one", *cells, 'figures.save_provenance("01_one")', "save(1, 2)")
    assert twins.saved_stems(path) == ["fig_a", "table_b"]


class TestParameters:
    def check(self, root, *, cell, **settings):
        write_twin(root, "04_four", parameters=cell)
        return twins.check_parameters(twins.read_twin("04_four"), "04_four", "smoke", settings)

    def test_the_profile_and_values_of_the_cell(self, root):
        cell = 'profile = "auto"  #@param ["auto"]\nrate = 0.4\ncount = 3'
        values = self.check(root, cell=cell, rate=1, count=5)
        assert values == {"profile": "smoke", "rate": 1.0, "count": 5}

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
        cell = 'profile = "auto"\nrate = 0.4\ncount = 3'
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            self.check(root, cell=cell, **settings)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("line", ["x = 1 + y", "import os", "a = b = 1", "x += 1", "f(3)"])
    def test_the_cell_holds_literals_only(self, root, line):
        with pytest.raises(ValueError, match="name = literal"):
            self.check(root, cell=f'profile = "auto"\n{line}')

    def test_overrides_are_validated_as_the_study_would(self, root, monkeypatch):
        asked = []

        def note(study, profile, **fields):
            asked.append((study, profile, fields))

        monkeypatch.setattr(profiles, "study_config", note)
        values = self.check(root, cell='profile = "auto"\noverrides = {}', epochs=2)
        assert values == {"profile": "smoke", "overrides": {"epochs": 2}}
        assert asked == [("four", "smoke", {"epochs": 2})]
