"""The result of a check: its state, what was found, and the cure."""

import json
from collections.abc import Sequence
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple

from wsbridge.cli.formatting import printable


class State(StrEnum):
    """In the order of the report."""

    FAILURE = "failure"
    WARNING = "warning"
    OK = "ok"
    NOT_CHECKED = "not checked"


_ORDER = list(State)
Findings = Sequence[tuple[str, "Finding"]]  # each with the name of its check


class Finding(NamedTuple):
    state: State
    text: str
    cure: str = ""


class NotChecked(Exception):  # noqa: N818 - a state, not an error
    """A check could not be made; the text is the reason."""


def ok(text: str) -> Finding:
    return Finding(State.OK, text)


def warning(text: str, cure: str) -> Finding:
    return Finding(State.WARNING, text, cure)


def failure(text: str, cure: str) -> Finding:
    return Finding(State.FAILURE, text, cure)


def has_failed(findings: Findings) -> bool:
    return any(finding.state is State.FAILURE for _, finding in findings)


def report(findings: Findings, hints: Sequence[str] = ()) -> str:
    """One line for each finding, the worst first, then their numbers, and `hints` at options that would check more.

    Checks that were left out share a line. A cure is printed once; later lines refer to it.
    """
    found = sorted(findings, key=lambda item: _ORDER.index(item[1].state))
    done = [(name, finding) for name, finding in found if finding.state is not State.NOT_CHECKED]
    left_out = sorted((finding.text, name) for name, finding in found if finding.state is State.NOT_CHECKED)
    width = max((len(name) for name, _ in done), default=0)
    lines, cured = [], dict[str, str]()  # cure → the check whose line has it
    for name, finding in done:
        shown = finding
        if first := cured.get(finding.cure):
            shown = finding._replace(cure="as above" if first == name else f"as for {first}")
        elif finding.cure:
            cured[finding.cure] = name
        lines.append(f"{finding.state:11}  {name:{width}}  {_with_cure(shown)}")
    for why, group in groupby(left_out, key=lambda pair: pair[0]):
        lines.append(f"{State.NOT_CHECKED}  {', '.join(name for _, name in group)}: {why}")
    counts = [sum(finding.state is state for _, finding in findings) for state in State]
    words = [f"{count} {state}" + ("s" if state in (State.FAILURE, State.WARNING) and count != 1 else "")
             for state, count in zip(State, counts, strict=True)]  # fmt: skip
    if hints:
        words[0] += " in what was checked"
        words[-1] += f"; to check more: {', '.join(hints)}"
    return "\n".join(printable(line) for line in (*lines, ", ".join(words)))


def _with_cure(finding: Finding) -> str:
    """The text may be another program's and end with a full stop."""
    return f"{finding.text.removesuffix('.')}. Cure: {finding.cure}" if finding.cure else finding.text


def as_json(findings: Findings) -> str:
    """An object for scripts: `healthy` and a list of `findings`."""
    listed = [{"check": name, "state": f.state, "text": f.text, "cure": f.cure} for name, f in findings]
    return json.dumps({"healthy": not has_failed(findings), "findings": listed})
