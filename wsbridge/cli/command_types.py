"""Commands with help or arguments that click does not offer."""

import itertools

import click

from wsbridge.cli.options import SIDECAR


class ServeCommand(click.Command):
    """Lists all settings in its help."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from wsbridge.cli.check import catalogue  # noqa: PLC0415 - for this help only

        formatter.write(f"\n{catalogue()}\n")
        super().format_options(ctx, formatter)


class PublishCommand(click.Command):
    """Takes `--dapr` with a URL or without: the word after it may be the type of the event."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [
            f"--dapr={SIDECAR}" if word == "--dapr" and "://" not in following else word
            for word, following in itertools.pairwise([*args, ""])
        ]
        return super().parse_args(ctx, words)
