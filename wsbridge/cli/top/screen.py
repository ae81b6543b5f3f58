"""Reads the stream of a bridge and draws its numbers with rich, once or each second."""

import json
import math
import time
from collections.abc import Iterator, Mapping

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wsbridge.cli import http
from wsbridge.cli.formatting import printable
from wsbridge.cli.options import Failed
from wsbridge.cli.top.totals import Replica, Totals

TIMEOUT = 5.0  # seconds without a line; the bridge sends some each second
AGAIN = 1.0  # seconds until the next attempt to reach the bridge
MOST_LABELS = 6  # that a list of counts shows
WIDTH = 120  # columns in a pipe, so that none is cut
COLUMNS = (
    "replica", "state", "up", "connections", "users", "in/s", "out/s", "sent/s", "queue", "unsent", "CPU", "median",
    "99 %", "loop lag", "Redis",
)  # fmt: skip
MEANINGS = {  # of closes and errors whose name does not say it
    "1000 client": "the client ended the session",
    "1001 client": "the page was closed or left, or a proxy shut down",
    "1005 client": "the client closed without a code",
    "1006 lost": "no close frame came: the network or a proxy cut the connection, or the client crashed",
    "1006 ping_timeout": "the client did not answer a ping: it is gone, or asleep",
    "1006 internal": "cut after an error: see internal.error in the log",
    "1012 shutdown": "the replica was drained; clients resume at another one",
    "1013 overloaded": "refused at a limit: WSBRIDGE_MAX_CONNECTIONS, WSBRIDGE_HANDSHAKE_RATE or ulimit -n",
    "1013 unavailable": "refused while histories or keys cannot be read: /health names the reason",
    "4401 token_invalid": "the bridge refused the client's token: auth.failed in the log names the setting",
    "4408 slow_consumer": "the client read too slowly",
    "auth": "a token was missing, refused or another user's: see auth.failed in the log",
    "denied": "a route for the sidecar, operators or Prometheus was refused: see request.denied in the log",
    "internal": "an error of the bridge: see internal.error in the log",
}
_COLOURS = {"healthy": "green", "degraded": "yellow", "draining": "yellow", "no answer": "red"}
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (0, "µs"))


def run(url: str, token: str | None, *, is_once: bool) -> None:
    """Draw until Ctrl-C, or once. Raises `Failed` if the bridge refuses, and with `is_once` if it is not reached."""
    if is_once:
        console = Console(width=WIDTH, highlight=False)
        with http.reaching(url), http.understanding():
            for looks, totals in enumerate(_looks(url, token)):
                if looks:  # the first has no rates
                    console.print(drawn(totals))
                    return
        raise Failed(f"{url} ended the stream")
    with Live(Text(f"asking {url} …"), screen=True, auto_refresh=False) as live:
        while True:
            try:
                with http.understanding():
                    for totals in _looks(url, token):
                        live.update(drawn(totals), refresh=True)
                problem = "it ended the stream"
            except http.Unreachable as error:
                problem = str(error)
            live.update(Text(f"cannot reach {url}: {problem}. Trying again …", style="red"), refresh=True)
            time.sleep(AGAIN)  # a bridge that restarts needs a moment


def _looks(url: str, token: str | None) -> Iterator[Totals]:
    """Yield the totals after each look of the bridge. Raises `http.Unreachable`, and `Failed` if it refuses."""
    totals = Totals()
    for line in http.operator_lines(f"{url}/console/stream?show=numbers", token=token, timeout=TIMEOUT):
        if totals.take(json.loads(line)):
            yield totals


def drawn(totals: Totals) -> RenderableType:
    """The table, and below it the lines about what is wrong, what was not stored and what ended."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in COLUMNS[:2] else "right", no_wrap=True)
    for name, replica in totals.replicas.items():
        table.add_row(*_row(name, replica))
    known = sum(replica.is_silent for replica in totals.replicas.values())
    lines = [
        *(Text(printable(f"{name}: {each}"), "yellow") for name, r in totals.replicas.items() for each in r.problems),
        *([Text(f"{totals.missing - known} more without an answer", "red")] if totals.missing > known else []),
        _counts("not stored", {name: n for name, n in totals.counts("events").items() if n and name != "stored"}),
        _counts("why", totals.counts("drops", "retries")),
        _lost(*totals.losses()),
        *_explained("closed", totals.counts("closes")),
        *_explained("errors", totals.counts("errors")),
    ]
    return Group(table, *(line for line in lines if line))


def _row(name: str, replica: Replica) -> list[Text]:
    now = replica.now
    words = [
        printable(name),
        replica.state,
        duration(now["uptime"]),
        f"{now['connections']:,}",
        f"{now['users']:,}",
        f"{replica.rate(lambda line: sum(line['events'].values())):,.0f}",
        f"{replica.rate(lambda line: line['deliveries']):,.0f}",
        size(replica.rate(lambda line: line["sent_bytes"])),
        f"{replica.fullness:.0%}",
        size(now["unsent_bytes"]),
        f"{replica.rate(lambda line: line['cpu']):.0%}",
        _latency(replica, "delivery", 0.5),
        *(_latency(replica, stage, 0.99) for stage in ("delivery", "loop_lag", "redis")),
    ]
    styles = {1: _COLOURS[replica.state]}
    return [Text(word, styles.get(place, "dim" if replica.is_silent else "")) for place, word in enumerate(words)]


def _latency(replica: Replica, stage: str, share: float) -> str:
    seconds = replica.latency(stage, share)
    if seconds is None:
        return "-"
    return duration(seconds) if seconds < math.inf else f"> {duration(replica.now['latency'][stage]['bounds'][-1])}"


def _counts(title: str, counts: Mapping[str, int]) -> Text:
    """One line of the largest counts since the start; empty without counts."""
    shown = [f"{name} {counts[name]:,}" for name in _largest(counts)]
    more = [f"{len(counts) - MOST_LABELS} more"] if len(counts) > MOST_LABELS else []
    return Text(f"{title:10}  " + printable(", ".join(shown + more)) if counts else "")


def _explained(title: str, counts: Mapping[str, int]) -> Iterator[Text]:
    yield _counts(title, counts)
    for name, words in MEANINGS.items():
        if name in _largest(counts):
            yield Text(f"{'':10}  {name}: {words}", "dim")


def _lost(losses: int, ago: float | None) -> Text:
    """A line about histories that Redis has lost; empty without a loss."""
    if not losses:
        return Text()
    when = "" if ago is None else f", {duration(ago)} ago"
    return Text(
        f"{'lost':10}  histories {losses:,}{when}: clients got gaps. wsbridge doctor looks for the cause", "yellow"
    )


def _largest(counts: Mapping[str, int]) -> list[str]:
    return list(counts)[:MOST_LABELS]


def duration(seconds: float) -> str:
    """A time in the largest unit of which there is at least one; with a decimal if it is short."""
    unit, name = next((unit, name) for unit, name in _UNITS if seconds >= unit)
    value = seconds / (unit or 1e-6)
    return f"{value:.0f} {name}" if value >= 10 or unit >= 1 else f"{value:.1f} {name}"  # noqa: PLR2004 - two digits


def size(count: float) -> str:
    """A number of bytes with a decimal prefix."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:  # noqa: PLR2004 - decimal
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
