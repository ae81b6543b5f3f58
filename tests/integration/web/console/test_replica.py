"""The answers of one replica to the looks of consoles."""

import json
from typing import Any

import msgspec
import pytest

from tests.support.running import Running
from wsbridge.web.console import replica
from wsbridge.web.console.numbers import Numbers
from wsbridge.web.console.replica import PARTS, Look, Replica, Report


@pytest.fixture
def asked(bridge: Running) -> Replica:
    b = bridge.bridge
    numbers = Numbers(b.registry, b.bus, b.slow_consumers, b.metrics, b.checks, b.admission)
    return Replica("r1", numbers, b.registry, b.tail)


async def look(asked: Replica, seen: int = 0, *parts: str, console: str = "c") -> tuple[int, list[dict[str, Any]]]:
    question = Look(console, list(parts or PARTS), {"r1": seen} if seen else {}, lines=5)
    report = msgspec.msgpack.decode(await asked.answer(question), type=Report)
    assert report.replica == "r1"
    return report.number, [json.loads(line) for line in report.lines.splitlines()]


async def test_replica_answers_with_the_parts_that_are_asked_for(asked: Replica) -> None:
    for parts in (PARTS, ("numbers",), ("tail", "connections")):
        _, lines = await look(asked, 0, *parts, console=repr(parts))
        assert {line["type"] for line in lines} == set(parts)


async def test_replica_whose_last_answer_was_lost_begins_the_table_again(bridge: Running, asked: Replica) -> None:
    await bridge.opened()
    number, ((_, first, *_)) = await look(asked)
    assert (number, first["reset"], len(first["opened"])) == (1, True, 1)
    number, (_, second, _) = await look(asked, 1)
    assert (number, second["reset"], second["opened"]) == (2, False, [])
    number, (_, third, _) = await look(asked, 1)  # the second answer did not arrive
    assert (number, third["reset"], len(third["opened"])) == (3, True, 1)


async def test_replica_with_too_many_consoles_answers_without_lines(
    asked: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica, "CONSOLES", 1)
    assert (await look(asked))[1] != []
    assert await look(asked, console="another") == (0, [])
    assert (await look(asked, 1))[1] != []
