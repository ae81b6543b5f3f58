"""Many sockets, events and reconnects, with a bridge in its own process."""

import asyncio
import json
import random
import re
from collections.abc import Iterator

from tests.support.deliveries import bulk_bytes, enveloped
from tests.support.frames import CLOSE, TEXT, Peer, WebSocketPeer
from tests.support.running import Running, until, until_told
from tests.support.spawned import Spawn, Spawned

SEED = 20261123
USERS, SOCKETS, EVENTS, POSTERS = 500, 1_000, 20_000, 4
EVENT = re.compile(rb'\{"type":"task_update","event":(.*),"timestamp":"[^"]+","id":"[a-z0-9]+:(\d+)".*\}', re.DOTALL)


def odd_json(dice: random.Random, user: str, n: int) -> bytes:
    """JSON as different backends write it."""
    data = {
        "user_id": user,
        "n": n,
        "title": dice.choice(["Buy milk", "Zoë", "買う", "a\u2028b", '"quoted"', "😀" * 3]),
        "big": dice.choice([1, 12345678901234567890123, -0.5, None]),
        "padding": "x" * dice.randrange(300),
    }
    names = list(data)
    dice.shuffle(names)
    separators = dice.choice([(",", ":"), (", ", ": "), (" ,\t", " :\n")])
    return json.dumps(
        {name: data[name] for name in names}, ensure_ascii=dice.random() < 0.5, separators=separators
    ).encode()


def batches(dice: random.Random, events: list[bytes]) -> Iterator[bytes]:
    """Bodies in order: bulks of up to a hundred, and single events."""
    while events:
        if dice.random() < 0.5:
            yield enveloped(events.pop(0))
        else:
            size = dice.randrange(2, 101)
            yield bulk_bytes(*(enveloped(data) for data in events[:size]))
            del events[:size]


async def post(bridge: Spawned, bodies: Iterator[bytes]) -> None:
    """Post as one partition: one request at a time."""
    for body in bodies:
        answer = await bridge.post(body, "application/json")
        assert {entry["status"] for entry in answer.get("statuses", [answer])} == {"SUCCESS"}


async def listen(peer: WebSocketPeer, expected: list[bytes]) -> None:
    """Read exactly these events in order, then the answer to a ping: nothing follows."""
    for place, data in enumerate(expected, 1):
        opcode, payload = await peer.frame()
        found = EVENT.fullmatch(payload)
        assert opcode == TEXT
        assert found
        assert found[1] == data
        assert int(found[2]) == place
    await peer.send_frame(TEXT, b'{"type":"ping"}')
    assert await peer.frame() == (TEXT, b'{"type":"pong"}')


async def test_thousand_sockets_each_get_exactly_their_users_events(spawn: Spawn) -> None:
    asyncio.get_running_loop().set_debug(False)
    bridge = await spawn(PING_INTERVAL="3600")
    dice = random.Random(SEED)
    users = [f"user-{n}" for n in range(USERS)]
    owners = [user for user in users for _ in range(SOCKETS // USERS)]
    dice.shuffle(owners)
    peers = [WebSocketPeer(bridge.port) for _ in owners]
    for some in range(0, SOCKETS, 100):
        batch = list(zip(peers, owners, strict=True))[some : some + 100]
        await asyncio.gather(*(peer.__aenter__() for peer, _ in batch))
        await asyncio.gather(*(peer.opened(user) for peer, user in batch))

    order = [dice.choice(users) for _ in range(EVENTS)]
    events: dict[str, list[bytes]] = {user: [] for user in users}
    partitions: list[list[bytes]] = [[] for _ in range(POSTERS)]
    for n, user in enumerate(order):
        data = odd_json(dice, user, n)
        events[user].append(data)
        partitions[int(user.removeprefix("user-")) % POSTERS].append(data)
    async with asyncio.TaskGroup() as tasks:
        for peer, user in zip(peers, owners, strict=True):
            tasks.create_task(listen(peer, events[user]))
        for number, partition in enumerate(partitions):
            tasks.create_task(post(bridge, batches(random.Random(SEED + number), partition)))
    for peer in peers:
        peer.sock.close()
    assert not bridge.of("internal.error")


async def measured(bridge: Spawned) -> dict[str, float]:
    """Memory, tasks and descriptors of the bridge's process."""
    _, text = await bridge.get("/metrics")
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    names = ("wsbridge_connections", "wsbridge_users", "process_open_fds", "process_resident_memory_bytes")
    return {name: float(samples[name]) for name in names}


async def settled(bridge: Spawned) -> dict[str, float]:
    """The same after all clients have disconnected."""
    found: dict[str, float] = {}

    async def is_settled() -> bool:
        found.update(await measured(bridge))
        return found["wsbridge_connections"] == found["wsbridge_users"] == 0

    await until_told(is_settled)
    return found


async def come_and_go(bridge: Spawned | Running, count: int, *, at_once: int) -> None:
    """Half of them close properly, the others just disconnect."""
    numbers = iter(range(count))

    async def visitor() -> None:
        for n in numbers:
            async with WebSocketPeer(bridge.port) as peer:
                await peer.opened(f"user-{n % 50}")
                if n % 2:
                    await peer.send_frame(CLOSE, b"\x03\xe8")
                    assert await peer.closed() == (1000, "")
                elif n % 4:
                    peer.reset()

    await asyncio.gather(*(visitor() for _ in range(at_once)))


async def test_ten_thousand_connections_leave_nothing_in_memory(spawn: Spawn) -> None:
    """Memory, tasks and descriptors are back at their level before."""
    asyncio.get_running_loop().set_debug(False)
    bridge = await spawn(HANDSHAKE_RATE="0")  # uvloop accepts more than the default of 1,000 a second
    await come_and_go(bridge, 1_000, at_once=50)
    before = await settled(bridge)
    await come_and_go(bridge, 10_000, at_once=50)
    after = await settled(bridge)
    assert after["process_open_fds"] <= before["process_open_fds"]
    grown = after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]
    assert grown < 20_000_000  # a leak of 2 kB for each connection would show


async def test_ended_connections_leave_no_task(bridge: Running) -> None:
    asyncio.get_running_loop().set_debug(False)
    await bridge.get("/healthz")
    before = asyncio.all_tasks()
    await come_and_go(bridge, 500, at_once=20)
    await until(lambda: asyncio.all_tasks() <= before)
    assert len(bridge.bridge.registry) == 0
    assert bridge.bridge.registry.users() == {}


async def test_thousand_idle_connections_do_not_affect_others(spawn: Spawn) -> None:
    """They use descriptors, and do not affect others."""
    asyncio.get_running_loop().set_debug(False)
    bridge = await spawn()
    peers = [Peer(bridge.port) for _ in range(1_000)]
    await asyncio.gather(*(peer.__aenter__() for peer in peers))
    ws, _ = await bridge.opened()
    await bridge.publish({"user_id": "u1"})
    assert '"task_update"' in await ws.receive_str()
    for peer in peers:
        peer.sock.close()
