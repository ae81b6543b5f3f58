"""Consoles that look at the replicas many times a second, so that tests need not wait."""

import pytest

from wsbridge.web.console import stream


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "INTERVAL", 0.02)
