"""One question to all replicas that share a Redis, over a channel of their own, and their answers."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import msgspec

from wsbridge.broker.base import Answerer, BrokerUnavailable, Poll
from wsbridge.broker.redis.commands import call
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.supervision.jobs import Jobs

TIMEOUT = 2.0  # seconds until the answers of all replicas must be there
AT_ONCE = 100  # questions that this replica answers at the same time; more are not answered


class _Message(msgspec.Struct, array_like=True):
    question: str  # its id
    is_answer: bool
    content: bytes


@dataclass(eq=False)
class _Open:
    answers: list[bytes] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)


_message = msgspec.msgpack.Decoder(_Message)


class Replicas:
    """Asks, and answers with `answer`. `failed` is called with what was done and the exception."""

    def __init__(
        self, pipeline: Pipeline, prefix: str, answer: Answerer, failed: Callable[[str, Exception], None]
    ) -> None:
        self.channel = f"{prefix}:{{replicas}}"  # no user's channel: those have a digest there
        self._pipeline = pipeline
        self._answer = answer
        self._failed = failed
        self._open: dict[str, _Open] = {}
        self._jobs = Jobs()
        self._answering = 0

    async def ask(self, question: bytes, patience: float | None = None) -> Poll:
        """Ask all replicas, and wait for their answers for `patience` seconds at most, or for `TIMEOUT`.

        Raises `BrokerUnavailable` if the question could not be sent.
        """
        name, waiting = secrets.token_hex(8), _Open()
        self._open[name] = waiting
        try:
            asked = await self._publish(_Message(name, False, question))  # noqa: FBT003 - a field
            try:
                async with asyncio.timeout(TIMEOUT if patience is None else patience):
                    while len(waiting.answers) < asked:
                        waiting.news.clear()
                        await waiting.news.wait()
            except TimeoutError:
                pass  # the caller sees that some are missing
            return Poll(waiting.answers, asked)
        finally:
            del self._open[name]

    async def take(self, payload: bytes) -> None:
        """Take a message of the channel. Does not wait for an answer."""
        message = _message.decode(payload)
        if message.is_answer:
            waiting = self._open.get(message.question)
            if waiting is not None:
                waiting.answers.append(message.content)
                waiting.news.set()
        elif self._answering < AT_ONCE:
            self._answering += 1
            await self._jobs.spawn("answer", partial(self._reply, message))

    async def close(self) -> None:
        await self._jobs.close()

    async def _reply(self, message: _Message) -> None:
        try:
            await self._publish(_Message(message.question, True, await self._answer(message.content)))  # noqa: FBT003
        except BrokerUnavailable:
            pass  # the replica that asks sees that an answer is missing
        except Exception as error:  # the task boundary: as above
            self._failed("answer", error)
        finally:
            self._answering -= 1

    async def _publish(self, message: _Message) -> int:
        """Return the number of replicas that get it."""
        (received,) = await self._pipeline.ask(call("tell", [self.channel], msgspec.msgpack.encode(message)))
        return int(received)
