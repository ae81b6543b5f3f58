"""Log lines are valid and safe for people and programs, whatever text untrusted peers send."""

import asyncio
import json
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.captured_log import CONTROLS, Output, logging_to
from tests.support.command import command
from tests.support.running import DEADLINE, token
from wsbridge.telemetry import log as module
from wsbridge.telemetry.log import LONGEST_VALUE, configure, debugging, dropped_lines, log
from wsbridge.telemetry.log_budget import UNKNOWN_PEERS, LogBudget


@pytest.fixture
def output() -> Iterator[Output]:
    with logging_to() as output:
        yield output


# Lines.


def test_json_line_begins_with_timestamp_level_and_event(output: Output) -> None:
    log.info("session.opened", user="u1", sessions=["a", "b"], seconds=1.5, gap=None)
    (record,) = output.records
    assert list(record)[:3] == ["timestamp", "level", "event"]
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "level": "info", "event": "session.opened", "user": "u1", "sessions": ["a", "b"], "seconds": 1.5, "gap": None,
    }  # fmt: skip


def test_console_line_begins_with_timestamp_level_and_event() -> None:
    with logging_to("console") as output:
        log.warning("session.refused", user="u1", code=4429)
    (line,) = output.lines
    words = line.split()
    assert words[0].endswith("Z")
    assert words[1:] == ["[warning", "]", "session.refused", "code=4429", "user=u1"]


@pytest.mark.parametrize(("terminal", "coloured"), [(True, True), (False, False)])
def test_console_without_a_terminal_has_no_colours(terminal: bool, coloured: bool) -> None:
    with logging_to("console", terminal=terminal) as output:
        log.info("server.started")
    assert ("\x1b[" in output.text) is coloured


@pytest.mark.parametrize(("terminal", "is_json"), [(True, False), (False, True)])
def test_style_without_a_terminal_is_json(terminal: bool, is_json: bool) -> None:
    with logging_to(None, terminal=terminal) as output:
        log.info("server.started")
    assert output.text.startswith("{") is is_json


@pytest.mark.parametrize(("level", "events"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_line_below_the_level_is_dropped(level: str, events: int) -> None:
    with logging_to(level=level) as output:
        for name in ("debug", "info", "warning", "error"):
            getattr(log, name)("some.event")
        assert debugging() is (level == "debug")
    assert [record["level"] for record in output.records] == ["debug", "info", "warning", "error"][-events:]


# Untrusted text.

NASTY = {
    "newline": "a\nevent=forged",
    "carriage return": "a\rb",
    "escape sequence": "\x1b[31mred\x1b[2J",
    "8-bit escape sequence": "\x9b31mred",
    "bell, backspace, delete, null": "\x07\x08\x7f\x00",
    "other line ends": "a\x85b\u2028c\u2029d\x0b\x0c\x1c",
    "lone surrogate": "\ud800 \udcff",
    "right to left": "\u202egnp.exe",
    "markup": "</script><script>alert(1)</script>",
    "JSON": '","level":"error","x":"',
    "10 kB": "x" * 10_000,
    "10 kB of newlines": "\n" * 10_000,
}
PLACES: dict[str, Callable[[str], object]] = {
    "in a field": str,
    "in a list": lambda text: [text] * 5,
    "in a tuple": lambda text: (text,) * 5,
    "in an object": lambda text: {"name": text},
    "deep": lambda text: [{"name": [text]}],
}


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_untrusted_text_is_cut_and_stays_on_one_line(style: str, place: Callable[[str], object], text: str) -> None:
    with logging_to(style) as output:
        log.info("session.opened", user=place(text))
    (line,) = output.lines
    assert not CONTROLS & set(line)
    assert len(line) < 40 * LONGEST_VALUE
    if style == "json":
        found = json.loads(line)
        assert (found["level"], found["event"]) == ("info", "session.opened")
        short = text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"
        assert found["user"] == json.loads(json.dumps(place(short)))


@given(
    st.text(st.characters()),
    st.lists(st.text(st.characters()), max_size=3),
    st.sampled_from(["json", "console"]),
)
def test_any_text_is_one_line(text: str, more: list[str], style: str) -> None:
    with logging_to(style) as output:
        log.info("session.opened", user=text, events=more)
    (line,) = output.lines
    assert not CONTROLS & set(line)
    assert style == "console" or (json.loads(line)["user"], json.loads(line)["events"]) == (text, more)


@pytest.mark.parametrize("style", ["json", "console"])
def test_value_without_a_json_form_is_logged_by_its_repr(style: str) -> None:
    with logging_to(style) as output:
        log.info("some.event", value=object(), data=b"\x1b\n", number=2**70)
    (line,) = output.lines
    assert "object" in line
    assert str(2**70) in line


# Exceptions.


def test_json_line_of_an_exception_contains_the_traceback(output: Output) -> None:
    try:
        raise ValueError("no such luck")
    except ValueError as error:
        log.error("internal.error", doing="test", exc_info=error)
    (record,) = output.records
    assert record["exception"].startswith("Traceback")
    assert record["exception"].endswith("ValueError: no such luck")
    assert "test_log.py" in record["exception"]


def test_console_prints_the_traceback_below_the_line() -> None:
    with logging_to("console") as output:
        try:
            raise ValueError("no such luck")
        except ValueError as error:
            log.error("internal.error", doing="test", exc_info=error)
    assert "internal.error" in output.lines[0]
    assert output.lines[-1] == "ValueError: no such luck"


# Libraries.


@pytest.mark.parametrize(
    ("level", "shown"),
    [(logging.DEBUG, None), (logging.INFO, None), (logging.WARNING, "warning"), (logging.ERROR, "error"),
     (logging.CRITICAL, "critical"), (35, "info")],
)  # fmt: skip
def test_library_record_becomes_a_log_line(output: Output, level: int, shown: str | None) -> None:
    logging.getLogger("some.library").log(level, "it is %s", "so\n")
    found = [(r["event"], r["level"], r["logger"], r["message"]) for r in output.records]
    assert found == ([("library.log", shown, "some.library", "it is so\n")] if shown else [])


def test_library_record_with_an_exception_contains_the_traceback(output: Output) -> None:
    try:
        raise ValueError("no such luck")
    except ValueError:
        logging.getLogger("asyncio").exception("a task failed")
    assert output.records[0]["exception"].endswith("ValueError: no such luck")


def test_library_record_with_wrong_arguments_does_not_raise() -> None:
    with logging_to() as output:  # here and not in the fixture, because pytest's own handler would raise
        logging.getLogger("some.library").warning("%d apples", "many")
    assert output.records[0]["message"] == "%d apples ('many',)"


def test_warning_becomes_a_log_line(output: Output) -> None:
    warnings.warn("this will go away", DeprecationWarning, stacklevel=1)
    (record,) = output.records
    assert record["event"] == "library.log"
    assert "DeprecationWarning: this will go away" in record["message"]


def test_aiohttp_does_not_log_offered_subprotocols(output: Output) -> None:
    logging.getLogger("aiohttp.websocket").warning("Client protocols %r don't overlap", ["bearer.secret"])
    assert output.text == ""


@pytest.mark.fault("B4")
@pytest.mark.parametrize("style", ["json", "console"])
def test_log_with_a_token_in_any_field_masks_it(style: str) -> None:
    secret = token()
    with logging_to(style) as output:
        log.warning("session.refused", user=f"u1?token={secret}", why=[f"Bearer {secret}"], more={"x": secret})
        try:
            raise ValueError(f"https://keys/?access_token={secret}")
        except ValueError as error:
            log.error("internal.error", doing="test", exc_info=error)
    assert secret.split(".")[1] not in output.text
    assert "***" in output.text


@pytest.mark.fault("C3", "C4")
def test_log_flooded_by_one_event_drops_and_counts_its_lines(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(module, "LogBudget", lambda: LogBudget(lambda: now))
    configure("debug", "json", output)
    vars(log).pop("bind", None)
    before = dropped_lines["budget"]
    burst = int(UNKNOWN_PEERS[1])
    for _ in range(burst + 50):
        log.warning("auth.failed", why="a flood")
    log.info("session.opened", user="u1")
    now += 1.0
    log.info("session.closed", user="u1")
    assert [record["event"] for record in output.records] == [
        *["auth.failed"] * burst, "session.opened", "log.dropped", "session.closed",
    ]  # fmt: skip
    assert {name: output.records[-2][name] for name in ("lines", "why")} == {
        "lines": 50,
        "why": "budget of auth.failed",
    }
    assert dropped_lines["budget"] - before == 50


def test_log_at_debug_level_has_no_budget(output: Output) -> None:
    for _ in range(20_000):
        log.debug("event.received")
    assert len(output.records) == 20_000


@pytest.mark.fault("F1")
async def test_bridge_with_a_blocked_stdout_still_delivers() -> None:
    """Far more lines than a pipe holds. Connections, events and probes must not wait for a reader of the log."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as log_of_it, os.fdopen(writing, "wb") as its_stdout:
        async with (
            command("serve", stdout=its_stdout.fileno(), WSBRIDGE_PORT="0") as run,
            aiohttp.ClientSession(headers={"User-Agent": "x" * 200}) as http,
        ):
            port = json.loads(await asyncio.to_thread(log_of_it.readline))["ports"][0]
            for number in range(600):
                url = f"http://127.0.0.1:{port}/ws?user_id=u{number}"
                async with asyncio.timeout(DEADLINE), http.ws_connect(url) as ws:
                    assert (await ws.receive_json())["type"] == "connected"
            async with asyncio.timeout(DEADLINE), http.get(f"http://127.0.0.1:{port}/healthz") as response:
                assert response.status == 200
            run.send(signal.SIGTERM)
            assert await run.ended() == 0
