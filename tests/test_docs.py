"""Nothing is undocumented, and nothing is documented that is not there."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from wsbridge.bridge import Bridge
from wsbridge.environment import load
from wsbridge.metrics import Metrics
from wsbridge.protocol import CLOSES
from wsbridge.settings import HELP, PREFIX, UNPREFIXED, Settings

ROOT = Path(__file__).parent.parent
DOCS = {path.name: path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
EVENT = re.compile(r"[a-z]+\.[a-z]+")


def rows(document: str) -> dict[str, list[str]]:
    """The tables' rows: the first code span of the first cell → the cells."""
    found = {}
    for line in DOCS[document].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and (name := re.match(r"`([^`]+)`", cells[0])):
            found[name[1]] = cells
    return found


def logged_events() -> set[str]:
    """Every string in the code that is named like an event and stands where one is logged or chosen."""
    found = set()
    for path in (ROOT / "wsbridge").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and EVENT.fullmatch(node.value):
                found.add(node.value)
    return found - {"aiohttp.server", "aiohttp.websocket", "wsbridge.access", "demo.html", "history.lua", "wsbridge.v"}


def test_every_setting_with_its_default_and_help() -> None:
    documented = rows("configuration.md")
    defaults = Settings().masked()
    expected = {name if name in UNPREFIXED else PREFIX + name for name in HELP}
    assert set(documented) == expected
    for name, cells in documented.items():
        default = defaults[name]
        assert cells[1] == ("" if default == "-" else f"`{default}`"), name
        assert cells[2] == HELP[name.removeprefix(PREFIX)], name


def test_which_settings_may_come_from_a_file() -> None:
    files = {f.name for f in fields(Settings) if f.metadata["file"]}
    documented = rows("configuration.md")
    marked = {n.removeprefix(PREFIX).lower() for n, cells in documented.items() if "*or file*" in cells[0]}
    assert marked == files


def test_every_log_event() -> None:
    assert set(rows("logging.md")) == logged_events()


def test_every_metric() -> None:
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for environ in ({}, {"WSBRIDGE_REDIS_URL": "redis://localhost"})
        for family in Bridge(load(environ)[0]).metrics.families()
    }
    documented = set(re.findall(r"`(wsbridge_\w+)`", DOCS["protocol.md"]))
    assert documented == names
    assert Metrics().registry.get_sample_value("wsbridge_deliveries_total") == 0


def test_every_close() -> None:
    table = DOCS["protocol.md"].split("## Close codes")[1].split("## ")[0]
    documented = {
        (int(code), reason)
        for line in table.splitlines()
        if (found := re.match(r"\| ([\d, ]+) \| ([^|]*) \|", line))
        for code in found[1].split(",")
        for reason in re.findall(r"`(\w+)`", found[2]) or [""]
    }
    assert {(code, reason) for code, reason in documented if reason} == {tuple(close) for close in CLOSES}


def test_every_route() -> None:
    bridge = Bridge(load({})[0])
    routes = {
        f"{route.method} {route.resource.canonical}"
        for route in bridge.application(public=True, internal=True).router.routes()
        if route.resource and route.method in ("GET", "POST")
    }
    documented = set(rows("protocol.md"))
    assert {name for name in documented if re.match(r"(GET|POST) /", name)} == routes


def test_every_environment_variable_that_a_document_names_exists() -> None:
    for document, text in DOCS.items():
        if document != "CHANGELOG.md":
            for name in re.findall(rf"{PREFIX}([A-Z_]+[A-Z])", text):
                assert name.removesuffix("_FILE") in HELP, f"{document}: {PREFIX}{name}"


@pytest.mark.parametrize("document", sorted(DOCS))
def test_links_lead_somewhere(document: str) -> None:
    folder = ROOT if (ROOT / document).exists() else ROOT / "docs"
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", DOCS[document]):
        assert target.startswith("http") or (folder / target).exists(), target
