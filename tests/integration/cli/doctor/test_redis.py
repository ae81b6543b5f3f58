"""`wsbridge doctor` and real servers whose configuration is wrong on purpose."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.clocks import WallClock
from tests.support.cluster import Cluster
from tests.support.doctor import FAILURE, NOT_CHECKED, NOWHERE, OK, WARNING, found
from tests.support.proxy import FaultyProxy
from tests.support.running import ROOT, Running
from tests.support.valkey import DURABLE, Valkey
from wsbridge.cli.doctor import redis as module

HEALTHY: dict[str, Any] = DURABLE | {"maxmemory": "100mb", "maxmemory-policy": "noeviction"}
CHECKS = ("redis", "redis-rights", "redis-eviction", "redis-buffers", "redis-persistence", "redis-clock")
PASSWORD = "open-sesame"


def rights() -> list[str]:
    (rules,) = re.findall(r"ACL SETUSER wsbridge (.*?)```", (ROOT / "docs/configuration.md").read_text(), re.DOTALL)
    return str(rules.replace("password", PASSWORD)).split()


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[Valkey]:
    async with Valkey(tmp_path, **HEALTHY) as valkey:
        yield valkey


def by_user(valkey: Valkey, password: str = PASSWORD) -> dict[str, str]:
    return {"REDIS_URL": f"redis://wsbridge:{password}@{valkey.address}"}


async def test_redis_checks_of_a_healthy_server_with_the_documented_rights_are_ok(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW", 10.0)  # this machine may be busy
    await valkey.ask("ACL", "SETUSER", "wsbridge", *rights())
    for check in CHECKS:
        finding = await found(check, by_user(valkey))
        assert finding.state is OK, (check, finding)
    assert await valkey.ask("KEYS", "*") == []


async def test_redis_checks_without_a_url_are_not_checked(bridge: Running) -> None:
    for url in (NOWHERE, bridge.url):
        for check in CHECKS:
            assert await found(check, url=url) == (NOT_CHECKED, "WSBRIDGE_REDIS_URL is not set", "")


async def test_redis_checks_without_a_url_of_a_bridge_with_redis_name_the_variable(bridge: Running) -> None:
    bridge.bridge.checks.add("redis", lambda: "ok")
    for check in CHECKS:
        finding = await found(check, url=bridge.url)
        assert finding.state is NOT_CHECKED
        assert finding.text.startswith("the bridge uses Redis, but WSBRIDGE_REDIS_URL is not set here: ")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_redis_eviction_of_a_server_that_may_evict_fails(valkey: Valkey, policy: str) -> None:
    await valkey.ask("CONFIG", "SET", "maxmemory-policy", policy)
    finding = await found("redis-eviction", {"REDIS_URL": valkey.url})
    assert (finding.state, finding.text) == (
        FAILURE,
        f"maxmemory-policy is {policy}: Redis may remove a part of a history; clients get gaps",
    )
    assert finding.cure == "CONFIG SET maxmemory-policy noeviction, and in its configuration file"


async def test_redis_eviction_of_a_full_server_asks_for_memory_before_noeviction(valkey: Valkey) -> None:
    """The cure in the wrong order would make Redis refuse every write."""
    await valkey.ask(
        "CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", str(await used(valkey) + 1_000_000)
    )
    for number in range(40):
        await valkey.ask("SET", f"filling:{number}", "x" * 50_000)
    finding = await found("redis-eviction", {"REDIS_URL": valkey.url})
    assert re.fullmatch(
        r"maxmemory-policy is allkeys-lru: Redis has evicted \d+ keys since its start; clients get gaps", finding.text
    )
    assert re.match(r"first raise maxmemory .* \([\d.]+ of [\d.]+ MB is used: .*\), then CONFIG SET ", finding.cure)


async def test_redis_eviction_of_a_nearly_full_server_without_eviction_warns(valkey: Valkey) -> None:
    await valkey.ask("CONFIG", "SET", "maxmemory", str(int(await used(valkey) * 1.1)))
    finding = await found("redis-eviction", {"REDIS_URL": valkey.url})
    assert (finding.state, "nearly full" in finding.text) == (WARNING, True), finding


async def used(valkey: Valkey) -> int:
    return int((await valkey.ask("INFO", "memory"))["used_memory"])


async def test_redis_eviction_without_a_bound_of_memory_warns(valkey: Valkey) -> None:
    await valkey.ask("CONFIG", "SET", "maxmemory", "0")
    assert (await found("redis-eviction", {"REDIS_URL": valkey.url})).state is WARNING


async def test_redis_rights_of_a_user_without_some_fails_and_names_them(valkey: Valkey) -> None:
    await valkey.ask("ACL", "SETUSER", "wsbridge", *rights(), "-zadd", "-ssubscribe", "-function|load", "-fcall")
    finding = await found("redis-rights", by_user(valkey))
    assert finding.state is FAILURE
    assert finding.text == "the Redis user may not use: +function|load, +fcall, +zadd, +ssubscribe"


async def test_redis_rights_for_receipts_are_needed_only_with_a_topic_for_them(valkey: Valkey) -> None:
    await valkey.ask("ACL", "SETUSER", "wsbridge", *rights())
    assert (await found("redis-rights", by_user(valkey))).state is OK
    finding = await found("redis-rights", by_user(valkey) | {"RECEIPTS_TOPIC": "receipts"})
    assert finding.text == "the Redis user may not use: +zcard, +zrangebyscore, +zscore"


async def test_redis_rights_without_config_get_fail_and_configuration_is_not_checked(valkey: Valkey) -> None:
    await valkey.ask("ACL", "SETUSER", "wsbridge", *rights(), "-config|get")
    assert "+config|get" in (await found("redis-rights", by_user(valkey))).text
    assert (await found("redis-buffers", by_user(valkey))).state is NOT_CHECKED


async def test_redis_rights_for_other_keys_fail(valkey: Valkey) -> None:
    await valkey.ask("ACL", "SETUSER", "wsbridge", *rights(), "resetkeys", "~other:*")
    finding = await found("redis-rights", by_user(valkey))
    assert (finding.state, "+set" in finding.text) == (FAILURE, True)


async def test_redis_rights_on_a_full_server_fail_with_its_reason(valkey: Valkey) -> None:
    await valkey.ask("CONFIG", "SET", "maxmemory", "1")
    finding = await found("redis-rights", {"REDIS_URL": valkey.url})
    assert (finding.state, "OOM" in finding.text) == (FAILURE, True)


async def test_redis_rights_on_a_read_only_replica_fail_with_its_reason(valkey: Valkey) -> None:
    await valkey.ask("REPLICAOF", "127.0.0.1", "1")
    finding = await found("redis-rights", {"REDIS_URL": valkey.url})
    assert (finding.state, "Redis takes no writes" in finding.text) == (FAILURE, True), finding


async def test_redis_checks_of_a_cluster_find_a_node_that_evicts(tmp_path: Path) -> None:
    async with Cluster(tmp_path, replicas=0, **HEALTHY) as cluster:
        for check in CHECKS[1:]:
            finding = await found(check, {"REDIS_URL": cluster.url})
            assert finding.state is OK, (check, finding)
        await cluster.primaries[2].ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
        assert (await found("redis-eviction", {"REDIS_URL": cluster.url})).state is FAILURE


@pytest.mark.parametrize(
    ("limit", "state", "text"),
    [
        ("pubsub 64kb 64kb 10", FAILURE, "64 KiB (hard) and 64 KiB (soft)"),
        ("pubsub 16mb 8mb 60", WARNING, "16 MiB (hard) and 8 MiB (soft)"),
        ("pubsub 0 0 0", OK, "unlimited (hard) and unlimited (soft)"),
    ],
)
async def test_redis_buffers_below_the_default_are_found(valkey: Valkey, limit: str, state: str, text: str) -> None:
    await valkey.ask("CONFIG", "SET", "client-output-buffer-limit", limit)
    finding = await found("redis-buffers", {"REDIS_URL": valkey.url})
    assert finding.state == state
    assert finding.text.startswith(f"client-output-buffer-limit of pubsub is {text}")


async def test_redis_persistence_that_is_off_warns(valkey: Valkey) -> None:
    await valkey.ask("CONFIG", "SET", "appendonly", "no")
    assert (await found("redis-persistence", {"REDIS_URL": valkey.url})).state is WARNING


async def test_redis_behind_a_slow_network_is_found(valkey: Valkey) -> None:
    async with FaultyProxy(valkey.port) as network:
        network.delay = 0.01
        finding = await found("redis", {"REDIS_URL": f"redis://127.0.0.1:{network.port}"})
    assert finding.state is WARNING
    assert "round trip" in finding.text


async def test_redis_with_a_wrong_password_fails_without_printing_it(valkey: Valkey) -> None:
    await valkey.ask("ACL", "SETUSER", "wsbridge", *rights())
    for check in CHECKS:
        finding = await found(check, by_user(valkey, "not-the-password"))
        assert finding.state is (FAILURE if check == "redis" else NOT_CHECKED)
        assert "not-the-password" not in finding.text


async def test_redis_that_does_not_run_fails() -> None:
    finding = await found("redis", {"REDIS_URL": NOWHERE.replace("http", "redis")})
    assert (finding.state, "does not answer" in finding.text) == (FAILURE, True)


async def test_redis_clock_that_is_wrong_warns(tmp_path: Path) -> None:
    async with Valkey(tmp_path, WallClock(tmp_path, ahead=120)) as valkey:
        finding = await found("redis-clock", {"REDIS_URL": valkey.url})
    assert (finding.state, "ahead" in finding.text) == (WARNING, True)
