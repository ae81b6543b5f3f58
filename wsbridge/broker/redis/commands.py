"""What is said to a server: commands, and calls of the functions in `history.lua`. Knows no connection."""

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from hiredis import pack_command

_TEXT = (resources.files("wsbridge.broker.redis") / "history.lua").read_text(encoding="utf-8")
LIBRARY = "wsbridge_" + hashlib.sha256(_TEXT.encode()).hexdigest()[:12]
CODE = _TEXT.replace("@LIBRARY@", LIBRARY)


class Command(NamedTuple):
    """What is sent, and a key that says where to. `answer` is how many bytes may come back, where those are many."""

    key: str
    words: tuple[str | bytes | int, ...]
    answer: int = 0


def call(function: str, keys: Sequence[str], *args: str | bytes | int) -> Command:
    """One of the functions of history.lua; all keys in one slot."""
    return Command(keys[0], ("FCALL", f"{LIBRARY}_{function}", len(keys), *keys, *args))


def packed(words: tuple[str | bytes | int, ...]) -> bytes:
    """As it goes over the wire (RESP)."""
    data: bytes = pack_command(words)  # type: ignore[arg-type]  # its stub says one word, it means any number
    return data
