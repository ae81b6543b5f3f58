"""Enforces that unit tests open no socket and start no process, so that `make check` is fast."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

FORBIDDEN = {"socket.bind", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.posix_spawn"}
_seen: list[str] | None = None  # None while no unit test runs: the same process may run tests of other folders


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in FORBIDDEN and _seen is not None:
        _seen.append(event)
        message = f"a unit test caused {event}: it belongs in tests/integration"
        raise PermissionError(message)


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def _sandbox() -> Iterator[None]:
    """Fail the test even if the tested code caught the error that the audit hook raised."""
    global _seen  # noqa: PLW0603 - an audit hook has no arguments of ours, and cannot be removed
    _seen = []
    yield
    seen, _seen = _seen, None
    assert not seen, f"a unit test caused {seen}: it belongs in tests/integration"
