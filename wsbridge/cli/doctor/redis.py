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
from wsbridge.cli.doctor.findings import Finding, NotChecked, State, failure, ok, warning
from wsbridge.cli.http import Unreachable

PINGS = 20
SLOW, TOO_SLOW = 0.005, 0.25  # seconds: the median round trip that is a warning, and a failure
LEAST_VERSION = 7
BUFFER = (33_554_432, 8_388_608)  # hard and soft limit of a subscriber's output buffer, Redis' defaults
MB, MIB = 1_000_000, 1_048_576
LEAST_BUFFER = MIB  # bytes: less than one batch of events may need
NEARLY_FULL = 0.8  # of maxmemory
WITHIN = "within the memory of its machine or container"
RIGHTS = "grant the Redis user the rights in docs/configuration.md#redis"


@contextlib.asynccontextmanager
async def connected(d: Deployment) -> AsyncIterator[tuple[Server, Any, str]]:
    """A server, a connection to the node that owns a key, and that key. Raises `NotChecked` or `BrokerUnavailable`."""
    if d.settings.redis_url is None:
        raise NotChecked(await _without_url(d))
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


async def _without_url(d: Deployment) -> str:
    """Why Redis is not checked: the bridge may have a Redis although this environment has none."""
    with contextlib.suppress(Unreachable):
        if await d.uses_redis():
            here = "run doctor in the bridge's container, or export it"
            return f"the bridge uses Redis, but WSBRIDGE_REDIS_URL is not set here: {here}"
    return "WSBRIDGE_REDIS_URL is not set"


async def redis(d: Deployment) -> Finding:
    """Whether Redis answers, its version and its latency."""
    try:
        async with connected(d) as (server, connection, _):
            found = []
            for _ in range(PINGS):
                started = time.perf_counter()
                await server.ask(connection, "PING")
                found.append(time.perf_counter() - started)
            version = _version(_fields(await _asked(server, connection, "INFO", "server")))
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


def _fields(info: bytes | None) -> dict[str, str]:
    """The reply of INFO; empty if it is not permitted."""
    return dict(line.partition(":")[::2] for line in (info or b"").decode().splitlines())


def _version(fields: dict[str, str]) -> str:
    if "valkey_version" in fields:
        return f"Valkey {fields['valkey_version']}"
    return f"Redis {fields['redis_version']}" if "redis_version" in fields else "version not permitted"


async def _asked(server: Server, connection: Any, *words: str) -> Any:
    """The reply; None if the user may not send the command."""
    try:
        return await server.ask(connection, *words)
    except BrokerUnavailable as why:
        if "NOPERM" in str(why):
            return None
        raise


def _commands(key: str, channel: str, *, receipts: bool) -> list[tuple[str | int, ...]]:
    """Every command of the bridge, harmless: all keys are of this check, and none is left at the end.

    With `receipts` also those that only receipts need.
    """
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
        *((("ZCARD", scores), ("ZRANGEBYSCORE", scores, 0, 1), ("ZSCORE", scores, "a")) if receipts else ()),
        *(("ZREMRANGEBYSCORE", scores, 0, 2), ("DEL", scores)),
        *(("SPUBLISH", channel, ""), ("SSUBSCRIBE", channel), ("SUNSUBSCRIBE", channel)),
    ]


async def redis_rights(d: Deployment) -> Finding:
    """Whether the Redis user may send every command of the bridge, and Redis accepts writes."""
    denied: list[str] = []
    try:
        async with connected(d) as (server, connection, key):
            for words in _commands(key, key, receipts=d.settings.receipts_topic is not None):
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


async def _of_each_node(d: Deployment, *words: str) -> list[Any]:
    """The reply of each node to a command. Raises `NotChecked` if there is none."""
    found = []
    try:
        async with connected(d) as (server, _, _):
            for node in server.nodes():
                connection = await server.connect(node)
                try:
                    reply = await _asked(server, connection, *words)
                finally:
                    await connection.disconnect(nowait=True)
                if not reply:
                    raise NotChecked(f"the Redis user may not read its configuration ({_right(words)})")
                found.append(reply)
    except BrokerUnavailable:
        raise NotChecked("Redis does not answer") from None
    return found


async def _configured(d: Deployment, name: str) -> list[str]:
    """The values of an option, one for each node."""
    return [reply[1].decode() for reply in await _of_each_node(d, "CONFIG", "GET", name)]


async def redis_eviction(d: Deployment) -> Finding:
    """Whether Redis removes keys of the bridge when its memory is full, or refuses writes soon, or has no bound."""
    nodes = [_fields(reply) for reply in await _of_each_node(d, "INFO")]
    return min((_memory(node) for node in nodes), key=lambda finding: list(State).index(finding.state))


def _memory(fields: dict[str, str]) -> Finding:
    """The finding of one node. With `noeviction` alone, a full Redis would refuse every write."""
    used, limit, evicted = (int(fields[name]) for name in ("used_memory", "maxmemory", "evicted_keys"))
    policy, is_full = fields["maxmemory_policy"], limit and used >= NEARLY_FULL * limit
    share = f"{used / MB:,.1f} of {limit / MB:,.1f} MB is used"
    if policy != "noeviction":
        done = f"has evicted {evicted:,} keys since its start" if evicted else "may remove a part of a history"
        cure = "CONFIG SET maxmemory-policy noeviction"
        if limit and (is_full or evicted):
            why = "with noeviction alone a full Redis refuses every write, and no event arrives"
            cure = f"first raise maxmemory {WITHIN} ({share}: {why}), then {cure}, and both in its configuration file"
        else:
            cure += ", and in its configuration file"
        return failure(f"maxmemory-policy is {policy}: Redis {done}; clients get gaps", cure)
    if not limit:
        return warning(
            "maxmemory is 0: the memory of Redis has no bound", f"set maxmemory {WITHIN}, above what it uses"
        )
    if is_full:
        text = f"memory is nearly full ({share}): a full Redis refuses every write, and no event arrives"
        return warning(text, f"raise maxmemory {WITHIN}, or lower WSBRIDGE_HISTORY_TTL or WSBRIDGE_HISTORY_SIZE")
    return ok(f"maxmemory-policy is noeviction, and {share}")


async def redis_buffers(d: Deployment) -> Finding:
    """Whether Redis cuts subscribers with a small output buffer: the bridge then misses live events."""
    worst = min((_pubsub_limits(text) for text in await _configured(d, "client-output-buffer-limit")), key=min)
    hard, soft = map(_readable, worst)
    text = f"client-output-buffer-limit of pubsub is {hard} (hard) and {soft} (soft)"
    if worst[0] >= BUFFER[0] and worst[1] >= BUFFER[1]:
        return ok(text)
    cure = "CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'"
    is_tiny = min(worst) < LEAST_BUFFER
    return (failure if is_tiny else warning)(f"{text}: Redis cuts replicas that receive many events", cure)


def _readable(limit: float) -> str:
    if limit == float("inf"):
        return "unlimited"
    return f"{limit / MIB:.4g} MiB" if limit >= MIB else f"{limit / 1024:.4g} KiB"


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
