"""Readers on inputs that they were not made for: some of many, `make faults` runs the rest."""

import sys

import pytest

from sympo.studies import bundle, records


@pytest.fixture(scope="module")
def readers(repository):
    pytest.importorskip("hypothesis")
    sys.path.insert(0, str(repository / "scripts" / "faults"))
    try:
        import readers
    finally:
        del sys.path[0]
    return readers


def test_readers_raise_what_they_document(readers):
    for reader in readers.READERS:
        (tally,) = readers.fuzz(20, only=reader.name)
        assert tally.tried >= 20
        assert not tally.undocumented, reader.name


def test_a_fault_is_found(readers, monkeypatch):
    def read(value):
        raise KeyError(value)

    broken = readers.READERS[-1]._replace(read=read)
    quiet = broken._replace(name="quiet", documented=(KeyError,))
    monkeypatch.setattr(readers, "READERS", (broken, quiet))
    undocumented, documented = readers.fuzz(10)
    assert len(undocumented.undocumented) == 1
    assert undocumented.tried == documented.tried == 5


def test_bad_inputs_end_in_a_sentence(readers):
    bad = [each for each in readers.bad_inputs() if each.name.startswith(("audit", "load_file"))]
    assert len(readers.bad_inputs()) >= 200
    faults = {each.name: readers.check(each) for each in bad[::7]}
    assert not {name: fault for name, fault in faults.items() if fault}


def test_what_is_sound_is_read(readers):
    """Else every input would be refused for one and the same reason."""
    record = readers._record()
    assert records.find_fault(record) is None
    content = readers._bundle(record, {})
    with readers._clone():
        report = bundle.import_records("smoke", readers._put("sound.zip", content))
    assert len(report.new) + len(report.known) == 1
    assert records.find_fault(readers._record(metrics={"a": 2.0})) is None
    assert "changed" in records.find_fault({**record, "metrics": {"a": 2.0}})


def test_a_check_sees_an_exit_a_sentence_and_a_file(readers, tmp_path):
    def say(code, message):
        print(message, file=sys.stderr)
        return code

    (tmp_path / "mine").write_text("before")

    def check(run, expects=2):
        return readers.check(readers.BadInput("", run, expects, tmp_path))

    assert check(lambda: say(2, "give a number")) is None
    assert "ended with 0" in check(lambda: say(0, "give a number"))
    assert "no single sentence" in check(lambda: say(2, ""))
    assert "no single sentence" in check(lambda: say(2, "a\nb"))
    assert "not as they were" in check(lambda: say((tmp_path / "mine").write_text("ab"), "lost"))
    assert "TypeError" in check(lambda: len(1), ValueError)
