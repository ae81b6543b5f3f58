"""`make chain`: finds or builds the parts of the chain, then runs `wsbridge chain` with them."""

import logging
import signal
import sys
from pathlib import Path

from tests.e2e import parts
from wsbridge.cli import main as cli
from wsbridge.cli.options import INTERRUPTED


def main() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    if lines := parts.missing():
        sys.exit("\n".join(lines))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: parts.interrupted.set())
    try:
        options = [f"--kafka={parts.kafka()}", f"--daprd={parts.daprd()}"]
        if parts.interrupted.is_set():
            raise KeyboardInterrupt
    except parts.Missing as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.argv[0] = str(Path(sys.executable).with_name("wsbridge"))  # the command that the text for the reader names
    cli.main(["chain", *options])


if __name__ == "__main__":
    main()
