"""Commands for a server, among them calls of the functions in the Lua files beside it."""

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from hiredis import pack_command

_FILES = ("history.lua", "loss_detection.lua", "receipts.lua")  # loaded as one library, in this order
_TEXT = "".join((resources.files("wsbridge.broker.redis") / name).read_text(encoding="utf-8") for name in _FILES)
LIBRARY = "wsbridge_" + hashlib.sha256(_TEXT.encode()).hexdigest()[:12]
CODE = _TEXT.replace("@LIBRARY@", LIBRARY)


class Command(NamedTuple):
    """The words of a command, and the key that determines its node. `answer` is the maximum size of a large reply."""

    key: str
    words: tuple[str | bytes | int, ...]
    answer: int = 0


def call(function: str, keys: Sequence[str], *args: str | bytes | int) -> Command:
    """A call of a function of the library. All keys must be in one slot."""
    return Command(keys[0], ("FCALL", f"{LIBRARY}_{function}", len(keys), *keys, *args))


def packed(words: tuple[str | bytes | int, ...]) -> bytes:
    """The bytes of the command (RESP)."""
    data: bytes = pack_command(words)  # type: ignore[arg-type]  # its stub says one word, it means any number
    return data
