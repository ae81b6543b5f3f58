"""Token buckets: failures for each address, handshakes in all."""

import pytest

from tests.support.fake_time import Clock
from wsbridge.connections import rate_limits
from wsbridge.connections.rate_limits import RateLimits, TokenBucket


def times(allowance: TokenBucket, tries: int) -> int:
    return sum(allowance.take() for _ in range(tries))


def failure_limits(rate: float, clock: Clock) -> RateLimits:
    return RateLimits(failure_rate=rate, handshake_rate=0, trusts=lambda _: False, clock=clock)


def test_token_bucket_allows_its_burst_then_its_rate() -> None:
    clock = Clock()
    allowance = TokenBucket(10, 2.0, clock)
    assert times(allowance, 100) == 20
    clock.now += 1
    assert times(allowance, 100) == 10
    clock.now += 1_000
    assert times(allowance, 100) == 20


def test_token_bucket_with_a_rate_of_zero_allows_everything() -> None:
    assert times(TokenBucket(0, 2.0, Clock()), 10_000) == 10_000


@pytest.mark.fault("C3")
def test_failure_limit_beyond_the_burst_exhausts_one_address_only() -> None:
    clock = Clock()
    failures = failure_limits(20, clock)
    for _ in range(199):
        failures.failed("203.0.113.7")
    assert not failures.refuses("203.0.113.7")
    failures.failed("203.0.113.7")
    assert failures.refuses("203.0.113.7")
    assert not failures.refuses("203.0.113.8")


@pytest.mark.fault("C3")
def test_failure_limit_after_the_last_failure_recovers_soon() -> None:
    clock = Clock()
    failures = failure_limits(20, clock)
    for _ in range(100_000):
        failures.failed("203.0.113.7")
    assert failures.refuses("203.0.113.7")
    clock.now += 0.1
    assert not failures.refuses("203.0.113.7")


def test_failure_limit_counts_an_ipv6_network_together() -> None:
    failures = failure_limits(1, Clock())
    for n in range(10):
        failures.failed(f"2001:db8::{n + 1}")
    assert failures.refuses("2001:db8::ffff")
    assert not failures.refuses("2001:db8:0:1::1")


def test_failure_limit_with_too_many_addresses_forgets_the_oldest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rate_limits, "MAX_ADDRESSES", 3)
    failures = failure_limits(0.1, Clock())
    for address in ("a", "b", "c", "a", "d"):
        failures.failed(address)
    assert failures.addresses == 3
    assert [address for address in "abcd" if failures.refuses(address)] == ["a", "c", "d"]


def test_failure_limit_with_a_rate_of_zero_remembers_nothing() -> None:
    failures = failure_limits(0, Clock())
    failures.failed("a")
    assert failures.addresses == 0
    assert not failures.refuses("a")


def test_rate_limits_never_refuse_a_trusted_proxy() -> None:
    found = RateLimits(failure_rate=1, handshake_rate=1, trusts=lambda address: address == "10.0.0.1", clock=Clock())
    for _ in range(100):
        found.failed("10.0.0.1")
        found.failed("203.0.113.7")
    assert not found.refuses("10.0.0.1")
    assert found.refuses("203.0.113.7")
    assert found.addresses == 1
