"""Compares the documents with the code: nothing is missing, and nothing is invented."""

import ast
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import ROOT
from tests.support.sources import SOURCES
from wsbridge.app import Bridge
from wsbridge.config.env import load
from wsbridge.config.settings import HELP, PREFIX, UNPREFIXED, Settings
from wsbridge.core.close_codes import CLOSES
from wsbridge.core.messages import read_message

DOCS = {path.name: path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))}
FOLDERS = (ROOT, ROOT / "docs", ROOT / "client", *ROOT.glob("examples/*"), *ROOT.glob("charts/*"))
PROSE = sorted(path for folder in FOLDERS for path in folder.glob("*.md"))
WIDTH = 120  # characters in a line
EVENT = re.compile(r"[a-z]+\.[a-z]+")
NO_EVENTS = {
    "aiohttp.server", "aiohttp.websocket", "client.js", "console.css", "demo.css", "error.type", "history.lua",
    "index.html", "kafka.offset", "opentelemetry.exporter", "opentelemetry.trace", "pubsub.kafka", "receipts.lua",
    "server.properties", "service.name", "service.version", "wsbridge.access", "wsbridge.canary", "wsbridge.outcome",
    "wsbridge.receipt", "wsbridge.sessions", "wsbridge.users", "wsbridge.v", "wsbridge.web",
}  # fmt: skip


def rows(document: str) -> dict[str, list[str]]:
    """The tables' rows: the first code span of the first cell → the cells."""
    found = {}
    for line in DOCS[document].splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and (name := re.match(r"`([^`]+)`", cells[0])):
            found[name[1]] = cells
    return found


def vectors(name: str) -> Any:
    return json.loads((ROOT / "tests" / "vectors" / f"{name}.json").read_text(encoding="utf-8"))


def logged_events() -> set[str]:
    """Every string in the code that has the form of an event name."""
    found = set()
    for source in SOURCES.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and EVENT.fullmatch(node.value):
                found.add(node.value)
    return found - NO_EVENTS


def test_docs_list_every_setting_with_its_default_and_help() -> None:
    documented = rows("configuration.md")
    defaults = Settings().masked()
    expected = {name if name in UNPREFIXED else PREFIX + name for name in HELP}
    assert set(documented) == expected
    for name, cells in documented.items():
        default = defaults[name]
        assert cells[1] == ("" if default == "-" else f"`{default}`"), name
        assert cells[2] == HELP[name.removeprefix(PREFIX)], name


def test_docs_mark_the_settings_that_may_come_from_a_file() -> None:
    files = {f.name for f in fields(Settings) if f.metadata["type"].has_file}
    documented = rows("configuration.md")
    marked = {n.removeprefix(PREFIX).lower() for n, cells in documented.items() if "*or file*" in cells[0]}
    assert marked == files


def test_docs_list_every_log_event() -> None:
    assert set(rows("logging.md")) == logged_events()


def test_docs_list_every_metric() -> None:
    families = {
        f"{family.name}_total" if family.type == "counter" else family.name: family
        for environ in ({"WSBRIDGE_RECEIPTS_TOPIC": "t"}, {"WSBRIDGE_REDIS_URL": "redis://localhost"})
        for family in Bridge(load(environ)[0]).metrics.collect()
    }
    documented = {name: cells for name, cells in rows("metrics.md").items() if name.startswith("wsbridge_")}
    assert set(documented) == set(families)
    for name, (_, kind, labels, unit, _) in documented.items():
        family = families[name]
        assert kind == family.type, name
        assert set(re.findall(r"`(\w+)`", labels)) == set(family.samples[0].labels) - {"le"}, name
        named = re.search(r"_(seconds|bytes)(_total)?$", name)
        assert (unit in ("seconds", "bytes")) == bool(named), name
        assert named is None or unit == named[1], name


def test_docs_name_only_metrics_that_exist() -> None:
    known = set(rows("metrics.md"))
    renamed = {name for name, cells in rows("CHANGELOG.md").items() if name.startswith("wsbridge_") and len(cells) == 2}
    for document, text in DOCS.items():
        for name in re.findall(r"`(wsbridge_\w+)", text):
            assert re.sub(r"_(bucket|count|sum)$", "", name) in known | renamed, (document, name)


def closes(document: str) -> dict[tuple[int, str], list[str]]:
    """Code and reason → the row's other cells."""
    found = {}
    for line in DOCS[document].splitlines():
        if row := re.match(r"\| ([\d, ]+) \| ([^|]*) \| (.*) \|$", line):
            for code in row[1].split(","):
                for reason in re.findall(r"`(\w+)`", row[2]) or [""]:
                    found[int(code), reason] = re.split(r" ?\| ", row[3])
    return found


@pytest.mark.parametrize(("document", "cell"), [("protocol.md", 1), ("FRONTEND_INTEGRATION.md", 0)])
def test_docs_list_every_close_with_the_reaction_of_a_client(document: str, cell: int) -> None:
    table = closes(document)
    assert {key for key in table if key[1]} == {tuple(close) for close in CLOSES}
    words = {
        "stop": "stops",
        "backoff": "reconnects with backoff",
        "hint": "reconnects after `reconnect_after_ms`",
        "token": "gets a fresh token, reconnects at once, then with backoff",
        "resume": "reconnects at once and resumes",
    }
    for close in vectors("closes")["closes"]:
        assert table[close["code"], close["reason"]][cell] == words[close["client"]], close
    for close in vectors("closes")["any_code"]:
        if (close["code"], "") in table:
            assert table[close["code"], ""][cell].startswith("stops") is not close["reconnect"]
    rule = next(line for line in DOCS[document].splitlines() if "Clients reconnect after 4000" in line)
    stops = {
        close["code"] for close in vectors("closes")["any_code"] if not close["reconnect"] and close["code"] < 4000
    }
    assert {int(code) for code in re.findall(r"\b1\d{3}\b", rule.split(" stop")[0])} == stops


def shape(text: str) -> tuple[str, frozenset[str]]:
    """The type of a message and the set of its fields."""
    message = json.loads(text)
    return message["type"], frozenset(message)


def test_docs_messages_of_the_bridge_have_the_fields_of_the_vectors() -> None:
    text, _, _ = DOCS["protocol.md"].partition("## Client → server")
    examples = [*re.findall(r"^```json\n(.*?)^```", text, re.DOTALL | re.MULTILINE), *re.findall(r"`(\{.*?\})`", text)]
    known = {shape(vector["text"]) for vector in vectors("messages")["server"]} | {("pong", frozenset(["type"]))}
    assert {shape(example)[0] for example in examples} == {kind for kind, _ in known} - {"order_update"}
    assert {shape(example) for example in examples} <= known


def test_docs_messages_of_clients_are_parsed() -> None:
    _, _, text = DOCS["protocol.md"].partition("## Client → server")
    examples = re.findall(r"^\| `(\{.*?\})` \|", text.partition("## Server-Sent Events")[0], re.MULTILINE)
    assert [read_message(example).kind for example in examples] == ["ping", "auth", "handled"]


def test_docs_list_every_option_of_the_client() -> None:
    source = (ROOT / "client" / "src" / "types.js").read_text(encoding="utf-8")
    options = source.split("@typedef {object} Options")[1].split("@typedef")[0]
    assert api("Options") == re.findall(r"@property \{.*\} \[?(\w+)", options)


@pytest.mark.parametrize(("heading", "typedef"), [("State", "{object} State"), ("follow", "{object} Follow\n")])
def test_docs_list_every_field_of_a_type_of_the_client(heading: str, typedef: str) -> None:
    source = (ROOT / "client" / "src" / "types.js").read_text(encoding="utf-8")
    members = re.split(r"@typedef|\*/", source.split(f"@typedef {typedef}")[1])[0]
    assert set(api(heading)) == set(re.findall(r"@property \{.*\} \[?(\w+)", members))


def test_docs_list_every_message_that_the_client_emits() -> None:
    source = (ROOT / "client" / "src" / "types.js").read_text(encoding="utf-8")
    own = re.search(r"typedef \{\{(.*)\}\} OwnEvents", source)
    assert own
    assert set(api("Messages")) == {*re.findall(r"'?([\w*]+)'?: \w+", own[1]), "task_update"}


def api(heading: str) -> list[str]:
    """The names in the first column of the guide's table under this heading."""
    section = DOCS["FRONTEND_INTEGRATION.md"].split("\n## API\n")[1].split(f"\n### {heading}\n")[1].split("\n### ")[0]
    return re.findall(r"`([\w*]+)", " ".join(line.split("|")[1] for line in section.splitlines() if "|" in line))


def test_docs_list_every_member_and_error_code_of_the_client() -> None:
    source = (ROOT / "client" / "src" / "types.js").read_text(encoding="utf-8")
    members = source.split("@typedef {object} Client\n")[1].split("*/")[0]
    assert set(api("Client")) == set(re.findall(r"@property \{.*\} (\w+)", members))
    codes = re.findall(r"'(\w+)'", source.split("ClientErrorCode")[1].split("{")[-1])
    assert re.findall(r'^\| <a id="(\w+)"></a>`\1`', DOCS["FRONTEND_INTEGRATION.md"], re.MULTILINE) == codes


def test_docs_list_every_route() -> None:
    bridge = Bridge(load({})[0])
    routes = {
        f"{route.method} {route.resource.canonical}"
        for route in bridge.application(public=True, internal=True).router.routes()
        if route.resource and route.method in ("GET", "POST")
    }
    documented = set(rows("protocol.md"))
    assert {name for name in documented if re.match(r"(GET|POST) /", name)} == routes


def test_docs_name_only_existing_environment_variables() -> None:
    for document, text in DOCS.items():
        if document != "CHANGELOG.md":
            for name in re.findall(rf"{PREFIX}([A-Z_]+[A-Z])", text):
                assert name.removesuffix("_FILE") in HELP, f"{document}: {PREFIX}{name}"


@pytest.mark.parametrize("document", sorted(DOCS))
def test_docs_links_have_a_target(document: str) -> None:
    folder = ROOT if (ROOT / document).exists() else ROOT / "docs"
    for target, anchor in re.findall(r"""(?:\]\(|src(?:set)?=")([^)#"]*)#?([^)"]*)[)"]""", DOCS[document]):
        assert target.startswith("http") or (folder / target).exists(), target
        if anchor:
            assert anchor in headings(folder / target if target else folder / document), (target, anchor)


def test_index_for_agents_lists_every_document_once() -> None:
    listed = re.findall(r"^- \[.+?\]\((.+?)\)", (ROOT / "llms.txt").read_text(encoding="utf-8"), re.MULTILINE)
    documents = [path.relative_to(ROOT).as_posix() for path in PROSE if path.parent != ROOT / "client"]
    assert sorted(listed) == sorted(set(documents) - {"README.md"})


def headings(document: Path) -> set[str]:
    """The anchors of a document, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in found}


def test_docs_list_every_fault_with_its_tests() -> None:
    """In both directions: a marked test without a row is wrong too."""
    marked: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        name = str(path.relative_to(ROOT / "tests").with_suffix(""))
        for arguments in re.findall(r"\bpytest\.mark\.fault\(([^)]*)\)", path.read_text(encoding="utf-8")):
            for fault in re.findall(r'"(\w+)"', arguments):
                marked.setdefault(fault, set()).add(name)
    listed = re.findall(r"^\| ([A-H]\d+) \|.*\| ([^|]*) \|$", DOCS["reliability.md"], re.MULTILINE)
    assert {fault: set(re.findall(r"`([\w/]+)`", tests)) for fault, tests in listed} == marked


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(ROOT)))
def test_document_line_that_can_be_broken_fits_the_width(path: Path) -> None:
    """Rows of tables and single words such as URLs cannot be broken. Commands can: with a backslash."""
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    long = [number for number, line in lines if len(line) > WIDTH and not line.startswith("|") and " " in line.strip()]
    assert long == []


def test_contributing_names_files_that_exist() -> None:
    named = re.findall(r"`([\w.-]+(?:/[\w.-]+)+|[A-Z_]+\.md)`", DOCS["CONTRIBUTING.md"])
    assert len(named) > 25
    made = re.compile(r"build/|.*/built$")  # by a build, and ignored by git
    assert [path for path in named if not made.match(path) and not (ROOT / path).exists()] == []
