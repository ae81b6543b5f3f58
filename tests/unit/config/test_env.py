"""Settings from the environment: every mistake and every hint."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import tries
from wsbridge.config.env import load
from wsbridge.config.redis_url import RedisUrl
from wsbridge.config.settings import HELP, UNPREFIXED, Settings, SettingsError

SECRET = "0123456789abcdef0123456789abcdef"
PEM = "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----"
SECRETS = ["JWT_SECRET", "JWT_SECRET_PREVIOUS", "ADMIN_TOKEN", "METRICS_TOKEN", "APP_API_TOKEN", "DAPR_API_TOKEN"]


def environ(**values: str) -> dict[str, str]:
    return {name if name.startswith(tuple(UNPREFIXED)) else f"WSBRIDGE_{name}": text for name, text in values.items()}


def loaded(**values: str) -> Settings:
    return load(environ(**values))[0]


def mistakes(**values: str) -> tuple[str, ...]:
    """The mistakes that prevent the start, each in one line."""
    with pytest.raises(SettingsError) as caught:
        load(environ(**values))
    assert all(line and "\n" not in line for line in caught.value.lines)
    assert str(caught.value) == "\n".join(caught.value.lines)
    return caught.value.lines


def mistake(**values: str) -> str:
    (line,) = mistakes(**values)
    return line


def hints(**values: str) -> list[str]:
    return load(environ(**values))[1]


def test_load_of_an_empty_environment_gives_the_defaults() -> None:
    assert loaded() == replace(Settings(), auth="none")


def test_load_defaults_are_development_mode_without_warnings() -> None:
    assert loaded().development
    assert hints() == []


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("HOST", "0.0.0.0", "0.0.0.0"),
        ("HOST", "[::1]", "::1"),
        ("HOST", "::", "::"),
        ("HOST", "a." + "b" * 63 + ".", "a." + "b" * 63 + "."),
        ("HOST", " bridge.example.com", "bridge.example.com"),
        ("PORT", " 9000\n", 9000),
        ("PORT", "", 8004),
        ("INTERNAL_PORT", "8005", 8005),
        ("TOPICS", " a=b , c.d-e_f=g1 ,", (("a", "b"), ("c.d-e_f", "g1"))),
        ("USER_ID_FIELD", "data.owner.id", "data.owner.id"),
        ("USER_ID_FIELD", "@subject", "@subject"),
        ("USER_ID_FIELD", " @key ", "@key"),
        ("JWT_ALGORITHMS", "HS256, HS512", ("HS256", "HS512")),
        ("JWT_LEEWAY", "0", 0),
        ("JWT_LEEWAY", "2.5", 2.5),
        ("JWT_JWKS_URL", "https://id.example.com/keys", "https://id.example.com/keys"),
        ("ALLOWED_ORIGINS", "https://A.example.com/ ,http://[::1]:80", ("https://a.example.com", "http://[::1]:80")),
        ("ALLOWED_ORIGINS", "https://*.example.com,*", ("https://*.example.com", "*")),
        ("ALLOWED_ORIGINS", "chrome-extension://abcdef", ("chrome-extension://abcdef",)),
        ("REDIS_URL", " redis://:p%40ss@r/2\n", RedisUrl(hosts=(("r", 6379),), db=2, password="p@ss")),
        ("REDIS_PREFIX", " wsbridge:2 ", "wsbridge:2"),
        ("HISTORY_SIZE", "0", 0),
        ("DRAIN_TIMEOUT", "0", 0),
        ("LOG_FORMAT", "console", "console"),
    ],
)
def test_load_valid_text_becomes_a_value(name: str, text: str, value: object) -> None:
    assert getattr(loaded(**{"AUTH": "none", name: text}), name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            ("HOST", text)
            for text in ("[::1", "::1]", "[::1]:80", "localhost:80", "::g", "[127.0.0.1]", "a b", "http://a")
        ),
        *(("HOST", text) for text in ("a..b", ".a", "a..", "a-.b", "a" * 64, ".".join(["a" * 50] * 5))),
        ("PORT", "http"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "1_000"),
        ("PORT", "80.5"),
        ("INTERNAL_PORT", "x"),
        ("PUBSUB_NAME", " "),
        ("TOPICS", ","),
        ("TOPICS", "task-updates"),
        ("TOPICS", "task-updates="),
        ("TOPICS", "=task_update"),
        ("TOPICS", "a=b,a=c"),
        ("TOPICS", "a/b=c"),
        ("TOPICS", 'a=b"c'),
        *(
            ("TOPICS", f"a={kind}")
            for kind in (
                "connected",
                "pong",
                "authenticated",
                "gap",
                "error",
                "goodbye",
                "ping",
                "auth",
                "handled",
                "state",
            )
        ),
        ("USER_ID_FIELD", "@topic"),
        ("USER_ID_FIELD", "a..b"),
        ("USER_ID_FIELD", "."),
        ("USER_ID_FIELD", 'a"b'),
        ("USER_ID_FIELD", "a\\b"),
        ("USER_ID_FIELD", "a\x01b"),
        ("AUTH", "off"),
        ("JWT_ALGORITHMS", "HS256,none"),
        ("JWT_ALGORITHMS", ","),
        ("JWT_PUBLIC_KEY", "ssh-rsa AAAA"),
        ("REDIS_URL", "redis.example.com:6379"),
        ("REDIS_URL", "http://redis.example.com"),
        ("REDIS_URL", "redis://a,b"),
        ("REDIS_PREFIX", "{wsbridge}"),
        ("REDIS_PREFIX", "ws bridge"),
        ("JWT_JWKS_URL", "id.example.com/keys"),
        ("JWT_JWKS_URL", "file:///etc/keys"),
        ("JWT_JWKS_URL", "http://[x"),
        ("JWT_JWKS_URL", "https://id.example.com:99999/keys"),
        ("JWT_LEEWAY", "-1"),
        ("JWT_LEEWAY", "nan"),
        ("JWT_LEEWAY", "inf"),
        ("ALLOWED_ORIGINS", "example.com"),
        ("ALLOWED_ORIGINS", "https://example.com/path"),
        ("ALLOWED_ORIGINS", "https://*"),
        ("ALLOWED_ORIGINS", "https://a.*.com"),
        ("ALLOWED_ORIGINS", "file"),
        ("HISTORY_SIZE", "many"),
        ("MAX_EVENT_BYTES", "0"),
        ("MAX_BACKLOG_BYTES", "0"),
        ("QUEUE_SIZE", "0"),
        ("BULK_WAIT", "0"),  # Dapr would take its own default, 10 s
        ("BULK_WAIT", "0.0009"),
        ("BULK_WAIT", "11"),
        ("PING_INTERVAL", "0"),
        ("PING_TIMEOUT", "1d"),
        ("DRAIN_TIMEOUT", "-1"),
        ("LOG_LEVEL", "verbose"),
        ("LOG_FORMAT", "xml"),
        ("LOOP", "trio"),
        ("ADMIN_TOKEN", "\n"),
        ("APP_API_TOKEN", "\n"),
        ("APP_API_TOKEN", "x" * 15),
        ("ADMIN_TOKEN", "x"),
        ("METRICS_TOKEN", "x" * 15 + "\n"),
    ],
)
def test_load_malformed_value_says_what_is_expected(name: str, text: str) -> None:
    line = mistake(**{name: text})
    assert line.startswith(f"{'' if name in UNPREFIXED else 'WSBRIDGE_'}{name}: expected ")


@pytest.mark.parametrize("name", sorted(HELP))
def test_load_text_that_is_not_utf8_is_refused(name: str) -> None:
    assert mistake(**{name: "\udcff" * 40}).endswith(f"{name}: expected UTF-8 text")


def test_load_reports_all_malformed_values() -> None:
    lines = mistakes(PORT="x", QUEUE_SIZE="y", LOG_LEVEL="z")
    assert [line.split(":")[0] for line in lines] == ["WSBRIDGE_PORT", "WSBRIDGE_QUEUE_SIZE", "WSBRIDGE_LOG_LEVEL"]


@given(st.sampled_from(sorted(HELP)), st.text())
@tries(300)
def test_load_any_text_raises_only_settings_errors(name: str, text: str) -> None:
    lines: tuple[str, ...] = ()
    try:
        loaded(**{name: text})
    except SettingsError as error:
        lines = error.lines
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("name", SECRETS)
def test_load_mistake_in_a_secret_does_not_show_it(name: str) -> None:
    text = "hunter2" if name.startswith("JWT") else "\n"
    more = {"JWT_SECRET": SECRET} if name == "JWT_SECRET_PREVIOUS" else {}
    assert "hunter2" not in mistake(**more, **{name: text})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("redis://:hunter2@host:0", "port"),
        ("redis://:hun/ter2@host", "%2F"),
        ("redis://:hunter2#@host", "%23"),
        ("redis://:hunter2", "host"),
        ("redis://host/hunter2", "database"),
        ("redis://host?password=hunter2&password=hunter2", "twice"),
        ("redis://host?hunter2", "name=value"),
        ("tcp://:hunter2@host", "scheme"),
        ("hunter2", "scheme"),
    ],
)
def test_load_mistake_in_redis_url_is_named_and_not_shown(text: str, why: str) -> None:
    line = mistake(REDIS_URL=text)
    assert line.startswith("WSBRIDGE_REDIS_URL: expected a URL such as redis://host:6379/0")
    assert why in line.split("; ")[1]
    assert "ter2" not in line


def test_load_long_value_is_shortened() -> None:
    assert len(mistake(PORT="9" * 10_000)) < 300


# Kubernetes.


def test_load_port_injected_by_kubernetes_is_explained() -> None:
    line = mistake(PORT="tcp://10.96.0.12:8004")
    assert line.startswith("WSBRIDGE_PORT: expected a whole number from 0 to 65535, got 'tcp://10.96.0.12:8004'")
    assert "Kubernetes" in line
    assert "enableServiceLinks: false" in line


@pytest.mark.parametrize("name", ["SERVICE_HOST", "SERVICE_PORT", "PORT_8004_TCP", "PORT_8004_TCP_ADDR"])
def test_load_name_injected_by_kubernetes_is_explained(name: str) -> None:
    (line,) = hints(**{name: "x"})
    assert line.startswith(f"WSBRIDGE_{name}: ")
    assert "enableServiceLinks: false" in line


# Unknown names.


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("PROT", "WSBRIDGE_PORT"),
        ("JWT_SECRT", "WSBRIDGE_JWT_SECRET"),
        ("JWT_SECRET_FIL", "WSBRIDGE_JWT_SECRET_FILE"),
        ("MAX_CONNECTION", "WSBRIDGE_MAX_CONNECTIONS"),
        ("ORIGINS", "WSBRIDGE_ALLOWED_ORIGINS"),
        ("PORT_FILE", "WSBRIDGE_PORT"),
    ],
)
def test_load_unknown_name_suggests_the_nearest(name: str, nearest: str) -> None:
    (line,) = hints(**{name: "x"})
    assert line == f"WSBRIDGE_{name}: no such setting; did you mean {nearest}?"


def test_load_ignores_names_of_others() -> None:
    assert load({"PORT": "x", "HOME": "/", "JWT_SECRET": "x", "wsbridge_port": "x"}) == (loaded(), [])


def test_load_known_names_give_no_warning() -> None:
    assert hints(JWT_SECRET=SECRET, APP_API_TOKEN="x" * 16, PORT="9000") == []


# Files.


@pytest.mark.parametrize("name", [name for name in SECRETS if name != "JWT_SECRET_PREVIOUS"])
def test_load_secret_from_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    settings, warnings = load(environ(**{f"{name}_FILE": str(tmp_path / "secret")}))
    assert getattr(settings, name.lower()) == SECRET
    assert warnings == []


def test_load_public_key_from_a_file_or_one_line(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(PEM)
    assert loaded(JWT_PUBLIC_KEY_FILE=str(tmp_path / "key.pem")).jwt_public_key == PEM
    assert loaded(JWT_PUBLIC_KEY=PEM.replace("\n", "\\n")).jwt_public_key == PEM


def test_load_redis_url_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("rediss://bridge:hunter2@r:6380\n")
    (settings, warnings) = load(environ(REDIS_URL_FILE=str(tmp_path / "url")))
    assert settings.redis_url == RedisUrl(tls=True, hosts=(("r", 6380),), username="bridge", password="hunter2")
    assert warnings == []


@pytest.mark.parametrize("problem", ["missing", "a directory", "empty", "not UTF-8", "both"])
def test_load_file_without_a_secret_is_refused(problem: str, tmp_path: Path) -> None:
    path, more = tmp_path / "secret", {}
    match problem:
        case "a directory":
            path.mkdir()
        case "empty":
            path.write_text("\n")
        case "not UTF-8":
            path.write_bytes(b"\xff" * 40)
        case "both":
            path.write_text(SECRET)
            more = {"JWT_SECRET": SECRET}
    line = mistake(JWT_SECRET_FILE=str(path), **more)
    assert line.startswith("WSBRIDGE_JWT_SECRET")
    assert SECRET not in line


def test_load_empty_file_name_counts_as_not_set() -> None:
    assert loaded(JWT_SECRET_FILE="", JWT_SECRET=SECRET).jwt_secret == SECRET


# Authentication.


@pytest.mark.parametrize(
    ("values", "auth"),
    [
        ({}, "none"),
        ({"HOST": "::1"}, "none"),
        ({"HOST": "localhost"}, "none"),
        ({"JWT_SECRET": SECRET}, "required"),
        ({"JWT_PUBLIC_KEY": PEM}, "required"),
        ({"JWT_JWKS_URL": "https://id.example.com/keys"}, "required"),
        ({"JWT_SECRET": SECRET, "HOST": "0.0.0.0"}, "required"),
        ({"JWT_SECRET": SECRET, "AUTH": "none"}, "none"),
        ({"AUTH": "none", "HOST": "0.0.0.0"}, "none"),
        ({"AUTH": "none", "HOST": "::"}, "none"),
    ],
)
def test_load_auth_default_depends_on_key_and_host(values: dict[str, str], auth: str) -> None:
    settings = loaded(**values)
    assert settings.auth == auth
    assert settings.authenticates is (auth == "required")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "example.com", "localhost.example.com"])
def test_load_reachable_host_without_a_key_requires_auth(host: str) -> None:
    line = mistake(HOST=host)
    assert line.startswith("WSBRIDGE_AUTH: ")
    assert "WSBRIDGE_AUTH=none" in line
    assert host in line


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"JWT_SECRET": SECRET, "JWT_PUBLIC_KEY": PEM}, ["JWT_SECRET", "JWT_PUBLIC_KEY"]),
        ({"JWT_SECRET": SECRET, "JWT_JWKS_URL": "http://x/"}, ["JWT_SECRET", "JWT_JWKS_URL"]),
        ({"JWT_PUBLIC_KEY": PEM, "JWT_JWKS_URL": "http://x/"}, ["JWT_PUBLIC_KEY", "JWT_JWKS_URL"]),
        ({"AUTH": "required"}, ["AUTH", "JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS_URL"]),
        ({"JWT_SECRET_PREVIOUS": SECRET}, ["JWT_SECRET_PREVIOUS", "JWT_SECRET"]),
        ({"INTERNAL_PORT": "8004"}, ["INTERNAL_PORT", "PORT"]),
        ({"VIEWER_TOKEN": "v" * 16}, ["VIEWER_TOKEN", "ADMIN_TOKEN"]),
        ({"VIEWER_TOKEN": "v" * 16, "ADMIN_TOKEN": "v" * 16}, ["VIEWER_TOKEN", "ADMIN_TOKEN"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_load_contradiction_names_both_variables(values: dict[str, str], names: list[str]) -> None:
    line = mistake(**values)
    assert all(f"WSBRIDGE_{name}" in line for name in names)


@pytest.mark.parametrize("name", ["JWT_SECRET", "JWT_SECRET_PREVIOUS"])
@pytest.mark.parametrize("secret", ["hello", "x" * 31, "é" * 15 + "x"], ids=lambda text: f"{len(text.encode())} bytes")
def test_load_weak_secret_is_refused(name: str, secret: str) -> None:
    line = mistake(**{"JWT_SECRET": SECRET, name: secret})
    assert line.startswith(f"WSBRIDGE_{name}: expected 32 bytes or more")
    assert secret not in line


def test_load_secret_of_32_bytes_is_accepted() -> None:
    assert loaded(JWT_SECRET="é" * 16).authenticates


@pytest.mark.parametrize(("algorithms", "size"), [("HS384", 48), ("HS512", 64), ("HS512,HS384", 48)])
def test_load_secret_too_short_for_all_algorithms_is_refused(algorithms: str, size: int) -> None:
    """Such a token is never valid, because PyJWT enforces RFC 7518 §3.2."""
    line = mistake(JWT_SECRET="x" * (size - 1), JWT_ALGORITHMS=algorithms)
    assert line.startswith(f"WSBRIDGE_JWT_SECRET: expected {size} bytes or more")
    assert loaded(JWT_SECRET="x" * size, JWT_ALGORITHMS=algorithms).authenticates


# Show the settings and load them again.


VALUES = {
    "PORT": st.integers(0, 65_535).map(str),
    "TOPICS": st.lists(
        st.from_regex(r"[A-Za-z0-9._-]{1,9}=t[a-z_]{1,9}", fullmatch=True),
        min_size=1,
        unique_by=lambda pair: pair.split("=")[0],
    ).map(",".join),
    "USER_ID_FIELD": st.from_regex(r"[a-z_]{1,9}(\.[a-z_]{1,9}){0,3}|@key|@subject", fullmatch=True),
    "ALLOWED_ORIGINS": st.lists(st.sampled_from(["https://a.example.com", "https://*.b.org:8443", "*"])).map(",".join),
    "JWT_LEEWAY": st.floats(0, 3_600).map(str),
    "REDIS_URL": st.sampled_from(
        ["redis://[::1]/3", "unix:///r.sock?db=1", "valkeys+sentinel://a,b:1/m", "redis+cluster://a,b"]
    ),
    "HISTORY_TTL": st.floats(0, 604_800).map(str),
    "HISTORY_MAX_BYTES": st.integers(65_536, 2**53).map(str),
    "HISTORY_MAX_BYTES_PER_USER": st.integers(65_536, 2**53).map(str),
    "LOG_LEVEL": st.sampled_from(["debug", "info", "warning", "error"]),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_masked_text_loads_as_the_same_settings(values: dict[str, str]) -> None:
    first = loaded(**values)
    again, warnings = load({name: text for name, text in first.masked().items() if text != "-"})
    assert again == first
    assert warnings == []


@pytest.mark.parametrize("url", ["htps://me:secret@id.example.com/keys?key=secret", "https//me:secret@id.example.com"])
def test_load_malformed_url_is_shown_without_its_secrets(url: str) -> None:
    with pytest.raises(SettingsError) as error:
        load({"WSBRIDGE_JWT_JWKS_URL": url})
    assert "***@id.example.com" in str(error.value)
    assert "secret" not in str(error.value)
