"""Other WebSocket clients with a bridge that is started as by an operator."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import websockets
from websockets.asyncio.client import connect

from tests.support.deliveries import EXAMPLE
from tests.support.running import DEADLINE, SECRET, token
from tests.support.spawned import Spawn

CACHE = Path.home() / ".cache" / "wsbridge-tests"
WSCAT = "6.1.0"
TASK = {"user_id": "test-user", "event_type": "task.created", "task_id": "456", "title": "New Task"}


async def test_websockets_client_gets_the_documented_messages_verbatim(spawn: Spawn) -> None:
    bridge = await spawn()
    async with connect(f"ws://localhost:{bridge.port}/ws?user_id=user-123") as ws:
        hello = json.loads(await ws.recv())
        assert (hello["type"], hello["message"]) == ("connected", "WebSocket connected successfully")
        await bridge.post(EXAMPLE, "application/json")
        update = await ws.recv(decode=False)
        assert update.startswith(b'{"type":"task_update","event":' + EXAMPLE + b',"timestamp":"')
        await ws.send('{"type":"ping"}')
        assert await ws.recv() == '{"type":"pong"}'
        async with asyncio.timeout(DEADLINE):
            await (await ws.ping())


async def test_websockets_client_gets_the_close_code_and_its_reason(spawn: Spawn) -> None:
    bridge = await spawn(JWT_SECRET=SECRET)
    async with connect(f"ws://localhost:{bridge.port}/ws?user_id=u1&token=bad") as ws:
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await ws.recv()
        assert closed.value.rcvd == websockets.frames.Close(4401, "token_invalid")
    protocols = [websockets.Subprotocol(name) for name in ("wsbridge.v1", f"bearer.{token()}")]
    async with connect(f"ws://localhost:{bridge.port}/ws", subprotocols=protocols) as ws:
        assert ws.subprotocol == "wsbridge.v1"
        assert ws.protocol.extensions == []
        assert json.loads(await ws.recv())["user_id"] == "u1"


def wscat() -> Path:
    """Install wscat once, outside of the repository."""
    found = CACHE / f"wscat-{WSCAT}" / "node_modules" / ".bin" / "wscat"
    missing = [name for name in ("node", "npm") if shutil.which(name) is None]
    if missing and not os.environ.get("REQUIRE_ALL_TESTS"):
        pytest.skip(f"{' and '.join(missing)} not found: wscat comes from npm")
    assert not missing
    if not found.exists():
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(found.parents[2]), f"wscat@{WSCAT}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if result.returncode and not os.environ.get("REQUIRE_ALL_TESTS"):
            pytest.skip(f"npm could not install wscat: {result.stderr.strip().splitlines()[-1:]}")
        assert result.returncode == 0, result.stderr
    return found


async def test_wscat_shows_connected_and_an_update(spawn: Spawn) -> None:
    """`wscat -c "ws://localhost:8004/ws?user_id=test-user"`, as the README says."""
    program, bridge = wscat(), await spawn()
    command = [str(program), "-c", f"ws://localhost:{bridge.port}/ws?user_id=test-user"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin
    assert stdout

    async def shows(text: str) -> None:
        shown = b""
        while text.encode() not in shown:
            shown = await stdout.readline()
            assert shown, text  # otherwise it has ended

    try:
        async with asyncio.timeout(2 * DEADLINE):
            await shows('"type":"connected","message":"WebSocket connected successfully","user_id":"test-user"')
            assert await bridge.publish(TASK) == "SUCCESS"
            await shows(f'{{"type":"task_update","event":{json.dumps(TASK)},"timestamp":"')
            stdin.write(b'{"type":"ping"}\n')
            await shows('{"type":"pong"}')
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
