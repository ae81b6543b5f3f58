"""The client in Python: its messages and its delays. tests/integration/cli/test_listen.py has its connections."""

from itertools import islice

import pytest

from wsbridge.client import LEAST_DELAY, MOST_DELAY, Client, delays, read


def test_delays_upper_bound_doubles_up_to_most() -> None:
    assert list(islice(delays(lambda _, high: high), 8)) == [0.5, 1, 2, 4, 8, 16, MOST_DELAY, MOST_DELAY]


def test_delays_lower_bound_is_always_half_of_least() -> None:
    assert list(islice(delays(lambda low, _: low), 8)) == [LEAST_DELAY / 2] * 8


def test_delays_of_many_attempts_stay_in_bounds_and_differ() -> None:
    waits = list(islice(delays(), 3000))
    assert all(LEAST_DELAY / 2 <= wait <= MOST_DELAY for wait in waits)
    assert len(set(waits)) > 2900


def test_read_event_has_its_data_and_the_whole_text() -> None:
    text = b'{"type":"task_update","event":{"n": 1},"id":"k:1","event_id":"e1","x":2}'
    message = read(text)
    assert (message.type, message.id, message.event_id, message.data) == ("task_update", "k:1", "e1", {"n": 1})
    assert (bytes(message.event), bytes(message.text)) == (b'{"n": 1}', text)


def test_read_error_has_its_code() -> None:
    message = read(b'{"type":"error","code":"bad_message","message":"why"}')
    assert (message.type, message.code) == ("error", "bad_message")


@pytest.mark.parametrize("url", ["", "localhost:8004/ws", "ws:///ws", "ftp://host/ws", "/ws"])
def test_client_of_a_url_without_a_host_or_of_another_scheme_raises(url: str) -> None:
    with pytest.raises(ValueError, match="expected a URL such as"):
        Client(url)


@pytest.mark.parametrize("text", [b"no json", b"[]", b'{"type":5}', b"\xff", b"[" * 100_000])
def test_read_message_that_is_not_understood_has_no_type(text: bytes) -> None:
    message = read(text)
    assert (message.type, message.id, bytes(message.text)) == ("", None, text)
