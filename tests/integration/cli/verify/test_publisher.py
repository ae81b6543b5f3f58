"""The publisher of `wsbridge verify`: pace, order and repetition."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.running import DEADLINE, until
from tests.support.verify_record import Told
from wsbridge.cli.options import Failed
from wsbridge.cli.verify.publisher import Publisher
from wsbridge.cli.verify.record import Record


class Target:
    """Accepts events, except the next ones for which `failures` has a reason."""

    def __init__(self, *failures: str) -> None:
        self.failures = list(failures)
        self.posted: list[tuple[str, str]] = []  # user and id

    def post(self, event: Mapping[str, Any], user: str) -> None:
        self.posted.append((user, event["id"]))
        assert event["data"]["verify"]["user"] == event["data"]["user_id"] == user
        if self.failures:
            raise Failed(self.failures.pop(0))


@pytest.fixture
def record() -> Record:
    record = Told().record
    record.users = ["u1", "u2"]
    return record


@contextlib.contextmanager
def publishing(record: Record, target: Target, rate: float) -> Iterator[Publisher]:
    publisher = Publisher(record, target.post, rate=rate, user_field="user_id")
    yield publisher
    publisher.close()


async def test_publisher_repeats_an_event_with_its_id_until_it_is_accepted(record: Record) -> None:
    target = Target("full", "full")
    with publishing(record, target, rate=1000) as publisher:
        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
            tasks.create_task(publisher.publish("u1"))
            await until(lambda: record.ledger.required("u1") >= 2)
            publisher.stop()
    assert [event for _, event in target.posted[:4]] == ["r-1-1", "r-1-1", "r-1-1", "r-1-2"]
    assert record.problems == {"full": 2}


async def test_publisher_last_user_gets_an_event_at_the_start_and_one_at_the_end(record: Record) -> None:
    target = Target()
    with publishing(record, target, rate=1000) as publisher:
        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as tasks:
            for user in record.users:
                tasks.create_task(publisher.publish(user))
            await until(lambda: record.ledger.required("u1") > 20)
            publisher.stop()
    assert [event for user, event in target.posted if user == "u2"] == ["r-2-1", "r-2-2"]
