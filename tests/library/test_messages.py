"""What people are told of their own values and files: one line, cut where it is long."""

import errno
import os

import pytest

from sympo._files import describe_error, read_bounded, write_whole
from sympo._names import show, unknown_name
from sympo._settings import parse_setting
from sympo.preferences import read_flip

LONG = "x" * 100_000


@pytest.mark.parametrize(
    "value", ["(" * 10_000, "[" * 10_000, "-" * 10_000 + "1", "{1:" * 5000, "9" * 5000]
)
def test_a_value_that_no_parser_ends_with_is_text(value):
    assert parse_setting(f"epochs={value}") == ("epochs", value)


def refusals():
    yield unknown_name("loss", LONG, ["ramp"])
    yield unknown_name("loss", "a\nb", ["ramp"])
    for setting in (LONG, "a\nb=3"):
        with pytest.raises(ValueError, match="--set takes name=value") as caught:
            parse_setting(setting)
        yield str(caught.value)
    for value in (LONG, "a\nb", [LONG] * 1000, {LONG: LONG}, 1 << 20_000):
        with pytest.raises(ValueError, match="give true, false, 0 or 1") as caught:
            read_flip(value)
        yield str(caught.value)


def test_long_values_are_cut_and_lines_are_not_broken():
    for message in refusals():
        assert len(message) < 600
        assert "\n" not in message


def test_short_values_are_shown_as_they_are():
    assert show("sympo_rmap") == "'sympo_rmap'"
    assert show(2) == "2"
    assert show(1 << 20_000) == "an integer of 20001 bits"
    assert "'sympo_rmap'. Did you mean 'sympo_ramp'?" in unknown_name(
        "loss", "sympo_rmap", ["sympo_ramp"]
    )


def test_what_the_system_refuses_is_said_with_path_and_remedy(tmp_path):
    for path, remedy in (
        (tmp_path / "nowhere", "there is no such file"),
        (tmp_path, "this is a folder"),
        (tmp_path / ("n" * 300), "too long"),
    ):
        with pytest.raises(OSError) as caught:  # noqa: PT011  the class depends on the system
            path.read_bytes()
        told = describe_error(caught.value)
        assert remedy in told
        assert str(path)[:80] in told
        assert "\n" not in told
    full = describe_error(OSError(errno.ENOSPC, "No space left on device"), tmp_path / "a")
    assert full == f"{tmp_path / 'a'}: the disk is full: free some space, or name another place"


def test_a_file_is_read_up_to_a_bound(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ValueError, match=r"a has more than 0 MiB"):
        read_bounded(tmp_path / "a", 4)


def test_a_file_holds_all_of_what_is_written_or_what_it_held(tmp_path, monkeypatch):
    path, link = tmp_path / "page.html", tmp_path / "link.html"
    link.symlink_to(path)
    write_whole(link, "first")
    assert path.read_text() == "first"
    assert link.is_symlink()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "second")
    assert path.read_text() == "first"
    assert sorted(tmp_path.iterdir()) == [link, path]
