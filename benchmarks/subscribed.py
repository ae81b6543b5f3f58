"""Runs the bridge with the subscription in the argument: `python -m benchmarks.subscribed '<JSON>'`."""

import json
import sys

from aiohttp import web

from wsbridge.cli.main import main
from wsbridge.dapr.handler import DaprHandler


async def _subscriptions(self: DaprHandler, request: web.Request) -> web.Response:  # noqa: ARG001 - the signature of the method that it replaces
    return web.json_response([json.loads(sys.argv[1])])


DaprHandler.subscriptions = _subscriptions  # type: ignore[method-assign]  # the point
main(["serve"])
