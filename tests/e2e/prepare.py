"""Builds or fetches what the tests need, before their time counts: on a new machine ten minutes, later nothing."""

import logging
import time

from tests.e2e import parts, recipes

log = logging.getLogger(__name__)
PARTS = (
    parts.kafka,
    parts.daprd,
    parts.control_plane,
    parts.compose,
    parts.helm,
    parts.kubernetes,
    parts.definitions,
    recipes.packages,
    recipes.jars,
)


def main() -> None:
    """Build all parts. One that is missing is said, and the tests that need it skip or fail."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for part in PARTS:
        began = time.monotonic()
        try:
            part()
        except parts.Missing as missing:
            log.info("%s: %s", part.__name__, missing)
        else:
            log.info("%s: ready after %.0f s", part.__name__, time.monotonic() - began)


if __name__ == "__main__":
    main()
