"""A language model as the judge: it neither hangs, nor leaks the key, nor loses what was paid."""

import asyncio
import json
import logging
import signal
import subprocess
import sys
import time
import traceback
from itertools import chain, repeat

import pytest
from loopback import KEY, completion, drip, longer_wins, shown

from sympo.judge import EndpointJudge, client, compare, read_replies
from sympo.judge import endpoint as endpoint_module


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

    plain = identity("https://host:8000/v1")
    assert identity("https://user:secret@host:8000/v1/?key=secret") == plain
    for other in ("https://host:8001/v1", "https://host:8000/v2", "https://another:8000/v1"):
        assert identity(other) != plain
    official = identity("https://api.openai.com/v1")
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert EndpointJudge("m").identity == official


@pytest.mark.parametrize(
    "address",
    [
        *("http://[::1/v1", "http://u:secret@host:x/v1", "host:8000/v1", "http:///v1", ""),
        *("https://u:secret@host/\nv1", f"https://u:secret@host/{'v' * 100_000}"),
    ],
)
def test_an_address_that_is_none_is_one_sentence(monkeypatch, address):
    monkeypatch.setenv("OPENAI_BASE_URL", address)
    with pytest.raises(ValueError, match="OPENAI_BASE_URL is no address") as caught:
        _ = EndpointJudge("m").identity
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "host",
    [
        *("example.org", "127.0.0.1.example.org", "u:secret@example.org", "localhost.example.org"),
        *("0.0.0.0", "10.0.0.1", "[2001:db8::1]", "localhost@example.org"),
    ],
)
def test_a_key_is_sent_in_clear_to_no_other_machine(endpoint, monkeypatch, host):
    server = endpoint(longer_wins)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{host}/v1")
    for use in (lambda: EndpointJudge("m").identity, lambda: client.make_client(1, 0), ask):
        with pytest.raises(ValueError, match=r"OPENAI_BASE_URL begins with http://.*https") as told:
            use()
        assert "secret" not in str(told.value)
        assert KEY not in str(told.value)
    assert not server.tries


@pytest.mark.parametrize("host", ["localhost:1", "LOCALHOST", "127.0.0.1:80", "127.1.2.3", "[::1]"])
def test_this_machine_needs_no_encryption(monkeypatch, host):
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://{host}/v1")
    assert EndpointJudge("m").identity["endpoint"] == f"{host}/v1"


def test_the_key_is_in_no_traceback_and_no_file(endpoint, tmp_path):
    endpoint(lambda *_: (401, {}, f"wrong key {KEY}".encode()))
    kept = tmp_path / "kept.jsonl"
    with pytest.raises(ValueError, match="HTTP 401") as caught:
        compare(EndpointJudge("m"), ["?"], ["a"], ["b"])
    told = "".join(traceback.format_exception(caught.value))
    assert KEY not in told
    endpoint(lambda q, tries: longer_wins(q))
    compare(EndpointJudge("m", keep=kept), ["?"], ["a"], ["b"])
    assert kept.stat().st_size
    assert KEY not in kept.read_text()


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


# A pair's own fault, and the settings'


def is_about(pair):
    """Whether a question shows the answers of that pair of `ask`."""
    return lambda question: min(shown(question)) == f"{pair}"


@pytest.mark.parametrize("status", [400, 413, 422, 451])
def test_a_pair_that_is_refused_is_that_pairs_missing_verdict(endpoint, status):
    refused = is_about(0)
    server = endpoint(lambda q, _: (status, {}, b"{}") if refused(q) else longer_wins(q))
    result = ask(3, workers=1)
    assert (result.scores, result.missing) == ([None, 1, 1], {f"refused: HTTP {status}": 2})
    # it stays refused, so that nobody asks again
    assert set(server.tries.values()) == {1}


@pytest.mark.parametrize("status", [408, 409])
def test_a_lock_or_time_out_is_tried_again_and_then_that_pairs(endpoint, status):
    act = (status, {"Retry-After": "0.01"}, b"{}")
    refused = is_about(1)
    server = endpoint(lambda q, _: act if refused(q) else longer_wins(q))
    result = ask(3)
    assert (result.scores, result.missing) == ([1, None, 1], {f"no reply: HTTP {status}": 2})
    assert sorted(server.tries.values()) == [1] * 4 + [3] * 2


@pytest.mark.parametrize("pairs", [1, 50])
def test_when_all_the_first_are_refused_it_is_no_pairs_fault(endpoint, tmp_path, pairs):
    server = endpoint(lambda *_: (400, {}, b"{}"))
    keep = tmp_path / "kept.jsonl"
    with pytest.raises(ValueError, match=r"in a row with HTTP 400: check .*the model 'm'"):
        ask(pairs, keep=keep)
    assert len(server.tries) < 15
    # nor is it kept as theirs
    assert read_replies(keep)[1] == {}
    server.behave = longer_wins
    assert ask(pairs, keep=keep).scores == [1] * pairs


def test_many_refusals_in_a_row_are_the_account_s_and_are_asked_again(endpoint, tmp_path):
    server = endpoint(lambda q, _: longer_wins(q) if is_about(0)(q) else (400, {}, b"{}"))
    keep = tmp_path / "kept.jsonl"
    with pytest.raises(ValueError, match="refused 8 requests in a row with HTTP 400"):
        ask(50, keep=keep, give_up=2, workers=1)
    assert len(read_replies(keep)[1]) == 2
    server.behave = longer_wins
    assert ask(50, keep=keep).scores == [1] * 50


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405])
def test_other_refusals_end_it_after_replies_as_well(endpoint, status):
    server = endpoint(lambda q, _: longer_wins(q) if is_about(0)(q) else (status, {}, b"{}"))
    with pytest.raises(ValueError, match=f"refused the request with HTTP {status}"):
        ask(50)
    assert len(server.tries) < 10


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirection_is_followed(endpoint, status):
    other = endpoint(longer_wins)
    address = {"Location": f"http://127.0.0.1:{other.server_port}/v1/chat/completions"}
    endpoint(lambda *_: (status, address, b""))
    with pytest.raises(ValueError, match=rf"redirects to another address \(HTTP {status}\)"):
        ask()
    assert not other.tries


@pytest.mark.parametrize(
    ("field", "value"),
    [("timeout", 0), ("timeout", float("nan")), ("retries", -1), ("workers", 0), ("give_up", 0)],
)
def test_settings_that_cannot_be_are_named(field, value):
    with pytest.raises(ValueError, match=f"^{field} is {value}: give"):
        EndpointJudge("m", **{field: value})


def test_half_a_character_is_no_end(endpoint):
    endpoint(longer_wins)
    result = compare(EndpointJudge("m"), ["why \ud800?"], ["a long \udfff answer"], ["short"])
    assert result.scores == [1]


# Time and size

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def as_bytes(text):
    return [bytes([byte]) for byte in text]


@pytest.mark.parametrize(
    "parts",
    [
        chain([HEAD], as_bytes(b"X-Slow: " + b"1" * 500)),
        chain([HEAD + b"Content-Length: 500\r\n\r\n"], as_bytes(b" " * 500)),
    ],
    ids=["headers", "body"],
)
def test_a_server_that_drips_is_late_as_a_whole(endpoint, parts):
    parts = list(parts)
    endpoint(lambda q, _: drip(parts, every=0.05) if is_about(0)(q) else longer_wins(q))
    start = time.monotonic()
    result = ask(2, timeout=0.5, retries=1)
    assert (result.scores, result.missing) == ([None, 1], {"no reply: time-out": 2})
    # two requests at a time, each sent twice; the drip would have gone on for 25 seconds
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("status", "reason"),
    [(b"200 OK", "reply of more than 1048576 bytes"), (b"500 Oh", "no reply: HTTP 500")],
)
def test_a_reply_without_end_is_cut(endpoint, status, reason):
    written = []

    def pour():
        yield b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\n\r\n"
        for part in repeat(b" " * 2**16):
            written.append(len(part))
            yield part

    endpoint(lambda q, _: drip(pour(), every=0) if is_about(0)(q) else longer_wins(q))
    result = ask(2, retries=0)
    assert (result.scores, result.missing) == ([None, 1], {reason: 2})
    # two replies, and what lay in the buffers of the sockets
    assert sum(written) < 2**26


@pytest.mark.parametrize("text", ["", "<think>Let me see", "The first answer is"])
def test_a_reply_that_was_cut_off_says_so(endpoint, text):
    cut = (200, {}, completion(text, finish="length"))
    endpoint(lambda q, _: cut if is_about(0)(q) else longer_wins(q))
    result = ask(2)
    reason = "cut off before a verdict: raise max_tokens"
    assert (result.scores, result.missing) == ([None, 1], {reason: 2})


def test_a_verdict_that_came_counts_though_the_rest_was_cut_off(endpoint):
    endpoint(lambda q, _: (200, {}, completion(longer_wins(q), finish="length")))
    assert ask(2).scores == [1, 1]


def test_when_all_the_first_are_cut_off_it_ends_and_says_what_to_raise(endpoint):
    server = endpoint(lambda *_: (200, {}, completion("Well,", finish="length")))
    with pytest.raises(ValueError, match=r"cut off.*raise max_completion_tokens \(5\)"):
        ask(50, options={"max_completion_tokens": 5})
    assert len(server.tries) < 15
    # few are reported, and are no error
    assert ask(1).missing == {"cut off before a verdict: raise max_tokens": 2}


# What was paid for is kept

# What a person runs, whose process is killed or interrupted: `ask(40, ...)`.
SCRIPT = """
import signal
import sys
from sympo.judge import EndpointJudge, compare

# a process that was started in the background of a script ignores it
signal.signal(signal.SIGINT, signal.default_int_handler)
names = [f"{i}" for i in range(40)]
judge = EndpointJudge("m", workers=3, keep=sys.argv[1], timeout=60)
compare(judge, ["why?"] * 40, [f"{i} long" for i in names], names)
"""


def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_an_interruption_costs_what_is_under_way(endpoint, tmp_path, kill):
    keep = tmp_path / "kept.jsonl"
    # after 15 replies the endpoint hangs, longer than this test lasts
    server = endpoint(lambda q, _: longer_wins(q) if len(server.times) <= 15 else 60.0)
    asking = subprocess.Popen([sys.executable, "-c", SCRIPT, keep], stderr=subprocess.PIPE)
    # 15 have come and each of the three workers waits for another
    wait_for(lambda: len(server.times) == 18)
    asking.send_signal(kill)
    # half as long as the endpoint hangs: nothing waits for it
    _, error = asking.communicate(timeout=30)
    assert asking.returncode != 0
    assert (b"KeyboardInterrupt" in error) == (kill == signal.SIGINT)
    assert len(read_replies(keep)[1]) == 15

    server.behave = longer_wins
    assert ask(40, keep=keep).scores == [1] * 40
    # those that hung were asked a second time, and nothing else was
    assert sorted(server.tries.values()) == [1] * 77 + [2] * 3
    assert KEY.encode() not in keep.read_bytes()


def test_what_is_kept_is_not_asked_again_and_what_never_came_is(endpoint, tmp_path):
    keep = tmp_path / "kept.jsonl"
    down = is_about(1)
    server = endpoint(lambda q, _: (503, {}, b"{}") if down(q) else longer_wins(q))
    assert ask(3, keep=keep, retries=0).scores == [1, None, 1]
    server.behave = longer_wins
    assert ask(4, keep=keep).scores == [1] * 4
    assert sorted(server.tries.values()) == [1] * 6 + [2] * 2
    with pytest.raises(ValueError, match="another judge \\(other options\\)"):
        ask(4, keep=keep, options={"temperature": 1})


def test_equal_questions_are_asked_once(endpoint):
    server = endpoint(longer_wins)
    result = compare(EndpointJudge("m"), ["?"] * 3, ["a long one"] * 3, ["short"] * 3)
    assert result.scores == [1] * 3
    assert list(server.tries.values()) == [1, 1]


def test_progress_counts_replies_and_the_tokens_that_the_endpoint_counts(
    endpoint, tmp_path, monkeypatch
):
    monkeypatch.setattr(endpoint_module, "PAUSE", 0.0)
    keep = tmp_path / "kept.jsonl"
    endpoint(lambda q, _: (200, {}, completion(longer_wins(q), usage=(100, 3))))
    ask(2, keep=keep)
    told = []
    ask(5, keep=keep, workers=1, progress=told.append)
    # 4 of 10 were there; the last is told once more at the end
    assert [each.done for each in told] == [5, 6, 7, 8, 9, 10, 10]
    assert all(each.done + each.left == 10 for each in told)
    assert [each.read for each in told] == [100, 200, 300, 400, 500, 600, 600]
    assert str(told[-1]) == "10 of 10 replies, 600 tokens read and 18 written"


def test_progress_does_not_flood_a_log(endpoint):
    endpoint(longer_wins)
    told = []
    ask(50, progress=told.append)
    # the first, one every five seconds, and the last
    assert 2 <= len(told) < 10
    assert (told[-1].done, told[-1].left) == (100, 0)


def test_the_estimate_is_what_is_then_asked(endpoint, tmp_path):
    server = endpoint(longer_wins)
    keep = tmp_path / "kept.jsonl"
    judge = EndpointJudge("m", keep=keep)
    pairs = (["why é?"] * 6, [f"{i} long" for i in range(6)], [f"{i}" for i in range(6)])
    cost = judge.estimate(*pairs)
    assert not server.tries
    assert not keep.exists()
    compare(judge, *(column[:2] for column in pairs))
    asked = set(server.tries)
    rest = judge.estimate(*pairs)
    compare(judge, *pairs)
    assert cost.requests == len(server.tries) == 12
    assert cost.read == sum(len(question.encode()) for question in server.tries) / 4
    assert cost.written == 12 * 16
    assert cost.price((0.15, 0.6)) == pytest.approx((cost.read * 0.15 + cost.written * 0.6) / 1e6)
    left = set(server.tries) - asked
    assert rest.requests == len(left) == 8
    assert rest.read == sum(len(question.encode()) for question in left) / 4
    assert judge.estimate(*pairs).requests == 0
    endless = EndpointJudge("m", options={}).estimate(*pairs)
    assert "no limit to what is written" in str(endless)


def test_it_works_where_an_event_loop_runs(endpoint):
    endpoint(longer_wins)

    async def cell():
        return ask(2)

    assert asyncio.run(cell()).scores == [1, 1]
