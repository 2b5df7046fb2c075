"""Every row is parsed exactly or counted, splits share no prompt, flips are keyed by the row."""

import gzip
import hashlib
import json
import os
import time

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, concatenate_datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from sympo import audit
from sympo import preferences as prefs

H = "\n\nHuman: "
A = "\n\nAssistant: "


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def hh(prompt, chosen, rejected):
    return {"chosen": prompt + A + chosen, "rejected": prompt + A + rejected}


def parse_one(row, **options):
    """The single row as (prompt, chosen, rejected), and the report."""
    dataset, report = prefs.parse_rows([row], **options)
    (kept,) = dataset.to_list()
    assert not kept["is_flipped"]
    (chosen,) = kept["chosen"]
    (rejected,) = kept["rejected"]
    assert chosen["role"] == rejected["role"] == "assistant"
    return kept["prompt"], chosen["content"], rejected["content"], report


def refusal(row, **options):
    dataset, report = prefs.parse_rows([row], **options)
    assert len(dataset) == report.kept == 0
    (reason,) = report.malformed + report.no_preference
    return reason


# HH dialogues


def test_a_dialogue_of_several_turns():
    prompt, chosen, rejected, _ = parse_one(hh(f"{H}hi{A}hello{H}why?", "yes", "no"))
    assert prompt == [user("hi"), assistant("hello"), user("why?")]
    assert (chosen, rejected) == ("yes", "no")


@pytest.mark.parametrize(
    "answer",
    [
        "Human: so you agree?",  # the model speaks for the person, on the same line
        "ok.  Human: more?  Assistant: sure",
        "first\n\nHumans: second",
        "He said:\nHuman: no marker, one line break",
        "two\n\nparagraphs ",
        "\n\nstarts with an empty line",
    ],
)
def test_words_that_look_like_a_marker_stay_in_the_answer(answer):
    prompt, chosen, rejected, _ = parse_one(hh(f"{H}hi", answer, "x"))
    assert (prompt, chosen, rejected) == ([user("hi")], answer, "x")


@pytest.mark.parametrize("other", ["x", f"sure{A}z", f"why not{A}y", ""])
def test_an_assistant_turn_inside_an_answer_does_not_end_the_prompt(other):
    answer = f"sure{A}y"
    for first, second in ((answer, other), (other, answer)):
        prompt, chosen, rejected, report = parse_one(hh(f"{H}hi", first, second))
        assert (prompt, chosen, rejected) == ([user("hi")], first, second)
        assert report.noted["answer holds an Assistant turn"] == 1


def test_answers_that_begin_alike_do_not_move_the_end_of_the_prompt():
    _, chosen, rejected, _ = parse_one(hh(f"{H}hi", "Sure, take the bus", "Sure, take the train"))
    assert (chosen, rejected) == ("Sure, take the bus", "Sure, take the train")


def test_turns_of_one_role_are_one_message_that_keeps_every_character():
    prompt, *_ = parse_one(hh(f"{H}hi{A}one{A}two{H}three{H}four", "x", "y"))
    assert prompt == [user("hi"), assistant(f"one{A}two"), user(f"three{H}four")]


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_answer_is_an_answer(empty):
    prompt, chosen, rejected, report = parse_one(hh(f"{H}hi", empty, "x"))
    assert (prompt, chosen, rejected) == ([user("hi")], empty, "x")
    assert report.noted == {"empty answer": 1}


def test_a_text_without_a_turn_holds_no_message():
    assert prefs.parse_dialogue("") == prefs.parse_dialogue("Human: hi") == []


def test_an_answer_may_end_right_after_its_marker():
    row = {"chosen": f"{H}hi\n\nAssistant:", "rejected": f"{H}hi{A}x"}
    assert parse_one(row)[1:3] == ("", "x")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (hh(f"{H}hi", "same", "same"), "chosen = rejected"),
        (hh(f"{H}hi", "same ", "same"), "chosen = rejected"),
        (hh(f"{H}hi", "", ""), "chosen = rejected"),
        ({"chosen": f"{H}hi{A}x", "rejected": f"{H}ho{A}y"}, "unequal prompts"),
        ({"chosen": f"{H}hi{A}a{H}b{A}x", "rejected": f"{H}hi{A}a{H}c{A}y"}, "unequal prompts"),
        ({"chosen": f"{H}hi{A}a{H}b{A}x", "rejected": f"{H}hi{A}y"}, "unequal prompts"),
        ({"chosen": f"{H}hi{A}x", "rejected": f"{H}hi{A}y{H}thanks"}, "unequal prompts"),
        ({"chosen": f"{H}hi", "rejected": f"{H}hi"}, "unequal prompts"),
        ({"chosen": f"{A}x", "rejected": f"{A}y"}, "does not begin with a Human turn"),
        (
            {"chosen": f"note{H}hi{A}x", "rejected": f"note{H}hi{A}y"},
            "does not begin with a Human turn",
        ),
        (hh(H, "x", "y"), "no user turn before the answers"),
        ({"chosen": f"{H}hi{A}x"}, "chosen or rejected is missing"),
        ({"chosen": 1, "rejected": 2}, "chosen or rejected is missing"),
        (["chosen"], "not a JSON object"),
        (None, "not a JSON object"),
    ],
)
def test_every_refusal_has_its_reason(row, reason):
    assert refusal(row) == reason


words = st.text(alphabet="aH: \n.é", max_size=12).filter(
    lambda s: "\n\nHuman:" not in s and "\n\nAssistant:" not in s
)
# A content that ends in a line break could make a marker of its own with the break of the next one.
contents = words.map(lambda s: s.strip("\n"))


@given(
    st.lists(contents, min_size=1, max_size=5).filter(lambda t: len(t) % 2 == 1), contents, contents
)
def test_parsing_undoes_writing(turns, chosen, rejected):
    dialogue = "".join((A if i % 2 else H) + text for i, text in enumerate(turns))
    prompt, a, b = prefs.split_dialogues(dialogue + A + chosen, dialogue + A + rejected)
    assert (prompt, a, b) == (dialogue, chosen, rejected)
    assert [m["content"] for m in prefs.parse_dialogue(prompt)] == turns


# Other formats


def test_text_messages_and_trl_rows_give_the_same_pair():
    message_rows = [
        {"prompt": "hi", "chosen": "x", "rejected": "y"},
        {
            "prompt": "hi",
            "chosen": [user("hi"), assistant("x")],
            "rejected": [user("hi"), assistant("y")],
        },
        {"chosen": [user("hi"), assistant("x")], "rejected": [user("hi"), assistant("y")]},
        {"prompt": [user("hi")], "chosen": [assistant("x")], "rejected": [assistant("y")]},
        hh(f"{H}hi", "x", "y"),
    ]
    for row in message_rows:
        assert parse_one(row)[:3] == ([user("hi")], "x", "y")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"chosen": [user("a"), assistant("x")], "rejected": [user("b"), assistant("y")]},
            "unequal prompts",
        ),
        (
            {"chosen": [user("a")], "rejected": [user("a")]},
            "does not end with an assistant message",
        ),
        ({"chosen": [], "rejected": []}, "does not end with an assistant message"),
        ({"chosen": ["a"], "rejected": ["b"]}, "a message lacks role or content"),
        (
            {"chosen": [assistant("x")], "rejected": [assistant("y")]},
            "no user turn before the answers",
        ),
        ({"prompt": "", "chosen": "x", "rejected": "y"}, "no user turn before the answers"),
        ({"prompt": 3, "chosen": "x", "rejected": "y"}, "a message is not text"),
        ({"prompt": "hi", "chosen": "x\ud83d", "rejected": "y"}, "a message is not text"),
        (
            {
                "prompt": "hi",
                "chosen": "x",
                "rejected": "y",
                "score_chosen": 1,
                "score_rejected": 2,
            },
            "chosen scores below rejected",
        ),
    ],
)
def test_refusals_of_messages_and_text(row, reason):
    assert refusal(row) == reason


def chatml(*turns, end="<|im_start|>assistant\n"):
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + end


@pytest.mark.parametrize(
    ("row", "reason", "value"),
    [
        ({"prompt": ["x"], "chosen": "a", "rejected": "b"}, "a message lacks role or content", "x"),
        (
            {"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"},
            "a message lacks role or content",
            "user",
        ),
        (
            {
                "prompt": "q",
                "chosen": [{"role": {}, "content": "a"}],
                "rejected": [{"role": {}, "content": "b"}],
            },
            "a role is not text",
            "{}",
        ),
        (
            {
                "chosen": [{"role": "\ud800", "content": "s"}, assistant("a")],
                "rejected": [{"role": "\ud800", "content": "s"}, assistant("b")],
            },
            "a role is not text",
            r"\ud800",
        ),
        (
            {
                "chosen": [{"role": None, "content": "a"}],
                "rejected": [{"role": None, "content": "b"}],
            },
            "a role is not text",
            "None",
        ),
        (
            {
                "prompt": "q",
                "chosen": "a",
                "rejected": "b",
                "score_chosen": float("nan"),
                "score_rejected": 1.0,
            },
            "a score is NaN",
            "(nan, 1.0)",
        ),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b", "is_flipped": "False"},
            "is_flipped is neither true, false, 0 nor 1",
            "'False'",
        ),
    ],
)
def test_a_bad_row_is_counted_and_shown(row, reason, value):
    rows = [{"prompt": f"p{i}", "chosen": "x", "rejected": "y"} for i in range(5)]
    dataset, report = prefs.parse_rows([*rows[:2], row, *rows[2:], row, row, row])
    assert len(dataset) == report.kept == 5
    assert report.malformed == {reason: 4}
    # the first three of a reason, by their numbers
    assert [(e.reason, e.row) for e in report.examples] == [(reason, n) for n in (3, 7, 8)]
    assert all(value in example.value for example in report.examples)


def test_scores_may_be_integers_that_no_float_holds():
    row = {"prompt": "hi", "chosen": "x", "rejected": "y"}
    parse_one({**row, "score_chosen": 10**400, "score_rejected": 1})
    reason = refusal({**row, "score_chosen": 1, "score_rejected": 10**400})
    assert reason == "chosen scores below rejected"


def test_scores_that_are_text_are_noted():
    row = {"prompt": "hi", "chosen": "x", "rejected": "y", "score_chosen": "a", "score_rejected": 1}
    assert parse_one(row)[3].noted == {"a score is text": 1}


def test_a_prompt_that_the_answers_repeat_was_asked_once():
    turns = [user("2+2?"), assistant("4"), user("sure?")]
    answers = {"chosen": [assistant("yes")], "rejected": [assistant("no")]}
    repeated = {name: turns + answer for name, answer in answers.items()}
    expected = parse_one({"prompt": turns, **answers})[:3]
    assert expected == (turns, "yes", "no")
    assert parse_one({"prompt": turns, **repeated})[:3] == expected
    # a prompt that the answers go on from is no repetition
    after = {name: turns[2:] + answer for name, answer in answers.items()}
    assert parse_one({"prompt": turns[:2], **after})[:3] == expected


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "<|im_start|>user\n" * 40_000, "chosen": "x", "rejected": "y"},
        hh(f"{H}hi{A}ho" * 20_000 + f"{H}hi", "x", "y"),
        hh(f"{H}hi" * 40_000, "x", "y"),
    ],
    ids=["openings", "turns", "turns of one role"],
)
def test_long_rows_are_read_in_one_pass(row):
    start = time.perf_counter()
    prefs.parse_rows([row])
    # 0.1 s or less; a pass per turn would take minutes
    assert time.perf_counter() - start < 5


def test_chatml_is_stripped_with_its_stock_system_turn_only():
    def prompt(text):
        return parse_one({"prompt": text, "chosen": "x", "rejected": "y"})[0]

    stock = ("system", "You are a helpful assistant.")
    assert prompt(chatml(stock, ("user", "a\n\nb\n"))) == [user("a\n\nb\n")]
    assert prompt(chatml(("user", "a"))) == [user("a")]
    turns = [("system", "Be brief."), ("user", "a"), ("assistant", "b"), ("user", "c")]
    expected = [{"role": role, "content": content} for role, content in turns]
    assert prompt(chatml(*turns)) == expected
    assert prompt("what is <|im_start|>?") == [user("what is <|im_start|>?")]


@pytest.mark.parametrize(
    "prompt",
    [
        chatml(("user", "a"), end=""),
        chatml(("user", "a"))[:-25],
        chatml(("assistant", "a")),
        "<|im_start|>user\na",
    ],
)
def test_chatml_that_is_cut_is_refused_or_ends_with_its_user(prompt):
    # Without the generation prompt nothing is lost.
    if prompt == chatml(("user", "a"), end=""):
        assert prefs.parse_prompt(prompt) == [user("a")]
        return
    reason = refusal({"prompt": prompt, "chosen": "x", "rejected": "y"})
    assert reason == "ChatML prompt does not end with a user turn"


@pytest.mark.parametrize("nest", [lambda s: s, lambda s: {"metadata": s}])
def test_score_ties_are_counted_and_dropped_or_kept(nest):
    scores = nest({"score_chosen": 7.0, "score_rejected": 7.0})
    row = {"prompt": "hi", "chosen": "x", "rejected": "y", **scores}
    assert refusal(row) == "score tie"
    assert parse_one(row, ties="keep")[3].noted == {"score tie": 1}
    with pytest.raises(ValueError, match="ties = 'maybe' is not a choice"):
        prefs.parse_rows([row], ties="maybe")


# Files


def write_rows(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def test_each_format_of_file_gives_the_same_rows(tmp_path):
    rows = [{"prompt": f"p{i}", "chosen": "a\r\nb\u2028c", "rejected": "d"} for i in range(3)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    paths = [
        write_rows(tmp_path / "rows.jsonl", rows),
        write_rows(tmp_path / "rows.jsonl.gz", rows),
    ]
    loaded = [prefs.load_file(path) for path in [*paths, tmp_path / "rows.parquet"]]
    assert [pairs.dataset.to_list() for pairs in loaded] == [loaded[0].dataset.to_list()] * 3
    assert loaded[0].dataset["chosen"][0] == [assistant("a\r\nb\u2028c")]


def test_a_saved_dataset_keeps_its_flips(tmp_path):
    flipped = prefs.swap_answers(pairs_of([("p", "a", "b"), ("q", "c", "d")]), [True, False])
    flipped.to_json(tmp_path / "rows.jsonl")
    assert prefs.load_file(tmp_path / "rows.jsonl").dataset.to_list() == flipped.to_list()


def test_a_file_without_flips_is_the_truth_and_a_row_without_one_is_unknown():
    rows = [{"prompt": f"p{i}", "chosen": "x", "rejected": "y"} for i in range(5)]
    assert prefs.parse_rows(rows).dataset["is_flipped"][:] == [False] * 5
    # the column begins in a later batch than the rows that lack it
    told = [
        {**row, "is_flipped": flip} for row, flip in zip(rows, (0, 1, None, True), strict=False)
    ]
    dataset = prefs.parse_rows([*rows * 300, *told]).dataset
    assert dataset["is_flipped"][:] == [None] * 1500 + [False, True, None, True]
    swapped = prefs.swap_answers(dataset, [True] * len(dataset))
    assert swapped["is_flipped"][:] == [None] * 1500 + [True, False, None, False]
    assert {row["chosen"][0]["content"] for row in swapped} == {"y"}
    with pytest.raises(ValueError, match="already holds flipped rows"):
        prefs.flip_preferences(dataset, 0.1, seed=0)
    unknown = dataset.select(range(1500))
    assert prefs.flip_preferences(unknown, 0.4, seed=0)["is_flipped"][:] == [None] * 1500


def test_a_dataset_of_ones_and_zeros_keeps_its_type():
    rows = pairs_of([("p", "a", "b"), ("q", "c", "d")]).to_list()
    numbers = Dataset.from_list([{**row, "is_flipped": i} for i, row in enumerate(rows)])
    assert prefs.swap_answers(numbers, [True, True])["is_flipped"][:] == [1, 0]


def test_more_than_one_percent_malformed_is_an_error_with_its_counts(tmp_path):
    good = [{"prompt": f"p{i}", "chosen": "x", "rejected": "y"} for i in range(99)]
    bad = {"prompt": "p", "chosen": "x"}
    one_bad = prefs.load_file(write_rows(tmp_path / "a.jsonl", [*good, bad]))
    assert one_bad.report.malformed.total() == 1
    two_bad = write_rows(tmp_path / "b.jsonl", [*good, bad, bad])
    counts = r"b\.jsonl.*99 of 101 rows kept; malformed: chosen or rejected is missing 2"
    with pytest.raises(ValueError, match=counts):
        prefs.load_file(two_bad)
    report = prefs.read_pairs(two_bad).report
    assert prefs.load_file(two_bad, malformed_limit=0.02).report == report
    assert [(example.row, example.value) for example in report.examples] == [
        (100, "{'chosen': 'x', 'prompt': 'p'}"),
        (101, "{'chosen': 'x', 'prompt': 'p'}"),
    ]


def test_rows_without_a_winner_are_not_malformed(tmp_path):
    rows = [
        {"prompt": f"p{i}", "chosen": "x", "rejected": "x" if i % 2 else "y"} for i in range(10)
    ]
    report = prefs.load_file(write_rows(tmp_path / "a.jsonl", rows)).report
    assert (report.rows, report.kept, report.no_preference) == (10, 5, {"chosen = rejected": 5})


@pytest.mark.parametrize(
    "line",
    [
        b'{"prompt": "cut o',
        b'{"prompt": "caf\xe9", "chosen": "x", "rejected": "y"}',
        b"[" * 100_000,
    ],
)
def test_a_line_that_is_not_json_is_counted(tmp_path, line):
    good = [{"prompt": f"p{i}", "chosen": "x", "rejected": "y"} for i in range(150)]
    path = write_rows(tmp_path / "a.jsonl", good)
    path.write_bytes(path.read_bytes() + line)
    assert prefs.load_file(path).report.malformed == {"not a JSON object": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.jsonl.gz", gzip.compress(os.urandom(5000))[:2000]),
        ("no.jsonl.gz", b"plain text"),
        ("bits.jsonl.gz", gzip.compress(b"", mtime=0)[:10] + b"\xff" * 100),
        ("no.parquet", b"plain text"),
        ("empty.jsonl", b""),
        ("rows.csv", b"chosen,rejected\n"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name.replace(".", r"\.")) as caught:
        prefs.load_file(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b'[{"prompt": "p", "chosen": "x", "rejected": "y"}]',
            "an array of rows, each of which needs a line of its own",
        ),
        (
            b'{"prompt": "p", "chosen": "x", "rejected": "y", "chosen": "z"}',
            "a key twice in one object",
        ),
        (b'{"prompt": [{"role": "user", "role": "user"}]}', "a key twice in one object"),
        (b'{"prompt": ' + b"9" * 5000 + b"}", "not a JSON object"),
        (b"\x00" * 50, "not a JSON object"),
    ],
)
def test_a_bad_line_is_counted_by_its_own_reason_and_the_file_goes_on(tmp_path, content, reason):
    good = b'{"prompt": "p", "chosen": "x", "rejected": "y"}'
    # A byte order mark, and lines as Windows ends them, are no fault.
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([good, content, good, b""]))
    report = prefs.read_pairs(path).report
    assert (report.kept, report.malformed) == (2, {reason: 1})
    assert report.examples[0].row == 2


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("nowhere.jsonl", "there is no such file"),
        ("nowhere.jsonl.gz", "there is no such file"),
        ("nowhere.parquet", "there is no such file"),
        ("folder.jsonl", "this is a folder"),
        ("folder.parquet", "this is a folder"),
        ("rows.json", "write one row a line"),
    ],
)
def test_the_advice_is_about_what_is_wrong(tmp_path, name, remedy):
    (tmp_path / "rows.json").write_text("[]")
    for folder in ("folder.jsonl", "folder.parquet"):
        (tmp_path / folder).mkdir()
    with pytest.raises(ValueError, match=remedy) as caught:
        prefs.read_pairs(tmp_path / name)
    assert name in str(caught.value)
    assert "fetch it again" not in str(caught.value) or name == "rows.json"


def test_a_file_whose_rows_all_name_no_winner_is_refused(tmp_path):
    path = write_rows(tmp_path / "a.jsonl", [{"prompt": "p", "chosen": "x", "rejected": "x"}])
    with pytest.raises(ValueError, match="chosen = rejected 1"):
        prefs.load_file(path)
    assert prefs.read_pairs(path).report.rows == 1


# Splits


def pairs_of(rows):
    return prefs.parse_rows([{"prompt": p, "chosen": a, "rejected": b} for p, a, b in rows]).dataset


def test_dropping_overlap_ignores_case_spacing_and_system_turns():
    test = pairs_of([("How  are\nyou?", "a", "b")])
    with_system = chatml(("system", "Brief."), ("user", "How are you?"))
    train = pairs_of([("how are you?", "c", "d"), (with_system, "e", "f")])
    other = pairs_of([("How are they?", "a", "b")])
    kept, dropped = prefs.drop_overlap(concatenate_datasets([train, other]), test)
    assert (kept.to_list(), dropped) == (other.to_list(), 2)


prompts = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=30)


@given(prompts, st.floats(0.01, 0.49), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_held_out_prompts_are_held_out_whole_and_nested(names, fraction, seed):
    dataset = pairs_of([(name, f"a{i}", f"b{i}") for i, name in enumerate(names)])
    train, test = prefs.hold_out(dataset, fraction=fraction, seed=seed)
    assert not set(prefs.prompt_keys(train)) & set(prefs.prompt_keys(test))
    everything = [str(row) for part in (train, test) for row in part.to_list()]
    assert sorted(everything) == sorted(map(str, dataset.to_list()))
    _, more = prefs.hold_out(dataset, fraction=2 * fraction, seed=seed)
    assert set(prefs.prompt_keys(test)) <= set(prefs.prompt_keys(more))


def test_the_held_out_share_is_the_one_asked_for():
    dataset = pairs_of([(f"p{i}", "a", "b") for i in range(2000)])
    share = len(prefs.hold_out(dataset, fraction=0.2, seed=0)[1]) / 2000
    assert abs(share - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 2000)
    with pytest.raises(ValueError, match="fraction = 1 is not a share"):
        prefs.hold_out(dataset, fraction=1, seed=0)


# Flips

letters = st.sampled_from("abcdef")
rows_of = st.lists(
    st.tuples(letters, letters, letters).filter(lambda r: r[1] != r[2]), min_size=1, max_size=12
)
rate = st.floats(0, 0.49)
few = settings(max_examples=25, deadline=None)


def flags(rows, noise_rate, seed):
    return prefs.flip_preferences(pairs_of(rows), noise_rate, seed=seed)["is_flipped"][:]


@given(rows_of, rate, rate, st.integers(0, 99))
@few
def test_flips_nest_over_rates(rows, a, b, seed):
    low, high = (np.array(flags(rows, r, seed)) for r in sorted((a, b)))
    assert not (low & ~high).any()


@given(rows_of, rate, st.integers(0, 99), st.randoms(use_true_random=False), st.data())
@few
def test_a_flip_depends_on_the_row_alone(rows, noise_rate, seed, random, data):
    expected = dict(zip(rows, flags(rows, noise_rate, seed), strict=True))
    some = data.draw(st.permutations(rows))[: data.draw(st.integers(1, len(rows)))]
    assert flags(some, noise_rate, seed) == [expected[row] for row in some]


@given(rows_of, rate, st.integers(0, 99))
@few
def test_which_answer_is_stored_as_chosen_does_not_change_which_rows_flip(rows, noise_rate, seed):
    turned = [(p, b, a) for p, a, b in rows]
    assert flags(turned, noise_rate, seed) == flags(rows, noise_rate, seed)


@given(rows_of, rate, st.integers(0, 99))
@few
def test_a_flip_swaps_the_answers_and_nothing_else(rows, noise_rate, seed):
    clean = pairs_of(rows)
    noisy = prefs.flip_preferences(clean, noise_rate, seed=seed)
    assert noisy.features == clean.features
    for before, after in zip(clean.to_list(), noisy.to_list(), strict=True):
        names = ("rejected", "chosen") if after["is_flipped"] else ("chosen", "rejected")
        assert (after["chosen"], after["rejected"]) == tuple(before[name] for name in names)
        assert after["prompt"] == before["prompt"]
    assert prefs.swap_answers(noisy, noisy["is_flipped"]).to_list() == clean.to_list()


@given(st.lists(letters, min_size=2, max_size=2, unique=True), letters, letters)
@few
def test_rows_that_say_different_things_draw_different_numbers(answers, p, q):
    rows = [(p, *answers), (q, *answers), (p, answers[0], "other")]
    a, b, c = prefs.row_generator(pairs_of(rows), 0).random(3)
    assert (a == b) == (p == q)
    assert a != c


def test_flips_come_at_the_rate_asked_for_and_differ_between_seeds():
    rows = [(f"p{i}", "a", "b") for i in range(2000)]
    first = np.array(flags(rows, 0.3, 0))
    second = np.array(flags(rows, 0.3, 1))
    sd = np.sqrt(0.3 * 0.7 / 2000)
    assert abs(first.mean() - 0.3) < 5 * sd
    # independent seeds: both flip a row at 0.3²
    assert abs((first & second).mean() - 0.09) < 5 * sd


def draw_by_hand(row, seed):
    """The rule of the flips, written anew: the number that a row draws."""
    prompt, *answers = (
        [(message["role"], message["content"]) for message in row[name]]
        for name in ("prompt", "chosen", "rejected")
    )
    key = repr((prompt, *sorted(answers))).encode()
    digest = hashlib.blake2b(key, digest_size=8, key=f"{seed}:0".encode()).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53


def test_flips_are_those_of_the_first_version():
    """Another rule would silently give every study, and every user, other flips."""
    rows = []
    for i in range(300):
        later = f'{A}It\'s "{i}"\\.{H}naïve 日本 😀\x07?' if i % 3 else ""
        prompt = f"{H}“What’s” {i}?{later}"
        rows.append(hh(prompt, f"yes {i}", "no\u2028" * (i % 7) + str(i)))
    clean = prefs.parse_rows(rows).dataset
    noisy = prefs.flip_preferences(clean, 0.4, seed=5)
    flips = noisy["is_flipped"][:]
    assert flips == [draw_by_hand(row, 5) < 0.4 for row in clean.to_list()]
    # written down from the first version, as are the rows
    assert sum(flips) == 110
    assert hash_text("".join("01"[flip] for flip in flips)) == "a5d8560dc7444208"
    assert hash_text(repr(noisy.to_list())) == "c9c5a33265da5397"


def hash_text(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def test_reference_columns_are_swapped_along():
    columns = {"ref_chosen_logps": [1.0, 2.0], "ref_rejected_logps": [-1.0, -2.0], "score": [7, 8]}
    pairs = pairs_of([("p", "a", "b"), ("q", "c", "d")])
    dataset = concatenate_datasets([pairs, Dataset.from_dict(columns)], axis=1)
    swapped = prefs.swap_answers(dataset, [False, True])
    assert swapped["ref_chosen_logps"][:] == [1.0, -2.0]
    assert swapped["ref_rejected_logps"][:] == [-1.0, 2.0]
    assert swapped["score"][:] == [7, 8]


def test_bad_flips_are_refused():
    dataset = pairs_of([("p", "a", "b"), ("q", "a", "b")])
    with pytest.raises(ValueError, match="already holds flipped rows"):
        prefs.flip_preferences(prefs.swap_answers(dataset, [True, False]), 0.2, seed=0)
    for rate in (0.5, -0.1, "0.2", np.nan):
        with pytest.raises(ValueError, match=r"^noise_rate = .* is out of range: give a number"):
            prefs.flip_preferences(dataset, rate, seed=0)
    with pytest.raises(ValueError, match="one bool per row"):
        prefs.swap_answers(dataset, [True])


PLAIN = Dataset.from_dict(
    {"prompt": ["Hi.", "Hi."], "chosen": ["Hello.", "Yes."], "rejected": ["Go.", "No."]}
)
FLIPS = PLAIN.add_column("is_flipped", [False, False])
USES = [
    lambda dataset: list(prefs.prompt_keys(dataset)),
    lambda dataset: prefs.hold_out(dataset, fraction=0.5, seed=0),
    lambda dataset: prefs.drop_overlap(dataset, dataset),
    lambda dataset: prefs.flip_preferences(dataset, 0.3, seed=0),
    lambda dataset: prefs.row_generator(dataset, 0).random(len(dataset)),
    audit.audit,
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        (FLIPS, "the column (prompt|chosen) does not hold messages"),
        (FLIPS.remove_columns(["prompt", "is_flipped"]), "the dataset has no column"),
    ],
)
def test_a_dataset_of_text_is_refused_by_a_sentence_that_cures_it(dataset, reason, use):
    with pytest.raises(ValueError, match=f"{reason}.*: make the dataset by sympo.preferences"):
        use(dataset)


def test_the_answers_of_a_dataset_of_text_are_swapped_as_they_are():
    swapped = prefs.swap_answers(FLIPS, [True, False])
    assert swapped["chosen"][:] == ["Go.", "Yes."]
    assert swapped["is_flipped"][:] == [True, False]


@pytest.mark.parametrize("use", USES)
def test_a_dataset_of_text_is_taken_once_it_is_parsed(use):
    use(prefs.parse_rows(PLAIN).dataset)


def test_the_audit_and_the_split_tell_the_same_prompts_apart():
    prompts = [
        *([user(text)] for text in ("Hi there.", "hi  there. ", "Hi there!", "Bye.")),
        [{"role": "system", "content": "Be brief."}, user("Bye.")],
        [user("Bye."), assistant("Bye."), user("Bye.")],
    ]
    rows = [{"prompt": prompt, "chosen": "yes", "rejected": "no"} for prompt in prompts]
    dataset = prefs.parse_rows(rows).dataset
    found = audit.audit(dataset).findings.prompts
    assert found == len(set(prefs.prompt_keys(dataset))) == 4


def test_a_split_names_its_files_and_hashes_their_content():
    def source(place, sha256):
        reports = (
            prefs.Report(files=(f"{name}.gz from {place}, sha256 {sha256}",)) for name in ("a", "b")
        )
        return prefs.Split(None, None, *reports, 0).source()

    here = source("SYMPO_DATA", "12")
    there = source("hub x@1", "12")
    other = source("SYMPO_DATA", "34")
    assert here["data_sha256"] == there["data_sha256"] != other["data_sha256"]
    assert here["data"] == "a.gz from SYMPO_DATA, sha256 12; b.gz from SYMPO_DATA, sha256 12"
    assert here["data"] != there["data"]
