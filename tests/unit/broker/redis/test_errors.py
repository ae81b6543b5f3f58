"""Exceptions of redis-py become `BrokerUnavailable` with a text for operators."""

import re

import pytest
from redis.exceptions import (
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - redis-py's
    NoPermissionError,
    OutOfMemoryError,
    RedisClusterException,
    ResponseError,
)

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.errors import Declined, translated_errors, unavailable


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NoPermissionError("no right"), "NOPERM no right"),
        (OutOfMemoryError("full"), "OOM full"),
        (ResponseError("Unknown command 'FCALL'"), "Redis 7.0 or newer, or Valkey, is required"),
        (ResponseError("Function not found"), "grant the user +function|load"),
    ],
)
def test_unavailable_for_refused_command_is_declined_with_advice(error: Exception, text: str) -> None:
    assert type(unavailable(error)) is Declined
    assert text in str(unavailable(error))


@pytest.mark.parametrize("error", [ConnectionError("gone"), BusyLoadingError("loading"), OSError("gone")])
def test_unavailable_for_unusable_server_is_not_declined(error: Exception) -> None:
    assert type(unavailable(error)) is BrokerUnavailable


def test_unavailable_for_error_without_text_names_its_type() -> None:
    assert str(unavailable(TimeoutError())) == "TimeoutError"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("gone"),
        RedisClusterException("no slot"),
        OSError("gone"),
        RuntimeError("unable to perform operation on <TCPTransport closed=True>"),  # uvloop's
        AttributeError("'NoneType' object has no attribute 'writelines'"),  # redis-py's
    ],
)
def test_translated_errors_with_failure_of_redis_raises_unavailable(error: Exception) -> None:
    with pytest.raises(BrokerUnavailable, match=re.escape(str(error))), translated_errors():
        raise error


def test_translated_errors_with_other_exception_raises_it_unchanged() -> None:
    with pytest.raises(KeyError), translated_errors():
        raise KeyError
