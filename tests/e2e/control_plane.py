"""The services of Dapr's control plane that workflows need, on loopback: placement and scheduler."""

from pathlib import Path
from typing import Self

from tests.e2e.parts import control_plane, required
from tests.e2e.process import Log, Process, settled
from wsbridge.cli.chain.ports import free_ports, is_open


class ControlPlane:
    """`async with ControlPlane(directory) as plane`: inside, sidecars with `plane.options` can connect to it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._placement, self._scheduler, *self._others = free_ports(7)
        self._processes: dict[Process, Log] = {}

    @property
    def options(self) -> list[str]:
        """The flags of a sidecar."""
        return [
            f"--placement-host-address=127.0.0.1:{self._placement}",
            f"--scheduler-host-address=127.0.0.1:{self._scheduler}",
        ]

    async def __aenter__(self) -> Self:
        programs = required(control_plane)
        try:
            self._start_all(programs)
            await settled(self._listens)
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end()

    def _start_all(self, programs: Path) -> None:
        raft, etcd, peer, *health = self._others
        self._start(
            programs / "placement", self._placement, health[0], f"--initial-cluster=dapr-placement-0=127.0.0.1:{raft}"
        )
        self._start(
            *(programs / "scheduler", self._scheduler, health[1]),
            f"--override-broadcast-host-port=127.0.0.1:{self._scheduler}",
            f"--etcd-data-dir={self._directory / 'scheduler'}",
            f"--etcd-client-port={etcd}",
            "--etcd-client-listen-address=127.0.0.1",
            f"--etcd-initial-cluster=dapr-scheduler-server-0=http://127.0.0.1:{peer}",
        )

    def _start(self, program: Path, port: int, health: int, *options: str) -> None:
        common = ["--enable-metrics=false", "--listen-address=127.0.0.1", "--healthz-listen-address=127.0.0.1"]
        command = [str(program), f"--port={port}", f"--healthz-port={health}", *common, *options]
        log = Log(self._directory / f"{program.name}.log")
        self._processes[Process(command, log)] = log

    async def _listens(self) -> bool:
        for process, log in self._processes.items():
            assert process.running, log.account
        return is_open(self._placement) and is_open(self._scheduler)

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
