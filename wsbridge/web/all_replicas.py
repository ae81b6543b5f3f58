"""Sends a question to all replicas, this one included, and reports missing answers."""

from collections.abc import Awaitable
from typing import NamedTuple, Protocol

from wsbridge.broker.base import Answerer, BrokerUnavailable, Poll


class Poller(Protocol):
    def __call__(self, question: bytes, patience: float | None = None, /) -> Awaitable[Poll]:
        """Ask all replicas for `patience` seconds at most. Raises `BrokerUnavailable` if that is impossible."""


class Answers(NamedTuple):
    """At least that of this replica. `missing` replicas did not answer; `text` describes that, or is empty."""

    found: list[bytes]
    missing: int = 0
    text: str = ""


class AllReplicas:
    """`here` answers for this replica. `poll` asks all replicas; None if this is the only one."""

    def __init__(self, poll: Poller | None, here: Answerer) -> None:
        self._poll = poll
        self._here = here

    async def ask(self, question: bytes, patience: float | None = None) -> Answers:
        text = ""
        if self._poll is not None:
            try:
                poll = await self._poll(question, patience)
            except BrokerUnavailable as unavailable:
                text = f"the other replicas could not be asked: {unavailable}"
            else:
                missing = poll.asked - len(poll.answers)
                if poll.answers:
                    silent = f"{missing} of {poll.asked} replicas did not answer" if missing > 0 else ""
                    return Answers(list(poll.answers), max(0, missing), silent)
                text = "the other replicas did not answer"
        return Answers([await self._here(question)], text=text)
