"""The audit of the pinned packages fails where pip-audit itself would pass."""

import datetime
import importlib.util
import json
import sys

import pytest
from packaging.version import Version

from sympo.studies import profiles

SCRIPT = profiles.root() / "scripts" / "check_audit.py"
TODAY = datetime.date(2026, 1, 2)
FOUND = {"id": "PYSEC-1", "aliases": ["CVE-1", "GHSA-1"], "fix_versions": ["1.1"]}


@pytest.fixture(scope="module")
def check_audit():
    spec = importlib.util.spec_from_file_location("check_audit", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def audit(check_audit, monkeypatch, tmp_path, capsys):
    """`audit(constraints, answer)`: the exit status, and the lines, with a stand-in for pip-audit.

    The stand-in gets the pins and returns what it prints.
    """

    def audit(constraints, answer):
        seen = tmp_path / "seen.txt"
        stand_in = tmp_path / "pip_audit.py"
        stand_in.write_text(
            "import sys\n"
            "text = open(sys.argv[-1].partition('=')[2]).read()\n"
            f"open({str(seen)!r}, 'a').write(text + '--\\n')\n"
            "names = [line.split('==') for line in text.split()]\n"
            f"exec({answer!r})\n"
        )
        monkeypatch.setattr(check_audit, "_PIP_AUDIT", (sys.executable, str(stand_in)))
        path = tmp_path / "constraints.txt"
        path.write_text(constraints)
        status = check_audit.main(path)
        return status, capsys.readouterr().out.splitlines(), seen.read_text()

    return audit


def answer(**changes):
    """Of each pin that nothing is known of it, but for the reports in `changes`."""
    return (
        "import json\n"
        f"changes = json.loads({json.dumps(changes)!r})\n"
        "plain = [dict(name=n, version=v, vulns=[]) for n, v in names]\n"
        "reports = [changes.get(each['name'], each) for each in plain]\n"
        "print(json.dumps({'dependencies': [each for each in reports if each]}))\n"
    )


def test_a_clean_audit_passes(audit):
    constraints = (
        "# what\nAn_apple[x]==1.0\nbread==2.0+cpu  # c\n\ncake==3 ; python_version < '3'\n"
    )
    status, lines, seen = audit(constraints, answer())
    assert status == 0
    assert lines[-1] == "pins: 3, faults: 0"
    assert seen == "an-apple==1.0\nbread==2.0\ncake==3\n--\n"


def test_both_versions_of_a_package_are_audited(audit):
    constraints = "a==1 ; python_version < '3.12'\na==2 ; python_version >= '3.12'\nb==1\n"
    status, _, seen = audit(constraints, answer())
    assert status == 0
    assert seen == "a==1\nb==1\n--\na==2\n--\n"


@pytest.mark.parametrize(
    ("a", "line"),
    [
        (None, "a 1 was not audited: pip-audit does not mention it"),
        ({"name": "a", "skip_reason": "not on PyPI"}, "a 1 was not audited: not on PyPI"),
        ({"name": "a", "version": "9", "vulns": []}, "a 1 was not audited: pip-audit does not"),
        (
            {"name": "a", "version": "1", "vulns": [FOUND]},
            "a 1: PYSEC-1 = CVE-1 = GHSA-1, fixed in: 1.1",
        ),
    ],
    ids=["missing", "skipped", "another version", "vulnerable"],
)
def test_what_is_not_audited_or_not_safe_fails(audit, a, line):
    status, lines, _ = audit("a==1\nb==1\n", answer(a=a))
    assert status == 1
    assert lines[0].startswith(line)
    assert lines[1:] == ["pins: 2, faults: 1"]


@pytest.mark.parametrize("printed", ["", "print('[]')", "print('{}')", "sys.exit(2)"])
def test_an_audit_without_a_report_fails(audit, printed):
    status, lines, _ = audit("a==1\n", printed)
    assert status == 1
    assert lines[0] == "pip-audit gave no report:"


@pytest.mark.parametrize(("until", "faults"), [(TODAY, 0), (TODAY - datetime.timedelta(days=1), 1)])
@pytest.mark.parametrize("name", ["PYSEC-1", "GHSA-1"])
def test_an_advisory_may_wait_until_its_day(check_audit, monkeypatch, name, until, faults):
    monkeypatch.setitem(check_audit.ALLOWED, name, until)
    audited = [{"name": "a", "version": "1", "vulns": [FOUND]}]
    assert len(check_audit.find_faults([("a", "1")], audited, today=TODAY)) == faults


@pytest.mark.parametrize("text", ["", "# only\n", "a\n", "a>=1\n", "a==1,<2\n"])
def test_constraints_that_pin_nothing_are_refused(check_audit, text):
    with pytest.raises(ValueError, match="pins"):
        check_audit.read_pins(text)


def test_every_line_of_the_constraints_is_a_pin(check_audit):
    text = (profiles.root() / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    pins = check_audit.read_pins(text)
    assert len(pins) == len(lines)
    # written as pip-audit writes them, or none would be found in its report
    assert all(str(Version(version)) == version for _, version in pins)
