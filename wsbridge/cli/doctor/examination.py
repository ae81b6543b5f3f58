"""The table of all checks, and the function that runs them at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from wsbridge.cli.doctor import bridge, canary, ingress, keys, redis, sidecar
from wsbridge.cli.doctor.deployment import Deployment
from wsbridge.cli.doctor.findings import Finding, NotChecked, State

LIMIT = 30.0  # seconds for one check


class Check(NamedTuple):
    run: Callable[[Deployment], Awaitable[Finding]]
    is_idle: bool = False  # it waits for `Deployment.idle` seconds


CHECKS = {
    "bridge": Check(bridge.bridge),
    "admin-token": Check(bridge.admin_token),
    "replicas": Check(bridge.replicas),
    "partitions": Check(bridge.partitions),
    "bridge-clock": Check(bridge.bridge_clock),
    "sidecar": Check(sidecar.sidecar),
    "sidecar-version": Check(sidecar.sidecar_version),
    "api-token": Check(sidecar.api_token),
    "app-token": Check(sidecar.app_token),
    "component": Check(sidecar.component),
    "subscription": Check(sidecar.subscription),
    "invocation": Check(sidecar.invocation),
    "canary": Check(canary.canary),
    "redis": Check(redis.redis),
    "redis-rights": Check(redis.redis_rights),
    "redis-eviction": Check(redis.redis_eviction),
    "redis-buffers": Check(redis.redis_buffers),
    "redis-persistence": Check(redis.redis_persistence),
    "redis-clock": Check(redis.redis_clock),
    "jwks": Check(keys.jwks),
    "jwks-clock": Check(keys.jwks_clock),
    "websocket": Check(ingress.websocket),
    "stream": Check(ingress.stream),
    "idle-websocket": Check(ingress.idle_websocket, is_idle=True),
    "idle-stream": Check(ingress.idle_stream, is_idle=True),
    "origin": Check(ingress.origin),
    "guarded-routes": Check(ingress.guarded_routes),
}


async def examine(d: Deployment) -> dict[str, Finding]:
    """Run all checks. Returns a finding for each name."""
    found = await asyncio.gather(*(run(check, d) for check in CHECKS.values()))
    return dict(zip(CHECKS, found, strict=True))


async def run(check: Check, d: Deployment) -> Finding:
    try:
        async with asyncio.timeout(LIMIT + (d.idle if check.is_idle else 0.0)):
            return await check.run(d)
    except NotChecked as why:
        return Finding(State.NOT_CHECKED, str(why))
    except TimeoutError:
        return Finding(State.NOT_CHECKED, f"the check took more than {LIMIT:g} s")
    except Exception as error:  # the task boundary: answers of others may have any content
        return Finding(State.NOT_CHECKED, f"the check failed: {type(error).__name__}")
