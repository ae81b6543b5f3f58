"""Runs the programs of docs/recipes.md verbatim, on one chain."""

import asyncio
import itertools
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.chain import BACKEND, Chain
from tests.e2e.control_plane import ControlPlane
from tests.e2e.kafka import TOPIC, Kafka
from tests.e2e.process import Log, Process, settled
from tests.e2e.recipes import backend, code, packages
from tests.e2e.sidecar import Manifest, Sidecar, components
from tests.support.running import receive
from tests.support.shell import typed
from tests.support.valkey import Valkey
from wsbridge.cli.chain.ports import free_port, is_open

INTERNAL = "defaultbackendtask-updatesoutbox"  # the topic of Dapr's outbox
TASK = {"event_type": "task.created", "user_id": "alice", "task_id": "456", "title": "Buy milk"}
pytestmark = pytest.mark.asyncio(loop_scope="module")  # one chain for all


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chain(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chain]:
    """A chain whose backend has a state store with Dapr's outbox."""
    directory = tmp_path_factory.mktemp("chain")
    chain = Chain(kafka, directory)
    component = code("Dapr's outbox", "yaml").replace("postgresql", "in-memory").replace("v2", "v1")
    (directory / "components" / "statestore.yaml").write_text(component)
    await kafka.ready()
    await kafka.make(INTERNAL)
    await kafka.commit_latest("backend", INTERNAL)
    async with chain:
        yield chain


@contextmanager
def running(command: Sequence[str], log: Log, environment: Mapping[str, str]) -> Iterator[Process]:
    process = Process(command, log, environment)
    try:
        yield process
    finally:
        process.kill()


async def posted(curl: str) -> tuple[int, str]:
    """Run the command; return the status and the body of the answer."""
    body, _, status = (await typed(f"{curl} -w '\\n%{{http_code}}'")).rpartition("\n")
    return int(status), body


async def test_outbox_of_dapr_publishes_a_committed_event_and_not_one_that_failed(chain: Chain) -> None:
    """Must run first: the sidecar is busy with the failed event until a later test kills it."""
    tab, _ = await chain.bridges[0].opened("alice")
    await chain.kafka.read_by("backend", 1, INTERNAL)
    curl = code("Dapr's outbox", "sh").strip().replace(":3500", f":{chain.publisher.port}")
    assert await posted(curl) == (204, "")
    assert (await receive(tab))["event"] == TASK
    stale = curl.replace('{"key": "456", "value"', '{"key": "456", "etag": "1", "value"', 1)
    status, body = await posted(stale.replace("Buy milk", "Buy bread"))
    assert (status, "etag mismatch" in body) == (500, True)
    # One after the other, each waits for a second, in a random partition; one partition is blocked from now on.
    later = [curl.replace("456", f"later-{number}") for number in range(12)]
    assert await asyncio.gather(*map(posted, later)) == [(204, "")] * 12
    event: dict[str, Any] = (await receive(tab))["event"]
    assert event["task_id"].startswith("later-")
    await tab.close()


async def test_outbox_publishes_what_is_committed_once_and_nothing_else(chain: Chain, tmp_path: Path) -> None:
    path = str(tmp_path / "tasks.db")
    committed = code("An outbox in your database", "sql").replace("alice", "bob")
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(committed)
        database.executescript(committed.replace("456", "457").replace("COMMIT", "ROLLBACK"))
        # as if the program had published the event, and died before it deleted it
        database.execute("INSERT INTO outbox (id, owner, data) SELECT id, owner, data FROM outbox")
        database.executescript(committed.replace("456", "458"))
        command = [sys.executable, "-c", code("An outbox in your database", "python").replace("tasks.db", path)]
        environment = {**packages(), "DAPR_HTTP_PORT": str(chain.publisher.port)}
        tab, _ = await chain.bridges[0].opened("bob")
        with running(command, Log(tmp_path / "outbox.log"), environment):
            first, last = await receive(tab), await receive(tab)
            assert first["event"] == TASK | {"user_id": "bob"}
            assert [first["event_id"], last["event_id"]] == ["task-456-created", "task-458-created"]

            async def is_empty() -> bool:
                return database.execute("SELECT * FROM outbox").fetchall() == []

            await settled(is_empty)
        await tab.close()


@pytest.mark.parametrize("framework", ["FastAPI", "Express", "Spring"])
async def test_task_posted_to_a_backend_arrives_once_in_the_tab(chain: Chain, tmp_path: Path, framework: str) -> None:
    port, log = free_port(), Log(tmp_path / "backend.log")
    command, environment = await asyncio.to_thread(backend, framework, tmp_path, port)
    user = framework.lower()
    curl = code("Backends that publish", "sh").strip().replace("localhost:8000", f"127.0.0.1:{port}")
    curl = curl.replace("alice", user)
    tab, _ = await chain.bridges[0].opened(user)
    with running(command, log, {"DAPR_HTTP_PORT": str(chain.publisher.port), **environment}) as process:

        async def listens() -> bool:
            assert process.running, log.account
            return is_open(port)

        await settled(listens)
        status, body = await posted(curl)
        assert status == 201, body
        task = json.loads(body)
        assert task == TASK | {"user_id": user, "task_id": task["task_id"]}
        update = await receive(tab)
        assert (update["type"], update["event"]) == ("task_update", task)
        assert update["event_id"] == f"{task['task_id']}-created"
        await chain.publish(user, last=True)
        assert (await receive(tab))["event"] == {"user_id": user, "last": True}
        chain.publisher.kill()
        status, body = await posted(curl)
        assert status == 500, body
        chain.publisher.start()
        await chain.publisher.ready()
    await tab.close()


async def test_workflow_killed_in_the_middle_resumes_and_the_tab_gets_each_step_once(
    chain: Chain, tmp_path: Path
) -> None:
    program, log = [sys.executable, "-c", code("Progress of a workflow", "python")], Log(tmp_path / "workflow.log")
    resources = components(tmp_path, chain.kafka.address)
    manifest = Manifest.read(BACKEND / "backend.yaml")
    async with Valkey(tmp_path) as redis:
        component = code("Progress of a workflow", "yaml").replace("localhost:6379", redis.address)
        (resources / "workflows.yaml").write_text(component)
        async with ControlPlane(tmp_path) as plane:
            sidecar = Sidecar(
                *(manifest, resources, Log(tmp_path / "daprd.log"), chain.http), name="backend", options=plane.options
            )
            environment = {"DAPR_HTTP_PORT": str(sidecar.port), "DAPR_GRPC_PORT": str(sidecar.grpc_port), **packages()}
            sidecar.start()
            tab, _ = await chain.bridges[0].opened("alice")  # now: it answers no pings during a build
            try:
                await sidecar.ready()
                starts = await chain.kafka.ends()
                curl = code("Progress of a workflow", "sh").strip().replace(":3500", f":{sidecar.port}")
                with running(program, log, environment):
                    await settled(sidecar.workflow_workers)
                    status, body = await posted(curl)
                    assert status == 202, body
                    steps = [(await receive(tab))["event"]["step"] for _ in range(2)]
                with running(program, log, environment):
                    steps.append((await receive(tab))["event"]["step"])
            finally:
                sidecar.kill()
    assert steps == ["collect", "render", "done"]
    count = sum(await chain.kafka.ends()) - sum(starts)
    messages = await chain.kafka.messages(TOPIC, starts, count)
    published = [json.loads(message.value() or b"")["data"]["step"] for message in messages]
    assert published.count("render") > 1, "it was not killed in that step"
    assert [step for step, _ in itertools.groupby(published)] == steps, "it began from scratch"
    await tab.close()
