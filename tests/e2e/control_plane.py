"""The services of Dapr's control plane that workflows need, on loopback: placement and scheduler."""

from pathlib import Path
from typing import Self

from tests.e2e.parts import control_plane, required
from tests.e2e.process import Log, Process
from wsbridge.cli.chain.ports import free_ports


class ControlPlane:
    """`with ControlPlane(directory) as plane`: sidecars with `plane.options` connect to it once it is ready."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._placement, self._scheduler, *self._others = free_ports(7)
        self._processes: list[Process] = []

    @property
    def options(self) -> list[str]:
        """The flags of a sidecar."""
        return [
            f"--placement-host-address=127.0.0.1:{self._placement}",
            f"--scheduler-host-address=127.0.0.1:{self._scheduler}",
        ]

    def __enter__(self) -> Self:
        raft, etcd, peer, *health = self._others
        self._start("placement", self._placement, health[0], f"--initial-cluster=dapr-placement-0=127.0.0.1:{raft}")
        self._start(
            *("scheduler", self._scheduler, health[1]),
            f"--override-broadcast-host-port=127.0.0.1:{self._scheduler}",
            f"--etcd-data-dir={self._directory / 'scheduler'}",
            f"--etcd-client-port={etcd}",
            "--etcd-client-listen-address=127.0.0.1",
            f"--etcd-initial-cluster=dapr-scheduler-server-0=http://127.0.0.1:{peer}",
        )
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()

    def _start(self, name: str, port: int, health: int, *options: str) -> None:
        common = ["--enable-metrics=false", "--listen-address=127.0.0.1", "--healthz-listen-address=127.0.0.1"]
        command = [str(required(control_plane) / name), f"--port={port}", f"--healthz-port={health}", *common, *options]
        self._processes.append(Process(command, Log(self._directory / f"{name}.log")))
