"""Finds the ends of request heads and bodies (RFC 9112), and checks heads. aiohttp does all other checks.

Needed because aiohttp does not limit the memory of an incomplete head: the guard has to know where a head begins.
"""

import re
from urllib.parse import unquote_to_bytes

END = b"\r\n\r\n"
MAX_CHUNK_LINE = 4_096  # bytes of a chunk's size with its extensions: daprd and proxies send a few
_START = re.compile(rb"[A-Za-z!#$%&'*+.^_`|~0-9-]")  # the first byte of a method, a token (RFC 9110 §5.6.2)
MAX_LINES = 128  # header lines of a head
_BARE_LF = re.compile(rb"(?<!\r)\n")
# The path of a GET, behind scheme and host in the absolute form (RFC 9112 §3.2.2).
_PATH = re.compile(rb"GET (?:[A-Za-z][A-Za-z0-9+.-]*://[^/?# ]*)?([^?# ]*)")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})[\t ]*(?:;[\t -~]*)?\r")


class Malformed(Exception):  # noqa: N818 - an adjective reads better
    """Bytes that are not valid HTTP/1.x; the text gives the reason."""


class Head:
    """A complete head: request line, header lines and the empty line."""

    __slots__ = ("_lower", "raw", "upgrades")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._lower = raw.lower()
        self.upgrades = self._has(b"upgrade")

    def _has(self, name: bytes) -> bool:
        """Whether there is a field of that name, in lower case. With bytes, `find` is faster than `in`."""
        return self._lower.find(b"\r\n" + name + b":") >= 0

    def field(self, name: bytes) -> bytes | None:
        """The first value of a field, which is named in lower case."""
        start = self._lower.find(b"\r\n" + name + b":")
        if start < 0:
            return None
        start += len(name) + 3
        end = self.raw.find(b"\r\n", start)
        return self.raw[start:end].strip() if end >= 0 else None

    def joined(self, name: bytes) -> bytes:
        """The values of all lines of a field as one (RFC 9110 §5.3); the name is in lower case."""
        fields = (line.partition(b":") for line in self.raw.split(b"\r\n")[1:])
        return b",".join(value.strip() for found, _, value in fields if found.lower() == name)

    def asks_for(self, path: bytes) -> bool:
        """Whether the request is a GET of that path, in any spelling that aiohttp routes to it."""
        found = _PATH.match(self.raw)
        return found is not None and unquote_to_bytes(found[1]) == path

    @property
    def posts(self) -> bool:
        """Whether the request is a POST without an upgrade."""
        return self.raw.startswith(b"POST ") and not self.upgrades

    def body(self) -> "Body":
        """The body that follows (RFC 9112 §6.3); empty where aiohttp refuses the request anyway."""
        if self._has(b"transfer-encoding"):
            return Chunks()
        length = self.field(b"content-length") or b"0"
        return Length(int(length) if length.isdigit() and len(length) < 20 else 0)  # noqa: PLR2004 - of a 64-bit number

    def check(self) -> None:
        """Raise `Malformed` for what aiohttp would refuse without a usable response."""
        end = self.raw.find(b"\r\n")
        if not self.raw.startswith((b" HTTP/1.1", b" HTTP/1.0"), end - 9):
            raise Malformed("the request line does not end with HTTP/1.1 or HTTP/1.0")
        if len(self.raw) > MAX_LINES * len(b"a:\r\n") and self.raw.count(b"\n") > MAX_LINES + 2:
            raise Malformed(f"there are more than {MAX_LINES} header lines")
        if self.raw.find(b"\r\n ") >= 0 or self.raw.find(b"\r\n\t") >= 0:
            raise Malformed("a header line is folded (RFC 9112 section 5.2)")
        if self._has(b"expect") and (self.field(b"expect") or b"100-continue").lower() != b"100-continue":
            raise Malformed("Expect is not 100-continue")


def check_start(unfinished: bytes | bytearray, new: int) -> None:
    """Raise `Malformed` early if bytes cannot become a head, as of a client that speaks TLS and waits for a response.

    `new` is the offset of the bytes that were not checked before.
    """
    if not new and not _START.match(unfinished):
        raise Malformed("the first byte is not that of an HTTP method")
    if _BARE_LF.search(unfinished, new):
        raise Malformed("a line ends with LF, not CRLF")


def largest_field(unfinished: bytes | bytearray) -> tuple[str, int]:
    """The name of the largest header field, or `request line`, and its size in bytes."""
    request, *lines = bytes(unfinished).split(b"\r\n")
    longest = max(lines, key=len, default=b"")
    if len(request) >= len(longest):
        return "request line", len(request)
    return longest.partition(b":")[0][:64].decode("ascii", "backslashreplace"), len(longest)


class Length:
    """A body of a known size, possibly 0."""

    __slots__ = ("_left",)

    def __init__(self, size: int) -> None:
        self._left = size

    @property
    def is_done(self) -> bool:
        return self._left == 0

    def feed(self, data: bytes) -> int:
        """Return how many of the bytes belong to the body."""
        taken = min(self._left, len(data))
        self._left -= taken
        return taken


class Chunks:
    """A chunked body (RFC 9112 §7.1). Only its end is found; aiohttp decodes it."""

    __slots__ = ("_is_end", "_is_trailer", "_left", "_line", "_lines", "is_done")

    def __init__(self) -> None:
        self._left = 0  # bytes of the chunk
        self._is_end = False  # the next line is the empty one behind a chunk
        self._line = b""
        self._lines = 0  # bytes of the size line, or of all trailers
        self._is_trailer = False
        self.is_done = False

    def feed(self, data: bytes) -> int:
        """Return how many of the bytes belong to the body.

        Raises `Malformed` if the chunks are malformed, or a line between them is too long.
        """
        at = 0
        while at < len(data) and not self.is_done:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            end = data.find(b"\n", at)
            self._lines += (len(data) if end < 0 else end) - at
            if self._lines > MAX_CHUNK_LINE:
                raise Malformed("the lines between the chunks are too long")
            if end < 0:
                self._line += data[at:]
                return len(data)
            self._take(self._line + data[at:end])
            self._line = b""
            at = end + 1
        return at

    def _take(self, line: bytes) -> None:
        if self._is_trailer:
            self.is_done = line == b"\r"
        elif self._is_end:
            if line != b"\r":
                raise Malformed("a chunk is longer than its size")
            self._is_end = False
        else:
            size = _SIZE.fullmatch(line)
            if size is None:
                raise Malformed("a chunk has no size, or a malformed one")
            self._lines = 0
            self._left = int(size[1], 16)
            self._is_trailer = not self._left  # the last chunk has no bytes
            self._is_end = not self._is_trailer


Body = Length | Chunks
