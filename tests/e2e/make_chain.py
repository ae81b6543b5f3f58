"""`make chain`: finds or builds the parts of the chain, then runs `wsbridge chain` with them."""

import logging
import sys
from pathlib import Path

from tests.e2e import builds, parts
from wsbridge.cli import main as cli
from wsbridge.cli.options import INTERRUPTED


def main() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if lines := parts.missing():
        sys.exit("\n".join(lines))
    builds.interrupt_on_signals()
    try:
        builds.together([parts.kafka], [parts.daprd])
    except builds.Missing as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.argv[0] = str(Path(sys.executable).with_name("wsbridge"))  # the command that the text for the reader names
    cli.main(["chain", f"--kafka={parts.kafka()}", f"--daprd={parts.daprd()}"])


if __name__ == "__main__":
    main()
