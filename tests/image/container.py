"""Runs the image with runc as Docker and Kubernetes would.

Enforced: its user, a read-only root, no capabilities, no new privileges, a seccomp profile, own namespaces.
Not enforced: AppArmor or SELinux, limits of memory and processes, user namespaces.
"""

import json
import platform
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.process import Log, Process, settled
from tests.image.image import Image

TIMEOUT = 60  # seconds for a command in the container
CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")
PROFILE = Path(
    "/usr/share/containers/seccomp.json"
)  # of the containers that Podman runs; buildah depends on its package
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # names in /proc and in the profile
TMPFS = {"type": "tmpfs", "source": "tmpfs"}
MOUNTS = (
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", **TMPFS, "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/shm", **TMPFS, "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
)


class Container:
    """A running container, with the environment variables given as keywords. It must be ended with `remove`."""

    def __init__(self, image: Image, folder: Path, **environment: str) -> None:
        self._runc = ("runc", f"--root={folder}/state")
        self._name = folder.name
        self.log = Log(folder / "log")
        (folder / "config.json").write_text(json.dumps(_bundle(image, environment)))
        self._process = Process([*self._runc, "run", f"--bundle={folder}", self._name], self.log)

    async def started(self) -> dict[str, Any]:
        """Wait until the bridge listens; return that line of its log."""

        async def listens() -> bool:
            assert self._process.running, self.log.account
            return bool(self.log.of("server.started"))

        await settled(listens)
        return self.log.of("server.started")[0]

    def run(self, *words: str) -> str:
        """Run a command in the container; return its output."""
        result = subprocess.run(
            self._exec(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        assert result.returncode == 0, f"{' '.join(words)}: {result.returncode}, {result.stdout}"
        return result.stdout

    @contextmanager
    def running(self, log: Log, *words: str) -> Iterator[Process]:
        """Run a command in the container beside the test."""
        process = Process(self._exec(*words), log)
        try:
            yield process
        finally:
            process.kill()

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the first process, as an engine does."""
        subprocess.run([*self._runc, "kill", self._name, number.name], check=True, timeout=TIMEOUT)

    async def ended(self) -> int:
        """Wait for the end; return the exit code."""
        return await self._process.ended()

    def remove(self) -> None:
        subprocess.run([*self._runc, "delete", "--force", self._name], check=True, timeout=TIMEOUT)
        self._process.kill()

    def _exec(self, *words: str) -> list[str]:
        return [*self._runc, "exec", self._name, *words]


Run = Callable[..., Container]


def _bundle(image: Image, environment: dict[str, str]) -> dict[str, Any]:
    """The configuration of an OCI runtime (runtime-spec `config.md`)."""
    config = image.config
    uid, gid = map(int, config["User"].split(":"))
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(image.root), "readonly": True},
        "hostname": "wsbridge",
        "process": {
            "user": {"uid": uid, "gid": gid},
            "args": [*config["Entrypoint"], *config["Cmd"]],
            "env": [*config["Env"], *(f"{name}={value}" for name, value in environment.items())],
            "cwd": config.get("WorkingDir") or "/",
            "capabilities": {name: [] for name in CAPABILITY_SETS},
            "noNewPrivileges": True,
        },
        "mounts": MOUNTS,
        "linux": {
            "namespaces": [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
            "seccomp": _seccomp(),
        },
    }


def _seccomp() -> dict[str, Any]:
    """The profile for a process without capabilities on this machine."""
    profile = json.loads(PROFILE.read_bytes())
    machine = ARCHITECTURES[platform.machine()]
    rules = [
        {name: rule[name] for name in ("names", "action", "args", "errnoRet") if rule.get(name)}
        for rule in profile["syscalls"]
        if not (included := rule.get("includes") or {}).get("caps") and machine in included.get("arches", [machine])
    ]
    return {name: profile[name] for name in ("defaultAction", "defaultErrnoRet")} | {"syscalls": rules}
