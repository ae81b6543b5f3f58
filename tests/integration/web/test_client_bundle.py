"""The client's files in the installed package."""

import os
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

from tests.support.running import ROOT
from wsbridge.web.client_file import load

STATIC = Path("wsbridge/web/static")
BUILT = {"client.js", "client.js.br", "client.js.gz", "client.js.map"}
REQUIRED = os.environ.get("REQUIRE_ALL_TESTS") == "1"


@pytest.fixture
def installed() -> dict[str, set[str]]:
    """The names of the installed package's static files, by folder."""
    try:
        packed = files("wsbridge-server") or []
    except PackageNotFoundError:
        packed = []
    found = {
        name: {path.name for path in packed if path.parent.match(str(STATIC / name))} for name in ("client", "built")
    }
    if not found["client"] and not REQUIRED:
        pytest.skip("wsbridge is not installed, or is only linked: tox installs the wheel")
    return found


def test_package_data_contains_the_client_sources(installed: dict[str, set[str]]) -> None:
    assert installed["client"] == {path.name for path in (ROOT / "client" / "src").glob("*.js")}


def test_package_data_contains_the_built_client(installed: dict[str, set[str]]) -> None:
    """CI builds it first: .ci/run, or `make client`."""
    if not (ROOT / STATIC / "built").exists() and not REQUIRED:
        pytest.skip("the client is not built: make client")
    assert installed["built"] == BUILT
    assert load(ROOT / STATIC).source == "built", "the sources have changed since: make client"
