"""One HTTP request for the command line.

On the standard library, because `wsbridge publish` and `wsbridge healthcheck` run often: aiohttp would double the time
that they take to start.
"""

import contextlib
import errno
import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from wsbridge.cli.options import Failed
from wsbridge.config.value_types import without_secrets

OPERATOR_TIMEOUT = 10.0  # seconds
MOST_BYTES = 16_777_216  # of a response, or of a line of one that streams
TOO_MANY = "the bridge refuses this address after too many failed requests: wait a second, then correct the token"
UNSET = "WSBRIDGE_ADMIN_TOKEN is not set in this shell"
_REFUSALS = {
    401: "the bridge rejected the token: set WSBRIDGE_ADMIN_TOKEN to the same value as on the bridge",
    403: "the bridge rejected the request: set WSBRIDGE_ADMIN_TOKEN to the same value on the bridge and here",
    404: "no such route: the bridge is too old, or it has a WSBRIDGE_INTERNAL_PORT (name that port with --url), or the "
    "path of --url is wrong",
    429: TOO_MANY,
    503: "the bridge cannot answer now, or too many consoles are open",
}
_NOT_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}


class Unreachable(Exception):  # noqa: N818 - a temporary state
    """No HTTP response came; the text is the reason."""


class Answer(NamedTuple):
    status: int
    body: bytes

    def field(self, name: str) -> Any:
        """A field of the JSON object that is the body; None if there is no such field or object."""
        try:
            return json.loads(self.body)[name]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None


def send(
    url: str,
    *,
    timeout: float,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one request; follow no redirect, use no proxy. `timeout` is in seconds, for the head and then for the body.

    Raises `Unreachable` if no response came, or one that is not HTTP or is too large.
    """
    with _responding(url, timeout, method, body, headers or {}) as (response, sock), _within(timeout, sock):
        return Answer(response.status, _bounded(response.read(MOST_BYTES + 1)))


@contextlib.contextmanager
def _within(seconds: float, sock: socket.socket) -> Iterator[None]:
    """End what is read in the context after this time. A socket's own time-out begins again with each byte.

    Raises `TimeoutError`.
    """
    is_over = threading.Event()

    def cut() -> None:
        is_over.set()
        with contextlib.suppress(OSError):  # it is closed
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # that of an SSLSocket would forget its state

    timer = threading.Timer(seconds, cut)
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not is_over.is_set():
            raise
    finally:
        timer.cancel()
    if is_over.is_set():
        raise TimeoutError


def _bounded(data: bytes) -> bytes:
    if len(data) > MOST_BYTES:
        raise Unreachable(f"it sends more than {MOST_BYTES} bytes")
    return data


@contextlib.contextmanager
def _responding(
    url: str, timeout: float, method: str, body: bytes | None, headers: Mapping[str, str]
) -> Iterator[tuple[http.client.HTTPResponse, socket.socket]]:
    """Send a request. The context has the response, whose errors it translates as well, and its socket."""
    parts = urlsplit(url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=timeout)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    deadline = time.monotonic() + timeout
    try:
        connection.connect()
        sock = connection.sock  # the connection forgets it if the server closes
        with contextlib.ExitStack() as stack:
            with _within(max(0.001, deadline - time.monotonic()), sock):
                _request(connection, method, path, body, headers)
                response = stack.enter_context(connection.getresponse())
            yield response, sock
    except OSError as error:
        raise Unreachable(why_unreachable(error, timeout)) from None
    except http.client.HTTPException as error:
        raise Unreachable(f"it does not speak HTTP ({type(error).__name__})") from None
    finally:
        connection.close()


def _request(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
) -> None:
    try:
        connection.request(method, path, body, {name: value.encode() for name, value in headers.items()})
    except ValueError:  # its text has the value
        raise Failed("a token has a line end or another control character in it; write it in one line") from None


def ask_operator_route(url: str, path: str, *, token: str | None, **query: str) -> Answer:
    """Request a route for operators of the bridge at `url`. Raises `Unreachable`."""
    return send(f"{url.rstrip('/')}{path}?{urlencode(query)}", headers=_bearer(token), timeout=OPERATOR_TIMEOUT)


def operator_lines(url: str, *, token: str | None, timeout: float) -> Iterator[bytes]:
    """Yield the lines of an operators' route that streams. `timeout` is in seconds, for each line.

    Raises `Unreachable`, and `Failed` if the bridge refuses.
    """
    with _responding(url, timeout, "GET", None, _bearer(token)) as (response, sock):
        if response.status != HTTPStatus.OK:
            raise Failed(refusal(response.status, token))
        line = b"\n"
        while line:
            with _within(timeout, sock):
                line = _bounded(response.readline(MOST_BYTES + 1))
            if line:
                yield line


@contextlib.contextmanager
def understanding() -> Iterator[None]:
    """End the command if an answer does not have the expected form."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError):
        raise Failed(refusal(HTTPStatus.OK, None)) from None


def refusal(status: int, token: str | None) -> str:
    """The reason for which an operators' route did not answer a request with this token, with its cure."""
    if status == HTTPStatus.UNAUTHORIZED and not token:
        return f"{status}: {UNSET}: set it to the same value as on the bridge"
    return f"{status}: {_REFUSALS.get(status, 'unexpected response; check --url')}"


def _bearer(token: str | None) -> Mapping[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


@contextlib.contextmanager
def reaching(url: str, what: str = "bridge") -> Iterator[None]:
    """End the command if `what` cannot be reached at the URL."""
    try:
        yield
    except Unreachable as error:
        raise Failed(f"cannot reach {without_secrets(url)}: {error}. Is the {what} running there?") from None


def why_unreachable(error: Exception, timeout: float) -> str:
    """The reason in words, where the text of the exception is not fit for a person."""
    match error:
        case TimeoutError():
            return f"no answer within {timeout:g} s"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message})"
        case ssl.SSLError(reason=reason) if reason in _NOT_TLS:
            return "it does not speak TLS; use ws:// or http:// instead of wss:// or https://"
        case ssl.SSLError(reason=reason):  # its errno is OpenSSL's, not the system's
            return f"TLS failed ({(reason or str(error)).replace('_', ' ').lower()})"
        case OSError(errno=int(code)) if code in errno.errorcode:  # asyncio replaces its strerror
            return os.strerror(code)
        case _:
            return getattr(error, "strerror", None) or str(error) or type(error).__name__
