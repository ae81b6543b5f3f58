"""The limit of descriptors is raised as far as the system allows, and a reserve is kept."""

import resource

import pytest

from wsbridge.connections import file_descriptors

INFINITY = resource.RLIM_INFINITY


class System:
    """Replaces the operating system; refuses a soft limit above `most`."""

    def __init__(self, soft: int, hard: int, most: int, refusal: type[Exception]) -> None:
        self.limits = (soft, hard)
        self.most = most
        self.refusal = refusal

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        if limits[0] == INFINITY or limits[0] > self.most:
            raise self.refusal("current limit exceeds maximum limit")
        self.limits = limits


@pytest.mark.fault("F2")
@pytest.mark.parametrize("refusal", [ValueError, OSError])
@pytest.mark.parametrize(
    ("soft", "hard", "most", "raised"),
    [
        (1_024, 4_096, 4_096, 4_096),
        (1_024, 1_024, 1_024, 1_024),
        (256, INFINITY, 10_240, 8_192),  # macOS
        (256, 2**63 - 1, 61_440, 32_768),  # macOS, where Python shows the infinite limit as a number
        (256, 4_096, 200, 256),  # the system refuses any raise
        (INFINITY, INFINITY, 10_240, file_descriptors.MOST),
    ],
)
def test_raise_limit_refused_by_the_system_steps_down(
    monkeypatch: pytest.MonkeyPatch, refusal: type[Exception], soft: int, hard: int, most: int, raised: int
) -> None:
    system = System(soft, hard, most, refusal)
    monkeypatch.setattr(resource, "getrlimit", system.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", system.setrlimit)
    assert file_descriptors.raise_limit() == raised
    assert system.limits[1] == hard


@pytest.mark.parametrize(("soft", "left"), [(100, 50), (300, 225), (1_024, 768), (65_536, 65_280), (INFINITY, None)])
def test_for_connections_keeps_a_reserve(monkeypatch: pytest.MonkeyPatch, soft: int, left: int | None) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert file_descriptors.for_connections() == (left or file_descriptors.MOST - file_descriptors.RESERVE[1])
