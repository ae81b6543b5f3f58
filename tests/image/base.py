"""A stand-in for the base image of the Dockerfile, made from Debian's packages, so that no image registry is needed.

It has the same Debian and the same Python version, at /usr/bin instead of /usr/local/bin. The tests of the image are
about everything that the Dockerfile adds.
"""

import hashlib
import re
import subprocess
from pathlib import Path

from tests.e2e import builds
from tests.support.running import ROOT

PACKAGES = ("ca-certificates", "netbase", "python3", "python3-venv", "tzdata")
# In the real image, `pip` is at /usr/local and installs outside of virtual environments.
COMPLETE = """
cd "$1"
rm usr/lib/python3*/EXTERNALLY-MANAGED
ln -s /usr/bin/python3 usr/local/bin/python
chroot . sh -c 'cd /usr/share/python-wheels; PYTHONPATH=$(echo pip-*.whl) \\
    python -m pip install --quiet --no-index --no-compile --root-user-action ignore --find-links . pip'
rm -rf var/lib/apt/lists/* var/cache/apt/*.bin
"""


def name() -> str:
    """The base image in the Dockerfile, such as `python:3.13-slim-trixie`."""
    found = re.search(r"^ARG PYTHON=(\S+)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[1]


def rootfs() -> Path:
    """The files of the stand-in in an archive, made once for each suite of Debian and each version of this module."""
    suite = name().rpartition("-")[2]
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]

    def make(scratch: Path) -> Path:
        settings = scratch / "apt.conf"  # this machine's, such as a proxy
        settings.write_bytes(subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, check=True).stdout)
        options = (f"--include={','.join(PACKAGES)}", f"--aptopt={settings}", f"--customize-hook={COMPLETE}")
        builds.run("mmdebstrap", "--variant=minbase", "--dpkgopt=path-exclude=/usr/share/doc/*", *options, suite,
                  f"{scratch}/rootfs.tar")  # fmt: skip
        return scratch / "rootfs.tar"

    return builds.cached(builds.CACHE / f"base-{suite}-{recipe}.tar", make)
