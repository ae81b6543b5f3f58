"""The settings: every default, and the texts that show them."""

from dataclasses import MISSING, fields
from typing import Any

import pytest

from wsbridge.config import redis_url
from wsbridge.config.settings import HELP, PREFIX, UNPREFIXED, Settings, is_loopback, variable

SECRET = "0123456789abcdef0123456789abcdef"
PEM = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----"
DEFAULTS = {  # PROTOCOL.md section 6
    "HOST": "127.0.0.1",
    "TRUSTED_PROXIES": ("private",),
    "FAILURE_RATE": 5,
    "HANDSHAKE_RATE": 1000,
    "MAX_HEADER_BYTES": 32_768,
    "PORT": 8004,
    "INTERNAL_PORT": None,
    "PUBSUB_NAME": "pubsub-kafka",
    "TOPICS": (("task-updates", "task_update"),),
    "USER_ID_FIELD": "user_id",
    "DEAD_LETTER_TOPIC": None,
    "BULK_WAIT": 0.001,
    "LOOP": "auto",
    "DEMO": False,
    "AUTH": None,  # depends on the keys and the host: see env.py
    "JWT_SECRET": None,
    "JWT_PUBLIC_KEY": None,
    "JWT_JWKS_URL": None,
    "JWT_SECRET_PREVIOUS": None,
    "JWT_ALGORITHMS": (),
    "JWT_AUDIENCE": (),
    "JWT_ISSUER": (),
    "JWT_LEEWAY": 10,
    "JWT_USER_CLAIM": "sub",
    "JWT_COOKIE": None,
    "ALLOWED_ORIGINS": (),
    "ADMIN_TOKEN": None,
    "VIEWER_TOKEN": None,
    "METRICS_TOKEN": None,
    "APP_API_TOKEN": None,
    "RECEIPTS": False,
    "RECEIPTS_TOPIC": None,
    "RECEIPTS_AFTER": 30,
    "DAPR_HTTP_PORT": 3500,
    "DAPR_API_TOKEN": None,
    "REDIS_URL": None,
    "REDIS_PREFIX": "wsbridge",
    "HISTORY_SIZE": 100,
    "HISTORY_TTL": 300,
    "HISTORY_MAX_BYTES_PER_USER": 134217728,
    "HISTORY_MAX_BYTES": 268435456,
    "DEDUPE_TTL": 3600,
    "MAX_CONNECTIONS": 0,
    "MAX_CONNECTIONS_PER_USER": 20,
    "MAX_EVENT_BYTES": 1048576,
    "MAX_BACKLOG_BYTES": 4194304,
    "MAX_UNSENT_BYTES": 134217728,
    "ESCAPED_HEADERS": False,
    "QUEUE_SIZE": 10000,
    "QUEUE_MAX_BYTES": 134217728,
    "STATIONS_MAX_BYTES": 8_388_608,
    "SEND_TRACEPARENT": False,
    "PING_INTERVAL": 25,
    "PING_TIMEOUT": 10,
    "DRAIN_TIMEOUT": 20,
    "LOG_LEVEL": "info",
    "LOG_FORMAT": None,
}
SECRETS = [
    "JWT_SECRET", "JWT_SECRET_PREVIOUS", "ADMIN_TOKEN", "VIEWER_TOKEN", "METRICS_TOKEN", "APP_API_TOKEN",
    "DAPR_API_TOKEN",
]  # fmt: skip


def test_settings_and_documentation_have_the_same_names() -> None:
    assert set(DEFAULTS) == set(HELP)
    assert all(HELP.values())


@pytest.mark.parametrize(("name", "default"), DEFAULTS.items(), ids=DEFAULTS)
def test_settings_and_documentation_have_the_same_defaults(name: str, default: object) -> None:
    assert getattr(Settings(), name.lower()) == default


@pytest.mark.parametrize(
    ("settings", "development"),
    [
        (Settings(auth="none"), True),
        (Settings(auth="none", host="127.0.0.2"), True),
        (Settings(auth="none", host="0.0.0.0"), False),
        (Settings(auth="required", jwt_secret=SECRET), False),
        (Settings(auth="none", jwt_secret=SECRET), True),
    ],
)
def test_development_is_no_authentication_on_a_loopback_host(settings: Settings, development: bool) -> None:
    assert settings.development is development


# Showing.


@pytest.mark.parametrize("name", SECRETS)
def test_masked_hides_secrets(name: str) -> None:
    values: dict[str, Any] = {name.lower(): SECRET}
    shown = Settings(**values).masked()
    assert shown[name if name in UNPREFIXED else f"WSBRIDGE_{name}"] == "***"
    assert SECRET not in str(shown)


@pytest.mark.fault("B3")
def test_masked_jwks_url_has_no_secrets() -> None:
    shown = str(Settings(jwt_jwks_url="https://bridge:hunter2@id.example.com/keys?code=hunter2#hunter2").masked())
    assert "hunter2" not in shown
    assert "id.example.com/keys" in shown


def test_masked_redis_url_has_no_secrets() -> None:
    url = redis_url.parse("rediss+sentinel://bridge:hunter2@a,b:1/mymaster/2?ssl_password=hunter2")
    shown = Settings(redis_url=url)
    assert "hunter2" not in str(shown.masked()) + repr(shown)
    assert shown.changed() == {
        "WSBRIDGE_REDIS_URL": "rediss+sentinel://***@a:26379,b:1/mymaster/2?ssl_password=***",
    }


def test_masked_missing_value_is_a_dash() -> None:
    shown = Settings().masked()
    assert len(shown) == len(HELP)
    assert shown["APP_API_TOKEN"] == shown["WSBRIDGE_JWT_SECRET"] == shown["WSBRIDGE_ALLOWED_ORIGINS"] == "-"
    assert shown["WSBRIDGE_DEMO"] == "false"
    assert shown["WSBRIDGE_REDIS_URL"] == shown["WSBRIDGE_AUTH"] == "-"
    assert Settings(jwt_public_key=PEM + "\n" + PEM).masked()["WSBRIDGE_JWT_PUBLIC_KEY"] == "2 key(s)"


def test_variables_that_the_sidecar_has_too_have_daprs_own_names() -> None:
    names = {f.name: variable(f) for f in fields(Settings)}
    own = [names.pop(field) for field in ("app_api_token", "dapr_api_token", "dapr_http_port")]
    assert own == ["APP_API_TOKEN", "DAPR_API_TOKEN", "DAPR_HTTP_PORT"]
    assert all(name == PREFIX + field.upper() for field, name in names.items())


@pytest.mark.parametrize(
    ("settings", "takes"),
    [(Settings(), False), (Settings(receipts=True), True), (Settings(receipts_topic="receipts"), True)],
)
def test_reports_are_taken_with_either_setting(settings: Settings, takes: bool) -> None:
    assert settings.takes_reports is takes


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]  # that is the point


def test_every_setting_has_a_default() -> None:
    assert all(field.default is not MISSING for field in fields(Settings))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("128.0.0.1", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_is_loopback_only_for_this_machine(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_masked_host_is_shown_verbatim() -> None:
    assert Settings(host="0.0.0.0").masked()["WSBRIDGE_HOST"] == "0.0.0.0"


def test_changed_has_only_values_not_at_their_default() -> None:
    assert Settings().changed() == {}
    assert Settings(port=1, jwt_secret="s").changed() == {"WSBRIDGE_PORT": "1", "WSBRIDGE_JWT_SECRET": "***"}
