"""A language model as the judge: it neither hangs, nor leaks the key, nor loses what was paid."""

import json
import logging
import sys
import time

import pytest
from loopback import KEY, longer_wins, shown

from sympo.judge import EndpointJudge, client, compare


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
    endpoint(lambda q, _: fail if int(min(shown(q))) % 3 else longer_wins(q))
    result = ask(9, retries=0, give_up=5, workers=1)
    assert result.scores == [1, None, None] * 3


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_one_sentence_at_once_that_does_not_quote_the_server(endpoint, status):
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}}).encode()
    server = endpoint(lambda *_: (status, {}, body))
    with pytest.raises(ValueError, match=f"HTTP {status}.*OPENAI_API_KEY") as caught:
        ask(20)
    error = caught.value
    assert "\n" not in str(error)
    assert error.__suppress_context__ or error.__context__ is None
    assert len(server.tries) < 20


def test_the_key_is_in_no_output_log_or_repr(endpoint, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    refusal = (401, {}, json.dumps({"error": {"message": f"wrong key {KEY}"}}).encode())
    endpoint(lambda q, tries: longer_wins(q))
    examiner = EndpointJudge("m")
    result = compare(examiner, ["?"], ["long answer"], ["short"])
    connection = client.make_client(1, 0)
    of_client = [repr(connection), str(connection)]
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
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://u:secret@host")
    with pytest.raises(ValueError, match=r"no client can be made.*OPENAI_BASE_URL") as caught:
        ask()
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r"pip install 'sympo\[judge\]'"):
        ask()
