"""How a question gets to an endpoint and its reply back, within a time and a size."""

import asyncio
import ipaddress
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sympo.judge.question import parse_verdict
from sympo.judge.replies import NO_REPLY, REFUSED, Reply

__all__ = ["CUT_OFF", "Said", "advise", "ask", "encode", "make_client", "read_endpoint"]

# ours: bytes of a reply. A verdict takes one line, and its reasoning some thousands of words
LIMIT = 2**20
# what an endpoint may say of one question and not of all: too long, or against its rules
_OF_THE_PAIR = (400, 413, 422, 451)
# what passes: a lock, a rate limit; the client has then tried again, and so on 5xx
_PASSING = (408, 409, 429)
_LONGEST_ADDRESS = 2000  # ours: characters
CUT_OFF = "cut off before a verdict: raise max_tokens"


class Said(NamedTuple):
    """A reply, and the tokens that were read and written for it, as the endpoint counts them."""

    reply: Reply
    read: int = 0
    written: int = 0


def read_endpoint() -> str:
    """Host and path of the address that is asked, without a user's name and password."""
    address = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1")
    try:
        parts = urlsplit(address)
        # a port that is no number is an error only when it is read
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        # no such character is in an address; urlsplit leaves some of them out
        valid = valid and address.isprintable() and len(address) <= _LONGEST_ADDRESS
    except ValueError:
        valid = False
    if not valid:
        # not quoted: it may hold a password
        raise ValueError("OPENAI_BASE_URL is no address: it has to be like https://host:8000/v1")
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        raise ValueError(
            "OPENAI_BASE_URL begins with http://, which would send the key and the answers in "
            "clear: give an https:// address, or http:// of this machine alone (localhost)"
        )
    return parts.netloc.rpartition("@")[2] + parts.path.rstrip("/")


def _is_loopback(host: str) -> bool:
    """Whether what is sent to a host stays on this machine."""
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may be of anywhere
        return False


def encode(text: str) -> bytes:
    """Text as it is sent; half a character, which JSON can write and UTF-8 cannot, is replaced."""
    return text.encode(errors="replace")


def advise(model: str, options: Mapping[str, Any]) -> str:
    """What to check where an endpoint refuses."""
    return (
        f"check OPENAI_API_KEY, OPENAI_BASE_URL, the model '{model}' and the options "
        f"{sorted(options)}"
    )


def run_beside(work: Callable[[], Awaitable[None]]) -> None:
    """Run it to its end in a thread of its own; Ctrl-C cancels it.

    In a notebook this thread already has an event loop, which takes no second one.
    """
    # it comes with openai, without which nothing is asked
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:
        portal.call(work)


def make_client(timeout: float, retries: int) -> Any:
    """A client for the endpoint that the environment names.

    Raises:
        ImportError: openai is not installed.
        ValueError: the environment names no key or no address.
    """
    # Imported on use: whoever judges with a model of their own needs no openai.
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        raise ImportError(
            "the endpoint judge needs the package openai: pip install 'sympo[judge]'"
        ) from error
    # What is wrong with the settings is a ValueError, here as where the endpoint says so.
    read_endpoint()
    if not os.environ.get("OPENAI_API_KEY"):
        raise ValueError(
            "OPENAI_API_KEY is not set: set it (to any text where the endpoint asks for no key)"
        )
    try:
        http_client = _make_bounded_client(timeout)
        return AsyncOpenAI(timeout=timeout, max_retries=retries, http_client=http_client)
    # whatever it raises is of the settings; an address that it quotes may hold a password
    except Exception as error:
        raise ValueError(
            f"no client can be made ({type(error).__name__}): check OPENAI_BASE_URL and the "
            "environment's proxies"
        ) from None


def _make_bounded_client(timeout: float) -> Any:
    """openai's HTTP client, but that a reply is bounded in time and size and no host passes it on.

    The timeouts of an HTTP client are of a single read each: a server that sends a byte now and
    then would never be late.
    """
    import openai

    # httpx or httpx2, whichever this openai is made with
    http = sys.modules[openai.DefaultAsyncHttpxClient.__base__.__module__.partition(".")[0]]

    class Bounded(openai.DefaultAsyncHttpxClient):
        async def send(self, request: Any, **options: Any) -> Any:
            try:
                async with asyncio.timeout(timeout):
                    response = await super().send(request, **{**options, "stream": True})
                    try:
                        content = await _read_bounded(response)
                    finally:
                        await response.aclose()
            except TimeoutError:
                # as if the last read had taken too long, which openai then tries again
                raise http.ReadTimeout("deadline", request=request) from None
            # The content is decoded by now.
            headers = [pair for pair in response.headers.multi_items() if _is_kept(pair[0])]
            return http.Response(
                response.status_code, headers=headers, content=content, request=request
            )

    return Bounded(timeout=timeout, follow_redirects=False)


def _is_kept(header: str) -> bool:
    return header.lower() not in ("content-encoding", "content-length", "transfer-encoding")


async def _read_bounded(response: Any) -> bytes:
    """The reply, or its first bytes, more than `LIMIT` of them."""
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > LIMIT:
            break
    return bytes(content[: LIMIT + 1])


async def ask(client: Any, question: str, *, model: str, options: Mapping[str, Any]) -> Said:
    """What the model says to a question; why not, where that is no fault of the settings.

    Raises:
        ValueError: the request cannot be written, or the endpoint refuses whoever sends it.
    """
    import openai

    messages = [{"role": "user", "content": encode(question).decode()}]
    # Raw, so that what goes wrong before anything is sent is told from an odd reply.
    create = client.chat.completions.with_raw_response.create
    try:
        response = await create(model=model, messages=messages, **options)
    except openai.APITimeoutError:
        return Said(Reply(None, f"{NO_REPLY}time-out"))
    except openai.APIConnectionError:
        return Said(Reply(None, f"{NO_REPLY}no connection"))
    except openai.APIStatusError as error:
        reply = _read_status(error.status_code)
        if reply is None:
            # Neither the body nor the chain: a server may quote the key in its refusal.
            raise ValueError(_describe_status(error.status_code, model, options)) from None
        return Said(reply)
    except (TypeError, ValueError) as error:
        # Not the chain: an error of encoding holds the key.
        raise ValueError(
            f"the request cannot be written ({type(error).__name__}): OPENAI_API_KEY must be "
            f"ASCII, and the options {sorted(options)} what openai takes beside model and "
            "messages"
        ) from None
    return _read_completion(response)


def _read_status(status: int) -> Reply | None:
    """The missing reply that an HTTP status stands for; None if it is no single pair's."""
    if status in _PASSING or status >= 500:
        return Reply(None, f"{NO_REPLY}HTTP {status}")
    return Reply(None, f"{REFUSED}HTTP {status}") if status in _OF_THE_PAIR else None


def _describe_status(status: int, model: str, options: Mapping[str, Any]) -> str:
    if 300 <= status < 400:
        return (
            f"the endpoint redirects to another address (HTTP {status}), to which no key is sent: "
            "set OPENAI_BASE_URL to that address, if you trust it"
        )
    return f"the endpoint refused the request with HTTP {status}: {advise(model, options)}"


def _read_completion(response: Any) -> Said:
    import openai

    if len(response.http_response.content) > LIMIT:
        return Said(Reply(None, f"reply of more than {LIMIT} bytes"))
    # A server may answer 200 with anything at all.
    try:
        completion = response.parse()
        choice = completion.choices[0]
        reply = parse_verdict(choice.message.content)
    except (openai.APIError, ValueError, AttributeError, LookupError, TypeError, RecursionError):
        return Said(Reply(None, "reply of another form"))
    if reply.score is None and choice.finish_reason == "length":
        reply = Reply(None, CUT_OFF)
    usage = getattr(completion, "usage", None)
    return Said(
        reply,
        _read_count(usage, "prompt_tokens"),
        _read_count(usage, "completion_tokens"),
    )


def _read_count(usage: Any, name: str) -> int:
    """A count of tokens, which servers may leave out."""
    count = getattr(usage, name, None)
    return count if isinstance(count, int) else 0
