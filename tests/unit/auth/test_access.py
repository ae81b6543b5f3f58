"""Access to routes: the rule as a table, and the guard that applies it."""

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict
from structlog.testing import capture_logs

from wsbridge.auth.access import TOKENS, Access, Call, Caller, Trust, bearer, refusal
from wsbridge.telemetry.metrics import Metrics

GUARDED = (Caller.SIDECAR, Caller.OPERATOR, Caller.PROMETHEUS)
FORGED = (  # headers of an outside client, as proxies forward them; mesh sidecars connect from 127.0.0.6 (Istio)
    ("127.0.0.1", {"Host": "127.0.0.1:8004"}),
    ("127.0.0.1", {"Host": "localhost:8004"}),
    ("127.0.0.1", {"Host": "app"}),
    ("127.0.0.1", {"Host": ""}),
    ("127.0.0.6", {"Host": "10.1.2.3:8004"}),
    ("::1", {"Host": "[::1]:8004"}),
    ("127.0.0.1", {"Host": "bridge.example.com", "X-Forwarded-For": "203.0.113.9"}),
    ("127.0.0.1", {"Host": "bridge.example.com", "Forwarded": "for=203.0.113.9"}),
)
INVOCATION = {  # headers of a call by another app, as daprd 1.18 sends them
    "dapr-caller-app-id": "intruder",
    "dapr-callee-app-id": "websocket-service",
    "dapr-caller-namespace": "default",
}


def request(remote: Any = "127.0.0.1", host: str = "localhost:8004", **headers: str) -> web.Request:
    """A request. Underscores in names of headers become hyphens."""
    sent = {"Host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request("GET", "/stats?token=secret", headers=sent).clone(remote=remote)


def garbled(**headers: str) -> Any:
    """A request with header bytes that are not UTF-8, which make_mocked_request cannot make."""
    sent = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return SimpleNamespace(
        method="GET", headers=sent, remote="127.0.0.1", host="localhost:8004", path="/stats", get=lambda _: None
    )


def trust(token: str | None = None, *, development: bool = False, demo: bool = False) -> Trust:
    """The same token for every caller."""
    return Trust(tokens=dict.fromkeys(GUARDED, token), development=development, demo=demo)


async def status(caller: Caller, asked: web.Request, its: Trust, *, internal: bool = False) -> int:
    """The status of a guarded route."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    try:
        return (await Access(its, Metrics(), internal=internal).guard(caller, handler)(asked)).status
    except web.HTTPException as error:
        return error.status


guarded = pytest.mark.parametrize("caller", GUARDED, ids=lambda caller: caller.value)


# The rule.


def why(caller: Caller, call: Call, its: Trust) -> str:
    found = refusal(caller, call, its)
    return found.why if found else ""


@guarded
@pytest.mark.fault("B1")
def test_refusal_outside_development_ignores_the_peer_address(caller: Caller) -> None:
    for local, internal, demo in itertools.product((False, True), repeat=3):
        call = Call(local=local, internal=internal)
        opens = demo or (internal and caller is not Caller.SIDECAR)
        assert why(caller, call, trust(demo=demo)) == ("" if opens else "no_token")


@guarded
def test_refusal_in_development_allows_local_calls_only(caller: Caller) -> None:
    for internal in (False, True):
        assert why(caller, Call(local=True, internal=internal), trust(development=True)) == ""
        assert why(caller, Call(local=False, internal=internal), trust(development=True)) == "not_local"


@guarded
def test_refusal_with_a_token_configured_compares_the_token_only(caller: Caller) -> None:
    for local, internal, foreign, development, demo in itertools.product((False, True), repeat=5):
        its = trust("right", development=development, demo=demo)
        for token in ("", "wrong", "right"):
            call = Call(token=token, local=local, internal=internal, foreign=foreign)
            assert why(caller, call, its) == ("" if token == "right" else "token")


@guarded
@pytest.mark.fault("B2")
def test_refusal_of_an_invocation_ignores_its_token(caller: Caller) -> None:
    for token, local, internal, development in itertools.product((None, "right"), *((False, True),) * 3):
        call = Call(token="right", local=local, internal=internal, invoked=True)
        assert why(caller, call, trust(token, development=development, demo=not development)) == "invocation"


@guarded
def test_refusal_of_a_foreign_page_without_a_token_applies_in_all_modes(caller: Caller) -> None:
    for internal, development in itertools.product((False, True), repeat=2):
        call = Call(internal=internal, foreign=True, local=True)
        assert why(caller, call, trust(development=development, demo=not development)) == "foreign_page"


@guarded
def test_refusal_text_names_the_setting_to_change(caller: Caller) -> None:
    texts = [
        refusal(caller, Call(), trust("right")),
        refusal(caller, Call(), trust()),
        refusal(caller, Call(foreign=True), trust()),
        refusal(caller, Call(), trust(development=True)),
    ]
    assert all(found and TOKENS[caller] in found.text for found in texts)
    no_token = refusal(caller, Call(), trust())
    assert no_token
    assert ("WSBRIDGE_INTERNAL_PORT" in no_token.text) is (caller is not Caller.SIDECAR)


def test_guard_for_anyone_returns_the_handler() -> None:
    assert refusal(Caller.ANYONE, Call(invoked=True, foreign=True), trust("right")) is None


# Tokens.


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("Bearer\tabc", None),
        ("", None),
        ("Bearer a b", "a b"),
    ],
)
def test_bearer_returns_the_text_after_the_scheme(header: str, token: str | None) -> None:
    assert bearer(request(Authorization=header)) == token
    assert bearer(request()) is None
    assert bearer(garbled(Authorization="Bearer \udcff")) == "\udcff"


def sent(caller: Caller, token: str) -> dict[str, str]:
    return {"dapr-api-token": token} if caller is Caller.SIDECAR else {"Authorization": f"Bearer {token}"}


@guarded
@pytest.mark.parametrize(
    ("token", "answer"),
    [("right", 200), ("wrong", 401), ("righ", 401), ("rightt", 401), ("Right", 401), ("", 401), ("é", 401)],
)
async def test_guard_with_a_token_set_compares_all_of_it(caller: Caller, token: str, answer: int) -> None:
    for remote in ("127.0.0.1", "10.0.0.9"):
        asked = request(remote, **sent(caller, token), X_Forwarded_For="10.0.0.9", Origin="https://evil.net")
        assert await status(caller, asked, trust("right")) == answer
    assert await status(caller, request(), trust("right")) == 401


@guarded
async def test_guard_with_a_garbled_token_answers_401(caller: Caller) -> None:
    asked = garbled(dapr_api_token="\udcff", Authorization="Bearer \udcff")
    assert await status(caller, asked, trust("right")) == 401


@guarded
async def test_guard_takes_a_token_for_its_own_routes_only(caller: Caller) -> None:
    for other in set(GUARDED) - {caller}:
        asked = request("10.0.0.9", **sent(caller, "right") | sent(other, "right"))
        its = Trust(tokens=dict.fromkeys(GUARDED) | {other: "right", caller: "another"})
        assert await status(caller, asked, its) == 401


def test_refusal_of_a_viewers_route_accepts_the_tokens_of_viewers_and_operators() -> None:
    its = Trust(tokens={Caller.OPERATOR: "admin", Caller.VIEWER: "viewer"})
    assert [why(Caller.VIEWER, Call(token=token), its) for token in ("admin", "viewer", "")] == ["", "", "token"]
    assert [why(Caller.OPERATOR, Call(token=token), its) for token in ("admin", "viewer")] == ["", "token"]


def test_refusal_of_a_viewers_route_without_an_operators_token_is_that_of_operators() -> None:
    its = Trust(tokens=dict.fromkeys((*GUARDED, Caller.VIEWER)))
    for internal, foreign in itertools.product((False, True), repeat=2):
        call = Call(internal=internal, foreign=foreign)
        assert refusal(Caller.VIEWER, call, its) == refusal(Caller.OPERATOR, call, its)


async def test_guard_takes_a_token_of_any_characters() -> None:
    asked = request("10.0.0.9", Authorization="Bearer é😀")
    assert await status(Caller.OPERATOR, asked, trust("é😀")) == 200


async def test_guard_logs_a_refusal_without_secrets_and_counts_it() -> None:
    metrics = Metrics()
    access = Access(Trust(tokens={**dict.fromkeys(GUARDED), Caller.OPERATOR: "right"}), metrics, internal=False)
    with capture_logs() as lines:
        with pytest.raises(web.HTTPUnauthorized) as caught:
            access.check(Caller.OPERATOR, request("10.0.0.9", Authorization="Bearer wrong"))
        with pytest.raises(web.HTTPForbidden):
            access.check(Caller.SIDECAR, request("10.0.0.9"))
    assert caught.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert [(line["event"], line["caller"], line["why"]) for line in lines] == [
        ("request.denied", "operator", "token"),
        ("request.denied", "sidecar", "no_token"),
    ]
    assert {(line["path"], line["peer"]) for line in lines} == {("/stats", "10.0.0.9")}
    assert not {"right", "wrong", "secret"} & {str(value) for line in lines for value in line.values()}
    assert [line["todo"].partition(":")[0] for line in lines] == [
        "This route needs the operator's token",
        "This route needs a token",
    ]
    assert metrics.errors["denied"] == 2


@pytest.mark.parametrize(
    ("method", "remote", "internal", "headers", "reported"),
    [
        ("GET", "127.0.0.1", False, {}, [("/dapr/subscribe", 401)]),
        ("GET", "10.0.0.9", True, {}, [("/dapr/subscribe", 401)]),
        ("GET", "127.0.0.1", False, {"dapr-caller-app-id": "other"}, [("/dapr/subscribe", 403)]),
        ("GET", "10.0.0.9", False, {}, [("/dapr/subscribe", None)]),
        ("GET", "127.0.0.1", False, {"X-Forwarded-For": "192.0.2.1"}, [("/dapr/subscribe", None)]),
        ("HEAD", "127.0.0.1", True, {}, []),  # `wsbridge doctor`
    ],
)
def test_guard_reports_a_refused_sidecar_with_its_status_unless_anybody_can_be_the_caller(
    method: str, remote: str, internal: bool, headers: dict[str, str], reported: list[tuple[str, int | None]]
) -> None:
    found: list[tuple[str, int | None]] = []
    access = Access(
        Trust(tokens={**dict.fromkeys(GUARDED), Caller.SIDECAR: "right"}),
        Metrics(),
        internal=internal,
        sidecar_denied=lambda path, status: found.append((path, status)),
    )
    with pytest.raises((web.HTTPUnauthorized, web.HTTPForbidden)):
        access.check(
            Caller.SIDECAR, make_mocked_request(method, "/dapr/subscribe", headers=headers).clone(remote=remote)
        )
    assert found == reported


# The origin of a request.


@guarded
@pytest.mark.fault("B1")
@pytest.mark.parametrize(("remote", "headers"), FORGED, ids=str)
async def test_guard_outside_development_refuses_requests_of_a_local_proxy(
    caller: Caller, remote: str, headers: dict[str, str]
) -> None:
    asked = make_mocked_request("GET", "/stats", headers=headers).clone(remote=remote)
    assert await status(caller, asked, trust()) == 403


@guarded
@pytest.mark.fault("B2")
async def test_guard_refuses_invocations_through_the_sidecar(caller: Caller) -> None:
    for header in INVOCATION:
        asked = make_mocked_request(
            "POST", "/events/task-updates", headers={**sent(caller, "right"), "Host": "127.0.0.1:8005", header: "x"}
        ).clone(remote="127.0.0.1")
        for its in (trust("right"), trust(), trust(development=True), trust(demo=True)):
            assert await status(caller, asked, its, internal=True) == 403


@pytest.mark.fault("B2")
@pytest.mark.parametrize("delivery", [{"Pubsubname": "pubsub-kafka"}, {"__offset": "7"}], ids=str)
async def test_guard_answers_404_to_a_delivery_with_invocation_headers(delivery: dict[str, str]) -> None:
    """Headers of a message arrive as headers of a single delivery.

    After 403 the sidecar would retry forever; 404 is a drop.
    """
    poison = delivery | {"Dapr-Caller-App-Id": "poison", "dapr-api-token": "right"}
    asked = make_mocked_request("POST", "/events/task-updates", headers=poison).clone(remote="127.0.0.1")
    assert await status(Caller.SIDECAR, asked, trust("right")) == 404


@pytest.mark.parametrize(
    ("remote", "answer"),
    [
        ("127.0.0.1", 200),
        ("127.1.2.3", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),
        ("::ffff:10.0.0.9", 403),
        ("10.0.0.9", 403),
        ("192.168.1.1", 403),
        ("0.0.0.0", 403),
        ("fe80::1%eth0", 403),
        ("2001:db8::1", 403),
        ("", 403),
        (None, 403),
    ],
)
@guarded
async def test_guard_in_development_serves_this_machine_only(caller: Caller, remote: str | None, answer: int) -> None:
    assert await status(caller, request(remote), trust(development=True)) == answer


@pytest.mark.parametrize(
    "headers", [{"Forwarded": "for=10.0.0.9"}, {"X-Forwarded-For": "10.0.0.9"}, {"X-Forwarded-For": ""}], ids=str
)
@guarded
async def test_guard_in_development_refuses_forwarded_requests(caller: Caller, headers: dict[str, str]) -> None:
    assert await status(caller, request("127.0.0.1", **headers), trust(development=True)) == 403


@pytest.mark.parametrize(
    ("origin", "answer"),
    [("http://localhost:8004", 200), ("https://evil.net", 403), ("http://localhost:3000", 403), ("null", 403)],
)
@guarded
async def test_guard_refuses_a_foreign_page_in_a_local_browser(caller: Caller, origin: str, answer: int) -> None:
    """Even a page that may connect to /ws must not publish."""
    for its in (trust(development=True), trust(demo=True)):
        assert await status(caller, request("127.0.0.1", Origin=origin), its) == answer


@pytest.mark.parametrize(
    ("site", "dest", "answer"),
    [
        ("cross-site", "image", 403),
        ("cross-site", "empty", 403),
        ("cross-site", "iframe", 403),
        ("same-site", "script", 403),
        ("cross-site", "document", 200),  # a link
        ("same-origin", "empty", 200),
        ("none", "document", 200),
    ],
)
@guarded
async def test_guard_refuses_a_foreign_page_that_sends_no_origin(
    caller: Caller, site: str, dest: str, answer: int
) -> None:
    """An image or an opaque fetch could take all streams of the console."""
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Dest": dest}
    for its in (trust(development=True), trust(demo=True)):
        assert await status(caller, request("127.0.0.1", **headers), its) == answer


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost:8004", 200),
        ("app.localhost:8004", 200),
        ("127.0.0.1:8004", 200),
        ("10.1.2.3:8004", 200),
        ("[::1]:8004", 200),
        ("websocket-service:8004", 200),
        ("", 200),
        ("[", 200),
        ("evil.example:8004", 403),
        ("evil.example.:8004", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
    ],
)
@guarded
async def test_guard_in_development_refuses_a_dns_name_as_host(caller: Caller, host: str, answer: int) -> None:
    assert await status(caller, request(host=host), trust(development=True)) == answer


# Details of health.


@pytest.mark.parametrize(
    ("asked", "its", "internal", "shown"),
    [
        (request(), trust(development=True), False, True),
        (request("10.0.0.9"), trust(development=True), False, False),
        (request(), trust(), False, False),
        (request("10.0.0.9"), trust(demo=True), False, True),
        (request("10.0.0.9"), trust(), True, True),
        (request("10.0.0.9"), trust("right"), True, True),
        (request(**INVOCATION), trust("right"), True, False),
        (request(), trust("right"), False, False),
        (request(Authorization="Bearer wrong"), trust("right"), False, False),
        (request("10.0.0.9", Authorization="Bearer right"), trust("right"), False, True),
    ],
)
def test_shows_details_is_true_for_operators_only(asked: web.Request, its: Trust, internal: bool, shown: bool) -> None:
    with capture_logs() as lines:
        assert Access(its, Metrics(), internal=internal).shows_details(asked) is shown
    assert lines == []  # hiding details is not logged as a refusal
