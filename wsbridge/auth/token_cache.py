"""Remembers which tokens are valid, so that a client that reconnects costs a hash instead of a signature check."""

import hashlib
import sys
import time
from collections import OrderedDict

MAX_BYTES = 16_777_216  # of all entries, 40,000 or so; above, the token that was used longest ago is forgotten
ENTRY_BYTES = 320  # of an entry without its user id: digest, tuple, time and the place in the dictionary


class TokenCache:
    """Users and expiry times by the SHA-256 of their tokens. The tokens themselves are not kept.

    Each method gets the `keys` in force. Once they are another object, all tokens are forgotten: a key may have been
    withdrawn.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._keys: object = None
        self._entries: OrderedDict[bytes, tuple[str, float]] = OrderedDict()  # the one used longest ago first

    def get(self, token: str, keys: object) -> tuple[str, float] | None:
        """The user and the expiry time (seconds since 1970) of a token that is remembered and has not expired."""
        self._forget_unless(keys)
        digest = _digest(token)
        found = self._entries.get(digest)
        if found is None:
            return None
        if time.time() >= found[1]:
            self._forget(digest)
            return None
        self._entries.move_to_end(digest)
        return found

    def put(self, token: str, keys: object, user: str, expires: float) -> None:
        self._forget_unless(keys)
        digest = _digest(token)
        if digest not in self._entries:
            self._entries[digest] = user, expires
            self.bytes += _size(user)
        while self.bytes > self._max_bytes:
            self._forget(next(iter(self._entries)))

    def _forget_unless(self, keys: object) -> None:
        if keys is not self._keys:
            self._keys = keys
            self._entries.clear()
            self.bytes = 0

    def _forget(self, digest: bytes) -> None:
        user, _ = self._entries.pop(digest)
        self.bytes -= _size(user)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def _size(user: str) -> int:
    return ENTRY_BYTES + sys.getsizeof(user)
