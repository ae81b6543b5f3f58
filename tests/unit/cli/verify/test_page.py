"""The page of `wsbridge verify`: well-formed, self-contained, and untrusted text stays text."""

import xml.etree.ElementTree as ET

from tests.support.verify_record import Told, gap
from wsbridge.cli.verify.catalogue import Finding
from wsbridge.cli.verify.page import HEIGHT, MOST_DOTS, MOST_ROWS, TOP, WIDTH, page
from wsbridge.cli.verify.record import During
from wsbridge.cli.verify.report import Report
from wsbridge.cli.verify.viewer import Broken, Flaw

HOSTILE = """<script>alert(1)</script>"'&"""


def shown(told: Told, *findings: Finding) -> str:
    return page(Report(told.record, findings, strict=False))


def chart(html: str) -> ET.Element:
    return ET.fromstring(html[html.index("<svg") : html.index("</svg>") + len("</svg>")])


def healthy() -> Told:
    told = Told("u1")
    told.client("u1")
    told.sees_all()
    return told


def test_page_shows_numbers_and_a_dot_for_each_delivery() -> None:
    html = shown(healthy())
    assert '<span class="PASSED">PASSED</span>' in html
    assert "<td>arrived<td>10 of 10 at 1 client" in html
    assert html.count("h0M") == 9


def test_page_loads_and_runs_nothing() -> None:
    html = shown(healthy(), Finding("lost", "x"))
    assert not [word for word in ("<script", "src=", "href=", "url(", "@import", "http", " on") if word in html.lower()]


def test_page_escapes_untrusted_text() -> None:
    told = healthy()
    told.client(HOSTILE).dark.append((1.0, 2.0))
    told.record.during = During(HOSTILE, 3.0)
    told.record.broken(Broken(HOSTILE, Flaw.LOST))
    html = shown(told, Finding("lost", HOSTILE))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 4
    assert HOSTILE in "".join(chart(html).itertext())


def test_page_marks_times_without_a_connection_and_gaps() -> None:
    told = healthy()
    told.record.tracks[0].dark.append((1.0, 2.0))
    told.record.tracks[0].gaps.append(gap("reset", explained=True))
    svg = chart(shown(told))
    assert svg.findall(".//{*}circle") or svg.findall(".//circle")
    assert "1000 ms without a connection" in "".join(svg.itertext())


def test_page_of_a_large_run_stays_small() -> None:
    told = healthy()
    for _ in range(3 * MOST_ROWS):
        told.client("u1")
    for _ in range(20 * MOST_DOTS):
        told.record.arrived("u1", 1, 2.0, 2.0, stamp=None, live=True)
    assert len(shown(told)) < 200_000


def test_page_of_an_empty_run_has_a_chart() -> None:
    assert chart(shown(Told())).get("viewBox") == f"0 -{TOP} {WIDTH} {HEIGHT + 40 + TOP}"
