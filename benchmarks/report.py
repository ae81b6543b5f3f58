"""Formats the results as Markdown, for the terminal and for docs/performance.md."""

from benchmarks.plan import AT_SCALE, SCENARIOS, Scenario
from benchmarks.results import BUSY, FLOOR, OURS, Results


def markdown(results: Results) -> str:
    lines = [
        ", ".join(f"{name} {text}" for name, text in results.about.items()),
        f"Versions: {', '.join(f'{name} {text}' for name, text in results.versions.items() if text)}",
        "",
        *_table(results, SCENARIOS),
        "",
        *_table(results, AT_SCALE),
        "",
        *_multiples(results),
        "",
        *_remarks(results),
    ]
    return "\n".join(lines)


def number(value: float) -> str:
    """Format a number: with one decimal below 100, without above."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _table(results: Results, scenarios: list[Scenario]) -> list[str]:
    heads = [f"{scenario.title}, {scenario.unit}" for scenario in scenarios]
    rows = [
        f"| {name} | {' | '.join(_cell(results, name, scenario) for scenario in scenarios)} |" for name in results.names
    ]
    return [f"| | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}", *rows]


def _multiples(results: Results) -> list[str]:
    """A table of all results as multiples of wsbridge. Below 1 is better than wsbridge."""
    every = [*SCENARIOS, *AT_SCALE]
    lines = [f"| times {OURS} | {' | '.join(scenario.name for scenario in every)} |", f"|---|{'---|' * len(every)}"]
    for name in results.names:
        ratios = [results.ratio(name, scenario, OURS) for scenario in every]
        lines.append(f"| {name} | {' | '.join('–' if ratio is None else f'{ratio:.2f}' for ratio in ratios)} |")
    return lines


def _cell(results: Results, name: str, scenario: Scenario) -> str:
    measured = results.typical(name, scenario.name)
    if measured is None:
        return "–"
    if scenario.name == "latency":
        text = f"{measured.p50:.2f} / {measured.p99:.2f} at {measured.rate:,.0f}/s"
    else:
        others = [one for one in (measured.receiver, measured.redis) if one]
        text = " + ".join(map(number, [measured.value - measured.receiver, *others]))
    ratio = results.ratio(name, scenario, FLOOR) if scenario.compared and name != FLOOR else None
    text += f" ({ratio:.1f} ×)" if ratio else ""
    if scenario.name == "handshake":
        text += f", {measured.rate:,.0f}/s"
    if scenario.name == "storm":
        text += f", all within {measured.seconds:.1f} s"
    if scenario.name == "crowd":
        text += f", slowest {measured.worst:.0f} ms"
    return text + (" †" if results.is_busy(name, scenario.name) else "")


def _remarks(results: Results) -> list[str]:
    every = [(name, scenario) for name in results.names for scenario in (*SCENARIOS, *AT_SCALE)]
    spread, name, title = max((results.spread(name, one.name), name, one.title) for name, one in every)
    lines = [
        f"Medians of {results.plan.rounds} rounds. With 10,000 connections or more, there is only one round.",
        "In brackets: multiples of the C floor.",
        "µs are CPU time of the server, user and system. With Redis: time of the bridge + time of Redis.",
        "With two replicas: time of the one that has the sockets + of the one that takes the posts + of Redis.",
        f"Largest difference between rounds: {spread:.0%} ({name}: {title}).",
    ]
    if any(results.is_busy(name, scenario.name) for name, scenario in every):
        lines.append(f"† The load generator used more than {BUSY:.0%} of its core.")
    lines += [f"Not measured: {name}, because {reason}." for name, reason in results.absent.items()]
    lines += [f"**Failed**: {name}: {reason}" for name, reason in results.failures.items()]
    return [*lines, "", "Better than wsbridge:", *[f"- {line}" for line in _ahead(results)]]


def _ahead(results: Results) -> list[str]:
    """A line for each scenario in which another server is better than wsbridge."""
    lines = []
    for scenario, own, others in results.ahead():
        names = ", ".join(f"{name} {number(value)}" for name, value in others)
        lines.append(f"{scenario.title}: {names}; wsbridge {number(own)} {scenario.unit.partition(',')[0]}")
    return lines or ["no server, in any scenario"]
