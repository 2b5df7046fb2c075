"""An endpoint on this machine that stands in for a language model, and misbehaves when told to."""

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-loopback-0123456789abcdef"


class Endpoint(ThreadingHTTPServer):
    """Answers what `behave(question, tries)` says, and keeps what it was asked.

    That is a verdict, (status, headers, body), the seconds before it hangs up, or a function of the
    handler that writes what it likes.
    """

    daemon_threads = True

    def __init__(self, behave):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave = behave
        self.tries = Counter()
        self.times = []
        self.keys = set()
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        # a client that had enough hangs up, which is what some tests want; no tracebacks
        pass


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][0]["content"]
        with self.server.lock:
            self.server.tries[question] += 1
            tries = self.server.tries[question]
            self.server.times.append(time.monotonic())
            self.server.keys.add(self.headers["Authorization"])
        act = self.server.behave(question, tries)
        if isinstance(act, float):
            time.sleep(act)
        elif isinstance(act, tuple):
            self.answer(*act)
        elif callable(act):
            act(self)
        else:
            self.answer(200, {}, completion(act))

    def answer(self, status, headers, body):
        self.send_response(status)
        default = {"Content-Type": "application/json", "Content-Length": len(body)}
        for name, value in {**default, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def completion(text, *, finish="stop", usage=None):
    """The body of a reply; `usage` is what was read and written, in tokens."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    fields = {"id": "x", "object": "chat.completion", "created": 0, "model": "m"}
    if usage:
        read, written = usage
        fields["usage"] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": 0}
    return json.dumps({**fields, "choices": [choice]}).encode()


def drip(parts, *, every):
    """Write parts of a reply, status line and all, with a pause before each."""

    def write(handler):
        for part in parts:
            time.sleep(every)
            handler.wfile.write(part)

    return write


def shown(question):
    """The two answers of a question, as the endpoint reads them."""
    first = question.split("<answer_A>\n")[1].split("\n</answer_A>")[0]
    return first, question.split("<answer_B>\n")[1].split("\n</answer_B>")[0]


def longer_wins(question, tries=1):
    first, second = shown(question)
    return f"Verdict: {'A' if len(first) > len(second) else 'B'}"
