"""Checks of the Dapr sidecar: version, tokens, component, subscription, invocation. See docs/dapr.md."""

import re
from http import HTTPStatus
from urllib.parse import quote

from aiohttp import hdrs

from wsbridge.cli.doctor.deployment import Deployment
from wsbridge.cli.doctor.findings import Finding, NotChecked, failure, ok, warning
from wsbridge.cli.http import Unreachable

FAULTS = (  # the first version without the fault, and the fault
    ((1, 17, 0), "bulk delivery is experimental"),
    ((1, 18, 0), "after SIGTERM it delivers nothing, even with dapr.io/enable-native-sidecar"),
    ((1, 18, 3), "it ends if a subscription without rawPayload gets a CloudEvent with a numeric traceid"),
)
ELSEWHERE = "another address is set with --dapr, another port with DAPR_HTTP_PORT"
SUBSCRIBE = "restart the sidecar: it subscribes once"
ACCESS = "apply k8s/dapr/access.yaml and name it in dapr.io/config"


async def sidecar(d: Deployment) -> Finding:
    """Whether a sidecar answers."""
    try:
        status = (await d.of_sidecar("/v1.0/metadata")).status
    except Unreachable as why:
        if d.settings.development or d.settings.demo:
            raise NotChecked(f"no sidecar answers at {d.sidecar}, and this mode needs none; {ELSEWHERE}") from None
        cure = (
            "set dapr.io/enabled; a sidecar does not start if the Configuration in dapr.io/config is missing. "
            f"{ELSEWHERE[0].upper()}{ELSEWHERE[1:]}"
        )
        return failure(f"no sidecar answers at {d.sidecar}: {why}", cure)
    if status in (HTTPStatus.OK, HTTPStatus.UNAUTHORIZED):
        return ok(f"a sidecar answers at {d.sidecar}")
    return failure(f"{d.sidecar}/v1.0/metadata answers {status}, which is not a sidecar", "check --dapr")


async def sidecar_version(d: Deployment) -> Finding:
    """Whether the version has known faults."""
    version = (await d.metadata()).get("runtimeVersion", "unknown")
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    faults = [f"before {'.'.join(map(str, first))}: {fault}" for first, fault in FAULTS if numbers < first]
    if not numbers:
        raise NotChecked("the sidecar does not name its version")
    if faults:
        return warning(f"it is {version}; {'; '.join(faults)}", "install Dapr 1.18.3 or newer")
    return ok(f"it is {version}")


async def api_token(d: Deployment) -> Finding:
    """Whether the sidecar accepts the `DAPR_API_TOKEN` of this environment."""
    try:
        status = (await d.of_sidecar("/v1.0/metadata")).status
    except Unreachable:
        raise NotChecked("the sidecar does not answer") from None
    if status == HTTPStatus.UNAUTHORIZED:
        text = "the sidecar requires another DAPR_API_TOKEN" if d.api_token else "the sidecar requires DAPR_API_TOKEN"
        return failure(text, "set DAPR_API_TOKEN to the value that the sidecar has (dapr.io/api-token-secret)")
    return ok("the sidecar accepts requests from here")


async def component(d: Deployment) -> Finding:
    """Whether the sidecar has loaded the pub/sub component: it does not if the scopes leave the app out."""
    metadata, name = await d.metadata(), d.settings.pubsub_name
    types = {found.get("name"): found.get("type", "") for found in metadata.get("components", [])}
    if name not in types:
        has = ", ".join(sorted(filter(None, types))) or "none"
        cure = f"create it in the app's namespace, and add {metadata.get('id')} to its scopes"
        return failure(f"the sidecar has not loaded the component {name}; it has: {has}", cure)
    if types[name] == "pubsub.in-memory":
        return warning(f"{name} is pubsub.in-memory, which loses events", "use pubsub.kafka in production")
    return ok(f"the sidecar has loaded {name} ({types[name]})")


async def subscription(d: Deployment) -> Finding:
    """Whether the sidecar is subscribed to each topic."""
    found = {(s.get("pubsubname"), s.get("topic")) for s in (await d.metadata()).get("subscriptions") or []}
    topics = [topic for topic, _ in d.settings.topics]
    missing = [topic for topic in topics if (d.settings.pubsub_name, topic) not in found]
    if missing:
        return failure(f"the sidecar is not subscribed to {', '.join(missing)} of {d.settings.pubsub_name}", SUBSCRIBE)
    return ok(f"the sidecar is subscribed to {', '.join(topics)}")


async def receipts(d: Deployment) -> Finding:
    """Whether the scopes let the bridge publish receipts. The sidecar checks that for an empty bulk as well."""
    name, topic = d.settings.pubsub_name, d.settings.receipts_topic
    if topic is None:
        raise NotChecked("WSBRIDGE_RECEIPTS_TOPIC is not set")
    path = f"/v1.0-alpha1/publish/bulk/{quote(name, safe='')}/{quote(topic, safe='')}"
    try:
        status = (await d.of_sidecar(path, "POST", b"[]")).status
    except Unreachable:
        raise NotChecked("the sidecar does not answer") from None
    match status:
        case HTTPStatus.OK | HTTPStatus.NO_CONTENT:
            return ok(f"the scopes of {name} let the bridge publish receipts to {topic}")
        case HTTPStatus.FORBIDDEN:
            cure = "add the topic to the component's publishingScopes of this app, and to allowedTopics if that is set"
            return failure(f"the scopes of {name} forbid the bridge to publish receipts to {topic}", cure)
        case _:
            raise NotChecked(f"the sidecar answers {status} to an empty bulk for {topic}: see component and api-token")


async def app_token(d: Deployment) -> Finding:
    """Whether the sidecar reaches the bridge, with the `APP_API_TOKEN` that the bridge requires.

    The sidecar adds the token to a call of its own app. HEAD reads the subscriptions without being counted as a read.
    """
    metadata = await d.metadata()
    port = metadata.get("appConnectionProperties", {}).get("port", "unknown")
    try:
        answer = await d.of_sidecar(f"/v1.0/invoke/{metadata.get('id')}/method/dapr/subscribe", "HEAD")
    except Unreachable as why:
        raise NotChecked(f"the sidecar does not pass on a call to its app: {why}") from None
    match answer.status:
        case HTTPStatus.OK:
            return ok("the bridge accepts the sidecar's token")
        case HTTPStatus.UNAUTHORIZED:
            cure = (
                "set APP_API_TOKEN to the same value for both (dapr.io/app-token-secret). Restart the one whose value "
                "you change, and the sidecar in any case: it subscribes once"
            )
            is_wrong = "invalid_token" in answer.headers.get(hdrs.WWW_AUTHENTICATE, "")
            sent = "another APP_API_TOKEN than the bridge requires" if is_wrong else "no APP_API_TOKEN"
            return failure(f"the sidecar sends {sent}", cure)
        case HTTPStatus.FORBIDDEN:
            return failure("the bridge refuses the sidecar", "set APP_API_TOKEN for both, and restart both")
        case HTTPStatus.NOT_FOUND:
            cure = "set dapr.io/app-port to WSBRIDGE_INTERNAL_PORT"
            return failure(f"the app-port {port} does not serve the sidecar's routes", cure)
        case _:
            cure = "set dapr.io/app-port to the port of the bridge for the sidecar"
            return failure(f"the sidecar gets no answer at its app-port {port} ({answer.status})", cure)


async def invocation(d: Deployment) -> Finding:
    """Whether another app may invoke the bridge through the sidecars."""
    if d.caller is None:
        raise NotChecked("--caller needs the URL of another app's sidecar")
    app = (await d.metadata()).get("id")
    try:
        answer = await d.send(f"{d.caller}/v1.0/invoke/{app}/method/healthz")
    except Unreachable as why:
        raise NotChecked(f"no sidecar answers at --caller: {why}") from None
    if answer.status == HTTPStatus.FORBIDDEN and b"access control policy" in answer.body:
        return ok("the sidecar refuses invocations by other apps")
    if answer.status == HTTPStatus.OK:
        return failure("other apps may invoke the bridge, and the sidecar adds the app token", ACCESS)
    raise NotChecked(f"the invocation was answered {answer.status}")
