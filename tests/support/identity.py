"""Identity providers as docs/identity.md describes them: their settings, tokens and key sets. No provider is called."""

import base64
import json
import re
import time
from collections.abc import Sequence
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.key_material import RSA_KEY, jwk
from tests.support.running import ROOT, Served

TENANT = "8d3f1c52-7a0b-4e5d-9c61-2f4b8a90d7e3"
KEYS = (RSA_KEY, rsa.generate_private_key(65_537, 2048))
CERTIFICATE = {"x5c": ["MIICmzCCAYMCBgGV"], "x5t": "7kR0cRzYQ2m5m3v0l3a1nF0m6u8"}  # not read
# The parts of each discovery document that the settings come from.
DISCOVERY = {
    "Keycloak": {
        "issuer": "https://login.example.com/realms/acme",
        "jwks_uri": "https://login.example.com/realms/acme/protocol/openid-connect/certs",
    },
    "Auth0": {
        "issuer": "https://acme.eu.auth0.com/",
        "jwks_uri": "https://acme.eu.auth0.com/.well-known/jwks.json",
    },
    "Microsoft Entra ID": {
        "issuer": f"https://login.microsoftonline.com/{TENANT}/v2.0",
        "jwks_uri": f"https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys",
    },
}
# The members of a key besides those of RFC 7518.
MEMBERS: dict[str, dict[str, Any]] = {
    "Keycloak": {"use": "sig", "alg": "RS256", "x5t#S256": "t0Y"} | CERTIFICATE,
    "Auth0": {"use": "sig", "alg": "RS256"} | CERTIFICATE,
    "Microsoft Entra ID": {
        "use": "sig",
        "cloud_instance_name": "microsoftonline.com",
        "issuer": DISCOVERY["Microsoft Entra ID"]["issuer"],
    }
    | CERTIFICATE,
}


class Provider(Served):
    """A provider on loopback: `async with Provider("Auth0") as provider`; the name is a heading of the document."""

    def __init__(self, name: str) -> None:
        text = (ROOT / "docs" / "identity.md").read_text(encoding="utf-8")
        section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        [settings] = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        tokens = re.findall(r"^```json\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
        self.header, self.claims = map(json.loads, tokens)
        self.documented = dict(line.removeprefix("WSBRIDGE_").split("=", 1) for line in settings.splitlines())
        self.reasons = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
        self.signer, self.kid = KEYS[0], self.header["kid"]
        self._name = name

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (web.get(urlsplit(self.documented["JWT_JWKS_URL"]).path, self._keys),)

    async def _keys(self, _: web.Request) -> web.Response:
        keys = [jwk(self.signer, self.kid) | MEMBERS[self._name]]
        if self._name == "Keycloak":
            keys.append(jwk(KEYS[0], "encrypts", use="enc", alg="RSA-OAEP"))
        return web.json_response({"keys": keys})

    @property
    def settings(self) -> dict[str, str]:
        """The documented settings, with the address of this server."""
        url = urlsplit(self.documented["JWT_JWKS_URL"])._replace(scheme="http", netloc=f"127.0.0.1:{self.port}")
        return self.documented | {"JWT_JWKS_URL": url.geturl()}

    @property
    def user(self) -> str:
        return str(self.claims[self.documented["JWT_USER_CLAIM"]])

    def rotate(self) -> None:
        """Sign with a new key and publish only that one."""
        self.signer, self.kid = KEYS[1], "new"

    def token(self, header: dict[str, Any] | None = None, key: Any = None, **changed: Any) -> str:
        """The documented access token, valid now. A changed claim that is None is left out."""
        now = int(time.time())
        claims = self.claims | {"iat": now, "nbf": now, "exp": now + 300} | changed
        head = self.header | {"kid": self.kid} | (header or {})
        shown = [{name: value for name, value in part.items() if value is not None} for part in (claims, head)]
        return jwt.encode(shown[0], key or self.signer, head["alg"], headers=shown[1])

    def token_for_graph(self) -> str:
        """As Entra ID signs for Microsoft Graph: what is signed has the hash of the nonce that the token shows."""
        hashed = self.token({"nonce": _base64(sha256(b"nonce").digest())}, aud="00000003-0000-0000-c000-000000000000")
        shown = jwt.get_unverified_header(hashed) | {"nonce": "nonce"}
        return ".".join([_base64(json.dumps(shown).encode()), *hashed.split(".")[1:]])

    def opaque_token(self) -> str:
        """As Auth0 issues it without an audience: encrypted for Auth0 itself, with an empty encrypted key."""
        header = {"alg": "dir", "enc": "A256GCM", "iss": DISCOVERY["Auth0"]["issuer"]}
        parts = (json.dumps(header).encode(), b"", b"\x01" * 12, b"\x02" * 90, b"\x03" * 16)
        return ".".join(map(_base64, parts))


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
