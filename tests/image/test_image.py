"""The image: built from the Dockerfile on a stand-in for its base, and run as in production."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.process import Log, settled
from tests.image.container import Container, Run
from tests.image.image import REVISION, VERSION, Image
from tests.support.running import APP_TOKEN, ROOT, SECRET
from wsbridge import __version__

MEGABYTE = 1_000_000
PRODUCTION = {"WSBRIDGE_JWT_SECRET": SECRET, "APP_API_TOKEN": APP_TOKEN}
GLIBC = 41  # minor version of the C library in the base image, Debian 13
# Prints what the first process of the container may do.
PROBE = """
import json, os

status = dict(line.split(":\\t", 1) for line in open("/proc/1/status").read().splitlines() if ":\\t" in line)
written = []
for folder, _, _ in os.walk("/"):
    if not folder.startswith(("/proc", "/sys")):
        try:
            os.close(os.open(f"{folder}/probe", os.O_CREAT | os.O_WRONLY))
        except OSError:
            continue
        written.append(folder)
print(json.dumps({
    "ids": status["Uid"].split() + status["Gid"].split(),
    "capabilities": sum(int(status[f"Cap{each}"], 16) for each in ("Inh", "Prm", "Eff", "Bnd", "Amb")),
    "no new privileges": status["NoNewPrivs"],
    "seccomp": status["Seccomp"],
    "written": written,
    "processes": sum(name.isdigit() for name in os.listdir("/proc")),
}))
"""


@pytest.fixture
async def container(run: Run) -> Container:
    container = run(**PRODUCTION)
    await container.started()
    return container


def test_image_layers_are_small(image: Image, capsys: pytest.CaptureFixture[str]) -> None:
    base, *added = [size / MEGABYTE for size in image.layers]
    sizes = ", ".join(f"{size:.1f}" for size in added)
    with capsys.disabled():
        sys.stdout.write(f"\nimage: {base:.1f} MB in the stand-in for its base; layers above it, in MB: {sizes}\n")
    assert sum(added) < 120


def test_image_labels_have_the_build_arguments(image: Image) -> None:
    labels = image.config["Labels"]
    assert (labels["org.opencontainers.image.version"], labels["org.opencontainers.image.revision"]) == (
        VERSION,
        REVISION,
    )


def test_image_contains_the_locked_packages_and_no_installer(image: Image) -> None:
    (site,) = (image.root / "opt/venv/lib").glob("python3.*/site-packages")
    installed = {path.name.rpartition(".dist-info")[0] for path in site.glob("*.dist-info")}
    locked = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    known = {f"{name.replace('-', '_').lower()}-{version}" for name, version in locked}
    assert {name.lower() for name in installed} - {f"wsbridge_server-{__version__}"} <= known
    assert any(name.startswith("uvloop-") for name in installed)


async def test_container_runs_without_root_rights_on_a_read_only_root(container: Container) -> None:
    seen: dict[str, Any] = json.loads(container.run("python", "-c", PROBE))
    assert seen == {
        "ids": ["10001"] * 8,
        "capabilities": 0,
        "no new privileges": "1",
        "seccomp": "2",  # a filter
        "written": ["/dev/shm"],  # the runtime's own
        "processes": 2,  # the bridge and this probe
    }


async def test_container_uses_uvloop(run: Run) -> None:
    line = await run(**PRODUCTION).started()
    assert (line["version"], line["loop"]) == (__version__, "uvloop")


async def test_container_healthcheck_command_succeeds(container: Container, image: Image) -> None:
    kind, *words = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    container.run(*words)


async def test_container_event_published_inside_reaches_a_listener(container: Container, tmp_path: Path) -> None:
    log = Log(tmp_path / "listener")
    with container.running(log, "wsbridge", "listen", "--user", "alice"):

        async def connected() -> bool:
            return any('"connected"' in line for line in log.lines)

        async def arrived() -> bool:
            return any("Buy milk" in line for line in log.lines)

        await settled(connected)
        container.run("wsbridge", "publish", "--user", "alice", "task.created", "title=Buy milk")
        await settled(arrived)


async def test_container_that_is_stopped_drains_and_ends_with_code_0(container: Container, image: Image) -> None:
    container.kill(signal.Signals[image.config["StopSignal"]])
    assert await container.ended() == 0
    assert container.log.of("drain.started")


async def test_container_without_a_decision_on_authentication_does_not_start(run: Run) -> None:
    container = run()
    assert await container.ended() == 2
    assert "WSBRIDGE_AUTH" in container.log.account


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_dependencies_have_wheels_with_locked_hashes_for(machine: str, tmp_path: Path) -> None:
    """As in the Dockerfile: wheels only. Both platforms of the published image are checked on any machine."""
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 16, -1)]
    command = [
        *(sys.executable, "-I", "-m", "pip", "install", "--dry-run", "--quiet", "--report=-"),
        *(f"--target={tmp_path}", "--ignore-installed", "--only-binary=:all:", "--require-hashes"),
        *("--python-version=3.13", "--implementation=cp", *platforms, f"--requirement={ROOT}/requirements.txt"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    files = [each["download_info"]["url"].rpartition("/")[2] for each in json.loads(result.stdout)["install"]]
    assert all(file.endswith(("any.whl", f"{machine}.whl")) for file in files)
    assert any(file.startswith("uvloop-") for file in files)
