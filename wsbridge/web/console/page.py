"""The files of the console's page. They contain no secrets; the page asks for the token."""

from collections.abc import Awaitable, Callable
from importlib.resources import files

from aiohttp import hdrs, web

from wsbridge.web.client_bundle import bundle

_STATIC = files("wsbridge.web").joinpath("static", "console")
_HEAD = {
    hdrs.CACHE_CONTROL: "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    hdrs.X_CONTENT_TYPE_OPTIONS: "nosniff",
}


def pages(*, needs_token: bool) -> dict[str, Callable[[web.Request], Awaitable[web.Response]]]:
    """The handler of each path. The page asks for a token first if it `needs_token`."""
    html = _STATIC.joinpath("index.html").read_text(encoding="utf-8")
    css = _STATIC.joinpath("console.css").read_text(encoding="utf-8")
    return {
        "/console": _file(html.replace("{{NEEDS_TOKEN}}", "yes" if needs_token else ""), "text/html"),
        "/console/console.js": _file(bundle(_STATIC, "console"), "text/javascript"),
        "/console/console.css": _file(css, "text/css"),
    }


def _file(text: str, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text=text, content_type=content_type, headers=_HEAD)

    return handler
