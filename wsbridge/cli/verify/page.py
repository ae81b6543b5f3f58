"""The result of a run as one HTML page: numbers, findings, and a chart in SVG. No script, nothing from outside."""

import math
from html import escape

from wsbridge.cli.verify.record import Record
from wsbridge.cli.verify.report import Report, rows, verdict

WIDTH, HEIGHT, LEFT, TOP = 960, 240, 60, 12  # of the chart, in pixels
MOST_DOTS = 4_000  # deliveries that are drawn; of more, every second, third …
ROW = 8  # pixels for each client, up to MOST_ROWS
MOST_ROWS = 60
_DECADES = (1, 10, 100, 1_000, 10_000, 100_000)  # milliseconds
STYLE = """
:root{color-scheme:light dark;--ink:#1d2430;--dim:#667085;--line:#d9dee7;--dot:#2f6fde;--bad:#c8321f;--warn:#b46a00;
--band:#f3e8cf;--paper:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e7ebf2;--dim:#98a2b3;--line:#333b49;--dot:#7aa7ff;--bad:#ff7a68;
--warn:#f0b455;--band:#3a3423;--paper:#14181f}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1000px;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.4rem}.PASSED{color:#1a8f4a}.FAILED,.failure{color:var(--bad)}.warning{color:var(--warn)}
td{padding:.15rem 1.5rem .15rem 0;vertical-align:top}td:first-child{color:var(--dim)}
svg{width:100%;height:auto}text{font:11px system-ui,sans-serif;fill:var(--dim)}pre{white-space:pre-wrap;
overflow-wrap:anywhere;color:var(--dim);font-size:12px}p,td{overflow-wrap:anywhere}
"""


def page(report: Report) -> str:
    """The page. Every text is escaped."""
    numbers = report.summary()
    result = verdict(report)
    table = "".join(f"<tr><td>{escape(name)}<td>{escape(value)}" for name, value in rows(numbers))
    findings = "".join(
        f'<p class="{entry["severity"]}"><b>{escape(entry["code"])}</b>: {escape(entry["text"])}<br>'
        f"{escape(entry['cure'])}</p>"
        for entry in numbers["findings"]
    )
    examples = escape("\n\n".join(text for texts in numbers["examples"].values() for text in texts))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(f"wsbridge verify: {result}")}</title>'
        '<meta name="viewport" content="width=device-width">'
        f'<style>{STYLE}</style><h1>wsbridge verify: <span class="{result.split()[0]}">{escape(result)}</span></h1>'
        f"<table>{table}</table>{findings}{_chart(report.record)}"
        f"{f'<h2>First reports</h2><pre>{examples}</pre>' if examples else ''}</html>\n"
    )


def _chart(record: Record) -> str:
    """The latency of each delivery over time, on a logarithmic scale, and the times without a connection."""
    span = max(record.ended - record.started, 0.001)
    tracks = record.tracks[:MOST_ROWS]
    height = HEIGHT + 40 + ROW * len(tracks)

    def x(at: float) -> float:
        return round(LEFT + (WIDTH - LEFT) * min(max((at - record.started) / span, 0), 1), 1)

    def y(ms: float) -> float:
        high, low = _DECADES[-1], _DECADES[0]
        return round(HEIGHT * (1 - math.log(min(max(ms, low), high) / low, high / low)), 1)

    parts = [f'<svg viewBox="0 -{TOP} {WIDTH} {height + TOP}" role="img" aria-label="latency over time">']
    if record.during:
        start, end = x(record.during.start), x(record.during.end or record.ended)
        parts.append(f'<rect x="{start}" y="0" width="{max(end - start, 2)}" height="{height}" fill="var(--band)"/>')
        parts.append(f'<text x="{start + 3}" y="12">{escape(record.during.command[:80])}</text>')
    for ms in _DECADES:
        label = f"{ms} ms" if ms < 1_000 else f"{ms // 1_000} s"  # noqa: PLR2004 - a second
        parts.append(f'<path d="M{LEFT} {y(ms)}H{WIDTH}" stroke="var(--line)"/><text y="{y(ms) + 4}">{label}</text>')
    step = 1 + len(record.arrivals) // MOST_DOTS
    dots = zip(record.arrivals[::step], record.latencies[::step], strict=True)
    path = "".join(f"M{x(at)} {y(1_000 * late)}h0" for at, late in dots)
    parts.append(f'<path d="{path}" stroke="var(--dot)" stroke-width="3" stroke-linecap="round" opacity=".6"/>')
    parts.append(f'<text y="{HEIGHT + 28}">clients: — no connection, ● gap</text>')
    for quarter in range(5):
        at = record.started + span * quarter / 4
        anchor = "end" if quarter == 4 else "start"  # noqa: PLR2004 - the last one
        parts.append(f'<text x="{x(at)}" y="{HEIGHT + 14}" text-anchor="{anchor}">{at - record.started:.0f} s</text>')
    for place, track in enumerate(tracks):
        y_of = HEIGHT + 36 + ROW * place
        title = escape(f"{track.viewer.name} of {track.viewer.user}: {track.dark_ms:.0f} ms without a connection")
        spans = "".join(f"M{x(start)} {y_of}H{max(x(end), x(start) + 1)}" for start, end in track.dark)
        gaps = "".join(f'<circle cx="{x(gap.at)}" cy="{y_of}" r="3" fill="var(--bad)"/>' for gap in track.gaps)
        parts.append(
            f'<g><title>{title}</title><path d="M{LEFT} {y_of}H{WIDTH}" stroke="var(--line)" stroke-width="4"/>'
            f'<path d="{spans}" stroke="var(--bad)" stroke-width="4"/>{gaps}</g>'
        )
    return "".join((*parts, "</svg>"))
