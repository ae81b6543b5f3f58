"""The backend of examples/tasks-page, without and with its login, and a bridge that it publishes to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from tests.support.node_servers import listening
from tests.support.running import APP_TOKEN, ROOT, SECRET, Start, receive, until
from tests.support.valkey import free_port

SERVER = ROOT / "examples" / "tasks-page" / "server.mjs"


@asynccontextmanager
async def serving(bridge: str, **environ: str) -> AsyncIterator[str]:
    """The URL of the backend, whose pages are those of the example. It publishes to the bridge at that URL."""
    port = str(free_port())
    async with listening("node", SERVER, cwd=SERVER.parent, PORT=port, BRIDGE=bridge, **environ):
        yield f"http://127.0.0.1:{port}"


async def ask(session: aiohttp.ClientSession, method: str, url: str, **options: object) -> tuple[int, str]:
    async with session.request(method, url, **options) as response:  # type: ignore[arg-type] # `data` or `json`
        return response.status, await response.text()


def browser() -> aiohttp.ClientSession:
    """One with cookies of its own, also of an IP address."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))


async def test_backend_without_login_has_the_tasks_of_alice_and_no_routes_of_a_login(start: Start) -> None:
    async with serving((await start()).url) as url, browser() as http:
        assert (await ask(http, "POST", f"{url}/api/tasks", json={"task_id": "7", "title": "Buy milk"}))[0] == 200
        for query in ("", "?user=alice"):
            assert await ask(http, "GET", f"{url}/api/tasks{query}") == (200, '[{"task_id":"7","title":"Buy milk"}]')
        assert (await ask(http, "GET", f"{url}/api/tasks?user=bob"))[0] == 403
        assert (await ask(http, "GET", f"{url}/me"))[0] == 404


async def test_backend_with_login_has_tasks_of_each_user_and_refuses_any_other(start: Start) -> None:
    bridge = await start()
    ws, _ = await bridge.opened("bob")
    async with serving(bridge.url, LOGIN="1") as url, browser() as alice, browser() as bob, browser() as nobody:
        for http, name in ((alice, "alice"), (bob, "bob")):
            assert (await ask(http, "POST", f"{url}/login", data={"name": name}))[0] == 204
            assert await ask(http, "GET", f"{url}/me") == (200, name)
            task = {"task_id": "7", "title": f"A task of {name}"}  # the same id for both
            assert (await ask(http, "POST", f"{url}/api/tasks?user={name}", json=task))[0] == 200
        own = await ask(bob, "GET", f"{url}/api/tasks?user=bob")
        assert own == (200, '[{"task_id":"7","title":"A task of bob"}]')
        assert (await receive(ws))["event"]["title"] == "A task of bob"

        for path in ("/me", "/api/tasks?user=bob", "/api/tasks"):
            assert (await ask(nobody, "GET", url + path))[0] == 401
        for method, path in ("GET", ""), ("POST", ""), ("PATCH", "/7"), ("DELETE", "/7"):
            answer = await ask(alice, method, f"{url}/api/tasks{path}?user=bob", json={"title": "Not yours"})
            assert answer[0] == 403
        assert (await ask(alice, "POST", f"{url}/login", data={"name": "a/b"}))[0] == 400

        await ask(bob, "POST", f"{url}/logout")
        assert (await ask(bob, "GET", f"{url}/api/tasks?user=bob"))[0] == 401
        assert (await ask(bob, "POST", f"{url}/token"))[0] == 404  # without the bridge's secret
        assert (await ask(alice, "GET", f"{url}/me"))[0] == 200


async def test_backend_with_the_secret_of_the_bridge_signs_tokens_and_publishes(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET, APP_API_TOKEN=APP_TOKEN)
    secrets = {"WSBRIDGE_JWT_SECRET": SECRET, "APP_API_TOKEN": APP_TOKEN}
    async with serving(bridge.url, LOGIN="1", **secrets) as url, browser() as http:
        assert (await ask(http, "POST", f"{url}/token"))[0] == 401
        await ask(http, "POST", f"{url}/login", data={"name": "bob"})
        status, token = await ask(http, "POST", f"{url}/token")
        assert status == 200
        ws, hello = await bridge.opened("bob", token=token)
        assert hello["user_id"] == "bob"
        assert (await ask(http, "POST", f"{url}/api/tasks", json={"title": "Buy milk"}))[0] == 200
        assert (await receive(ws))["event"]["title"] == "Buy milk"


async def test_backend_publishes_later_what_it_saves_while_no_bridge_runs(start: Start) -> None:
    port = free_port()
    async with serving(f"http://127.0.0.1:{port}") as url, browser() as http:
        for title in "Buy milk", "x" * 1_000, "Buy bread":
            assert (await ask(http, "POST", f"{url}/api/tasks", json={"title": title}))[0] == 200
        events = (await start(PORT=str(port), MAX_EVENT_BYTES="500")).bridge.metrics.events
        await until(lambda: (events["stored"], events["dropped"]) == (2, 1))
