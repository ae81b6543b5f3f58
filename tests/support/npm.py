"""`python -m tests.support.npm [SCRIPT...]`: runs scripts of the client's package, by default all of its checks."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "client"
SCRIPTS = ("types", "test", "size", "package")  # names of scripts in package.json
NODE = 20  # the oldest version that is tested


def missing() -> str:
    """The name of a missing program; "" if nothing is missing."""
    if absent := [name for name in ("node", "npm") if shutil.which(name) is None]:
        return f"{' and '.join(absent)} not found"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    major = re.match(r"v(\d+)\.", version)
    return "" if major and int(major[1]) >= NODE else f"Node.js is {version}"


def install() -> None:
    """Install the packages of the lock file, unless they are installed already."""
    lock, installed = CLIENT / "package-lock.json", CLIENT / "node_modules" / ".installed"
    if installed.exists() and installed.read_bytes() == lock.read_bytes():
        return
    npm("ci", "--no-audit", "--no-fund", "--ignore-scripts")
    shutil.copy(lock, installed)


def npm(*arguments: str) -> None:
    """Run npm; exit with its code if it fails."""
    print("npm", *arguments, flush=True)  # noqa: T201 - a program
    if code := subprocess.run(["npm", *arguments], cwd=CLIENT, check=False).returncode:
        sys.exit(code)


def main() -> None:
    if reason := missing():
        print(f"the browser client is not built or tested: {reason}; it needs Node.js {NODE} and npm")  # noqa: T201 - a program
        sys.exit(1 if sys.argv[1:] or os.environ.get("REQUIRE_ALL_TESTS") == "1" else 0)
    install()
    for script in sys.argv[1:] or SCRIPTS:
        npm("run", "--silent", script)


if __name__ == "__main__":
    main()
