"""Builds or fetches what the tests need, before their time counts: on a new machine ten minutes, later nothing."""

import logging
import sys
from collections.abc import Callable

from tests.e2e import builds, parts, recipes
from wsbridge.cli.options import INTERRUPTED

log = logging.getLogger(__name__)
GO = (parts.daprd, parts.control_plane, parts.compose, parts.helm, parts.kubernetes, parts.definitions)
MAVEN = (parts.kafka, recipes.jars)
PIP = (recipes.packages,)
Make = Callable[[], object]


def main() -> None:
    """Build all parts. One that is missing is said, and the tests that need it skip or fail."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    builds.interrupt_on_signals()
    try:
        builds.together(*(map(_optional, pipeline) for pipeline in (GO, MAVEN, PIP)))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _optional(part: Make) -> Make:
    def make() -> None:
        try:
            part()
        except builds.Missing as missing:
            log.info("%s", missing)

    return make


if __name__ == "__main__":
    main()
