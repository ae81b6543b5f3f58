"""A login with sessions, and the token endpoint for the bridge. login.mjs and Login.java do the same."""

import os
import re
import secrets
import time
from pathlib import Path

import jwt
from aiohttp import web

PORT = int(os.environ.get("PORT", "3000"))
BRIDGE = os.environ.get("BRIDGE", "http://localhost:8004")
KEY = os.environ["WSBRIDGE_JWT_SECRET"]
PAGE = Path(__file__).with_name("index.html").read_text(encoding="utf-8").replace("{{BRIDGE}}", BRIDGE)
LIFETIME = 600  # seconds of a token

routes = web.RouteTableDef()
sessions: dict[str, str] = {}  # session → user


def user_of(request: web.Request) -> str:
    user = sessions.get(request.cookies.get("session", ""))
    if user is None:
        raise web.HTTPUnauthorized
    return user


@routes.get("/")
async def page(_: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


@routes.get("/me")
async def me(request: web.Request) -> web.Response:
    return web.Response(text=user_of(request), headers={"Cache-Control": "no-store"})


@routes.get("/tasks")
async def tasks(request: web.Request) -> web.Response:
    user = user_of(request)
    if request.query.get("user") != user:
        raise web.HTTPForbidden  # a page of another user
    headers = {"Cache-Control": "no-store"}
    return web.json_response([{"task_id": "1", "title": f"A task of {user}"}], headers=headers)


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    name = str((await request.post()).get("name"))
    if not re.fullmatch(r"[\w.-]{1,64}", name, re.ASCII):
        raise web.HTTPBadRequest
    session = secrets.token_urlsafe()
    sessions[session] = name  # a real login checks a password before
    response = web.Response(status=204)
    response.set_cookie("session", session, httponly=True, samesite="Lax")  # with HTTPS also secure=True
    return response


@routes.post("/token")
async def token(request: web.Request) -> web.Response:
    claims = {"sub": user_of(request), "exp": int(time.time()) + LIFETIME}
    return web.Response(text=jwt.encode(claims, KEY, "HS256"), headers={"Cache-Control": "no-store"})


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    sessions.pop(request.cookies.get("session", ""), None)
    return web.Response(status=204)


if __name__ == "__main__":
    app = web.Application()
    app.add_routes(routes)
    web.run_app(app, host="127.0.0.1", port=PORT)
