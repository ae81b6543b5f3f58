"""A real Kafka broker on a free loopback port, and the commands of its operator."""

import asyncio
import contextlib
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined] # its documented home

from tests.e2e.parts import java, required
from tests.e2e.parts import kafka as jars
from tests.e2e.process import PATIENCE, PAUSE, Log, Process, settled
from wsbridge.cli.chain import kafka
from wsbridge.cli.chain.kafka import PARTITIONS
from wsbridge.cli.chain.ports import free_port

TOPIC = "task-updates"
_ANSWER = 10.0  # seconds
_AGAIN = 3.0  # seconds for one answer: librdkafka may wait in vain for a coordinator that did not exist at first
_AT_REST = {ConsumerGroupState.STABLE, ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD}
_NOT_YET = {
    KafkaError._TIMED_OUT,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.NON_EMPTY_GROUP,  # killed members stay until their sessions time out
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError._TIMED_OUT,
    KafkaError._TRANSPORT,
}


class Kafka:
    """One node, three partitions for each topic: `with Kafka(directory) as kafka`."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.log = Log(directory / "kafka.log")
        self._directory = directory
        self._commands = kafka.Kafka(required(java), required(jars), directory, port=self.port, controller=free_port())
        self._process: Process | None = None
        self._admin: Any  # its type hints are incomplete
        self._producer: Producer

    def __enter__(self) -> Self:
        subprocess.run(self._commands.format(kafka.new_cluster()), check=True, capture_output=True)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, or start again with the same port and data."""
        self._process = Process(self._commands.start(), self.log)
        client: dict[str, Any] = {"bootstrap.servers": self.address, "reconnect.backoff.max.ms": 100, "log_level": 0}
        self._admin, self._producer = AdminClient(client), Producer(client)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.running

    def kill(self) -> None:
        """Kill as `kill -9` does.

        Its clients are deleted first. A client that outlives its broker never finds a group coordinator again. A client
        that is deleted while it has a lost connection to report deadlocks.
        """
        if self._process is not None:
            del self._admin, self._producer
            self._process.kill()
            self._process = None

    async def ready(self) -> None:
        """Wait until it answers."""
        await settled(self._answers)

    async def make(self, topic: str) -> None:
        """Create the topic unless it exists."""
        with contextlib.suppress(KafkaException):
            await _answered(lambda: self._admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic])

    async def ends(self, topic: str = TOPIC) -> list[int]:
        """The offset of the next message of each partition."""
        latest: Any = OffsetSpec  # has no type hints

        async def end(place: TopicPartition) -> int:
            return int((await _answered(lambda: self._admin.list_offsets({place: latest.latest()})[place])).offset)

        return [await end(TopicPartition(topic, place)) for place in range(PARTITIONS)]

    async def commit_latest(self, group: str, topic: str = TOPIC) -> None:
        """Commit offsets, as the heads of the manifests require before a group's first start."""
        await self.read_by(group, 0)
        places = [TopicPartition(topic, place, offset) for place, offset in enumerate(await self.ends(topic))]
        request = ConsumerGroupTopicPartitions(group, places)
        found = await _answered(
            lambda: self._admin.alter_consumer_group_offsets([request], request_timeout=_AGAIN)[group]
        )
        assert not any(place.error for place in found.topic_partitions), found.topic_partitions

    async def committed(self, group: str, topic: str = TOPIC) -> list[int]:
        """The committed offset of the group in each partition; negative if there is none."""
        asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, place) for place in range(PARTITIONS)])
        found = await _answered(lambda: self._admin.list_consumer_group_offsets([asked], request_timeout=_AGAIN)[group])
        return [place.offset for place in sorted(found.topic_partitions, key=lambda place: place.partition)]

    async def members(self, group: str, topic: str = TOPIC) -> list[set[int]] | None:
        """The partitions of each member; None during a rebalance. A killed member stays for 10 s."""
        found = await _answered(lambda: self._admin.describe_consumer_groups([group], request_timeout=_AGAIN)[group])
        if found.state not in _AT_REST:
            return None
        return [
            {place.partition for place in member.assignment.topic_partitions if place.topic == topic}
            for member in found.members
        ]

    async def read_by(
        self, group: str, members: int, topic: str = TOPIC, possible: Callable[[], object] = lambda: None
    ) -> None:
        """Wait until the group has that many members and, if there are any, each partition has a consumer.

        `possible` raises an error if that cannot happen any more.
        """

        async def is_read() -> bool:
            possible()
            found = await self.members(group, topic)
            return found is not None and len(found) == members and all(found)

        await settled(is_read)

    async def produce(
        self,
        value: bytes | None,
        *,
        key: str | None = None,
        headers: Mapping[str, bytes] | None = None,
        partition: int = -1,
        topic: str = TOPIC,
        at: float = 0.0,
    ) -> None:
        """Store a message that is not published through Dapr; return once it is stored.

        `at` is its time in seconds since the epoch; 0 means now.
        """
        done: Future[None] = Future()

        def delivered(error: Any, _: Message) -> None:
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(KafkaException(error))

        self._producer.produce(
            topic,
            value,
            key,
            partition=partition,
            headers=dict(headers or {}),
            timestamp=int(at * 1_000),
            on_delivery=delivered,
        )
        await asyncio.to_thread(self._producer.flush, _ANSWER)
        done.result(0)

    async def messages(self, topic: str, starts: Sequence[int], count: int) -> list[Message]:
        """Wait for this many messages after these offsets; those of one partition are in order."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "tests", "enable.auto.commit": False})
        found: list[Message] = []

        async def are_found() -> bool:
            message = await asyncio.to_thread(consumer.poll, 0.1)
            found.extend([message] if message is not None and message.error() is None else [])
            return len(found) == count

        try:
            consumer.assign([TopicPartition(topic, place, start) for place, start in enumerate(starts)])
            await settled(are_found)
        finally:
            consumer.close()
        return found

    async def _answers(self) -> bool:
        assert self.running, self.log.account
        return await _succeeds(asyncio.to_thread(self._admin.list_topics, timeout=1.0))


async def _answered(ask: Callable[[], Future[Any]]) -> Any:
    """Repeat a request while Kafka answers that it is not ready for it."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await asyncio.wrap_future(ask())
            except KafkaException as error:
                if error.args[0].code() not in _NOT_YET:
                    raise
                await asyncio.sleep(PAUSE)


async def _succeeds(asking: Awaitable[object]) -> bool:
    try:
        await asking
    except KafkaException:
        return False
    return True
