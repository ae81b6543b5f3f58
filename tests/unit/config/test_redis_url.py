"""URLs of Redis: every form and every mistake, and no secret in any text."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import tries
from wsbridge.config.redis_url import Mode, RedisUrl, RedisUrlError, parse

R = (("r", 6379),)
SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("redis://r", {"hosts": R}, "redis://r:6379/0"),
        (" redis://r/ \r\n", {"hosts": R}, "redis://r:6379/0"),
        ("REDIS://r:7000/12", {"hosts": (("r", 7000),), "db": 12}, "redis://r:7000/12"),
        ("redis://r?db=3", {"hosts": R, "db": 3}, "redis://r:6379/3"),
        ("redis://[::1]:1", {"hosts": (("::1", 1),)}, "redis://[::1]:1/0"),
        ("redis://:p%40s%2Fs%25@r", {"hosts": R, "password": "p@s/s%"}, "redis://***@r:6379/0"),
        ("redis://u:a:b@r", {"hosts": R, "username": "u", "password": "a:b"}, "redis://***@r:6379/0"),
        ("redis://u%3A@r", {"hosts": R, "username": "u:"}, "redis://***@r:6379/0"),
        ("redis://é@r?password=%C3%A9", {"hosts": R, "username": "é", "password": "é"}, "redis://***@r:6379/0"),
        ("redis://@r", {"hosts": R}, "redis://r:6379/0"),
        ("rediss://r", {"hosts": R, "tls": True}, "rediss://r:6379/0"),
        (
            "rediss://r/1?ssl_ca_certs=/etc/ca.pem&client_name=a%26b&x1=",
            {
                "hosts": R,
                "tls": True,
                "db": 1,
                "options": (("ssl_ca_certs", "/etc/ca.pem"), ("client_name", "a&b"), ("x1", "")),
            },
            "rediss://r:6379/1?ssl_ca_certs=***&client_name=***&x1=***",
        ),
        ("valkey://r", {"hosts": R}, "redis://r:6379/0"),
        ("valkeys://r", {"hosts": R, "tls": True}, "rediss://r:6379/0"),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock"}, "unix:///run/redis.sock"),
        (
            "unix://u:p@/run/a%20b.sock?db=1&x=y",
            {"path": "/run/a b.sock", "username": "u", "password": "p", "db": 1, "options": (("x", "y"),)},
            "unix://***@/run/a%20b.sock?db=1&x=***",
        ),
        (
            "redis+sentinel://h1,h2:1/mymaster",
            {"mode": Mode.SENTINEL, "hosts": (("h1", 26379), ("h2", 1)), "service": "mymaster"},
            "redis+sentinel://h1:26379,h2:1/mymaster/0",
        ),
        (
            "valkeys+sentinel://:p@h1:26379/my.master-1/2",
            {
                "mode": Mode.SENTINEL,
                "tls": True,
                "hosts": (("h1", 26379),),
                "service": "my.master-1",
                "db": 2,
                "password": "p",
            },
            "rediss+sentinel://***@h1:26379/my.master-1/2",
        ),
        ("redis+sentinel://h/m/", {"mode": Mode.SENTINEL, "hosts": (("h", 26379),), "service": "m"}, None),
        (
            "redis+cluster://h1,[fd00::2]:7001/0",
            {"mode": Mode.CLUSTER, "hosts": (("h1", 6379), ("fd00::2", 7001))},
            "redis+cluster://h1:6379,[fd00::2]:7001",
        ),
        ("rediss+cluster://r", {"mode": Mode.CLUSTER, "tls": True, "hosts": R}, "rediss+cluster://r:6379"),
    ],
)
def test_parse_valid_url_has_its_parts(text: str, url: dict[str, Any], shown: str | None) -> None:
    assert parse(text) == RedisUrl(**url)
    assert shown is None or str(parse(text)) == shown


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "scheme"),
        ("r:6379", "scheme"),
        ("redis:r", "scheme"),
        ("http://r", "scheme"),
        ("unix+cluster:///r", "scheme"),
        ("redis://r\x00", "white space"),
        ("redis://a b@r", "white space"),
        ("redis://\udcff@r", "white space"),
        ("redis://:p@ss@r", "%40"),
        ("redis://:p/ss@r", "%40"),
        ("redis://:p?ss@r", "%40"),
        ("redis://:p#ss@r", "%40"),
        ("redis://:100%@r", "%40"),
        ("redis://:p%ss@r", "%40"),
        ("redis://r?x=@", "%40"),
        ("redis://:%FF@r", "UTF-8"),
        ("redis://", "host"),
        ("redis:///0", "host"),
        ("redis://:6379", "host"),
        ("redis://r:", "host"),
        ("redis://r:x", "host"),
        ("redis://[::1", "host"),
        ("redis://::1", "host"),
        ("redis://[1::2::3]", "IPv6"),
        ("redis://r:0", "65535"),
        ("redis://r:65536", "65535"),
        ("redis://a,b", "+sentinel"),
        ("redis+cluster://a,,b", "host"),
        ("redis://r/x", "database"),
        ("redis://r/0/1", "database"),
        ("redis://r/-1", "database"),
        ("redis://r/٣", "database"),
        ("redis://r?db=x", "database"),
        ("redis+cluster://r/1", "cluster"),
        ("redis+cluster://r?db=1", "cluster"),
        ("redis+sentinel://h", "/service"),
        ("redis+sentinel://h/", "/service"),
        ("redis+sentinel://h/m/x", "/service"),
        ("redis+sentinel://h/a%2Fb", "/service"),
        ("unix://", "socket"),
        ("unix:///", "socket"),
        ("unix://run/redis.sock", "socket"),
        ("unix:///%00", "socket"),
        ("redis://r?x", "name=value"),
        ("redis://r?x=1&x=2", "twice"),
        ("redis://r?X-Y=1", "not a name"),
        ("redis://r?port=1", "before the ?"),
        ("redis://r/1?db=1", "db is set"),
        ("redis://:p@r?password=q", "password is set"),
    ],
)
def test_parse_malformed_url_names_the_reason(text: str, why: str) -> None:
    with pytest.raises(RedisUrlError, match=re.escape(why)):
        parse(text)


URLS = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["redis", "rediss+sentinel", "redis+cluster", "valkey", "unix", "tcp"]),
    st.sampled_from(["", f"{SECRET}@", f":{SECRET}@", f"u:{SECRET}@", f":/{SECRET}@", f":@{SECRET}@", f":%{SECRET}@"]),
    st.sampled_from(["", "r", "r:1", "a,b", "[::1]:1", "[x]", f"u:{SECRET}"]),
    st.sampled_from(["", "/0", "/m", "/m/1", "/run/redis.sock", "/x/y/z"]),
    st.sampled_from(["", f"?password={SECRET}", f"?x={SECRET}&db=1", f"?{SECRET}", f"#{SECRET}", "?x=%FF"]),
)


def said(text: str) -> str:
    """Every text that a person or a log may see."""
    try:
        url = parse(text)
    except RedisUrlError as error:
        return str(error)
    return str(url) + repr(url)


@given(URLS)
@tries(500)
def test_redis_url_secret_is_never_shown(text: str) -> None:
    assert SECRET not in said(text)


@given(st.text() | st.builds("{}://{}".format, st.sampled_from(["redis", "unix", "redis+sentinel"]), st.text()))
@tries(500)
def test_parse_any_text_raises_only_printable_errors(text: str) -> None:
    assert said(text).isprintable()


@given(URLS)
@tries(300)
def test_redis_url_shown_text_parses_to_the_same_server(text: str) -> None:
    try:
        url = parse(text)
    except RedisUrlError:
        return
    again = parse(str(url).replace("***@", ""))
    assert (again.mode, again.tls, again.hosts, again.path, again.service, again.db) == (
        url.mode, url.tls, url.hosts, url.path, url.service, url.db,
    )  # fmt: skip
