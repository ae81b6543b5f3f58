"""Key sources for token verification: fixed secrets or PEM keys, or a JWKS that is fetched and refreshed.

Each key has a list of algorithms, so that a public key is never used as an HMAC secret.
"""

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import aiohttp
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from wsbridge.auth.jwks import CURVES, ED25519, HMAC, MIN_RSA_BITS, RSA, Key, algorithms_of, keys_of_set
from wsbridge.config.settings import PREFIX, Settings, SettingsError
from wsbridge.config.value_types import without_secrets
from wsbridge.supervision.jobs import Jobs
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

MAX_JWKS_BYTES = 1_048_576
JWKS_TTL = 300.0  # seconds between two refreshes
JWKS_PAUSE = 10.0  # seconds between two fetches, at least, however many unknown `kid`s or failures there are
JWKS_TIMEOUT = 5.0  # seconds
FETCH_ERRORS = (aiohttp.ClientError, TimeoutError, ValueError, RecursionError, msgspec.MsgspecError)  # and of parsing
_NO_PEM = f"{PREFIX}JWT_PUBLIC_KEY: expected a public key in PEM, got something else"
_PEM = re.compile(r"-----BEGIN (?P<kind>[A-Z ]+)-----.*?-----END (?P=kind)-----", re.DOTALL)


class Unavailable(Exception):  # noqa: N818 - a temporary state
    """There is no key to verify a token with now; the text gives the reason."""


class FixedKeys:
    """Secrets or PEM keys from the settings."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.current = keys

    async def candidates(self, kid: str | None) -> Sequence[Key]:
        """All keys: they have no ids to compare `kid` with."""
        return self.current


class RemoteKeys:
    """A JSON Web Key Set (RFC 7517): cached, and refreshed in the background."""

    def __init__(self, url: str, allowed: tuple[str, ...], metrics: Metrics) -> None:
        self._url = url
        self._shown = without_secrets(url)
        self._metrics = metrics
        self._allowed = allowed
        self.current: tuple[Key, ...] = ()  # another object only after a change: tokens are remembered until then
        self.trouble: str | None = "the key set has not been fetched yet"
        self._next_fetch = 0.0
        self._jobs = Jobs()
        self._fetching: asyncio.Event | None = None  # set when the current fetch ends

    async def candidates(self, kid: str | None) -> Sequence[Key]:
        """The keys to try for a token with this `kid`. Raises `Unavailable` if there are no keys yet."""
        found = self._matching(kid)
        if not found:
            await self._fetch_soon()
            found = self._matching(kid)
        if not self.current:
            again = f"see jwks.failed or jwks.fetched in the log. The next attempt is within {JWKS_PAUSE:g} s"
            raise Unavailable(f"{PREFIX}JWT_JWKS_URL: {self.trouble}; {again}")
        return found

    async def refresh(self) -> None:
        """Refresh the key set periodically. Runs until it is cancelled."""
        async with self._jobs:
            while True:
                await self._fetch_soon()
                await asyncio.sleep(JWKS_TTL if self.current else JWKS_PAUSE)

    def _matching(self, kid: str | None) -> tuple[Key, ...]:
        return self.current if kid is None else tuple(key for key in self.current if key.id in (kid, None))

    async def _fetch_soon(self) -> None:
        """Fetch, unless the last fetch was less than `JWKS_PAUSE` ago. Concurrent callers share one fetch."""
        if self._fetching is None:
            if time.monotonic() < self._next_fetch:
                return
            self._next_fetch = time.monotonic() + JWKS_PAUSE
            self._fetching = asyncio.Event()
            await self._jobs.spawn("fetch keys", partial(self._fetch, self._fetching))
        await self._fetching.wait()

    async def _fetch(self, done: asyncio.Event) -> None:
        """One fetch. It is a separate job, because the client that caused it may disconnect meanwhile."""
        try:
            await self._replace()
        except Exception as error:  # the task boundary: the content of a key set is external data
            self._metrics.internal("fetch keys", error)
        finally:
            self._fetching = None
            done.set()

    async def _replace(self) -> None:
        """Replace all keys, even by none, since withdrawn keys must not verify. On failure keep the old ones."""
        try:
            keys, passed_over = keys_of_set(msgspec.json.decode((await fetch(self._url)).body), self._allowed)
        except FETCH_ERRORS as error:
            self._metrics.failed("jwks")
            why = described(error)
            self.trouble = self.trouble and f"the key set could not be fetched: {why}"
            log.warning("jwks.failed", url=self._shown, error=why, keys=len(self.current))
            return
        if keys != self.current:
            self.current = keys
        nothing_usable = f"the key set has no usable key ({'; '.join(passed_over) or 'it is empty'})"
        self.trouble = None if keys else nothing_usable
        (log.info if keys else log.warning)("jwks.fetched", url=self._shown, keys=len(keys), passed_over=passed_over)


Keys = FixedKeys | RemoteKeys


class Fetched(NamedTuple):
    body: bytes
    headers: Mapping[str, str]


async def fetch(url: str) -> Fetched:
    """Fetch a key set. Raises some of `FETCH_ERRORS`."""
    timeout = aiohttp.ClientTimeout(total=JWKS_TIMEOUT)
    async with (
        aiohttp.ClientSession(timeout=timeout, trust_env=True) as client,  # HTTPS_PROXY and NO_PROXY
        client.get(url) as response,
    ):
        response.raise_for_status()
        body = await response.content.read(MAX_JWKS_BYTES)
        while not response.content.at_eof() and len(body) < MAX_JWKS_BYTES:
            body += await response.content.read(MAX_JWKS_BYTES - len(body))
    return Fetched(body, response.headers)


def described(error: Exception) -> str:
    """The error for the log. The text of aiohttp's `ClientResponseError` would include the URL with its query."""
    text = f"{error.status} {error.message}" if isinstance(error, aiohttp.ClientResponseError) else str(error)
    return f"{type(error).__name__}: {text}"


def build(settings: Settings, metrics: Metrics) -> Keys:
    """The configured keys. Raises `SettingsError` for a malformed PEM, or an algorithm that a key does not support."""
    allowed = settings.jwt_algorithms
    if settings.jwt_jwks_url:
        _check_family(allowed, (*RSA, *CURVES.values(), *ED25519), "JWT_JWKS_URL")
        return RemoteKeys(settings.jwt_jwks_url, allowed, metrics)
    if settings.jwt_public_key:
        keys = [_of_pem(found[0]) for found in _PEM.finditer(settings.jwt_public_key)]
        if not keys:
            raise SettingsError(_NO_PEM)
        _check_family(allowed, [name for key in keys for name in key.algorithms], "JWT_PUBLIC_KEY")
        names = [tuple(name for name in key.algorithms if not allowed or name in allowed) for key in keys]
        return FixedKeys([key._replace(algorithms=found) for key, found in zip(keys, names, strict=True) if found])
    _check_family(allowed, HMAC, "JWT_SECRET")
    secrets = [s for s in (settings.jwt_secret, settings.jwt_secret_previous) if s]
    return FixedKeys([Key(secret, allowed or HMAC) for secret in secrets])


def _check_family(allowed: tuple[str, ...], possible: Sequence[str], source: str) -> None:
    wrong = [name for name in allowed if name not in possible]
    if wrong:
        raise SettingsError(
            f"{PREFIX}JWT_ALGORITHMS: expected algorithms of {PREFIX}{source} "
            f"({', '.join(dict.fromkeys(possible))}), got {', '.join(wrong)}"
        )


def _of_pem(pem: str) -> Key:
    try:
        public = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(_NO_PEM) from None
    possible = algorithms_of(public)
    if not possible:
        raise SettingsError(
            f"{PREFIX}JWT_PUBLIC_KEY: expected RSA of {MIN_RSA_BITS} bits or more, "
            "EC on P-256, P-384 or P-521, or Ed25519"
        )
    return Key(public, possible)
