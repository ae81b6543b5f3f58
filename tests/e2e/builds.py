"""Builds a part once in a cache outside the repository, and several parts at the same time."""

import contextlib
import fcntl
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

HERE = Path(__file__).parent
CACHE = Path.home() / ".cache" / "wsbridge-tests"
_TIMEOUT = 1_800.0  # seconds
_NEWS = 10.0  # seconds between two lines that show the progress of a build
_PAUSE = 0.2  # seconds between two looks at a build, or at a lock
log = logging.getLogger(__name__)
interrupted = threading.Event()  # ends all builds; set by a signal handler, or after the failure of a part
_part: ContextVar[str] = ContextVar("part")  # which this thread builds


class Missing(Exception):  # noqa: N818 - names a missing program
    """A program is missing on this machine; the text names it and the reason in one line."""


def program(name: str) -> Path:
    if found := shutil.which(name):
        return Path(found)
    raise Missing(f"{name} is not in PATH")


def interrupt_on_signals() -> None:
    """Let SIGINT and SIGTERM end the builds. Otherwise these would go on in their own process groups."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())


def together(*pipelines: Iterable[Callable[[], object]]) -> None:
    """Make the parts of a pipeline one after the other, and all pipelines at the same time.

    Parts that are made by the same tool belong in one pipeline: a build with Go already uses every core, and two runs
    of Maven could write to its repository at once.

    Raises the first error of a part, or `KeyboardInterrupt` if `interrupted` is set. All builds have ended then.
    """
    with ThreadPoolExecutor(len(pipelines)) as pool:  # its end waits for the threads
        try:
            for made in as_completed([pool.submit(_make_all, pipeline) for pipeline in pipelines]):
                made.result()
        except BaseException:
            interrupted.set()
            raise


def _make_all(pipeline: Iterable[Callable[[], object]]) -> None:
    for part in pipeline:
        _check()
        part()
    _check()


def _check() -> None:
    if interrupted.is_set():
        raise KeyboardInterrupt


def cached(kept: Path, make: Callable[[Path], Path]) -> Path:
    """Return the path; if it is missing, `make` creates it first.

    Each path has its own lock, so that different parts can be made at the same time, but each of them only once.
    """
    if not kept.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with _locked(kept.name), tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            if not kept.exists():
                _made(kept.name, make, Path(scratch)).replace(kept)
    return kept


def _made(name: str, make: Callable[[Path], Path], scratch: Path) -> Path:
    """Make the part. The lines of its build and its error begin with its name."""
    began = time.monotonic()
    token = _part.set(name)
    try:
        made = make(scratch)
    except Missing as missing:
        raise Missing(f"{name}: {missing}") from None
    finally:
        _part.reset(token)
    log.info("%s is ready after %.0f s.", name, time.monotonic() - began)
    return made


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold the lock of this name, which excludes other processes and other threads."""
    folder = CACHE / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w") as lock:
        is_waiting = False
        while not _acquired(lock):
            if not is_waiting:
                log.info("Another process builds %s now. Waiting for it.", name)
                is_waiting = True
            if interrupted.wait(_PAUSE):  # `flock` without LOCK_NB would not notice it
                raise KeyboardInterrupt
        yield


def _acquired(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run(name: str, *arguments: str, cwd: Path = HERE) -> None:
    """Run a program that builds a part, and show its progress. Raises `Missing` if it fails."""
    command = [str(program(name)), *arguments]
    with tempfile.NamedTemporaryFile() as output:
        environment = os.environ | {"CGO_ENABLED": "0"}
        process = subprocess.Popen(
            command, cwd=cwd, stdout=output, stderr=output, env=environment, start_new_session=True
        )
        try:
            _follow(process, name, output.name)
        finally:
            with contextlib.suppress(ProcessLookupError):  # it has ended, unless this is an interruption
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode:
            raise Missing(f"{' '.join([name, *arguments[:1]])} failed: {_last_line(output.name) or process.returncode}")


def _follow(process: subprocess.Popen[bytes], name: str, output: str) -> None:
    """Wait until it has ended, and show its progress."""
    began = shown = time.monotonic()
    while process.poll() is None:
        if interrupted.wait(_PAUSE):
            raise KeyboardInterrupt
        now = time.monotonic()
        if now > shown + _NEWS:
            log.info("%4.0f s  %s: %s", now - began, _part.get(name), _last_line(output)[:100])
            shown = now
        if now > began + _TIMEOUT:
            raise Missing(f"{name} did not end within {_TIMEOUT:g} s")


def _last_line(path: str) -> str:
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
