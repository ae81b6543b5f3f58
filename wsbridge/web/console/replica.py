"""Describes this replica to the open consoles of all replicas, each of which asks once a second."""

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from wsbridge.sessions.registry import Registry
from wsbridge.telemetry.tail import Sample, Tail
from wsbridge.web.console.connections import Table
from wsbridge.web.console.numbers import Numbers

MEMORY = 5.0  # seconds after its last question for which a console is remembered
CONSOLES = 64  # that are remembered; further ones get no answer
PARTS = ("numbers", "connections", "tail")


class Look(msgspec.Struct, tag="look"):
    """The question of a console. `parts` are some of PARTS.

    `seen` is the number of each replica's last answer that the console has got. After a lost one, a replica begins its
    table again. `user`, `kind` and `outcome` filter the tail, which has `lines` lines at most.
    """

    console: str
    parts: list[str]
    seen: dict[str, int] = {}
    user: str = ""
    kind: str = ""
    outcome: str = ""
    lines: int = 0


class Report(msgspec.Struct, array_like=True):
    """The answer of a replica. `lines` are JSON, ready for the stream; empty if there are too many consoles."""

    replica: str
    number: int
    lines: bytes


@dataclass(eq=False)
class _Console:
    """The state of one console on this replica."""

    sample: Sample
    forget: asyncio.TimerHandle
    table: Table = field(default_factory=Table)
    number: int = 0


class Replica:
    """Answers the looks of consoles. `name` is that of this replica."""

    def __init__(self, name: str, numbers: Numbers, registry: Registry, tail: Tail) -> None:
        self.name = name
        self._numbers = numbers
        self._registry = registry
        self._tail = tail
        self._consoles: dict[str, _Console] = {}

    async def answer(self, look: Look) -> bytes:
        console = self._console(look)
        if console is None:
            return msgspec.msgpack.encode(Report(self.name, 0, b""))
        is_new = look.seen.get(self.name) != console.number
        console.number += 1
        number = console.number
        lines = []
        if "numbers" in look.parts:
            lines.append(self._line("numbers", self._numbers.read()))
        if "connections" in look.parts:
            if is_new:
                console.table = Table()
            changes = await console.table.changes(self._registry)
            lines.append(self._line("connections", {"reset": is_new} | changes))
        if "tail" in look.parts:
            console.sample.size = look.lines
            found, left_out = console.sample.take()
            lines.append(self._line("tail", {"events": found, "left_out": left_out}))
        return msgspec.msgpack.encode(Report(self.name, number, b"".join(lines)))

    def _console(self, look: Look) -> _Console | None:
        """Return the state of the console, a new one if it asks for the first time; None if there are too many."""
        forget = asyncio.get_running_loop().call_later(MEMORY, partial(self._forget, look.console))
        console = self._consoles.get(look.console)
        if console is not None:
            console.forget.cancel()
            console.forget = forget
            return console
        if len(self._consoles) >= CONSOLES:
            forget.cancel()
            return None
        sample = Sample(look.lines, user=look.user, kind=look.kind, outcome=look.outcome)
        if "tail" in look.parts:
            self._tail.add(sample)
        console = self._consoles[look.console] = _Console(sample, forget)
        return console

    def _forget(self, name: str) -> None:
        self._tail.discard(self._consoles.pop(name).sample)

    def _line(self, kind: str, fields: dict[str, Any]) -> bytes:
        return msgspec.json.encode({"type": kind, "replica": self.name} | fields) + b"\n"
