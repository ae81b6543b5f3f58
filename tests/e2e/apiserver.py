"""A real Kubernetes API server with etcd. It checks and stores objects; there are no nodes, so nothing runs."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from tests.e2e import parts
from tests.e2e.process import PATIENCE, PAUSE, Log, Process
from tests.support.running import ROOT
from tests.support.valkey import free_port

_TOKEN = "of-the-administrator"
_ADMISSION = {
    "apiVersion": "apiserver.config.k8s.io/v1",
    "kind": "AdmissionConfiguration",
    "plugins": [
        {
            "name": "PodSecurity",
            "configuration": {
                "apiVersion": "pod-security.admission.config.k8s.io/v1",
                "kind": "PodSecurityConfiguration",
                "defaults": {"enforce": "restricted", "warn": "restricted"},
            },
        }
    ],
}


class Refused(Exception):  # noqa: N818 - the server or a command has refused
    """The complaint of a command."""


class Shell:
    """Types commands in the repository, with kubectl and Helm, in one namespace of the server."""

    def __init__(self, folder: Path, port: int, namespace: str) -> None:
        self._config = folder / f"kubeconfig-{namespace}"
        self._config.write_text(yaml.safe_dump(_kubeconfig(port, namespace)), encoding="utf-8")
        self._path = os.pathsep.join(str(path) for path in (parts.kubernetes(), parts.helm().parent))

    def type(self, script: str, text: str = "", **variables: str) -> str:
        """Run a script in bash, with `text` as its input; return its output. It stops at the first error."""
        environment = os.environ | {
            "KUBECONFIG": str(self._config),
            "PATH": f"{self._path}{os.pathsep}{os.environ['PATH']}",
        }
        command = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment | variables,
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise Refused(done.stderr + done.stdout)
        return done.stdout

    def check(self, *documents: Mapping[str, Any]) -> None:
        """Let the server check objects strictly, without storing them: a warning or an unknown field is an error."""
        text = yaml.safe_dump_all(documents)
        self.type("kubectl create --dry-run=server --validate=strict --warnings-as-errors -f -", text)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object as it is stored."""
        return dict(json.loads(self.type(f"kubectl get {kind} {name} -o json")))


class ApiServer:
    """`with ApiServer(directory) as server`: ready, with all custom resources, and Pod Security `restricted`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._processes: list[Process] = []
        self._port = free_port()
        self.admin = Shell(directory, self._port, "default")

    def __enter__(self) -> Self:
        try:
            self._start()
            self._wait()
            self.admin.type(f"kubectl create -f {parts.definitions()}")
            self.admin.type("kubectl wait crd --all --for=condition=Established --timeout=60s")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.kill()

    def namespace(self, name: str) -> Shell:
        """A shell in a new namespace."""
        self.admin.type(f"kubectl create namespace {name}")
        return Shell(self._directory, self._port, name)

    def _start(self) -> None:
        folder, clients, peers = self._directory, free_port(), free_port()
        (folder / "admission.yaml").write_text(yaml.safe_dump(_ADMISSION), encoding="utf-8")
        (folder / "tokens.csv").write_text(f"{_TOKEN},admin,admin,system:masters\n", encoding="utf-8")
        key = folder / "key.pem"
        subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
        etcd = {
            "data-dir": folder / "etcd",
            "listen-client-urls": f"http://127.0.0.1:{clients}",
            "advertise-client-urls": f"http://127.0.0.1:{clients}",
            "listen-peer-urls": f"http://127.0.0.1:{peers}",
        }
        server = {
            "etcd-servers": f"http://127.0.0.1:{clients}",
            "bind-address": "127.0.0.1",
            "secure-port": self._port,
            "cert-dir": folder / "certificates",
            "token-auth-file": folder / "tokens.csv",
            "authorization-mode": "RBAC",
            "service-account-issuer": "https://kubernetes.test",
            "service-account-signing-key-file": key,
            "service-account-key-file": key,
            "service-cluster-ip-range": "10.0.0.0/24",
            "admission-control-config-file": folder / "admission.yaml",
            "allow-privileged": "true",  # so that Pod Security decides
            "disable-admission-plugins": "ServiceAccount",  # the controller that makes them does not run
        }
        for program, options in ((parts.etcd(), etcd), (parts.kubernetes() / "kube-apiserver", server)):
            command = [str(program), *(f"--{name}={value}" for name, value in options.items())]
            self._processes.append(Process(command, Log(folder / f"{program.name}.log")))

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while not self._is_ready():
            account = "\n".join(Log(path).account for path in self._directory.glob("*.log"))
            assert all(process.running for process in self._processes), account
            assert time.monotonic() < end, account
            time.sleep(PAUSE)  # between two looks

    def _is_ready(self) -> bool:
        with contextlib.suppress(Refused):
            self.admin.type("kubectl get --raw /readyz")
            return True
        return False


def _kubeconfig(port: int, namespace: str) -> dict[str, Any]:
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin", "namespace": namespace}}],
        "current-context": "test",
    }
