"""The audit of a file: its counts, what predicts the winner, its advice, and its two reports."""

import ast
import dataclasses
import errno
import io
import json
import os
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from sympo import audit, preferences, rating
from sympo.audit import advice, biases, core, label_errors, scan
from sympo.audit.words import count_words
from sympo.preferences import parse_rows

GOOD = ["warm", "kind", "clear", "sunny", "tidy", "fresh"]
BAD = ["cold", "rude", "vague", "rainy", "messy", "stale"]
FILLER = [*"abcdefghijklmnopqrstuvwxyz"]


def row(prompt, chosen, rejected, **more):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


def write_answer(generator, words, length=12):
    chosen = [*generator.choice(words, 4), *generator.choice(FILLER, length - 4)]
    return " ".join(generator.permutation(chosen))


def draw_reviews(count, noise_rate, *, seed=0, repeats=1):
    """Pairs of a good and a bad review, and which of their labels are wrong, by row."""
    generator = np.random.default_rng(seed)
    rows = []
    wrong = []
    for i in range(count):
        good, bad = write_answer(generator, GOOD), write_answer(generator, BAD)
        for _ in range(repeats):
            flip = generator.random() < noise_rate
            rows.append(row(f"Review hotel {i}.", *((bad, good) if flip else (good, bad))))
            wrong.append(flip)
    return parse_rows(rows), np.array(wrong)


def routes(found):
    return {rate.route: rate for rate in found.rates}


# Counts

CONTRADICTIONS = [
    row("Name a city 1.", "City 1, on the river.", "No idea 1."),
    row("Name a city 1.", "City 1, on the river.", "No idea 1."),
    row("Name a city 1.", "No idea 1.", "City 1, on the river."),
    row("Say nothing.", "\u200b", "\u200b\u200b"),
    row("Name a city 2.", "City 2.", "No idea 2.", score_chosen="high", score_rejected="low"),
    row("Name a city 3.", "City 3, on the river.", "No idea 3."),
    row("Name a city 4.", "City 4, on the river.", "No idea 4."),
    row("Name a city 4.", "City 4, on the river.", "No idea 4."),
]


def test_repeats_contradictions_and_invisible_answers():
    found = audit.audit(parse_rows(CONTRADICTIONS))
    findings = found.findings
    assert (findings.rows, findings.prompts) == (8, 5)
    assert (findings.repeats, findings.contradictions) == (2, 1)
    assert findings.invisible == 1
    assert "kept, but: a score is text" in found.text()
    assert findings.near_repeats == 0
    assert findings.shared is None


@settings(max_examples=60)
@given(st.lists(st.tuples(*(st.sampled_from("ab"),) * 3), max_size=30))
def test_counts_are_those_of_a_dictionary(triples):
    rows = [triple for triple in triples if triple[1] != triple[2]]
    found = audit.audit(parse_rows([row(*triple) for triple in rows])).findings
    assert found.rows == len(rows)
    assert found.prompts == len({prompt for prompt, *_ in rows})
    assert found.repeats == len(rows) - len(set(rows))
    assert found.contradictions == len(
        {r for r in set(rows) if r[1] < r[2]} & {(p, b, a) for p, a, b in rows}
    )


def test_near_repeats_differ_in_case_spacing_punctuation_and_what_cannot_be_seen():
    rows = [
        row("What is it?", "A red  apple.", "A “pear”"),
        row("what is it", "a red\u200b apple", "A pear!"),
        row("What is it?", "ａ red apple", "a PEAR"),
        row("What is it?", "A red apple pie.", "A pear"),
        row("What is 1+1?", "x+1", "x/1"),
    ]
    found = audit.audit(parse_rows(rows)).findings
    assert (found.repeats, found.near_repeats) == (0, 2)


@given(st.text())
def test_normalised_texts_are_stable_and_never_empty_by_accident(text):
    plain = scan.normalise(text)
    assert bool(plain) == bool(text)
    # ASCII takes a way of its own: beside a letter that is not, it has to come to the same.
    assert scan.normalise(text + "é") in (plain + "é".encode(), "é".encode())


def test_pieces_are_composed_as_the_whole():
    words = ["é", "e\u0301", "ﬁ", "中文", "plain", "\u1112\u1161\u11ab"]
    for seed in range(5):
        text = " ".join(np.random.default_rng(seed).choice(words, 3000))
        assert scan._compose(text) == unicodedata.normalize("NFKC", text)
    assert scan._compose("") == ""


@pytest.mark.parametrize(
    "text", ["a\u0301\u0323", "\u0301\u0323", "\u200b", "x\u200b", "\u1100", "é "]
)
def test_a_text_is_normalised_in_time_that_grows_with_it(text):
    def measure(count):
        start = time.perf_counter()
        scan.normalise(text[:1] + text[1:] * count)
        return time.perf_counter() - start

    # 2 s for 20,000 marks when they were sorted at once, and a hundred for eight times as many
    assert min(measure(40_000) for _ in range(2)) < 30 * measure(5000) + 0.2


def test_shared_prompts_are_those_that_drop_overlap_drops():
    train = parse_rows([row(f"Question {i}?", "yes", "no") for i in range(10)]).dataset
    test = parse_rows(
        [row(f"QUESTION  {i}?", "yes", "no") for i in range(7, 15)]
        + [row("Question 2", "yes", "no")]
    ).dataset
    findings = audit.audit(train, test=test).findings
    _, overlap = preferences.drop_overlap(train, test)
    assert findings.shared == overlap == 3
    assert findings.near_shared == 1


def test_a_dataset_without_rows_is_audited():
    found = audit.audit(parse_rows([{"prompt": 1}]))
    assert found.findings.rows == 0
    assert "No row is a pair" in found.advice[0]
    assert "1" in found.text()
    assert "<h1>" in found.html()


# What predicts the winner


def test_the_longer_answer_is_counted_with_wilsons_interval():
    rows = [row(f"q{i}", "long answer", "short") for i in range(30)]
    rows += [row(f"r{i}", "short", "long answer") for i in range(10)]
    rows += [row("tie", "abc", "xyz")]
    (bias, *_) = audit.audit(parse_rows(rows)).biases
    expected = scipy_stats.binomtest(30, 40).proportion_ci(method="wilson")
    assert bias.interval[:3] == pytest.approx((0.75, expected.low, expected.high))
    assert bias.ties == 1
    assert bias.predicts


def test_the_first_answer_says_nothing_where_the_chosen_one_is_stored_first():
    pairs = parse_rows([row(f"q{i}", "yes", "no") for i in range(4)])

    def first(**options):
        return audit.audit(pairs, **options).biases[1]

    assert first().interval is None
    assert "chosen one comes first" in first().note
    assert first(first=[True] * 4).interval is None
    assert first(first=[True, False, False, None]).interval.estimate == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="there are 4 rows"):
        first(first=[True])
    with pytest.raises(ValueError, match="first = 'yes': give true, false, 0 or 1"):
        first(first=["yes"] * 4)


def test_where_the_first_answer_is_unknown_it_was_not_the_chosen_one():
    pairs = parse_rows([row(f"q{i}", "yes", "no") for i in range(100)])
    found = audit.audit(pairs, first=[0.0] * 5 + [np.nan] * 95).biases[1]
    assert (found.interval.estimate, found.interval.n, found.ties) == (0, 5, 95)


def test_common_words_win_where_rare_ones_lose():
    generator = np.random.default_rng(0)
    winners = [" ".join(generator.choice(FILLER, 6)) for _ in range(100)]
    losers = [f"{' '.join(generator.choice(FILLER, 5))} unheard{i}" for i in range(100)]
    found = biases.common_words(count_words(winners, losers))
    assert found.interval.estimate > 0.9
    assert biases.common_words(count_words(losers, winners)).interval.estimate == pytest.approx(
        1 - found.interval.estimate
    )
    assert biases.common_words(count_words(["…"], ["word"])).ties == 1


def test_listed_words_are_counted():
    words = count_words(["Warm and WARM", "cold"], ["warm", "cold"])
    found = biases.listed_words(words, ["warm"])
    assert (found.interval.estimate, found.ties) == (1, 1)


def test_telling_words_are_found_and_chance_is_not():
    generator = np.random.default_rng(0)
    plain = [[" ".join(generator.choice(FILLER, 6)) for _ in range(400)] for _ in range(2)]
    assert biases.telling_words(count_words(*plain)) == ()
    sorry = [f"Sorry, {text}" if i % 2 else text for i, text in enumerate(plain[0])]
    (found,) = biases.telling_words(count_words(sorry, plain[1]))
    assert "“sorry”" in found.rule
    assert found.interval.estimate == 1


def test_a_pair_that_repeats_has_one_vote_on_its_words():
    """Of random words none tells, however often the pairs are repeated."""
    generator = np.random.default_rng(0)
    chosen, rejected = ([" ".join(generator.choice(FILLER, 6)) for _ in range(60)] for _ in "ab")
    rows = [row(f"q{i}", *pair) for i, pair in enumerate(zip(chosen, rejected, strict=True))]
    assert audit.audit(parse_rows(rows)).words == ()
    assert audit.audit(parse_rows(rows * 20), copies=True).words == ()


def test_a_word_that_tells_in_every_prompt_has_the_share_of_the_other_rules():
    generator = np.random.default_rng(0)
    prompts = np.repeat(np.arange(80), 5)
    plain = [[" ".join(generator.choice(FILLER, 6)) for _ in prompts] for _ in range(2)]
    sorry = [f"Sorry, {text}" if i % 5 else text for i, text in enumerate(plain[0])]
    other = [text if i % 5 else f"Sorry, {text}" for i, text in enumerate(plain[1])]
    words = count_words(sorry, other)
    (found,) = biases.telling_words(words, prompts=prompts)
    listed = biases.listed_words(words, ["sorry"], prompts=prompts)
    assert found.interval == listed.interval
    assert (found.interval.estimate, found.ties) == (0.8, 0)


# Noise rates of files


@pytest.mark.slow
@pytest.mark.parametrize("noise_rate", [0.1, 0.3])
def test_a_file_with_flips_is_read_by_every_route_it_allows(noise_rate):
    pairs, wrong = draw_reviews(800, noise_rate, repeats=2)
    rated = [(i, -1 if wrong[i] else 1) for i in range(0, 1600, 4)]
    found = routes(audit.audit(pairs, ratings=rated))
    assert len(found) == 6
    for name in ("repeated comparisons", "ratings, if the raters make no errors"):
        assert found[name].interval.low <= noise_rate <= found[name].interval.high
        assert not found[name].refuted
    assert noise_rate <= found["label errors, bound"].interval.high <= noise_rate + 0.15


def test_copies_are_not_taken_for_second_ratings():
    pairs, _ = draw_reviews(60, 0.2)
    doubled = Dataset.from_list(pairs.dataset.to_list() * 2, features=pairs.dataset.features)
    found = audit.audit(doubled)
    repeats = routes(found)["repeated comparisons"]
    assert repeats.refuted
    assert "look like copies" in repeats.warnings[-1]
    assert advice.believed_rate(found) is None
    assert "repeated comparisons" not in routes(audit.audit(doubled, copies=True))


def test_triangles_are_found_in_a_file():
    """Three answers a prompt, all compared: the same rate as from the counts themselves."""
    generator = np.random.default_rng(0)
    rows = []
    plus = []
    for prompt in range(30):
        for a, b in ((0, 1), (1, 2), (0, 2)):
            wins = generator.binomial(40, 0.1 + 0.8 / (1 + np.exp(-2.0 * (b - a))))
            answers = f"answer {a}", f"answer {b}"
            rows += [row(f"p{prompt}", *answers)] * wins
            rows += [row(f"p{prompt}", *answers[::-1])] * (40 - wins)
            plus.append(wins)
    found = routes(audit.audit(parse_rows(rows)))["triangles"]
    first = np.array([[3 * p, 3 * p + 1, 3 * p] for p in range(30)]).ravel()
    second = np.array([[3 * p + 1, 3 * p + 2, 3 * p + 2] for p in range(30)]).ravel()
    counts = np.array(plus)
    expected = audit.rate_from_triangles(first, second, counts, 40 - counts, prompts=first // 3)
    assert found.interval == pytest.approx(expected.interval)
    assert found.interval.low <= 0.1 <= found.interval.high


def test_declared_flips_are_counted():
    pairs, _ = draw_reviews(300, 0)
    flipped = preferences.flip_preferences(pairs.dataset, 0.3, seed=0)
    found = routes(audit.audit(flipped))["declared flips"]
    assert found.interval.estimate == pytest.approx(np.mean(flipped["is_flipped"]))
    assert "declared flips" not in routes(audit.audit(pairs))


@pytest.mark.parametrize(("when_longer", "named"), [(0.35, True), (0.1, False)])
def test_flips_that_depend_on_which_answer_wins_are_named(when_longer, named):
    """T11: the rate is .1 where the shorter answer is the better one."""
    generator = np.random.default_rng(0)
    rows = []
    ratings = []
    for i in range(1200):
        answers = ["good but this one is much longer", "bad"]
        longer_wins = generator.random() < 0.5
        better, worse = answers if longer_wins else answers[::-1]
        wrong = generator.random() < (when_longer if longer_wins else 0.1)
        rows.append(row(f"q{i}", *((worse, better) if wrong else (better, worse))))
        ratings.append((i, -1 if wrong else 1))
    found = audit.audit(parse_rows(rows), ratings=ratings)
    (dependence,) = found.dependence
    assert dependence.differs == named
    assert dependence.longer.low < when_longer < dependence.longer.high
    assert any("No symmetric loss repairs that" in sentence for sentence in found.advice) == named
    bound = routes(found)["label errors, bound"]
    assert bound.refuted == named
    assert any("by ratings: flips depend" in warning for warning in bound.warnings) == named


def test_a_bound_below_what_repeats_read_is_refuted_and_not_cited():
    """Flips by the hotel's answers, and a label that any classifier reads off the words."""
    pairs, _ = draw_reviews(400, 0)
    noisy, _ = draw_reviews(300, 0.3, seed=1, repeats=4)
    plain = audit.audit(pairs)
    bound = routes(plain)["label errors, bound"]
    assert not bound.refuted
    assert any("at most" in sentence for sentence in plain.advice)
    (repeats,) = (r for r in audit.audit(noisy).rates if r.route == "repeated comparisons")
    found = core._contradict((), [repeats])(bound)
    assert found.refuted
    assert "Contradicted by repeated comparisons" in found.warnings[-1]
    again = dataclasses.replace(plain, rates=(found,))
    assert not any("at most" in sentence for sentence in again.advice)
    assert f"at most {found.interval.high:.3f}, not to be believed" in again.text()


def test_ratings_that_contradict_most_labels_are_called_an_exchange():
    pairs, _ = draw_reviews(300, 0)
    found = audit.audit(pairs, ratings=[(i, 1 if i % 10 == 0 else -1) for i in range(300)])
    rated = [rate for rate in found.rates if rate.route.startswith("ratings")]
    assert [rate.refuted for rate in rated] == [True, True]
    advised = " ".join(found.advice)
    assert "columns chosen and rejected look exchanged" in advised
    assert "DPO" not in advised
    assert "SymPO" not in advised


def test_more_declared_flips_than_labels_left_are_called_an_exchange():
    rows = [row(f"q{i}", "yes", "no", is_flipped=i % 10 > 0) for i in range(100)]
    found = audit.audit(parse_rows(rows))
    assert routes(found)["declared flips"].refuted
    assert any("look exchanged, or the column is_flipped" in sentence for sentence in found.advice)


def test_a_rate_by_two_ratings_a_pair_carries_its_premise():
    pairs, _ = draw_reviews(400, 0.1, repeats=2)
    (choice,) = [s for s in audit.audit(pairs).advice if s.startswith("The noise rate")]
    assert "and right answers are the same each time" in choice
    assert "second ratings and no copies" in choice


def test_one_contradiction_among_a_thousand_copies_is_no_low_rate():
    rows = [row(f"q{i}", f"yes {i}", f"no {i}") for i in range(1000)] * 2
    rows[-1] = row("q999", "no 999", "yes 999")
    found = audit.audit(parse_rows(rows))
    assert routes(found)["repeated comparisons"].refuted
    assert not any(sentence.startswith("The noise rate") for sentence in found.advice)


def test_five_raters_of_a_row_are_no_five_rows():
    pairs, wrong = draw_reviews(60, 0.2)
    once = [(i, -1 if w else 1) for i, w in enumerate(wrong)]
    name = "ratings, if the raters make no errors"
    one = routes(audit.audit(pairs, ratings=once))[name].interval
    five = routes(audit.audit(pairs, ratings=once * 5))[name].interval
    assert five.high - five.low == pytest.approx(one.high - one.low, rel=0.05)


def test_sixty_raters_of_one_row_say_little_of_the_others():
    pairs, _ = draw_reviews(100, 0.2)
    found = audit.audit(pairs, ratings=[(3, 1)] * 60)
    rated = routes(found)["ratings, if the raters make no errors"].interval
    assert (rated.estimate, rated.n) == (0, 60)
    assert rated.high > 0.5
    assert not any(sentence.startswith("The noise rate is low") for sentence in found.advice)


def test_ratings_that_take_no_side_are_a_note():
    pairs, _ = draw_reviews(5, 0)
    for ratings in ([], [(0, 0)]):
        found = audit.audit(pairs, ratings=ratings)
        assert not found.rates
        assert any("No rate by ratings" in note for note in found.notes)


def test_ratings_of_rows_that_do_not_exist_are_refused():
    pairs, _ = draw_reviews(5, 0)
    with pytest.raises(ValueError, match="ratings name row 5, but there are 5 rows"):
        audit.audit(pairs, ratings=[(0, 1), (5, 1)])


@pytest.mark.parametrize("row", [1.7, True, "1", np.nan, -1])
def test_rows_that_are_no_numbers_of_rows_are_refused(row):
    pairs, _ = draw_reviews(5, 0)
    with pytest.raises(ValueError, match=r"ratings name row .*: rate rows of this dataset"):
        audit.audit(pairs, ratings=[(0, 1), (row, 1)])


@pytest.mark.parametrize("sign", [0.5, -1.9, 2, False, None, "+1"])
def test_ratings_that_are_no_signs_are_refused(sign):
    pairs, _ = draw_reviews(5, 0)
    with pytest.raises(ValueError, match=r"ratings say .* of row 1: give \+1 where the rater"):
        audit.audit(pairs, ratings=[(0, 1), (1, sign)])


def test_simulated_ratings_are_called_simulated_everywhere():
    pairs, _ = draw_reviews(300, 0)
    items = rating.draw_items(pairs.dataset, seed=0)
    simulated = rating.simulate_ratings(items, [1.0] * len(items), error_rate=0.1, seed=0)
    found = audit.audit(pairs, ratings=rating.rated_rows(simulated))
    assert found.simulated
    assert "simulated ratings, if the raters make no errors" in found.text()
    assert advice.believed_rate(found) is None
    assert not any(sentence.startswith("The noise rate") for sentence in found.advice)


def test_a_missing_package_costs_one_route(monkeypatch):
    pairs, _ = draw_reviews(300, 0)
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    found = audit.audit(pairs)
    assert not found.rates
    (note,) = found.notes
    assert "pip install 'sympo[audit]'" in note
    assert found.biases[2].interval is not None


@pytest.mark.parametrize("prompts", [1, 2])
def test_pairs_of_few_prompts_cost_one_route(prompts):
    generator = np.random.default_rng(0)
    answers = [write_answer(generator, GOOD) for _ in range(600)]
    # Of two prompts one has a single pair.
    asked = ["Review hotel 1." if i or prompts == 1 else "Review hotel 2." for i in range(300)]
    found = audit.audit(parse_rows(map(row, asked, answers[:300], answers[300:])))
    assert not [rate for rate in found.rates if rate.route.startswith("label errors")]
    (note,) = found.notes
    assert f"all but {prompts - 1} of the pairs share a few prompts: give 100 or more" in note


def test_an_error_of_the_classifier_is_no_note(monkeypatch):
    def fail(*_, **__):
        raise ValueError("a bug")

    pairs, _ = draw_reviews(5, 0)
    monkeypatch.setattr(label_errors, "find_label_errors", fail)
    with pytest.raises(ValueError, match="a bug"):
        audit.audit(pairs)


def test_suspects_are_wrong_labels_more_often_than_not():
    pairs, wrong = draw_reviews(600, 0.2)
    found = audit.audit(pairs)
    assert np.mean([wrong[suspect.row] for suspect in found.suspects]) > 0.8
    shown = found.suspects[0]
    assert shown.chosen == pairs.dataset[shown.row]["chosen"][0]["content"]


def test_the_same_seed_gives_the_same_report():
    pairs, _ = draw_reviews(400, 0.2)
    assert audit.audit(pairs, sample=300).text() == audit.audit(pairs, sample=300).text()


# Advice


@pytest.mark.parametrize(
    ("noise_rate", "expected"),
    [(0, "rate is low"), (0.15, "neither clearly low nor"), (0.35, "rate is high")],
)
def test_the_advice_follows_the_rate(noise_rate, expected):
    pairs, wrong = draw_reviews(600, noise_rate)
    found = audit.audit(pairs, ratings=[(i, -1 if w else 1) for i, w in enumerate(wrong)])
    (choice,) = [s for s in found.advice if s.startswith("The noise rate")]
    assert expected in choice
    (price,) = [s for s in found.advice if "(1−2ε)⁻²" in s]
    assert f"= {(1 - 2 * wrong.mean()) ** -2:.1f} times" in price


def test_without_a_rate_the_advice_is_to_measure_one():
    found = audit.audit(draw_reviews(400, 0.2)[0])
    (measure,) = [s for s in found.advice if "Nothing here reads the noise rate" in s]
    assert "at most" in measure
    needed = rating.pairs_needed(0.05, noise_rate=0.25)
    assert any(s.startswith(f"Rate {needed} pairs") for s in found.advice)


# Reports


EVIL = "<script>alert(1)</script><img src=https://example.com/x onerror=x>\x1b[31m\u202e&amp;"


def test_data_in_the_page_is_inert():
    rows = [row(f"{EVIL} {i}", f"{EVIL} good {i}", f"{EVIL} bad {i}") for i in range(250)]
    rows += [{EVIL: 1, "is_flipped": EVIL}]
    page = audit.audit(parse_rows(rows), source=EVIL).html()
    assert "<script" not in page
    assert "<img" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;" in page
    # No resource is named, and the policy would load none.
    assert "default-src 'none'" in page
    for attribute in ("src=", "href=", "url("):
        assert attribute not in page.replace("img src=https", "")


def test_control_characters_do_not_reach_the_terminal():
    rows = [row("q", "yes", "no"), {EVIL: 1}]
    text = audit.audit(parse_rows(rows), source=EVIL).text()
    assert all(char.isprintable() or char == "\n" for char in text)


def test_a_suspects_number_says_what_it_counts():
    found = audit.audit(draw_reviews(300, 0.2)[0])
    assert f"Row {found.suspects[0].row} of the dataset, from 0" in found.html()


def test_no_word_is_broken_at_the_end_of_a_line():
    found = audit.audit(draw_reviews(300, 0.2)[0])
    told = set(found.text().split())
    for sentence in found.advice:
        assert set(sentence.split()) <= told


# The command line


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.jsonl"
    rows = [json.dumps(each) for each in CONTRADICTIONS]
    path.write_text("\n".join([*rows, "not JSON", "[1]"]))
    return path


def test_the_command_prints_a_report_and_writes_a_page(file, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert audit.main([str(file), "--test", str(file), "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert "Audit of mine.jsonl" in out
    assert "rows in the file                                      10" in out
    assert "not a JSON object" in out
    assert page.read_text().startswith("<!doctype html>")


def test_a_terminal_without_greek_is_no_obstacle(file, monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert audit.main([str(file)]) == 0
    terminal.flush()
    assert b"Audit of mine.jsonl" in terminal.buffer.getvalue()


def test_ratings_are_read_from_their_file(tmp_path, capsys):
    pairs, wrong = draw_reviews(100, 0.2)
    path = tmp_path / "mine.jsonl"
    answers = [
        row(each["prompt"][0]["content"], *(each[s][0]["content"] for s in ("chosen", "rejected")))
        for each in pairs.dataset
    ]
    path.write_text("\n".join(map(json.dumps, answers)))
    items = rating.draw_items(pairs.dataset, seed=0)
    kept = rating.RatingFile(tmp_path / "ratings.jsonl", items, simulated=True)
    truth = [0.0 if wrong[item.row] else 1.0 for item in items]
    kept.add_all(rating.simulate_ratings(items, truth, error_rate=0, seed=0))
    assert audit.main([str(path), "--ratings", str(tmp_path / "ratings.jsonl")]) == 0
    assert f"{wrong.mean():.3f} (" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["missing.jsonl", "mine.txt"])
def test_a_file_that_cannot_be_read_is_one_sentence(name, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("{}")
    assert audit.main([str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert name in error
    assert error.count("\n") == 1


def test_a_page_that_cannot_be_written_is_one_sentence(file, tmp_path, capsys):
    assert audit.main([str(file), "--html", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "text", '[{"a": 1}]', '{"prompt": "p"}'])
@pytest.mark.parametrize("as_test", [False, True])
def test_a_file_without_one_pair_has_no_report(content, as_test, file, tmp_path, capsys):
    (tmp_path / "none.jsonl").write_text(content)
    none, page = str(tmp_path / "none.jsonl"), tmp_path / "page.html"
    files = [str(file), "--test", none] if as_test else [none]
    assert audit.main([*files, "--html", str(page)]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert "no row of none.jsonl is a pair of answers (0 of " in printed.err
    assert printed.err.count("\n") == 1
    assert not page.exists()


def test_a_page_is_whole_or_as_it_was(file, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.html"
    page.write_text("before")

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(page))

    monkeypatch.setattr(os, "replace", fail)
    assert audit.main([str(file), "--html", str(page)]) == 2
    assert "page.html: the disk is full" in capsys.readouterr().err
    assert page.read_text() == "before"


def test_a_folder_that_is_missing_is_named_before_the_file_is_read(tmp_path, capsys):
    page = tmp_path / "nowhere" / "page.html"
    assert audit.main(["not-read.jsonl", "--html", str(page)]) == 2
    assert "page.html' cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["data", "--test", "--ratings", "--words"])
def test_a_page_never_overwrites_what_is_read(option, file, tmp_path, capsys):
    other = tmp_path / "other.jsonl"
    other.write_bytes(file.read_bytes())
    read = file if option == "data" else other
    page = tmp_path / "link.html"
    page.symlink_to(read)
    before = read.read_bytes()
    given = [] if option == "data" else [option, str(other)]
    assert audit.main([str(file), *given, "--html", str(page)]) == 2
    assert f"--html {page} would overwrite" in capsys.readouterr().err
    assert read.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--seed", "-1"], "--seed -1"),
        (["--rater", "Ann"], "--ratings"),
        (["--words", "latin.txt"], "latin.txt"),
    ],
)
def test_a_wrong_option_is_one_sentence(options, named, file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.txt").write_bytes("schön".encode("latin-1"))
    assert audit.main([str(file), *options]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_a_ratings_file_without_a_rating_is_no_obstacle(file, tmp_path, capsys):
    pairs = preferences.read_pairs(file)
    path = tmp_path / "ratings.jsonl"
    rating.RatingFile(path, rating.draw_items(pairs.dataset, seed=0))
    assert audit.main([str(file), "--ratings", str(path)]) == 0
    assert "No rate by ratings" in capsys.readouterr().out


# Scale


@pytest.mark.slow
def test_several_processes_read_the_same(tmp_path, monkeypatch):
    pairs, _ = draw_reviews(500, 0.2)
    pairs.dataset.save_to_disk(tmp_path)
    monkeypatch.setattr(scan, "_PART", 120)
    mapped = Dataset.load_from_disk(tmp_path)
    one, several = scan.scan(pairs.dataset), scan.scan(mapped, processes=2)
    for name in vars(one):
        np.testing.assert_array_equal(getattr(one, name), getattr(several, name))


@pytest.mark.nightly
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Four times the rows: what is kept of a row are some 70 bytes."""
    script = """
import resource, sys
from datasets import Dataset
from sympo.audit import scan
for folder in sys.argv[1:]:
    scan.scan(Dataset.load_from_disk(folder))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    text = [{"role": "assistant", "content": "word " * 200}]
    folders = []
    for rows in (5_000, 20_000):
        made = {"prompt": [[{"role": "user", "content": "why " * 200}]] * rows}
        answers = {"chosen": [text] * rows, "rejected": [text] * rows}
        folders.append(str(tmp_path / str(rows)))
        Dataset.from_dict({**made, **answers}).save_to_disk(folders[-1])
    done = subprocess.run(
        [sys.executable, "-c", script, *folders], capture_output=True, text=True, check=True
    )
    few, many = map(int, done.stdout.split())
    # In kilobytes; the larger file has 45 MB more text.
    assert many - few < 20_000


def test_the_package_imports_hard_dependencies_only():
    allowed = {"datasets", "numpy", "pyarrow", "scipy", "sympo"}
    for path in Path(core.__file__).parent.glob("*.py"):
        for statement in ast.parse(path.read_text()).body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in statement.names]
                module = getattr(statement, "module", None) or names[0]
                package = module.partition(".")[0]
                assert package in allowed | set(sys.stdlib_module_names), path
                assert not module.startswith(("sympo.studies", "sympo.book"))


def test_words_of_few_answers_are_no_features():
    words = count_words(["rare warm", "warm"], ["cold", "warm"])
    # “warm” is in three answers; the last feature is the length.
    differences = label_errors.word_differences(words).toarray()
    assert differences.shape == (2, 2)
    assert differences[:, 0].tolist() == [np.log(2), 0]
