"""Types of options and arguments: the value of a word, or what was expected instead."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from click import BadParameter

from wsbridge.cli import arg_types

HTTP = arg_types.url("http://127.0.0.1:8004/health", "http", "https", path="/health")


@pytest.mark.parametrize(
    ("read", "word", "value"),
    [
        (arg_types.user, "u1", "u1"),
        (arg_types.user, "é" * 128, "é" * 128),
        (arg_types.seconds, "3600", 3600),
        (arg_types.token, " a.b.c\n", "a.b.c"),
        (arg_types.event_type, "task.created", "task.created"),
        (arg_types.pair, "title=Buy milk", ("title", "Buy milk")),
        (arg_types.pair, "url=http://x:=y", ("url", "http://x:=y")),
        (arg_types.pair, "empty=", ("empty", "")),
        (arg_types.pair, "a:b=c", ("a:b", "c")),
        (HTTP, "http://[::1]:8004", "http://[::1]:8004/health"),
        (HTTP, "https://a.example/", "https://a.example/health"),
        (HTTP, "http://a:1/x?y=z#w", "http://a:1/x?y=z"),
    ],
)
def test_type_of_a_valid_word_returns_its_value(read: Callable[[str], Any], word: str, value: Any) -> None:
    assert read(word) == value


@pytest.mark.parametrize("text", ["1.10", "123456789012345678901234567890", '{"a": [1,\n2]}', "null", '"ü"'])
def test_pair_json_is_sent_verbatim(text: str) -> None:
    key, value = arg_types.pair(f"k:={text}")
    assert key == "k"
    assert msgspec.json.encode({"k": value}) == b'{"k":' + text.encode() + b"}"


@pytest.mark.parametrize(
    ("read", "word", "said"),
    [
        (arg_types.user, "", "1 to 256 bytes"),
        (arg_types.user, "é" * 129, "1 to 256 bytes"),
        (arg_types.user, "\udcff", "UTF-8"),
        *(
            (arg_types.seconds, word, "whole number of seconds")
            for word in ("0", "-1", "1.5", "x", "", "٣", "2147483648", "10000000000", "9" * 9999)
        ),
        *((arg_types.token, word, "a token") for word in ("", " ", "a\nb", "a b", "ü", "a\x7f")),
        *((arg_types.event_type, word, "task.created") for word in ("", "title=x", "a\n")),
        (arg_types.pair, "title", "key=text or key:=json"),
        (arg_types.pair, "=x", "key=text or key:=json"),
        (arg_types.pair, ":=1", "key=text or key:=json"),
        (arg_types.pair, "event_type=x", "TYPE"),
        *(
            (arg_types.pair, f"k:={text}", "expected JSON after k:=")
            for text in ("", "x", "NaN", "[1", "1 2", "[" * 99_999)
        ),
        *(
            (HTTP, word, "expected a URL such as http://127.0.0.1:8004/health")
            for word in (
                "",
                "x",
                "ftp://a",
                "http://",
                "http://a:x",
                "http://a:0",
                "http://[::1",
                "http://a b",
                "http://ü",
            )
        ),
    ],
)
def test_type_of_a_wrong_word_says_what_was_expected(read: Callable[[str], Any], word: str, said: str) -> None:
    with pytest.raises(BadParameter) as caught:
        read(word)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
