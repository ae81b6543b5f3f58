"""What a browser is given: in development mode the demo page."""

from importlib.resources import files

from aiohttp import hdrs, web


class PagesDoor:
    """`public_port` is where /ws is, as text; empty where the page is on the same port."""

    def __init__(self, *, public_port: str) -> None:
        page = files("wsbridge").joinpath("static", "demo.html").read_text(encoding="utf-8")
        self._demo = page.replace("{{PUBLIC_PORT}}", public_port)

    async def demo(self, request: web.Request) -> web.Response:
        return web.Response(text=self._demo, content_type="text/html", headers={hdrs.CACHE_CONTROL: "no-store"})
