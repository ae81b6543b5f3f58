"""The memory of verified tokens: content, time and bound."""

import hashlib
import tracemalloc
from types import SimpleNamespace

import pytest

from wsbridge.auth import token_cache
from wsbridge.auth.token_cache import ENTRY_BYTES, TokenCache

KEYS = object()
WIDE = "😀" + "x" * 252  # 256 bytes in UTF-8, four times that in memory


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr(token_cache, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


def filled(count: int, cache: TokenCache, user: str = "u1") -> TokenCache:
    for n in range(count):
        cache.put(f"token {n}", KEYS, user, 2_000.0)
    return cache


def remembered(cache: TokenCache, count: int) -> list[int]:
    return [n for n in range(count) if cache.get(f"token {n}", KEYS)]


def test_get_a_token_that_was_put_is_its_user_and_expiry(clock: SimpleNamespace) -> None:
    cache = TokenCache()
    cache.put("a", KEYS, "alice", clock.now + 60)
    cache.put("b", KEYS, "bob", clock.now + 90)
    assert cache.get("a", KEYS) == ("alice", clock.now + 60)
    assert cache.get("b", KEYS) == ("bob", clock.now + 90)
    assert cache.get("A", KEYS) is cache.get("a ", KEYS) is None


def test_get_at_the_expiry_forgets_the_token(clock: SimpleNamespace) -> None:
    cache = TokenCache()
    cache.put("a", KEYS, "alice", clock.now + 60)
    clock.now += 59.9
    assert cache.get("a", KEYS)
    clock.now += 0.1
    assert cache.get("a", KEYS) is None
    assert cache.bytes == 0


def test_get_with_other_keys_forgets_all_tokens(clock: SimpleNamespace) -> None:
    cache = filled(3, TokenCache())
    assert cache.get("token 0", object()) is None
    assert cache.bytes == 0
    assert remembered(cache, 3) == []


def test_put_with_other_keys_forgets_the_tokens_of_the_old_ones(clock: SimpleNamespace) -> None:
    cache, others = filled(3, TokenCache()), object()
    cache.put("new", others, "u1", 2_000.0)
    assert cache.get("new", others)
    assert [cache.get(f"token {n}", others) for n in range(3)] == [None] * 3


def test_put_over_the_bound_forgets_the_least_recently_used(clock: SimpleNamespace) -> None:
    one = filled(1, TokenCache()).bytes
    cache = filled(3, TokenCache(3 * one))
    assert cache.get("token 0", KEYS)
    cache.put("token 3", KEYS, "u1", 2_000.0)
    assert remembered(cache, 4) == [0, 2, 3]
    assert cache.bytes == 3 * one


def test_put_the_same_token_twice_counts_once(clock: SimpleNamespace) -> None:
    cache = filled(1, TokenCache())
    assert filled(1, cache).bytes == filled(1, TokenCache()).bytes > ENTRY_BYTES


def test_entries_hold_only_a_digest_of_the_token(clock: SimpleNamespace) -> None:
    cache = TokenCache()
    cache.put("header.claims.signature", KEYS, "alice", 2_000.0)
    digest = hashlib.sha256(b"header.claims.signature").digest()
    assert dict(cache._entries) == {digest: ("alice", 2_000.0)}


def test_token_with_lone_surrogates_is_no_error(clock: SimpleNamespace) -> None:
    assert TokenCache().get("\ud800", KEYS) is None


def test_memory_of_the_largest_users_is_within_the_bound(clock: SimpleNamespace) -> None:
    bound = 1_048_576
    tracemalloc.start()
    try:
        cache = TokenCache(bound)
        for n in range(2_000):  # twice as many as fit
            cache.put(f"token {n}", KEYS, f"{WIDE[:-4]}{n:04}", 2_000.0 + n)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert cache.bytes <= bound
    assert held < bound * 1.1
