"""`wsbridge check`: every mistake, and no mistake that only follows from another one."""

import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wsbridge.cli.check import catalogue, examine
from wsbridge.config.settings import HELP

SECRET = "0123456789abcdef0123456789abcdef"
PEM = (
    generate_private_key(SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode()
)


def row(table: str, name: str) -> list[str]:
    """The words of one variable's line."""
    (line,) = [line for line in table.splitlines() if line.startswith(f"{name} ")]
    return line.split()


def test_catalogue_has_every_name_with_its_default() -> None:
    text = catalogue()
    assert all(name in text and HELP[name] in text for name in HELP)
    assert row(text, "WSBRIDGE_PORT")[1] == "8004"
    assert row(text, "WSBRIDGE_PING_INTERVAL")[-1] == "(seconds)"
    assert "JWT_PUBLIC_KEY, ADMIN_TOKEN" in text.splitlines()[-1]


def test_examine_valid_settings_are_shown_with_secrets_masked(tmp_path: Path) -> None:
    (tmp_path / "admin").write_text("operator's secret\n")
    table, mistakes, _ = examine(
        {
            "WSBRIDGE_JWT_SECRET": SECRET,
            "WSBRIDGE_ADMIN_TOKEN_FILE": str(tmp_path / "admin"),
            "APP_API_TOKEN": "the sidecar's secret",
            "WSBRIDGE_PUBSUB_NAME": "kafka-2",
            "PATH": "/usr/bin",
        }
    )
    assert mistakes == []
    assert SECRET not in table
    assert "secret\n" not in table
    for name in ("WSBRIDGE_JWT_SECRET", "WSBRIDGE_ADMIN_TOKEN", "APP_API_TOKEN"):
        assert row(table, name)[1] == "***"
    assert row(table, "WSBRIDGE_PUBSUB_NAME")[1] == "kafka-2"
    assert row(table, "WSBRIDGE_HOST")[1] == "127.0.0.1"
    assert row(table, "WSBRIDGE_AUTH")[1] == "required"


def test_examine_reports_all_mistakes() -> None:
    table, mistakes, _ = examine(
        {
            "WSBRIDGE_PORT": "http",
            "WSBRIDGE_TOPICS": "a",
            "WSBRIDGE_JWT_SECRET": "short",
            "WSBRIDGE_INTERNAL_PORT": "9000",
            "WSBRIDGE_PROT": "9000",
        }
    )
    assert [line.split(":")[0] for line in mistakes] == [
        "WSBRIDGE_PORT",
        "WSBRIDGE_TOPICS",
        "WSBRIDGE_JWT_SECRET",
        "WSBRIDGE_PROT",
    ]
    assert mistakes[-1].endswith("did you mean WSBRIDGE_PORT?")
    assert row(table, "WSBRIDGE_PORT")[1] == "invalid"
    assert row(table, "WSBRIDGE_JWT_SECRET")[1] == "invalid"
    assert row(table, "WSBRIDGE_INTERNAL_PORT")[1] == "9000"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"WSBRIDGE_JWT_SECRET": "short"}, "WSBRIDGE_JWT_SECRET:"),
        ({"WSBRIDGE_JWT_SECRET": "short", "WSBRIDGE_JWT_ALGORITHMS": "HS512"}, "WSBRIDGE_JWT_SECRET:"),
        ({"WSBRIDGE_JWT_SECRET": SECRET, "WSBRIDGE_JWT_SECRET_PREVIOUS": "short"}, "WSBRIDGE_JWT_SECRET_PREVIOUS:"),
        ({"WSBRIDGE_JWT_PUBLIC_KEY": "x", "WSBRIDGE_JWT_ALGORITHMS": "ES256"}, "WSBRIDGE_JWT_PUBLIC_KEY:"),
        ({"WSBRIDGE_JWT_SECRET": SECRET, "WSBRIDGE_JWT_JWKS_URL": "https://a"}, "WSBRIDGE_JWT_SECRET and "),
        ({"WSBRIDGE_JWT_SECRET_FILE": "/nonexistent"}, "WSBRIDGE_JWT_SECRET_FILE:"),
        ({"WSBRIDGE_JWT_SECRET": SECRET, "WSBRIDGE_JWT_SECRET_FILE": "/nonexistent"}, "WSBRIDGE_JWT_SECRET and "),
        ({"WSBRIDGE_AUTH": "maybe"}, "WSBRIDGE_AUTH:"),
        ({"WSBRIDGE_AUTH": "required"}, "WSBRIDGE_AUTH=required"),
        ({}, "WSBRIDGE_AUTH: no key"),
    ],
)
def test_examine_mistake_in_keys_has_no_consequential_mistakes(environ: dict[str, str], named: str) -> None:
    table, mistakes, _ = examine({"WSBRIDGE_HOST": "0.0.0.0", **environ})
    assert len(mistakes) == 1
    assert mistakes[0].startswith(named)
    assert "invalid" in table
    assert "short" not in table


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"WSBRIDGE_JWT_PUBLIC_KEY": PEM.replace("M", "*")}, "WSBRIDGE_JWT_PUBLIC_KEY: expected a public key in PEM"),
        ({"WSBRIDGE_JWT_PUBLIC_KEY": PEM, "WSBRIDGE_JWT_ALGORITHMS": "RS256"}, "(ES256), got RS256"),
        ({"WSBRIDGE_JWT_SECRET": SECRET, "WSBRIDGE_JWT_ALGORITHMS": "RS256"}, "(HS256, HS384, HS512), got RS256"),
    ],
)
def test_examine_builds_the_keys(environ: dict[str, str], said: str) -> None:
    _, mistakes, _ = examine(environ)
    assert len(mistakes) == 1
    assert said in mistakes[0]


def test_examine_valid_keys_are_accepted() -> None:
    assert examine({"WSBRIDGE_JWT_PUBLIC_KEY": PEM, "WSBRIDGE_JWT_ALGORITHMS": "ES256"})[1] == []
    assert examine({"WSBRIDGE_JWT_JWKS_URL": "https://id.example/jwks"})[1] == []


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://h?hunter=2", "hunter"),
        ("redis://h?socket_timeout=hunter2", "socket_timeout"),
        ("rediss://h?ssl_cert_reqs=hunter2", "an option"),
        ("unix:///h?hunter=2", "hunter"),
        ("redis+sentinel://h/m?hunter=2", "hunter"),
        ("redis+cluster://h?hunter=2", "hunter"),
    ],
)
def test_examine_option_of_redis_that_redis_py_does_not_take_is_a_mistake(url: str, named: str) -> None:
    _, (mistake,), _ = examine({"WSBRIDGE_REDIS_URL": url})
    assert mistake.startswith(f"WSBRIDGE_REDIS_URL: redis-py does not take {named} after ?")
    assert "hunter2" not in mistake


def test_examine_options_of_redis_that_redis_py_takes_are_no_mistake() -> None:
    for url in ("rediss://h?ssl_ca_certs=/ca.pem&socket_timeout=2", "redis+sentinel://h/m?sentinel_password=x"):
        assert examine({"WSBRIDGE_REDIS_URL": url}).mistakes == []


def test_examine_without_uvloop_refuses_the_setting_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    [mistake] = examine({"WSBRIDGE_LOOP": "uvloop"}).mistakes
    assert mistake.startswith("WSBRIDGE_LOOP=uvloop: ")
    assert examine({"WSBRIDGE_LOOP": "auto"}).mistakes == []
