"""One HTTP request, for the command line. On the standard library: aiohttp alone would triple the time to start."""

import http.client
import ssl
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

_NOT_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}


class Unreachable(Exception):  # noqa: N818 - a state, which passes
    """No HTTP answer came; the text says why."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


def send(
    url: str,
    *,
    timeout: float,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Ask once, follow nothing, go through no proxy; `timeout` is in seconds.

    Raises:
        Unreachable: no answer came, or none that is HTTP.

    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    deadline = time.monotonic() + timeout
    try:
        connection.connect()
        connection.sock.settimeout(max(0.001, deadline - time.monotonic()))
        connection.request(method, path, body, {n: v.encode() for n, v in (headers or {}).items()})
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except TimeoutError:
        raise Unreachable(f"no answer within {timeout:g} s") from None
    except ssl.SSLError as error:
        raise Unreachable(of_tls(error)) from None
    except OSError as error:
        raise Unreachable(error.strerror or str(error) or type(error).__name__) from None
    except http.client.HTTPException as error:
        raise Unreachable(f"it does not speak HTTP ({type(error).__name__})") from None
    finally:
        connection.close()


def of_tls(error: ssl.SSLError) -> str:
    """What a person reads: its number is OpenSSL's, and `strerror` of it would be another error's text."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if error.reason in _NOT_TLS:
        return "it does not speak TLS: is it wss:// or https:// where ws:// or http:// is meant?"
    return f"TLS failed ({(error.reason or str(error)).replace('_', ' ').lower()})"
