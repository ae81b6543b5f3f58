"""Fuzzes the parsers with atheris, guided by coverage; `make fuzz`.

Exits with 1 at the first finding. It is saved in `tests/fuzz/corpus`, and so becomes a test.
"""

import argparse
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
TARGETS = sorted(path.name for path in CORPUS.iterdir())  # their code is imported later, so that atheris sees it
LONGEST = 4_096  # bytes of an input


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="in all, 60 by default")
    parser.add_argument("--one", action="store_true", help="in this process: what the others are started with")
    options = parser.parse_args(arguments)
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    names = options.targets or list(TARGETS)
    share = max(1, options.seconds // len(names))
    if options.one:
        _fuzz(names[0], share)
        return 0
    return max(_in_a_process(name, share) for name in names)


def _in_a_process(name: str, seconds: int) -> int:
    """Run a target in its own process, because libFuzzer ends the process."""
    sys.stdout.write(f"{name}: {seconds} s\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "tests.fuzz", "--one", "--seconds", str(seconds), name]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        sys.stdout.write(done.stdout[-4_000:] + done.stderr[-4_000:])
    return 1 if done.returncode else 0


def _fuzz(name: str, seconds: int) -> None:
    atheris = importlib.import_module("atheris")  # it has no types, and only this environment has it
    with atheris.instrument_imports(include=["wsbridge"]):
        target = importlib.import_module("tests.fuzz.targets").TARGETS[name]
    pump = importlib.import_module("tests.fuzz.pump")

    def one(data: bytes) -> None:
        target.run(data)
        if len(data) > 2 and data[1] % 16 == 0:
            start = data[0] * len(data) // 256
            pump.check(target, data, start, start + 1 + data[1] // 32)

    with tempfile.TemporaryDirectory() as grown:
        found = Path(grown) / "found"
        found.mkdir()
        atheris.Setup(
            [
                sys.argv[0],
                f"-max_total_time={seconds}",
                f"-max_len={LONGEST}",
                f"-artifact_prefix={CORPUS / name}/found-",
                "-timeout=20",
                str(found),
                str(CORPUS / name),
            ],
            one,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
