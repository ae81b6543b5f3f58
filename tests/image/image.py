"""Builds the image from the Dockerfile without a daemon."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.image import base
from tests.support.running import ROOT

NAME = "websocket-service:latest"
VERSION, REVISION = "1.2.3", "f00"
TIMEOUT = 600  # seconds for any step
# The build installs packages from the index, so it needs this machine's settings of pip and its certificates.
SHARED = [path for path in ("/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt") if Path(path).exists()]


@dataclass(frozen=True)
class Image:
    """`root` has its files, `layers` the bytes of each layer, the one of the base first."""

    root: Path
    config: dict[str, Any]
    layers: list[int]


class Store:
    """Images in a folder of their own. The folder may be removed after `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self) -> Image:
        self._make_base()
        volumes = [f"--volume={path}:{path}:ro" for path in SHARED]
        arguments = [f"--build-arg=VERSION={VERSION}", f"--build-arg=REVISION={REVISION}"]
        self._buildah("build", "--isolation=chroot", "--format=docker", "--layers", *volumes, *arguments,
                      f"--tag={NAME}", str(ROOT))  # fmt: skip
        exported = self._folder / "exported"
        self._buildah("push", "--disable-compression", "--format=v2s2", NAME, f"dir:{exported}")
        manifest = json.loads((exported / "manifest.json").read_bytes())
        config = json.loads((exported / manifest["config"]["digest"].removeprefix("sha256:")).read_bytes())
        self._buildah("from", "--name=run", NAME)
        root = Path(self._buildah("mount", "run").strip())
        return Image(root, config["config"], [layer["size"] for layer in manifest["layers"]])

    def close(self) -> None:
        self._buildah("umount", "--all")

    def _make_base(self) -> None:
        self._buildah("from", "--name=base", "scratch")
        self._buildah("add", "--quiet", "base", str(base.rootfs()), "/")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self._buildah("config", f"--env=PATH={path}", "--env=LANG=C.UTF-8", "base")
        self._buildah("commit", "--quiet", "--rm", "--format=docker", "base", f"docker.io/library/{base.name()}")

    def _buildah(self, *arguments: str) -> str:
        where = (f"--root={self._folder}/images", f"--runroot={self._folder}/run")
        result = subprocess.run(
            ["buildah", *where, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT
        )
        assert result.returncode == 0, f"buildah {arguments[0]}: {result.stdout[-2_000:]}{result.stderr[-4_000:]}"
        return result.stdout
