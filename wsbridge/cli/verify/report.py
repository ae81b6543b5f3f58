"""The result of a run: as numbers, as JSON and as text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wsbridge.cli.formatting import printable
from wsbridge.cli.verify.catalogue import Finding
from wsbridge.cli.verify.findings import is_explained
from wsbridge.cli.verify.record import Record, counted, percentile
from wsbridge.cli.verify.viewer import Flaw

SHARES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


@dataclass(frozen=True)
class Report:
    """A record with its findings."""

    record: Record
    findings: Sequence[Finding]
    strict: bool  # a warning fails the run, too

    @property
    def passed(self) -> bool:
        return not any(self.strict or finding.is_failure for finding in self.findings)

    def summary(self) -> dict[str, Any]:
        """The numbers, as in the JSON."""
        record = self.record
        gaps = [gap for track in record.tracks for gap in track.gaps]
        explained = sum(is_explained(record, gap) for gap in gaps)
        arrived, missing = len(record.latencies), sum(track.missing for track in record.tracks)
        during = record.during
        return {
            "passed": self.passed,
            "interrupted": record.interrupted,
            "run": record.ledger.run,
            "seconds": round(record.ended - record.started, 1),
            "users": len(record.users),
            "clients": len(record.tracks),
            "sent": sum(record.ledger.required(user) for user in record.users),
            "expected": arrived - record.flaws[Flaw.TWICE] + missing,
            "arrived": arrived - record.flaws[Flaw.TWICE],
            "lost": sum(track.lost for track in record.tracks),
            "twice": record.flaws[Flaw.TWICE],
            "out_of_order": record.flaws[Flaw.OUT_OF_ORDER],
            "gaps": {
                "explained": explained,
                "unexplained": len(gaps) - explained,
                "reasons": Counter(gap.reason for gap in gaps),
            },
            "latency_ms": _times(record.latencies),
            "from_bridge_to_client_ms": _times(record.after),
            "dark_ms": {track.viewer.name: round(track.dark_ms) for track in record.tracks},
            "reconnects": sum(len(track.cuts) for track in record.tracks),
            "during": during and {"command": during.command, "exit_code": during.code},
            "findings": [
                {
                    "code": finding.code,
                    "severity": "failure" if finding.is_failure else "warning",
                    "text": finding.text,
                    "cure": finding.cure,
                }
                for finding in self.findings
            ],
            "examples": {flaw: texts for flaw, texts in record.examples.items() if texts},
        }

    def text(self) -> str:
        """Lines for a person. Untrusted text is made printable."""
        lines = [f"{name:13} {value}" for name, value in rows(self.summary())]
        for finding in self.findings:
            mark = "FAILURE" if finding.is_failure else "warning"
            lines += ["", f"{mark}  {finding.code}: {finding.text}", f"         {finding.cure}"]
        lines += ["", verdict(self)]
        return "\n".join(printable(line) for line in lines)


def rows(numbers: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers as names and texts."""
    gaps, dark = numbers["gaps"], sorted(numbers["dark_ms"].values(), reverse=True)
    reasons = ", ".join(f"{count} {reason}" for reason, count in gaps["reasons"].items())
    how = f", {gaps['unexplained']} without a cause ({reasons})" if reasons else ""
    sent, users = counted(numbers["sent"], "event"), counted(numbers["users"], "user")
    spent = "0 ms"
    if any(dark):
        spent = f"longest {dark[0]:,} ms, {sum(ms > 0 for ms in dark)} of {counted(len(dark), 'client')}"
    return [
        ("sent", f"{sent} for {users} in {numbers['seconds']:g} s"),
        ("arrived", f"{numbers['arrived']:,} of {numbers['expected']:,} at {counted(numbers['clients'], 'client')}"),
        ("lost", f"{numbers['lost']:,}"),
        ("twice", f"{numbers['twice']:,}"),
        ("out of order", f"{numbers['out_of_order']:,}"),
        ("gaps", f"{gaps['explained'] + gaps['unexplained']:,}{how}"),
        ("latency", ", ".join(f"{name} {value:,.1f} ms" for name, value in numbers["latency_ms"].items())),
        ("dark", f"{spent}; {counted(numbers['reconnects'], 'reconnect')}"),
        *([("during", f"exit code {numbers['during']['exit_code']}")] if numbers["during"] else []),
    ]


def verdict(report: Report) -> str:
    failures = sum(finding.is_failure for finding in report.findings)
    numbers = {"failure": failures, "warning": len(report.findings) - failures}
    words = [counted(number, noun) for noun, number in numbers.items() if number]
    result = "PASSED" if report.passed else "FAILED"
    so_far = " so far: interrupted" if report.record.interrupted else ""
    return result + so_far + (f" ({', '.join(words)})" if words else "")


def _times(seconds: Sequence[float]) -> dict[str, float]:
    return {name: round(1_000 * percentile(seconds, share), 1) for name, share in SHARES.items()}
