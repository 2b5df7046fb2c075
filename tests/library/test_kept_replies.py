"""Replies in a file: they survive a kill, and no other file is touched."""

import json

import pytest

from sympo.judge import KeptReplies, Reply, question_key, read_replies

JUDGE = {"model": "m", "options": {"max_tokens": 16}}
REPLIES = {f"question {n}": Reply(score) for n, score in enumerate([1.0, 0.5, 0.0])} | {
    "odd": Reply(None, "unparsable reply"),
    "half a character \ud800": Reply(1.0),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "new folder" / "kept.jsonl"
    with KeptReplies(path, JUDGE) as kept:
        for question, reply in REPLIES.items():
            kept.add(question, reply)
    return path


def test_what_is_kept_is_read_again(path):
    judge, replies = read_replies(path)
    assert judge == JUDGE
    assert replies == {question_key(question): reply for question, reply in REPLIES.items()}
    with KeptReplies(path, JUDGE) as kept:
        assert [kept.get(question) for question in REPLIES] == list(REPLIES.values())
        assert kept.get("another") is None


def test_a_line_is_in_the_file_before_the_next_is_asked_for(tmp_path):
    path = tmp_path / "kept.jsonl"
    with KeptReplies(path, JUDGE) as kept:
        for number in range(3):
            kept.add(f"{number}", Reply(1.0))
            # read by another handle, while this one is open
            assert len(read_replies(path)[1]) == number + 1


def test_wherever_a_kill_cuts_the_file_all_whole_lines_remain(path):
    content = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for cut in range(len(content) + 1):
        path.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        with KeptReplies(path, JUDGE) as kept:
            # the first line names the judge
            assert len(kept) == max(whole - 1, 0)
            for question, reply in REPLIES.items():
                kept.add(question, reply)
        # what was torn is written anew, and nothing else changes
        assert path.read_bytes() == content


def test_the_first_reply_to_a_question_stays(path):
    with KeptReplies(path, JUDGE) as kept:
        kept.add("question 0", Reply(0.0))
        assert kept.get("question 0") == Reply(1.0)
    # another process may have written it in the meantime
    with path.open("a") as file:
        row = {"key": question_key("question 0"), "score": 0.0, "reason": ""}
        file.write(json.dumps(row) + "\n")
    assert read_replies(path)[1][question_key("question 0")] == Reply(1.0)


def test_another_judge_is_refused_by_what_differs(path):
    before = path.read_bytes()
    other = {"model": "m", "options": {"max_tokens": 17}, "endpoint": "host"}
    with (
        pytest.raises(ValueError, match=r"another judge \(other endpoint, options\): name another"),
        KeptReplies(path, other),
    ):
        pass
    assert path.read_bytes() == before


def test_options_are_the_same_after_a_round_through_the_file(path):
    path.unlink()
    judge = {"model": "m", "options": {"stop": ("\n",)}}
    for _ in range(2):
        with KeptReplies(path, judge) as kept:
            kept.add("question", Reply(1.0))
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("somebody's notes, without an end of line", "does not end in a reply of a judge"),
        ('{"prompt": "a", "chosen": "b"}\n', "line 1 is no reply"),
        ("[1]\n", "line 1 is no reply"),
        ("[" * 100_000 + "\n", "line 1 is no reply"),
        ("9" * 5000 + "\n", "line 1 is no reply"),
        ('{"judge": "' + "x" * 2**21 + '"}\n', "line 1 is no reply"),
        ("1\n", "line 1 is no reply"),
        ('{"judge": {"model": "m"}}\nnot JSON\n', "line 2 is no reply"),
        ('{"judge": {"model": "m"}}\n{"key": "0", "score": 7, "reason": ""}\n', "line 2 is no"),
        ('{"judge": {"model": "m"}}\n{"key": "0", "score": NaN, "reason": ""}\n', "line 2 is no"),
        ('{"key": "0", "score": 1.0, "reason": ""}\n', "does not say which judge"),
        ('{"judge": {"%s": "m"}}\n' % ("x" * 10_000), "another judge"),
    ],
)
def test_a_file_of_another_kind_is_refused_and_left_as_it_is(tmp_path, content, message):
    path = tmp_path / "mine.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as told, KeptReplies(path, {"model": "m"}):
        pass
    assert len(str(told.value)) < 500
    assert path.read_text() == content


def test_without_a_file_replies_are_remembered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with KeptReplies(None, JUDGE) as kept:
        kept.add("question", Reply(1.0))
        assert kept.get("question") == Reply(1.0)
    assert not list(tmp_path.iterdir())
