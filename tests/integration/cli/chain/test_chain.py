"""The parts of the chain, with a supervisor that starts none. tests/e2e/test_make_chain.py starts them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tasks_backend import user_of

from wsbridge.cli.chain import chain
from wsbridge.cli.chain.chain import Chain
from wsbridge.cli.chain.parts import Parts
from wsbridge.cli.chain.supervisor import Part
from wsbridge.config.env import load

PARTS = Parts(Path("/java"), Path("/jars"), Path("/daprd"), Path("/valkey-server"))


class Recorder:
    """Stands in for the supervisor: every condition is true."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.commands: list[str] = []

    def start(self, *parts: Part) -> None:
        self.parts |= {part.name: part for part in parts}

    def finish(self, name: str, command: Sequence[str]) -> None:
        self.commands.append(name)

    def until(self, condition: Callable[[], bool], name: str) -> None:
        self.commands.append(name)


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Chain, Recorder]:
    @contextlib.contextmanager
    def connect(_: str) -> Iterator[None]:
        yield

    monkeypatch.setattr(chain, "connect", connect)
    made, recorder = Chain(PARTS, tmp_path), Recorder()
    supervisor: Any = recorder
    made.start(supervisor, lambda _: None)
    return made, recorder


def test_chain_formats_kafka_and_proves_itself(started: tuple[Chain, Recorder]) -> None:
    assert started[1].commands == ["kafka-format", "backend", "bridge-2"]


def test_bridges_share_a_redis_and_have_valid_settings(started: tuple[Chain, Recorder]) -> None:
    made, recorder = started
    bridges = [load(recorder.parts[name].environment) for name in ("bridge-1", "bridge-2")]
    assert not any(unknown for _, unknown in bridges)
    assert [settings.port for settings, _ in bridges] == list(made.ports.bridges)
    assert len({settings.redis_url for settings, _ in bridges}) == 1
    assert all(settings.development for settings, _ in bridges)


def test_each_app_has_a_sidecar_and_no_port_is_used_twice(started: tuple[Chain, Recorder]) -> None:
    made, recorder = started
    sidecars = {name: part.command for name, part in recorder.parts.items() if name.endswith("-daprd")}
    assert set(sidecars) == {"bridge-1-daprd", "bridge-2-daprd", "backend-daprd"}
    ports = [flag.split("=")[1] for command in sidecars.values() for flag in command if "-port=" in flag]
    others = (made.ports.backend, made.ports.kafka)
    assert len({*ports, *map(str, others)}) == len(ports) + len(others) == 16
    assert {f"--app-port={port}" for port in made.ports.bridges} < {
        *sidecars["bridge-1-daprd"],
        *sidecars["bridge-2-daprd"],
    }
    assert recorder.parts["backend"].environment["DAPR_HTTP_PORT"] == str(made.ports.sidecar)


def test_sidecars_load_the_component_and_the_resiliency(started: tuple[Chain, Recorder], tmp_path: Path) -> None:
    made, recorder = started
    assert f"--resources-path={tmp_path / 'components'}" in recorder.parts["backend-daprd"].command
    documents = [yaml.safe_load(path.read_text()) for path in (tmp_path / "components").iterdir()]
    assert sorted(document["kind"] for document in documents) == ["Component", "Resiliency"]
    [component] = [document["spec"] for document in documents if document["kind"] == "Component"]
    assert {"name": "brokers", "value": f"127.0.0.1:{made.ports.kafka}"} in component["metadata"]


def test_token_is_accepted_by_the_backend(started: tuple[Chain, Recorder]) -> None:
    made, recorder = started
    assert user_of(f"Bearer {made.token('alice')}", recorder.parts["backend"].environment["JWT_SECRET"]) == "alice"
