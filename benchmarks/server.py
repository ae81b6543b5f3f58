"""Runs one contender as a process on SERVER_CORE."""

import os
import resource
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from benchmarks.contenders import Contender, Start
from benchmarks.pinned import LOAD_CORE, SERVER_CORE, cpu_seconds, family, memory_kilobytes, spawn
from tests.support.running import ROOT
from tests.support.valkey import binary, free_port

PATIENCE = 20.0  # seconds until the server must listen
LOOK = 0.02  # seconds between two looks for a server that starts


class ContenderError(Exception):
    """The server does not start, or an event was lost, repeated, reordered or misrouted."""


class Server:
    """`with Server(contender, directory, …) as server`."""

    def __init__(self, contender: Contender, directory: Path, ping_seconds: float = 25.0) -> None:
        self.contender = contender
        self.port = free_port()
        self._log = directory / "server.log"
        clean = {name: text for name, text in os.environ.items() if not name.startswith("WSBRIDGE_")}
        self._redis = start_redis(directory) if contender.redis else None
        settings = {
            "WSBRIDGE_PING_INTERVAL": str(ping_seconds),
            "BENCH_PING_SECONDS": str(ping_seconds),
        }
        if self._redis:
            settings["WSBRIDGE_REDIS_URL"] = redis_url(directory)
        self._command = contender.command(Start(self.port, directory, ping_seconds))
        self._environment = clean | contender.environment | settings
        self._process = self._spawn(self.port)
        self.posts = free_port() if contender.receiver else self.port + contender.posts_at
        self._receiver = self._spawn(self.posts) if contender.receiver else None
        self._pids: list[int] = []

    def __enter__(self) -> Self:
        self._wait_until_it_listens(self.port)
        if self._receiver:
            self._wait_until_it_listens(self.posts)
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def cpu(self) -> float:
        """Seconds of CPU time used so far."""
        return cpu_seconds(self._pids)

    @property
    def redis_cpu(self) -> float:
        """The same of its Redis, if it has one."""
        return cpu_seconds([self._redis.pid]) if self._redis else 0.0

    @property
    def receiver_cpu(self) -> float:
        """The part of `cpu` of the replica that takes the posts, if that is another one."""
        return cpu_seconds([self._receiver.pid]) if self._receiver else 0.0

    @property
    def memory(self) -> int:
        """Kilobytes."""
        return memory_kilobytes(self._pids)

    def kill(self) -> None:
        for process in (self._process, self._receiver, self._redis):
            if process:
                process.kill()
                process.wait()

    def restart(self) -> None:
        """Kill the server, but not its Redis or its receiver, and start it again."""
        self._process.kill()
        self._process.wait()
        self._process = self._spawn(self.port)
        self._wait_until_it_listens(self.port)

    def log(self, without: str = "\n") -> str:
        """The last 20 lines of its output that do not contain this text."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([line for line in lines if without not in line][-20:])

    def _spawn(self, port: int) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return spawn(
                self._command, SERVER_CORE,
                cwd=ROOT, env=self._environment | {"WSBRIDGE_PORT": str(port)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _wait_until_it_listens(self, port: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    receiver = [self._receiver.pid] if self._receiver else []
                    self._pids = family(self._process.pid) + receiver
                    return
            time.sleep(LOOK)  # between two looks: a server from outside does not say when it listens
        self.kill()
        raise ContenderError(f"the server does not listen:\n{self.log()}")


def start_redis(directory: Path) -> subprocess.Popen[bytes]:
    """Start Redis on LOAD_CORE, so that it takes no time of the server. Its CPU time is reported separately."""
    options = f"--port 0 --unixsocket {directory}/redis.sock --save --appendonly no --dir {directory}"
    process = spawn([binary(), *options.split()], LOAD_CORE, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + PATIENCE
    while not (directory / "redis.sock").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise ContenderError(f"Redis does not listen: {binary()} --unixsocket {directory}/redis.sock")
        time.sleep(LOOK)  # between two looks for its socket
    return process


def redis_url(directory: Path) -> str:
    """The URL of the Redis that `start_redis` starts in this directory."""
    return f"unix://{directory}/redis.sock"


def raise_descriptor_limit() -> int:
    """Raise the limit of file descriptors for this process and its children. Return the limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
