"""The choice of the event loop, with uvloop and without."""

import asyncio
import sys
from types import ModuleType

import pytest

from wsbridge.config.settings import SettingsError
from wsbridge.supervision import event_loop


class OtherLoop(asyncio.SelectorEventLoop):
    """Stands for uvloop's, which may be missing here."""

    __module__ = "uvloop.loop"


@pytest.fixture
def with_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    uvloop = ModuleType("uvloop")
    uvloop.new_event_loop = OtherLoop  # type: ignore[attr-defined]  # it is made here
    monkeypatch.setitem(sys.modules, "uvloop", uvloop)


@pytest.fixture
def without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)


def name_of(wanted: str) -> str:
    async def name() -> str:
        return event_loop.running_name()

    with asyncio.Runner(loop_factory=event_loop.factory(wanted)) as runner:
        return runner.run(name())


@pytest.mark.usefixtures("with_uvloop")
@pytest.mark.parametrize(("wanted", "name"), [("auto", "uvloop"), ("uvloop", "uvloop"), ("asyncio", "asyncio")])
def test_factory_with_uvloop_makes_the_loop_of_the_setting(wanted: str, name: str) -> None:
    assert name_of(wanted) == name


@pytest.mark.usefixtures("without_uvloop")
@pytest.mark.parametrize("wanted", ["auto", "asyncio"])
def test_factory_without_uvloop_makes_the_loop_of_asyncio(wanted: str) -> None:
    assert name_of(wanted) == "asyncio"


@pytest.mark.usefixtures("without_uvloop")
def test_factory_without_uvloop_refuses_the_setting_uvloop() -> None:
    with pytest.raises(SettingsError, match=r"^WSBRIDGE_LOOP=uvloop: .*uvloop.*; install uvloop, or set .*LOOP=auto"):
        event_loop.factory("uvloop")
