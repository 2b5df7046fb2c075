"""The files that say which packages are needed agree."""

import itertools
import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def test_constraints_pin_every_requirement_at_a_version_it_allows(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    needed = map(Requirement, [*project["dependencies"], *itertools.chain(*extras)])
    lines = (repository / "constraints.txt").read_text().splitlines()
    pins = {}
    for pin in (Requirement(line) for line in lines if not line.startswith("#")):
        (version,) = pin.specifier
        assert version.operator == "=="
        pins.setdefault(canonicalize_name(pin.name), []).append(version.version)
    for requirement in needed:
        # one extra names another
        if requirement.name == "sympo":
            continue
        versions = pins[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_conda_takes_its_packages_from_pyproject(repository):
    environment = yaml.safe_load((repository / "environment.yml").read_text())
    *own, pip = environment["dependencies"]
    assert [re.split(r"[<>=]", entry)[0] for entry in own] == ["python", "pip", "make"]
    assert pip == {"pip": ["-c constraints.txt", "-e .[paper,test]"]}
