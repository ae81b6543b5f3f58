"""The client's source files in the installed package."""

import os
from importlib.metadata import PackageNotFoundError, files

import pytest

from tests.support.running import ROOT

CLIENT = ROOT / "client" / "src"


def test_package_data_contains_the_client_sources() -> None:
    try:
        packed = files("wsbridge-server") or []
    except PackageNotFoundError:
        packed = []
    installed = {path.name for path in packed if path.parent.match("wsbridge/web/static/client")}
    if not installed and os.environ.get("REQUIRE_ALL_TESTS") != "1":
        pytest.skip("wsbridge is not installed, or is only linked: tox installs the wheel")
    assert installed == {path.name for path in CLIENT.glob("*.js")}
