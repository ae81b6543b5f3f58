"""Holds what `make check` relies on: a unit test opens no socket and starts no process."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

FORBIDDEN = {"socket.bind", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.posix_spawn"}
_seen: list[str] | None = None  # None while no unit test runs: one process may run tests of other folders too


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in FORBIDDEN and _seen is not None:
        _seen.append(event)
        message = f"a unit test caused {event}: it belongs in tests/integration"
        raise PermissionError(message)


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def _sandbox() -> Iterator[None]:
    """Fail the test also where the code under test caught the error that the audit hook raised."""
    global _seen  # noqa: PLW0603 - an audit hook is handed nothing of ours, and cannot be removed
    _seen = []
    yield
    seen, _seen = _seen, None
    assert not seen, f"a unit test caused {seen}: it belongs in tests/integration"
