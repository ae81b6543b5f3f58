"""`python -m tests.support.npm`: all that the client's package checks by itself, with Node.js; how tox runs it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "client"
SCRIPTS = ("types", "test", "size", "package")  # of its package.json
NODE = 20  # the oldest one that it is tested on


def missing() -> str:
    """What is needed and not there; "" for nothing."""
    if absent := [name for name in ("node", "npm") if shutil.which(name) is None]:
        return f"{' and '.join(absent)} not found"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    major = re.match(r"v(\d+)\.", version)
    return "" if major and int(major[1]) >= NODE else f"Node.js is {version}"


def install() -> None:
    """What the lock file says, unless it is installed already."""
    lock, installed = CLIENT / "package-lock.json", CLIENT / "node_modules" / ".installed"
    if installed.exists() and installed.read_bytes() == lock.read_bytes():
        return
    npm("ci", "--no-audit", "--no-fund", "--ignore-scripts")
    shutil.copy(lock, installed)


def npm(*arguments: str) -> None:
    """Ends the program with its exit code if it fails."""
    print("npm", *arguments, flush=True)  # noqa: T201 - a program
    if code := subprocess.run(["npm", *arguments], cwd=CLIENT, check=False).returncode:
        sys.exit(code)


def main() -> None:
    if reason := missing():
        print(f"the browser client is not tested: {reason}; it wants Node.js {NODE} and npm")  # noqa: T201 - a program
        sys.exit(1 if os.environ.get("REQUIRE_ALL_TESTS") == "1" else 0)
    install()
    for script in SCRIPTS:
        npm("run", "--silent", script)


if __name__ == "__main__":
    main()
