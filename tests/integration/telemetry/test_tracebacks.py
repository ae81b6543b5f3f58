"""Data of a request is freed with the request, without the garbage collector."""

import gc

import pytest

from tests.support.frames import GOOD, Peer
from tests.support.running import SECRET, Start, until
from wsbridge.telemetry import tracebacks

PADDING = "X-Pad: " + "p" * 5_000
EVENT = "POST /events/task-updates HTTP/1.1\r\nHost: a\r\n"
BAD = {
    "unknown route": f"GET /nope HTTP/1.1\r\nHost: a\r\n{PADDING}\r\n\r\n",
    "wrong method": f"DELETE /healthz HTTP/1.1\r\nHost: a\r\n{PADDING}\r\n\r\n",
    "no colon": f"GET /nope HTTP/1.1\r\nHost: a\r\n{PADDING}\r\nno colon\r\n\r\n",
    "no websocket": f"GET /ws HTTP/1.1\r\nHost: a\r\n{PADDING}\r\n\r\n",
    "bad token for a socket": GOOD + f"Authorization: Bearer {'p' * 5_000}\r\n\r\n",
    "bad token for a stream": f"GET /sse HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {'p' * 5_000}\r\n\r\n",
    "no operator": f"GET /stats HTTP/1.1\r\nHost: a\r\n{PADDING}\r\n\r\n",
    "bad body": f"{EVENT}{PADDING}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "compressed": f"{EVENT}{PADDING}\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
}


def test_release_drops_all_tracebacks_of_the_chain() -> None:
    caught: BaseException | None = None
    try:
        try:
            raise ValueError
        except ValueError as error:
            raise KeyError from error
    except KeyError as error:
        caught = error
    assert caught is not None
    assert caught.__cause__ is not None
    tracebacks.release(caught)
    assert caught.__traceback__ is caught.__cause__.__traceback__ is None
    tracebacks.release(None)


@pytest.mark.fault("C10")
@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
async def test_bad_request_leaves_no_reference_cycle(start: Start, text: str) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    sockets = bridge.bridge.metrics.registry.get_sample_value

    async def refused(times: int) -> None:
        for _ in range(times):
            async with Peer(bridge.port) as peer:
                await peer.send(text.encode())
                await peer.read()
        await until(lambda: (sockets("wsbridge_sockets") or 0) <= 1)

    await bridge.get("/healthz")
    await refused(1)  # on uvloop, the bridge of an earlier test is sometimes released only now
    gc.collect()
    gc.disable()
    try:
        await refused(5)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        held = {type(found).__name__ for found in gc.garbage} & {"traceback", "frame", "Request", "CIMultiDictProxy"}
        large = [
            found
            for container in gc.garbage
            for found in gc.get_referents(container)
            if isinstance(found, bytes | str) and len(found) > 4_000
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not large
    assert not held
