"""Translates the exceptions of redis-py into `BrokerUnavailable`, with a text for operators."""

import contextlib
from collections.abc import Iterator

from redis.exceptions import NoPermissionError, OutOfMemoryError, RedisClusterException, RedisError, ResponseError

from wsbridge.broker.base import BrokerUnavailable

FAILURES = (RedisError, RedisClusterException, OSError)  # RedisClusterException is not a RedisError
# Of calls to redis-py while the connection ends: its own AttributeError, and the RuntimeError with which uvloop refuses
# to write to a closed transport.
CALL_FAILURES = (*FAILURES, RuntimeError, AttributeError)
_CODES: dict[type[Exception], str] = {NoPermissionError: "NOPERM ", OutOfMemoryError: "OOM "}  # redis-py strips these
_DECLINED = (ResponseError, *_CODES)  # compared by type: their subclasses mean that the server is not usable now


class Declined(BrokerUnavailable):
    """The server works but has refused a command: missing permission, out of memory or an invalid command."""


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    try:
        yield
    except CALL_FAILURES as error:
        raise unavailable(error) from None


def unavailable(error: Exception) -> BrokerUnavailable:
    text = _CODES.get(type(error), "") + (str(error) or type(error).__name__)
    if "unknown command" in text.lower():
        text += " (Redis 7.0 or newer, or Valkey, is required)"
    elif "function not found" in text.lower():
        text += " (grant the user +function|load)"
    return Declined(text) if type(error) in _DECLINED else BrokerUnavailable(text)
