"""Remembered keys: how many, and for how long."""

import pytest

from wsbridge.broker.duplicates import RecentKeys


@pytest.mark.parametrize("most", [2, 3, 5, 100, 101])
def test_keys_remembered_are_the_latest_half_of_the_bound_at_least(most: int) -> None:
    recent = RecentKeys(ttl=1_000, most=most)
    for n in range(1_000):
        recent.add(("u", str(n)))
        assert len(recent) <= most
        assert all(recent.has(("u", str(at))) for at in range(max(0, n - most // 2 + 1), n + 1))


def test_keys_with_a_bound_of_one_are_the_last_two() -> None:
    recent = RecentKeys(ttl=1_000, most=1)
    for n in range(3):
        recent.add(("u", str(n)))
    assert [recent.has(("u", str(n))) for n in range(3)] == [False, True, True]


@pytest.mark.parametrize("silence", [40, 1_000])
def test_key_after_twice_its_time_is_forgotten(silence: int) -> None:
    recent = RecentKeys(ttl=20, most=100)
    recent.age(0)
    recent.add(("u", "a"))
    recent.age(silence)
    assert (recent.has(("u", "a")), len(recent)) == (False, 0)


def test_keys_are_bounded_in_number_while_none_expires() -> None:
    recent = RecentKeys(ttl=1_000, most=100)
    for n in range(1_000):
        recent.add(("u", str(n)))
        assert len(recent) <= 100
    assert recent.has(("u", "999"))
    assert not recent.has(("u", "880"))


def test_keys_are_bounded_in_number() -> None:
    recent = RecentKeys(ttl=1_000, most=100)
    for n in range(1_000):
        recent.age(n / 100)
        assert not recent.has(("u", str(n)))
        recent.add(("u", str(n)))
        assert len(recent) <= 102
    assert recent.has(("u", "999"))
    assert recent.has(("u", "960"))


@pytest.mark.parametrize("step", [1, 7, 10, 13, 19])
def test_key_is_remembered_for_its_time_whatever_is_added(step: int) -> None:
    recent, seen = RecentKeys(ttl=20, most=1_000), dict[int, int]()
    for now in range(0, 400, step):
        recent.age(now)
        assert not recent.has(("u", str(now)))
        recent.add(("u", str(now)))
        seen[now] = now
        assert all(recent.has(("u", str(at))) for at in seen if now - at < 20)
