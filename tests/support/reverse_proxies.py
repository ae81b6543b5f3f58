"""Real reverse proxies in front of a bridge on the same host, configured as in their own documentation."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Self

import pytest

from tests.e2e.parts import envoy, required
from tests.support.running import DEADLINE, ROOT
from tests.support.valkey import free_port

# By default nginx passes on neither the client's address nor the requested `Host`; HAProxy passes on `Host` only.
NGINX = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        ''      close;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{upstream};
            {upgrade}
        }}
    }}
}}
"""
UPGRADE = """\
proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;"""
HAPROXY = """\
defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
frontend browsers
    bind 127.0.0.1:{port}
    default_backend bridge
backend bridge
    server one 127.0.0.1:{upstream}
"""
CADDY = """\
{{
    admin off
}}
http://:{port} {{
    bind 127.0.0.1
    reverse_proxy 127.0.0.1:{upstream}
}}
"""
TEXTS = {
    "nginx": NGINX.replace("{upgrade}", UPGRADE),
    "nginx without upgrade": NGINX.replace("{upgrade}", ""),  # then it sends HTTP/1.0 to the bridge
    "haproxy": HAPROXY,
    "caddy": CADDY,
}
IDLE = 75.0  # seconds: each idle time-out in docs/ingress.md
SHRINK = 25.0  # the tests' time-outs and intervals are shorter by this factor
# Heading in that document → the text that says where the proxy listens, and its replacement.
_LISTENING = {
    "nginx": ("listen 80;", "listen 127.0.0.1:{port};"),
    "HAProxy": ("bind :80", "bind 127.0.0.1:{port}"),
    "Caddy": ("push.example.com {{", "http://127.0.0.1:{port} {{"),
    "Envoy": ("0.0.0.0, port_value: 80}}", "127.0.0.1, port_value: {port}}}"),
}
_AROUND = {"nginx": (NGINX.partition("    map ")[0], "}}\n"), "Caddy": ("{{\n    admin off\n}}\n", "")}


def _documented(heading: str) -> str:
    """The first block below the heading, on another port and with shorter time-outs."""
    section = (ROOT / "docs" / "ingress.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    block = section.partition("\n```")[2].partition("\n")[2].partition("```")[0].replace("{", "{{").replace("}", "}}")
    for old, new in (_LISTENING[heading], ("8004", "{upstream}"), (f"{IDLE:g}s", f"{IDLE / SHRINK:g}s")):
        assert old in block or heading == "Caddy", (heading, old)  # Caddy has no time-outs
        block = block.replace(old, new)
    before, after = _AROUND.get(heading, ("", ""))
    return before + block + after


DOCUMENTED = {f"{heading.lower()} of the docs": _documented(heading) for heading in _LISTENING}
BROKEN = {  # or unusual; for `wsbridge doctor`
    # With HTTP/1.1 it passes on each chunk, with or without that header.
    "nginx that buffers": NGINX.replace("{upgrade}", "proxy_ignore_headers X-Accel-Buffering;"),
    "nginx that buffers and cuts": NGINX.replace(
        "{upgrade}", "proxy_ignore_headers X-Accel-Buffering; proxy_read_timeout 2s;"
    ),
    "nginx that cuts": NGINX.replace("{upgrade}", f"{UPGRADE} proxy_read_timeout 2s;"),
    "haproxy that cuts": HAPROXY.replace("50s", "2s"),
    "caddy that cuts": CADDY.replace(
        "{upstream}", "{upstream} {{\n        transport http {{\n            read_timeout 2s\n        }}\n    }}"
    ),
    "envoy that cuts": DOCUMENTED["envoy of the docs"].replace("timeout: 0s", "timeout: 2s"),
    "haproxy to two": f"{HAPROXY}    server two 127.0.0.1:{{second}}\n",
}
UPGRADING = [name for name in TEXTS if name != "nginx without upgrade"]


class ReverseProxy:
    """A reverse proxy in front of the bridge at `upstream`, or of two, until the end of the context."""

    def __init__(self, name: str, folder: Path, upstream: int, second: int = 0) -> None:
        self.port = free_port()
        program = name.split(maxsplit=1)[0]
        self._program = str(required(envoy)) if program == "envoy" else _program(program)
        self._folder = folder
        config = folder / "config.yaml"  # Envoy needs the suffix
        # nginx started by root runs its workers as the user `nobody`, which may not enter a test's folder
        user = "user root;" if os.geteuid() == 0 else ""
        text = (TEXTS | BROKEN | DOCUMENTED)[name]
        config.write_text(text.format(port=self.port, upstream=upstream, second=second, folder=folder, user=user))
        self._arguments = {
            "nginx": ["-p", str(folder), "-e", "stderr", "-c", str(config)],
            "haproxy": ["-db", "-f", str(config)],
            "envoy": ["--disable-hot-restart", "--concurrency", "1", "-l", "warning", "-c", str(config)],
            "caddy": ["run", "--adapter", "caddyfile", "--config", str(config)],
        }[program]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        home = {"HOME": str(self._folder), "XDG_DATA_HOME": str(self._folder), "XDG_CONFIG_HOME": str(self._folder)}
        with (self._folder / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._program, *self._arguments, env=os.environ | home, stdout=log, stderr=log, start_new_session=True
            )
        try:
            await self._listening()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(DEADLINE):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            raise

    async def _listening(self) -> None:
        async with asyncio.timeout(DEADLINE):
            while True:
                assert self._process.returncode is None, (self._folder / "log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)  # looking without a pause would take CPU time from the proxy
                else:
                    writer.close()
                    return


def _program(name: str) -> str:
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin")
    if found is None:
        reason = f"{name} is not installed (Debian: apt-get install {name}{'-light' if name == 'nginx' else ''})"
        if os.environ.get("REQUIRE_ALL_TESTS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found
