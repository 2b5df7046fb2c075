"""Judges ask in both orders, no verdict is no loss, an endpoint neither hangs nor leaks the key."""

import json
import logging
import math
import sys
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loopback import KEY, longer_wins, shown

from sympo import judge
from sympo.judge import (
    Comparison,
    EndpointJudge,
    ModelJudge,
    Reply,
    RewardJudge,
    compare,
    parse_verdict,
)

answers = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), min_size=1, max_size=12)
scores = st.sampled_from([1.0, 0.5, 0.0, None])


def scripted(forward, backward):
    """A judge that gives prepared scores: the first call's, then the second's."""
    calls = iter([forward, backward])
    return lambda prompts, firsts, seconds: [
        Reply(s, "" if s is not None else "mute") for s in next(calls)
    ]


def run(forward, backward) -> Comparison:
    blank = [""] * len(forward)
    return compare(scripted(forward, backward), blank, blank, blank)


# Both orders


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [
        (1, 0, 1), (0, 1, 0), (0.5, 0.5, 0.5),  # both orders agree
        # the order decided
        (1, 1, 0.5), (0, 0, 0.5), (1, 0.5, 0.5), (0.5, 1, 0.5), (0, 0.5, 0.5), (0.5, 0, 0.5),
        (None, 0, None), (1, None, None), (None, None, None),
    ],
)  # fmt: skip
def test_a_win_is_a_win_in_both_orders(first, second, verdict):
    assert run([first], [second]).scores == [verdict]


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=20))
def test_missing_verdicts_are_neither_wins_nor_losses(replies):
    forward, backward = zip(*replies, strict=True)
    result = run(forward, backward)
    parsed = [pair for pair in replies if None not in pair]
    assert result.unparsed == len(replies) - len(parsed)
    mute = [*forward, *backward].count(None)
    assert result.missing == ({"mute": mute} if mute else {})
    if not parsed:
        assert math.isnan(result.position_bias)
        with pytest.raises(ValueError, match=r"no pair has a verdict.*mute"):
            result.win_rate  # noqa: B018
    else:
        alone = run(*zip(*parsed, strict=True))
        assert result.win_rate == alone.win_rate
        assert result.swayed == alone.swayed
        assert result.position_bias == alone.position_bias


@given(st.lists(st.tuples(scores, scores), min_size=1, max_size=20))
def test_naming_the_other_answer_a_turns_the_result_over(replies):
    forward, backward = zip(*replies, strict=True)
    ours = run(forward, backward)
    theirs = run(backward, forward)
    assert theirs.scores == [None if s is None else 1 - s for s in ours.scores]
    assert (theirs.swayed, theirs.unparsed) == (ours.swayed, ours.unparsed)
    if ours.parsed:
        assert theirs.position_bias == pytest.approx(ours.position_bias)
        assert theirs.win_rate.low == pytest.approx(1 - ours.win_rate.high)


def test_a_judge_that_always_takes_the_first_shows_as_bias_and_decides_nothing():
    result = run([1] * 7, [1] * 7)
    assert (result.scores, result.swayed, result.position_bias) == ([0.5] * 7, 7, 0.5)


def test_the_win_rate_is_the_wilson_interval_over_parsed_pairs():
    # 7 wins, 3 losses: the interval's published closed form, z = 1.96.
    result = run([1] * 7 + [0] * 3 + [None], [0] * 7 + [1] * 3 + [1])
    z = 1.959963984540054
    n = 10
    p = 0.7
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = [p, (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n), n]
    assert list(result.win_rate) == pytest.approx(expected)


def test_lists_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="2 prompts, 1 answers_a and 2 answers_b"):
        compare(RewardJudge(len), ["", ""], ["a"], ["b", "c"])
    with pytest.raises(ValueError, match="1 and 1 replies for 2 pairs"):
        compare(lambda *_: [Reply(1.0)], ["", ""], ["a", "b"], ["b", "c"])


# Rewards


@given(answers)
def test_the_reward_judge_prefers_the_higher_reward_in_any_order(pairs):
    a, b = map(list, zip(*pairs, strict=True))
    result = compare(RewardJudge(len), [""] * len(a), a, b)
    assert result.scores == [(len(x) > len(y)) + (len(x) == len(y)) / 2 for x, y in pairs]
    assert (result.swayed, result.position_bias, result.unparsed) == (0, 0, 0)


def test_a_reward_that_is_not_a_number_is_no_verdict():
    result = compare(RewardJudge(float), ["", ""], ["nan", "1"], ["0", "inf"])
    assert (result.scores, result.missing) == ([None, 0], {"reward is NaN": 2})


CHAT = "{% for m in messages %}{{ m['role'][0] }} {{ m['content'] }} e {% endfor %}"


def tiny_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = ["<pad>", "<unk>", "s", "u", "a", "e", *"bcdfghij"]
    vocabulary = {word: number for number, word in enumerate(known)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", chat_template=CHAT
    )


def tiny_model(**options):
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    # With dropout, so that a judge in training mode would give itself away.
    config = LlamaConfig(
        vocab_size=14,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=24,
        attention_dropout=0.5,
        num_labels=1,
    )
    config.update(options)
    return LlamaForSequenceClassification(config).train()


@pytest.fixture(scope="module")
def reward_model():
    return ModelJudge(tiny_model(), tiny_tokenizer(), batch_size=3)


WORDS = ["b", "c d", "f g h i j b c", "", "j j", "h b"]


def test_the_model_judge_scores_a_batch_as_the_model_scores_each_dialogue(reward_model):
    prompts = ["b c", [{"role": "system", "content": "d"}, {"role": "user", "content": "b"}]] * 3
    scored = reward_model.score(prompts, WORDS)
    for prompt, answer, reward in zip(prompts, WORDS, scored, strict=True):
        written = "u b c e" if isinstance(prompt, str) else "s d e u b e"
        vocabulary = reward_model.tokenizer.get_vocab()
        ids = torch.tensor([[vocabulary[word] for word in f"{written} a {answer} e".split()]])
        with torch.no_grad():
            # The head on the last token, by hand: no padding, no dropout.
            hidden = reward_model.model.model(ids).last_hidden_state[0, -1]
        assert reward == pytest.approx(reward_model.model.score(hidden).item(), abs=1e-6)


def test_the_model_judge_is_blind_to_the_order(reward_model):
    result = compare(reward_model, ["b"] * 6, WORDS, WORDS[1:] + WORDS[:1])
    rewards = reward_model.score(["b"] * 6, WORDS)
    pairs = zip(rewards, rewards[1:] + rewards[:1], strict=True)
    assert result.scores == [float(first > second) for first, second in pairs]
    assert (result.swayed, result.position_bias) == (0, 0)


def test_a_dialogue_that_is_too_long_has_no_verdict_and_is_not_cut(reward_model):
    result = compare(reward_model, ["b", "b"], ["b " * 30, "c"], ["c", "b " * 18])
    assert result.scores[0] is None
    assert result.scores[1] is not None  # 24 tokens: just fits
    assert result.missing == {"too long": 2}


def test_a_saved_reward_model_loads_without_code_or_pickle(tmp_path, reward_model):
    reward_model.model.save_pretrained(tmp_path)
    reward_model.tokenizer.save_pretrained(tmp_path)
    loaded = ModelJudge.load(str(tmp_path))
    expected = reward_model.score(["b"] * 6, WORDS)
    assert loaded.score(["b"] * 6, WORDS) == pytest.approx(expected, abs=1e-6)
    (tmp_path / "model.safetensors").unlink()
    torch.save(reward_model.model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        ModelJudge.load(str(tmp_path))


def test_a_model_or_tokenizer_that_cannot_judge_is_refused(reward_model):
    with pytest.raises(ValueError, match="one output, not 2"):
        ModelJudge(tiny_model(num_labels=2), reward_model.tokenizer)
    bare = tiny_tokenizer()
    bare.chat_template = None
    with pytest.raises(ValueError, match="lacks a chat template"):
        ModelJudge(reward_model.model, bare)


# Replies of a language model


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Verdict: A", 1),
        ("verdict: b", 0),
        ("**Verdict: tie**", 0.5),
        ("A", 1),
        (" [[B]].\n", 0),
        ("Tie.", 0.5),
        ("Verdict: A or B", None),
        ("Verdict: C", None),
        ("A\nB", None),
        ("A is better because B is rude", None),
        ("I cannot judge this", None),
        ("Both", None),
        ("AB", None),
        ("", None),
        ("  \n", None),
        (None, None),
        ("Answer 1 says: Verdict: A\nVerdict: B", None),
    ],
)
def test_only_one_clear_verdict_is_read(text, score):
    assert parse_verdict(text).score == score
    assert (parse_verdict(text).reason == "") == (score is not None)


# A loopback endpoint that misbehaves


def ask(n=1, **options):
    fields = {"timeout": 5.0, "retries": 2, "workers": 2, **options}
    longer = [f"{i} long" for i in range(n)]
    shorter = [f"{i}" for i in range(n)]
    return compare(EndpointJudge("m", **fields), ["why?"] * n, longer, shorter)


def test_an_endpoint_is_asked_in_both_orders_with_the_whole_dialogue(endpoint):
    server = endpoint(longer_wins)
    prompt = [
        {"role": "user", "content": "hi {x}"},
        {"role": "assistant", "content": "yo"},
        {"role": "user", "content": "so?"},
    ]
    result = compare(EndpointJudge("m"), [prompt], ["longer {answer}"], ["short"])
    assert (result.scores, result.position_bias, result.unparsed) == ([1], 0, 0)
    both_orders = {("longer {answer}", "short"), ("short", "longer {answer}")}
    assert {shown(question) for question in server.tries} == both_orders
    assert all("user: hi {x}\n\nassistant: yo\n\nuser: so?" in q for q in server.tries)
    assert server.keys == {f"Bearer {KEY}"}


def test_replies_keep_the_order_of_the_pairs(endpoint):
    def slow_first(question, tries):
        time.sleep(0.2 if shown(question)[0].startswith("0") else 0)
        return "A" if min(shown(question)) in ("0", "2") and "long" in shown(question)[0] else "tie"

    endpoint(slow_first)
    replies = EndpointJudge("m")(["?"] * 3, ["0 long", "1 long", "2 long"], ["0", "1", "2"])
    assert [reply.score for reply in replies] == [1, 0.5, 1]


def test_the_position_bias_of_an_endpoint_shows(endpoint):
    endpoint(lambda *_: "Verdict: A")
    result = ask(3)
    assert (result.scores, result.swayed, result.position_bias) == ([0.5] * 3, 3, 0.5)


def test_a_rate_limit_waits_as_long_as_it_is_told(endpoint):
    wait = (429, {"Retry-After": "1"}, b"{}")
    server = endpoint(lambda question, tries: wait if tries == 1 else longer_wins(question))
    assert ask(workers=1).scores == [1]
    gaps = [later - earlier for earlier, later in zip(server.times, server.times[1:], strict=False)]
    assert gaps[0] >= 1.0
    assert gaps[2] >= 1.0


def test_a_server_error_is_tried_again(endpoint):
    server = endpoint(lambda q, tries: (500, {}, b"oops") if tries == 1 else longer_wins(q))
    assert ask().scores == [1]
    assert set(server.tries.values()) == {2}


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ((429, {"Retry-After": "0.01"}, b"{}"), "no reply: HTTP 429"),
        # longer than the client is ready to wait
        ((429, {"Retry-After": "99999"}, b"{}"), "no reply: HTTP 429"),
        ((500, {"Retry-After": "0.01"}, b"<html>"), "no reply: HTTP 500"),
        (1.0, "no reply: time-out"),
        (0.0, "no reply: no connection"),  # hangs up without a word
    ],
)
def test_retries_are_bounded_and_a_missing_reply_is_no_loss(endpoint, act, reason):
    server = endpoint(lambda q, tries: act if "0 long" in q else longer_wins(q))
    result = ask(2, timeout=0.4, retries=1)
    assert (result.scores, result.unparsed, result.missing) == ([None, 1], 1, {reason: 2})
    assert max(server.tries.values()) <= 2
    assert result.win_rate.n == 1


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        ("", "empty reply"),
        (None, "empty reply"),
        ("They are both fine.", "unparsable reply"),
        ((200, {}, b'{"choices": []}'), "reply of another form"),
        ((200, {}, b'{"choices": [{"message": {"content": [1]}}]}'), "reply of another form"),
        ((200, {}, b'{"choices": "A"}'), "reply of another form"),
        ((200, {}, b"[]"), "reply of another form"),
        ((200, {}, b'{"choi'), "reply of another form"),
        ((200, {"Content-Type": "text/html"}, b"<html>Log in</html>"), "reply of another form"),
    ],
)
def test_a_reply_without_a_verdict_is_reported_apart(endpoint, act, reason):
    server = endpoint(lambda q, tries: act if "0 long" in q else longer_wins(q))
    result = ask(2)
    assert (result.scores, result.missing) == ([None, 1], {reason: 2})
    assert max(server.tries.values()) == 1


def test_a_dead_endpoint_ends_the_comparison_soon(endpoint):
    server = endpoint(lambda *_: (503, {"Retry-After": "0.01"}, b"{}"))
    message = r"left 3 requests in a row without a reply \(HTTP 503\), each asked 2 times"
    with pytest.raises(ConnectionError, match=message):
        ask(50, retries=1, give_up=3)
    assert len(server.tries) < 20


def test_scattered_failures_do_not_end_it(endpoint):
    fail = (503, {"Retry-After": "0.01"}, b"{}")
    endpoint(lambda question, _: fail if int(min(shown(question))) % 3 else longer_wins(question))
    result = ask(9, retries=0, give_up=3)
    assert result.scores == [1, None, None] * 3


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_one_sentence_at_once_that_does_not_quote_the_server(endpoint, status):
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    server = endpoint(lambda *_: (status, {}, body))
    with pytest.raises(ValueError, match=f"HTTP {status}.*OPENAI_API_KEY") as caught:
        ask(20)
    error = caught.value
    assert "\n" not in str(error)
    assert error.__suppress_context__
    assert len(server.tries) < 20


def test_the_key_is_in_no_output_log_or_repr(endpoint, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    refusal = (401, {}, json.dumps({"error": {"message": f"wrong key {KEY}"}}).encode())
    endpoint(lambda q, tries: longer_wins(q))
    examiner = EndpointJudge("m")
    result = compare(examiner, ["?"], ["long answer"], ["short"])
    with examiner._client() as client:
        of_client = [repr(client), str(client)]
    endpoint(lambda *_: refusal)
    with pytest.raises(ValueError, match="HTTP 401") as caught:
        compare(examiner, ["?"], ["a"], ["b"])
    logged = [record.getMessage() for record in caplog.records]
    assert any("chat/completions" in line for line in logged)  # the logs were really on
    of_judge = [repr(examiner), str(vars(examiner)), repr(result), str(caught.value)]
    printed = [caplog.text, *capfd.readouterr()]
    assert not any(KEY in text for text in [*of_client, *of_judge, *printed, *logged])


def test_without_a_key_it_says_what_to_set(endpoint, monkeypatch):
    endpoint(longer_wins)
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ValueError, match="OPENAI_API_KEY is not set"):
        ask()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"top_k": 1}, KEY),
        ({"model": "another"}, KEY),
        ({"temperature": object()}, KEY),
        ({}, "sk-é-0123456789"),
    ],
)
def test_a_request_that_cannot_be_written_is_no_reply(endpoint, monkeypatch, options, key):
    server = endpoint(longer_wins)
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(ValueError, match="the request cannot be written") as caught:
        ask(options=options)
    assert str(sorted(options)) in str(caught.value)
    assert "sk-" not in str(caught.value)
    # nor does the traceback quote it
    assert caught.value.__suppress_context__
    assert not server.tries


def test_a_judge_is_the_same_only_at_the_same_endpoint(monkeypatch):
    def identity(address):
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        return EndpointJudge("m").identity

    plain = identity("http://host:8000/v1")
    assert identity("http://user:secret@host:8000/v1/?key=secret") == plain
    for other in ("http://host:8001/v1", "http://host:8000/v2", "http://another:8000/v1"):
        assert identity(other) != plain
    official = identity("https://api.openai.com/v1")
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert EndpointJudge("m").identity == official


@pytest.mark.parametrize(
    "address", ["http://[::1/v1", "http://u:secret@host:x/v1", "host:8000/v1", "http:///v1", ""]
)
def test_an_address_that_is_none_is_one_sentence(monkeypatch, address):
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(ValueError, match="OPENAI_BASE_URL is no address") as caught:
        _ = EndpointJudge("m").identity
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_client_that_cannot_be_made_is_one_sentence(endpoint, monkeypatch):
    endpoint(longer_wins)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://u:secret@[::1/v1")
    with pytest.raises(ValueError, match=r"InvalidURL\): check OPENAI_BASE_URL") as caught:
        ask()
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r"pip install 'sympo\[judge\]'"):
        judge.EndpointJudge()._client()
