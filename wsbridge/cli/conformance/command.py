"""`wsbridge conformance` on the command line."""

# ruff: noqa: PLC0415 - what is imported later is slow to import, and every command loads this module

from typing import TYPE_CHECKING

import click

from wsbridge.cli.formatting import printable
from wsbridge.cli.options import FAILED, examples

if TYPE_CHECKING:
    from wsbridge.cli.conformance.run import Verdict


@click.command(
    epilog=examples(
        "wsbridge conformance './my-client {url} {token_url}'",
        "wsbridge conformance --only resume --only missed 'node client.mjs {url}'",
        "wsbridge conformance './my-client {sse_url}'",
        "wsbridge conformance --list",
    )
)
@click.argument("command", required=False)
@click.option("--only", metavar="SCENARIO", multiple=True, help="run this scenario only; may be repeated")
@click.option("--list", "only_list", is_flag=True, help="list the scenarios")
@click.option("--json", "as_json", is_flag=True, help="print each verdict as one line of JSON")
def conformance(command: str | None, *, only: tuple[str, ...], only_list: bool, as_json: bool) -> int:
    """Test a client of the protocol, in any language.

    COMMAND starts the client. {url} is the WebSocket address to connect to, {sse_url} in its place the address of
    Server-Sent Events. {token_url} is an address that returns a fresh token for each GET; without it, the scenarios
    with tokens are skipped.

    The client prints the `id` of each event on a line of its own, and `gap` when events are lost. It ends when a close
    code forbids reconnecting. See docs/conformance.md.

    A server of the test breaks each connection in its own way and judges the client. Needs no bridge. The exit code is
    1 if a scenario failed.
    """
    import asyncio
    import json

    import msgspec

    from wsbridge.cli.conformance.run import judge
    from wsbridge.cli.conformance.scenarios import SCENARIOS

    if unknown := [name for name in only if name not in SCENARIOS]:
        raise click.UsageError(f"no scenario is called {unknown[0]}: see --list")
    scenarios = [SCENARIOS[name] for name in only or SCENARIOS]
    if only_list:
        for scenario in scenarios:
            click.echo(f"{scenario.name:<22}{scenario.text}")
        return 0
    if command is None or ("{url}" in command) == ("{sse_url}" in command):
        raise click.UsageError("COMMAND is missing, or has neither {url} nor {sse_url}, or has both")

    results: list[str] = []

    def show(verdict: "Verdict") -> None:
        results.append(verdict.result)
        click.echo(json.dumps(msgspec.to_builtins(verdict)) if as_json else _line(verdict))

    asyncio.run(judge(scenarios, command, show))
    counts = {result: results.count(result) for result in ("passed", "failed", "skipped")}
    if not as_json:
        summary = ", ".join(f"{count} {result}" for result, count in counts.items())
        click.echo(f"{len(results)} scenarios: {summary}")
    return FAILED if counts["failed"] else 0


def _line(verdict: "Verdict") -> str:
    reason = f": {printable(verdict.reason)}" if verdict.reason else ""
    return f"{verdict.scenario:<22}{verdict.result}{reason}"
