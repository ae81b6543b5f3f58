"""Runs Helm with the project's chart. As a command it renders k8s/: `make manifests`."""

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import yaml

from tests.e2e import parts
from tests.support.manifests import K8S
from tests.support.running import ROOT

CHART = ROOT / "charts" / "wsbridge"
VALUES = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*.yaml"))}
RELEASE = "websocket-service"
MARK = "# All below is rendered from charts/wsbridge by `make manifests`: change the templates, not this file.\n"
_ALL = ("workload", "service", "networkpolicy", "poddisruptionbudget")
# A file in k8s/ → the values, and the templates in the order of the file
RENDERED: dict[str, tuple[str, tuple[str, ...]]] = {
    "websocket-service.yaml": ("single", _ALL[:3]),
    "minikube/websocket-service.yaml": ("minikube", _ALL[:2]),
    "redis/websocket-service.yaml": ("redis", _ALL),
    "redis/valkey.yaml": ("redis", ("valkey", "valkey-service")),
    "consumer-groups/websocket-service.yaml": ("consumer-groups", _ALL),
    "consumer-groups/pubsub-kafka-websocket.yaml": ("consumer-groups", ("component",)),
    "dapr/access.yaml": ("single", ("access",)),
    "dapr/resiliency.yaml": ("single", ("resiliency",)),
    "dapr/pubsub-kafka.yaml": ("single", ("component",)),
    "monitoring/podmonitor.yaml": ("single", ("podmonitor",)),
}


class Refused(Exception):  # noqa: N818 - Helm has refused the values or the chart
    """Helm's complaint."""


def helm(*arguments: str) -> str:
    """Run Helm; return its output."""
    command = [str(parts.helm()), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def template(*arguments: str) -> str:
    """The chart rendered with these arguments of `helm template`."""
    return helm("template", RELEASE, str(CHART), *arguments)


def manifest(name: str) -> str:
    """The content that a file in k8s/ should have: its head, which is kept, and what the chart renders."""
    values, templates = RENDERED[name]
    only = [f"--show-only=templates/{template}.yaml" for template in templates]
    text = re.sub(r"^# Source: .*\n", "", template("--values", str(VALUES[values]), *only), flags=re.MULTILINE)
    body = re.sub(r"\n{2,}", "\n", text.removeprefix("---\n")).replace("managed-by: Helm", "managed-by: kubectl")
    return (K8S / name).read_text(encoding="utf-8").partition(MARK)[0] + MARK + body


def values() -> Iterator[tuple[str, Any, str]]:
    """Each value of the chart, as a path with dots, with its default and the comment above it."""
    text, path, help_text = (CHART / "values.yaml").read_text(encoding="utf-8"), [""], ""
    for line in text.splitlines():
        if comment := re.match(r" *# (.*)", line):
            help_text = comment[1]
        elif entry := re.match(r"( *)(\w+):(.*)", line):
            path = [*path[: len(entry[1]) // 2], entry[2]]
            if help_text:
                yield ".".join(path), yaml.safe_load(entry[3]), help_text
            help_text = ""


def readme() -> str:
    """The README that the chart should have: the table is made from values.yaml."""
    text = (CHART / "README.md").read_text(encoding="utf-8")
    rows = "".join(f"| `{path}` | {_cell(default)} | {words} |\n" for path, default, words in values())
    return re.sub(r"(?<=\n\|---\|---\|---\|\n).*?(?=\n## )", lambda _: rows, text, flags=re.DOTALL)


def _cell(default: Any) -> str:
    if default in (None, "", [], {}):
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def main() -> None:
    for name in RENDERED:
        (K8S / name).write_text(manifest(name), encoding="utf-8")
    (CHART / "README.md").write_text(readme(), encoding="utf-8")


if __name__ == "__main__":
    main()
