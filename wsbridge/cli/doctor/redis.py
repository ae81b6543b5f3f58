"""Checks of Redis: version, latency, rights, eviction, limits of output buffers, persistence, clock."""

import contextlib
import secrets
import statistics
import time
from collections.abc import AsyncIterator
from typing import Any

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.server import Server
from wsbridge.broker.redis.topology import create_server
from wsbridge.cli.doctor.clock import compared
from wsbridge.cli.doctor.deployment import Deployment
from wsbridge.cli.doctor.findings import Finding, NotChecked, failure, ok, warning

PINGS = 20
SLOW, TOO_SLOW = 0.005, 0.25  # seconds: the median round trip that is a warning, and a failure
LEAST_VERSION = 7
BUFFER = (33_554_432, 8_388_608)  # hard and soft limit of a subscriber's output buffer, Redis' defaults
LEAST_BUFFER = 1_048_576  # bytes: less than one batch of events may need
RIGHTS = "grant the Redis user the rights in docs/configuration.md#redis"


@contextlib.asynccontextmanager
async def connected(d: Deployment) -> AsyncIterator[tuple[Server, Any, str]]:
    """A server, a connection to the node that owns a key, and that key. Raises `NotChecked` or `BrokerUnavailable`."""
    if d.settings.redis_url is None:
        raise NotChecked("WSBRIDGE_REDIS_URL is not set")
    server, key = create_server(d.settings.redis_url), f"{d.settings.redis_prefix}:{{doctor}}:{secrets.token_hex(4)}"
    try:
        await server.refresh()
        connection = await server.connect(server.node_of(key))
        try:
            yield server, connection, key
        finally:
            await connection.disconnect(nowait=True)
    finally:
        await server.close()


async def redis(d: Deployment) -> Finding:
    """Whether Redis answers, its version and its latency."""
    try:
        async with connected(d) as (server, connection, _):
            found = []
            for _ in range(PINGS):
                started = time.perf_counter()
                await server.ask(connection, "PING")
                found.append(time.perf_counter() - started)
            version = _versions(await _asked(server, connection, "INFO", "server"))
    except BrokerUnavailable as why:
        cure = "check that it runs and is not overloaded, then the address, user and password"
        return failure(f"{d.settings.redis_url} does not answer: {why}", cure)
    middle = statistics.median(found)
    text = f"{version}, round trip {middle * 1000:.1f} ms (median of {PINGS})"
    if version.startswith("Redis ") and int(version.removeprefix("Redis ").partition(".")[0]) < LEAST_VERSION:
        return failure(text, "install Redis 7.0 or newer, or Valkey")
    if middle > SLOW:
        cure = "run Redis near the bridge, and look at SLOWLOG and its CPU"
        return (failure if middle > TOO_SLOW else warning)(text, cure)
    return ok(text)


def _versions(info: bytes | None) -> str:
    lines = dict(line.partition(":")[::2] for line in (info or b"").decode().splitlines())
    if "valkey_version" in lines:
        return f"Valkey {lines['valkey_version']}"
    return f"Redis {lines['redis_version']}" if "redis_version" in lines else "version not permitted"


async def _asked(server: Server, connection: Any, *words: str) -> Any:
    """The reply; None if the user may not send the command."""
    try:
        return await server.ask(connection, *words)
    except BrokerUnavailable as why:
        if "NOPERM" in str(why):
            return None
        raise


def _commands(key: str, channel: str) -> list[tuple[str | int, ...]]:
    """Every command of the bridge, harmless: all keys are of this check, and none is left at the end."""
    text, words, scores = f"{key}:text", f"{key}:list", f"{key}:set"
    return [
        ("CLIENT", "SETNAME", "wsbridge"),
        ("INFO", "server"),
        ("CONFIG", "GET", "maxmemory-policy"),
        ("TIME",),
        ("SCAN", "0", "MATCH", f"{key}*", "COUNT", "1"),
        ("FUNCTION", "LOAD", ""),
        ("FCALL", "wsbridge_doctor", 1, text),  # there is no such function
        *(("SET", text, "x", "PX", "10000"), ("GET", text), ("SETRANGE", text, 0, "y"), ("GETRANGE", text, 0, 1)),
        *(("STRLEN", text), ("PEXPIRE", text, 10_000), ("PTTL", text), ("DEL", text)),
        *(("RPUSH", words, *"abcd"), ("PEXPIRE", words, 10_000), ("LINDEX", words, 0), ("LLEN", words)),
        *(("LRANGE", words, 0, 1), ("LTRIM", words, 0, 9), ("LPOP", words), ("RPOP", words), ("UNLINK", words)),
        *(("ZADD", scores, 1, "a"), ("PEXPIRE", scores, 10_000), ("ZREM", scores, "b")),
        *(("ZREMRANGEBYSCORE", scores, 0, 2), ("DEL", scores)),
        *(("SPUBLISH", channel, ""), ("SSUBSCRIBE", channel), ("SUNSUBSCRIBE", channel)),
    ]


async def redis_rights(d: Deployment) -> Finding:
    """Whether the Redis user may send every command of the bridge, and Redis accepts writes."""
    denied: list[str] = []
    try:
        async with connected(d) as (server, connection, key):
            for words in _commands(key, key):
                try:
                    await server.ask(connection, *words)
                except BrokerUnavailable as why:
                    if "NOPERM" in str(why):
                        denied.append(_right(words))
                    elif words[0] in ("SET", "RPUSH", "ZADD"):  # OOM, READONLY, MISCONF
                        return failure(f"Redis takes no writes: {why}", "see its log, maxmemory and its role")
    except BrokerUnavailable as why:
        if "NOPERM" in str(why):
            return failure(f"the bridge cannot connect: {why}", RIGHTS)
        raise NotChecked("Redis does not answer") from None
    if denied:
        return failure(f"the Redis user may not use: {', '.join(dict.fromkeys(denied))}", RIGHTS)
    return ok("the Redis user may send every command of the bridge")


def _right(words: tuple[str | int, ...]) -> str:
    subcommand = f"|{words[1]}" if words[0] in ("CLIENT", "CONFIG", "FUNCTION") else ""
    return f"+{words[0]}{subcommand}".lower()


async def _configured(d: Deployment, name: str) -> list[str]:
    """The values of an option, one for each node. Raises `NotChecked` if they are not to be had."""
    found = []
    try:
        async with connected(d) as (server, _, _):
            for node in server.nodes():
                connection = await server.connect(node)
                try:
                    reply = await _asked(server, connection, "CONFIG", "GET", name)
                finally:
                    await connection.disconnect(nowait=True)
                if not reply:
                    raise NotChecked("the Redis user may not read its configuration (+config|get)")
                found.append(reply[1].decode())
    except BrokerUnavailable:
        raise NotChecked("Redis does not answer") from None
    return found


async def redis_eviction(d: Deployment) -> Finding:
    """Whether Redis may remove keys of the bridge when its memory is full, or has no bound of its memory."""
    wrong = [policy for policy in await _configured(d, "maxmemory-policy") if policy != "noeviction"]
    if wrong:
        text = f"maxmemory-policy is {wrong[0]}: Redis may remove a part of a history without a trace"
        return failure(text, "CONFIG SET maxmemory-policy noeviction")
    if "0" in await _configured(d, "maxmemory"):
        return warning("maxmemory is 0: the memory of Redis has no bound", "set maxmemory below the memory it has")
    return ok("maxmemory-policy is noeviction, and maxmemory is set")


async def redis_buffers(d: Deployment) -> Finding:
    """Whether Redis cuts subscribers with a small output buffer: the bridge then misses live events."""
    worst = min((_pubsub_limits(text) for text in await _configured(d, "client-output-buffer-limit")), key=min)
    text = f"client-output-buffer-limit of pubsub is {worst[0]} (hard) and {worst[1]} (soft) bytes"
    if worst[0] >= BUFFER[0] and worst[1] >= BUFFER[1]:
        return ok(text)
    cure = "CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'"
    is_tiny = min(worst) < LEAST_BUFFER
    return (failure if is_tiny else warning)(f"{text}: Redis cuts replicas that receive many events", cure)


def _pubsub_limits(text: str) -> tuple[float, float]:
    """Hard and soft limit in bytes, from `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`."""
    words = text.split()
    place = words.index("pubsub")
    hard, soft = (float(word) or float("inf") for word in words[place + 1 : place + 3])  # 0 is no limit
    return hard, soft


async def redis_persistence(d: Deployment) -> Finding:
    """Whether a restart of Redis loses the histories."""
    if "no" in await _configured(d, "appendonly"):
        return warning("appendonly is no: after a restart of Redis every client has a gap", "set appendonly yes")
    return ok("appendonly is yes")


async def redis_clock(d: Deployment) -> Finding:
    """The clock of Redis: no promise depends on it, but its logs and metrics do."""
    try:
        async with connected(d) as (server, connection, _):
            reply = await _asked(server, connection, "TIME")
    except BrokerUnavailable:
        raise NotChecked("Redis does not answer") from None
    if not reply:
        raise NotChecked("the Redis user may not read its clock (+time)")
    return compared("the clock of Redis", float(reply[0]), float("inf"))
