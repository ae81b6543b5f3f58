"""The table of all checks, and the function that runs them at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from wsbridge.cli.doctor import bridge, canary, ingress, keys, redis, refused, sidecar, streams
from wsbridge.cli.doctor.deployment import Deployment
from wsbridge.cli.doctor.findings import Finding, NotChecked, State
from wsbridge.cli.doctor.relations import related

LIMIT = 30.0  # seconds for one check


class Check(NamedTuple):
    run: Callable[[Deployment], Awaitable[Finding | list[Finding]]]
    is_idle: bool = False  # it waits for `Deployment.idle` seconds


CHECKS = {
    "bridge": Check(bridge.bridge),
    "admin-token": Check(bridge.admin_token),
    "replicas": Check(bridge.replicas),
    "partitions": Check(bridge.partitions),
    "refused": Check(refused.refused),
    "bridge-clock": Check(bridge.bridge_clock),
    "sidecar": Check(sidecar.sidecar),
    "api-token": Check(sidecar.api_token),
    "app-token": Check(sidecar.app_token),
    "component": Check(sidecar.component),
    "subscription": Check(sidecar.subscription),
    "receipts": Check(sidecar.receipts),
    "invocation": Check(sidecar.invocation),
    "canary": Check(canary.canary),
    "redis": Check(redis.redis),
    "redis-rights": Check(redis.redis_rights),
    "redis-eviction": Check(redis.redis_eviction),
    "redis-buffers": Check(redis.redis_buffers),
    "redis-persistence": Check(redis.redis_persistence),
    "redis-histories": Check(refused.redis_histories),
    "redis-clock": Check(redis.redis_clock),
    "jwks": Check(keys.jwks),
    "jwks-clock": Check(keys.jwks_clock),
    "websocket": Check(ingress.websocket),
    "stream": Check(streams.stream),
    "idle-websocket": Check(ingress.idle_websocket, is_idle=True),
    "idle-stream": Check(streams.idle_stream, is_idle=True),
    "histories": Check(ingress.histories),
    "origin": Check(ingress.origin),
    "guarded-routes": Check(ingress.guarded_routes),
    "sidecar-version": Check(sidecar.sidecar_version),  # last: rarely the cause of what the operator looks for
}


async def examine(d: Deployment) -> list[tuple[str, Finding]]:
    """Run all checks. Returns the name of each with a finding, in the order of the table."""
    found = {"refused": await run(CHECKS["refused"], d)}  # before the others, which cause refusals themselves
    names = [name for name in CHECKS if name not in found]
    found |= zip(names, await asyncio.gather(*(run(CHECKS[name], d) for name in names)), strict=True)
    return [(name, finding) for name in CHECKS for finding in related(name, found)]


async def run(check: Check, d: Deployment) -> list[Finding]:
    try:
        async with asyncio.timeout(LIMIT + (d.idle if check.is_idle else 0.0)):
            found = await check.run(d)
            return found if isinstance(found, list) else [found]
    except NotChecked as why:
        text = str(why)
    except TimeoutError:
        text = f"the check took more than {LIMIT:g} s"
    except Exception as error:  # the task boundary: answers of others may have any content
        text = f"the check failed: {type(error).__name__}"
    return [Finding(State.NOT_CHECKED, text)]
