"""Types of settings: a valid text becomes a value, others raise."""

import msgspec
import pytest

from wsbridge.config.redis_url import RedisUrl
from wsbridge.config.value_types import (
    ALGORITHM_LIST,
    HTTP_URL,
    KEY_PREFIX,
    ORIGIN_LIST,
    PEM,
    PORT,
    REDIS_URL,
    SECRET,
    TEXT,
    TOPIC_LIST,
    USER_FIELD,
    ValueType,
    one_of,
    seconds,
    whole,
    without_secrets,
)


@pytest.mark.parametrize(
    ("value_type", "text", "value"),
    [
        (PORT, " 0 ", 0),
        (whole(1), "7", 7),
        (seconds(0, 10), "1.5", 1.5),
        (one_of("a", "b"), "b", "b"),
        (one_of("a", "b"), " B", "b"),
        (TEXT, " pubsub ", "pubsub"),
        (SECRET, "with space \n", "with space "),
        (REDIS_URL, "rediss://r\n", RedisUrl(tls=True, hosts=(("r", 6379),))),
        (KEY_PREFIX, " wsbridge:a\n", "wsbridge:a"),
        (ALGORITHM_LIST, "HS256, HS512", ("HS256", "HS512")),
        (ORIGIN_LIST, "https://A.example/, https://*.b.example,*", ("https://a.example", "https://*.b.example", "*")),
        (TOPIC_LIST, "a.b=note, c=task_update", (("a.b", "note"), ("c", "task_update"))),
        (USER_FIELD, "payload.owner.id", "payload.owner.id"),
        (USER_FIELD, "@key", "@key"),
        (HTTP_URL, "https://id.example/jwks", "https://id.example/jwks"),
        (PEM, r"-----BEGIN X-----\n", "-----BEGIN X-----\n"),
    ],
)
def test_parse_valid_text_returns_its_value(value_type: ValueType, text: str, value: object) -> None:
    assert value_type.parse(text) == value


@pytest.mark.parametrize(
    ("value_type", "text"),
    [
        (PORT, "65536"),
        (PORT, "-1"),
        (PORT, "8004.5"),
        (whole(1), "0"),
        (seconds(0, 10), "11"),
        (seconds(0, 10), "nan"),
        (one_of("a", "b"), "c"),
        (TEXT, "\x1b"),
        (SECRET, "\n"),
        (REDIS_URL, "http://r"),
        (KEY_PREFIX, " "),
        (KEY_PREFIX, "a b"),
        (KEY_PREFIX, "a\x01"),
        (KEY_PREFIX, "{a}"),
        (ALGORITHM_LIST, "none"),
        (ALGORITHM_LIST, ","),
        (ORIGIN_LIST, "example.com"),
        (ORIGIN_LIST, "https://a.example/path"),
        (ORIGIN_LIST, "https://a.*.example"),
        (TOPIC_LIST, "a"),
        (TOPIC_LIST, "a=Note"),
        (TOPIC_LIST, "a=gap"),
        (TOPIC_LIST, "a=b,a=c"),
        (USER_FIELD, "@id"),
        (USER_FIELD, "a..b"),
        (HTTP_URL, "ftp://id.example"),
        (HTTP_URL, "https://"),
        (PEM, "MIIB"),
    ],
)
def test_parse_malformed_text_raises(value_type: ValueType, text: str) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError)):
        value_type.parse(text)


def test_without_secrets_hides_user_password_and_query() -> None:
    assert without_secrets("http://a:b@c/d") == "http://***@c/d"
    assert without_secrets("http://c/d?k=v@e") == "http://c/d?***"
