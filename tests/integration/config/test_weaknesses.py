"""Insecure settings: each is named at the start and by `wsbridge check`."""

from typing import Any

import pytest

from tests.support.running import ADMIN_TOKEN, APP_TOKEN, SECRET
from tests.support.spawned import Spawn
from wsbridge.cli.check import examine
from wsbridge.config.settings import Settings
from wsbridge.config.weaknesses import weaknesses

SOUND = Settings(
    host="0.0.0.0", auth="required", jwt_secret=SECRET, internal_port=8005, app_api_token=APP_TOKEN
)  # as in the manifests


def found(**changes: Any) -> list[str]:
    values = {name: getattr(SOUND, name) for name in Settings.__slots__}
    return weaknesses(Settings(**(values | changes)))


@pytest.mark.fault("B3")
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"auth": "none", "jwt_secret": None}, ["WSBRIDGE_AUTH=none: everybody"]),
        ({"auth": "none"}, ["WSBRIDGE_AUTH=none: everybody", "WSBRIDGE_AUTH=none: WSBRIDGE_JWT_SECRET is set"]),
        (
            {"auth": "none", "demo": True, "jwt_secret": None, "app_api_token": None, "internal_port": None},
            ["WSBRIDGE_DEMO=true: everybody"],
        ),
        ({"app_api_token": None}, ["APP_API_TOKEN is not set"]),
        ({"internal_port": None, "admin_token": ADMIN_TOKEN, "metrics_token": "m" * 16}, ["WSBRIDGE_INTERNAL_PORT is"]),
        (
            {"internal_port": None},
            ["WSBRIDGE_INTERNAL_PORT is", "WSBRIDGE_ADMIN_TOKEN is", "WSBRIDGE_METRICS_TOKEN is"],
        ),
        ({"jwt_cookie": "session", "allowed_origins": ("*",)}, ["WSBRIDGE_ALLOWED_ORIGINS has *"]),
        ({"jwt_cookie": "session", "allowed_origins": ("https://a.b", "null")}, ["WSBRIDGE_ALLOWED_ORIGINS has null"]),
        ({"jwt_cookie": "session", "allowed_origins": ("https://a.b",)}, []),
        ({"allowed_origins": ("*",)}, []),
        ({"trusted_proxies": ("10.0.0.0/8", "::/0")}, ["WSBRIDGE_TRUSTED_PROXIES has ::/0"]),
        ({"trusted_proxies": ("10.0.0.0/8",)}, []),
        (
            {"jwt_secret": None, "jwt_jwks_url": "http://id.example.com/keys"},
            ["WSBRIDGE_JWT_JWKS_URL: without TLS", "WSBRIDGE_JWT_AUDIENCE is"],
        ),
        ({"jwt_secret": None, "jwt_jwks_url": "https://id.example.com/keys", "jwt_audience": "us"}, []),
        ({"jwt_secret": None, "jwt_jwks_url": "http://127.0.0.1/keys", "jwt_audience": "us"}, []),
        ({"jwt_secret": None, "jwt_public_key": "PEM"}, ["WSBRIDGE_JWT_AUDIENCE is"]),
    ],
)
def test_weaknesses_are_named_by_their_setting(changes: dict[str, Any], named: list[str]) -> None:
    lines = found(**changes)
    assert len(lines) == len(named), lines
    assert all(line.startswith(start) for line, start in zip(lines, named, strict=True)), lines


def test_weaknesses_of_sound_settings_are_none() -> None:
    assert found() == []


def test_weaknesses_in_development_mode_are_none() -> None:
    assert weaknesses(Settings(auth="none", jwt_secret=SECRET, demo=True)) == []


@pytest.mark.fault("B3")
async def test_weaknesses_are_logged_at_start_and_found_by_check(spawn: Spawn) -> None:
    settings = {"HOST": "0.0.0.0", "AUTH": "none", "JWT_SECRET": SECRET}
    bridge = await spawn(**settings)
    logged = [line["why"] for line in bridge.of("settings.weak")]
    environ = {f"WSBRIDGE_{name}": value for name, value in settings.items()}
    examined = examine(environ | {"APP_API_TOKEN": APP_TOKEN, "WSBRIDGE_ADMIN_TOKEN": ADMIN_TOKEN})
    assert logged == examined.warnings
    assert examined.mistakes == []
    assert sum("WSBRIDGE_AUTH=none" in line for line in logged) == 2
    assert not any(secret in str(logged) for secret in (SECRET, APP_TOKEN, ADMIN_TOKEN))
