"""`python -m tests.support.release TAG`: prints the notes of a release; fails if the sources are not ready for it.

It needs only the standard library, so that a workflow can run it first.
"""

import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNPUBLISHED = re.compile(r"not\s+published\s+yet|is\s+not\s+on\s+npm's\s+registry")
INSTALLATION = ("README.md", "client/README.md", "charts/wsbridge/README.md")  # documents that say how to install


def version() -> str:
    return _found(r'^__version__ = "(.+)"$', "wsbridge/__init__.py")


def versions() -> dict[str, str]:
    """The version in each file that has one."""
    lock = json.loads(_text("client/package-lock.json"))
    return {
        "wsbridge/__init__.py": version(),
        "client/package.json": str(json.loads(_text("client/package.json"))["version"]),
        "client/package-lock.json": str(lock["version"]),
        "client/package-lock.json, packages": str(lock["packages"][""]["version"]),
        "charts/wsbridge/Chart.yaml": _found(r"^version: (\S+)$", "charts/wsbridge/Chart.yaml"),
        "charts/wsbridge/Chart.yaml, appVersion": _found(r"^appVersion: (\S+)$", "charts/wsbridge/Chart.yaml"),
    }


def latest() -> tuple[str, str]:
    """The first version in CHANGELOG.md, and its date or "unreleased"."""
    first = re.search(r"^## (\S+) \((.+)\)$", _text("CHANGELOG.md"), re.MULTILINE)
    assert first, "CHANGELOG.md has no line such as `## 1.0.0 (2026-01-31)`"
    return first[1], first[2]


def notes() -> str:
    """The section of that version."""
    return re.split(r"^## .*$", _text("CHANGELOG.md"), flags=re.MULTILINE)[1].strip()


def address() -> str:
    """The address of the repository."""
    return str(tomllib.loads(_text("pyproject.toml"))["project"]["urls"]["Homepage"])


def problems(tag: str, repository: str) -> Iterator[str]:
    """What must change before this tag of this repository (`owner/name`, or "" if unknown) can be published."""
    for place, found in versions().items():
        if tag != f"v{found}":
            yield f"the tag is {tag}, and the version in {place} is {found}"
    name, date = latest()
    if tag != f"v{name}":
        yield f"the tag is {tag}, and the first version in CHANGELOG.md is {name}"
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", date):
        yield f"CHANGELOG.md has `{date}` where the date of the release should be, such as 2026-01-31"
    for document in INSTALLATION:
        if said := UNPUBLISHED.search(_text(document)):
            yield f"{document} says `{said[0]}`: say how to install the published package"
    if repository and not address().endswith(f"/{repository}"):
        yield f"the repository is {repository}, and the metadata in pyproject.toml links to {address()}"


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _found(pattern: str, name: str) -> str:
    found = re.search(pattern, _text(name), re.MULTILINE)
    assert found, (pattern, name)
    return found[1]


def main() -> None:
    if found := list(problems(sys.argv[1], os.environ.get("GITHUB_REPOSITORY", ""))):
        sys.exit("\n".join(found))
    print(notes())  # noqa: T201 - a program


if __name__ == "__main__":
    main()
