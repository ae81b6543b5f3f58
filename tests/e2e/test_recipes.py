"""Runs the programs of docs/recipes.md verbatim, on one chain."""

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.chain import Chain
from tests.e2e.kafka import Kafka
from tests.e2e.process import Log, Process, settled
from tests.e2e.recipes import backend, code
from tests.support.running import receive
from wsbridge.cli.chain.ports import free_port, is_open

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one chain for all


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chain(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chain]:
    async with Chain(kafka, tmp_path_factory.mktemp("chain")) as chain:
        yield chain


async def posted(curl: str) -> tuple[int, str]:
    """Run the command; return the status and the body of the answer."""
    process = await asyncio.create_subprocess_shell(f"{curl} -w '\n%{{http_code}}'", stdout=PIPE, stderr=PIPE)
    answer, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    body, _, status = answer.decode().rpartition("\n")
    return int(status), body


@pytest.mark.parametrize("framework", ["FastAPI", "Express", "Spring"])
async def test_task_posted_to_a_backend_arrives_once_in_the_tab(chain: Chain, tmp_path: Path, framework: str) -> None:
    [bridge] = chain.bridges
    tab, _ = await bridge.opened("alice")
    port, log = free_port(), Log(tmp_path / "backend.log")
    command, environment = await asyncio.to_thread(backend, framework, tmp_path, port)
    process = Process(command, log, {"DAPR_HTTP_PORT": str(chain.publisher.port), **environment})
    curl = code("Backends that publish", "sh").strip().replace("localhost:8000", f"127.0.0.1:{port}")

    async def listens() -> bool:
        assert process.running, log.account
        return is_open(port)

    try:
        await settled(listens)
        status, body = await posted(curl)
        assert status == 201, body
        task = json.loads(body)
        assert task == {
            "event_type": "task.created", "user_id": "alice", "task_id": task["task_id"], "title": "Buy milk",
        }  # fmt: skip
        update = await receive(tab)
        assert (update["type"], update["event"]) == ("task_update", task)
        assert update["event_id"] == f"{task['task_id']}-created"
        await chain.publish("alice", last=True)
        assert (await receive(tab))["event"] == {"user_id": "alice", "last": True}
        chain.publisher.kill()
        status, body = await posted(curl)
        assert status == 500, body
        chain.publisher.start()
        await chain.publisher.ready()
    finally:
        process.kill()
        await tab.close()
