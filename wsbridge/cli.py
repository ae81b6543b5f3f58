"""The `wsbridge` command."""

import asyncio
import os
import sys

from wsbridge import log
from wsbridge.app import serve
from wsbridge.settings import SettingsError, load


def main() -> None:
    try:
        settings, warnings = load(os.environ)
        log.configure(settings.log_level, settings.log_format)
        asyncio.run(serve(settings, warnings))
    except SettingsError as error:
        sys.exit("\n".join(f"wsbridge: {line}" for line in error.lines))
