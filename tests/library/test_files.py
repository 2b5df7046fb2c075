"""Files that are whole or not there, names that no second one takes, and sentences for a person."""

import errno
import os
import time

import pytest

from sympo import _files as files


@pytest.fixture(autouse=True)
def nothing_was_swept():
    files._remove_stale.cache_clear()


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_interrupt_while_writing_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    files.write_atomically(path, "old")

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.os, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    files.write_atomically(path, "new")
    assert path.read_text() == "new"


def test_a_full_disk_is_told_with_the_path_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    files.write_atomically(path, "old")

    def fill(*_):
        # as the system does, without the name of the file
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", fill)
    with pytest.raises(OSError, match="No space left") as caught:
        files.write_atomically(path, "new")
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_a_folders_place_is_told_with_the_path(tmp_path):
    (tmp_path / "folder").write_text("a file")
    path = tmp_path / "folder" / "new"
    with pytest.raises(OSError, match="folder") as caught:
        files.write_atomically(path, "text")
    sentence = files.describe_error(caught.value)
    assert str(path) in sentence
    assert "move it away" in sentence
    assert (tmp_path / "folder").read_text() == "a file"


def test_what_a_killed_process_left_is_removed_and_what_is_being_written_is_not(tmp_path):
    stale = tmp_path / ".old.json.1.tmp"
    fresh = tmp_path / ".new.json.2.tmp"
    other = tmp_path / ".old.lock"
    for path in (stale, fresh, other):
        path.write_text("half of it")
    an_hour_ago = time.time() - 3600
    os.utime(stale, (an_hour_ago, an_hour_ago))
    os.utime(other, (an_hour_ago, an_hour_ago))
    files.write_atomically(tmp_path / "file", "text")
    assert {path.name for path in tmp_path.iterdir()} == {fresh.name, other.name, "file"}


def test_nothing_that_was_set_aside_is_overwritten(tmp_path):
    path = tmp_path / "record.json"
    for number in range(3):
        path.write_text(str(number))
        files.set_aside(path)
    assert not path.exists()
    names = [f"record.json.corrupt{suffix}" for suffix in ("", ".1", ".2")]
    assert [(tmp_path / name).read_text() for name in names] == ["0", "1", "2"]
    folder = tmp_path / "model"
    for number in range(2):
        folder.mkdir()
        (folder / "weights").write_text(str(number))
        files.set_aside(folder)
    assert (tmp_path / "model.corrupt" / "weights").read_text() == "0"
    assert (tmp_path / "model.corrupt.1" / "weights").read_text() == "1"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "can only be read"),
        (errno.EACCES, "no permission"),
        (errno.EISDIR, "name a file"),
        (errno.ENOTDIR, "a part of this path is a file"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_an_error_of_the_system_is_one_sentence_with_path_and_remedy(number, remedy):
    error = OSError(number, os.strerror(number), "/data/records/a.json")
    sentence = files.describe_error(error)
    assert sentence.startswith("/data/records/a.json: ")
    assert remedy in sentence
    assert "\n" not in sentence


def test_the_message_of_an_error_in_another_process_is_the_same_sentence():
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/a.json")
    sentence = files.describe_message(str(error))
    assert "'/data/a.json'" in sentence
    assert "free some space" in sentence
    # a file that a cell looks for in vain is a fault of the cell, whose traceback is wanted
    missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/data/a.json")
    assert files.describe_message(str(missing)) is None
    assert files.describe_message("noise_rate is 0.7") is None


def test_a_sentence_of_ours_stays_as_it_is():
    assert files.describe_error(FileNotFoundError("there is no file a.zip")) == (
        "there is no file a.zip"
    )
