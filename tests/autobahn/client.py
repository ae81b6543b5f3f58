"""The fuzzing client: runs cases against a server, one after the other, over autobahn's own protocol."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from autobahn.asyncio.websocket import WebSocketClientFactory, WebSocketClientProtocol
from autobahn.websocket.protocol import FrameHeader, WebSocketProtocol

Verdict = dict[str, Any]
LONGEST = 60.0  # seconds that a case may take; most take less than one
TOGETHER = 16  # cases that run at once
LONGEST_TEXT = 1_000  # characters of a message in the report


class FuzzingProtocol(WebSocketClientProtocol):
    """What cases expect of their connection, as in `autobahntestsuite.fuzzing`, without the log of all bytes.

    Texts of cases have one character for each byte.
    """

    def __init__(self, case: type[Any]) -> None:
        super().__init__()
        self.connectionWasOpen = self.createWirelog = False
        self.txFrameStats = Counter[int]()
        self.over = asyncio.get_running_loop().create_future()
        self.case = case(self)

    # Called by cases.

    def sendFrame(self, opcode: int, payload: str | bytes = b"", **options: Any) -> None:
        super().sendFrame(opcode, _bytes(payload), **options)

    def sendMessage(self, payload: str | bytes, isBinary: bool = False, **options: Any) -> None:
        super().sendMessage(_bytes(payload), isBinary, **options)

    def sendMessageFrameData(self, payload: str | bytes, sync: bool = False) -> None:
        super().sendMessageFrameData(_bytes(payload), sync)

    def sendCloseFrame(self, code: int | None = None, reasonUtf8: str | bytes | None = None, **options: Any) -> None:
        super().sendCloseFrame(code, None if reasonUtf8 is None else _bytes(reasonUtf8), **options)

    def sendClose(self, code: int | None = None, reason: str | None = None) -> None:
        """Send any code: the method of the library takes only those that an application may use."""
        self.sendCloseFrame(code, None if reason is None else reason.encode())

    def enableWirelog(self, enable: bool) -> None: ...

    def continueLater(self, delay: float, fun: Callable[[], object], tag: str | None = None) -> None:
        self._later(delay, fun)

    def killAfter(self, delay: float) -> None:
        self._later(delay, self._fail_connection)

    def closeAfter(self, delay: float) -> None:
        self._later(delay, self.sendClose)

    def _later(self, delay: float, act: Callable[[], object]) -> None:
        def run() -> None:
            if self.state != WebSocketProtocol.STATE_CLOSED:
                act()

        self.factory.loop.call_later(delay, run)

    # Called by the library.

    def onOpen(self) -> None:
        self.connectionWasOpen = True
        self.case.onOpen()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.case.onMessage(payload.decode("latin-1"), isBinary)

    def onPong(self, payload: bytes) -> None:
        self.case.onPong(payload.decode("latin-1"))

    def onClose(self, wasClean: bool, code: int, reason: str) -> None:
        self.case.onClose(wasClean, code, reason)

    def logTxFrame(self, frameHeader: FrameHeader, *rest: object) -> None:
        self.txFrameStats[frameHeader.opcode] += 1

    def logRxFrame(self, *rest: object) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.over.done():  # it took too long
            return
        try:
            self.case.onConnectionLost(self.failedByMe)
        except Exception as error:  # the loop would only log it
            self.over.set_exception(error)
        else:
            self.over.set_result(self._verdict())

    def _verdict(self) -> Verdict:
        case = self.case
        return {
            "behavior": case.behavior, "behaviorClose": case.behaviorClose, "closeCode": self.remoteCloseCode,
            "result": case.result, "resultClose": case.resultClose, "wasNotCleanReason": self.wasNotCleanReason,
            "expected": repr(case.expected)[:LONGEST_TEXT], "received": repr(case.received)[:LONGEST_TEXT],
        }  # fmt: skip


def _bytes(payload: str | bytes) -> bytes:
    return payload.encode("latin-1") if isinstance(payload, str) else payload


async def run(url: str, case: type[Any]) -> Verdict:
    """Run a case on a connection of its own."""
    factory = WebSocketClientFactory(url, loop=asyncio.get_running_loop())
    # The suite sets the first of them. Its time-outs are 1 s. The library's timers may be up to a second early.
    factory.setProtocolOptions(failByDrop=False, closeHandshakeTimeout=2, serverConnectionDropTimeout=2)
    factory.protocol = lambda: FuzzingProtocol(case)
    factory.logFrames = True
    _, protocol = await asyncio.get_running_loop().create_connection(factory, factory.host, factory.port)
    try:
        async with asyncio.timeout(LONGEST):
            verdict: Verdict = await protocol.over
    except TimeoutError:
        protocol.transport.abort()
        late = f"not done within {LONGEST:.0f} s"
        return {"behavior": "FAILED", "behaviorClose": "FAILED", "result": late, "resultClose": late}
    return verdict


async def run_all(url: str, found: dict[str, type[Any]]) -> dict[str, Verdict]:
    """Run the cases, many at once, as nearly all of them wait most of the time.

    Those of group 9 run later and one by one: each keeps this process busy for longer than the others may take.
    """
    verdicts = dict[str, Verdict]()
    turns = asyncio.Semaphore(TOGETHER)

    async def judge(name: str) -> None:
        async with turns:
            verdicts[name] = await run(url, found[name])

    large = [name for name in found if name.startswith("9.")]
    async with asyncio.TaskGroup() as group:
        for name in found:
            if name not in large:
                group.create_task(judge(name))
    for name in large:
        await judge(name)
    return {name: verdicts[name] for name in found}
