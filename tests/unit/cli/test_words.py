"""Words of the command line: values, or what was expected instead."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from wsbridge.cli import words

HTTP = words.url("http://127.0.0.1:8004/health", "http", "https", path="/health")


@pytest.mark.parametrize(
    ("read", "word", "value"),
    [
        (words.user, "u1", "u1"),
        (words.user, "é" * 128, "é" * 128),
        (words.seconds, "3600", 3600),
        (words.token, " a.b.c\n", "a.b.c"),
        (words.event_type, "task.created", "task.created"),
        (words.pair, "title=Buy milk", ("title", "Buy milk")),
        (words.pair, "url=http://x:=y", ("url", "http://x:=y")),
        (words.pair, "empty=", ("empty", "")),
        (words.pair, "a:b=c", ("a:b", "c")),
        (HTTP, "http://[::1]:8004", "http://[::1]:8004/health"),
        (HTTP, "https://a.example/", "https://a.example/health"),
        (HTTP, "http://a:1/x?y=z#w", "http://a:1/x?y=z"),
    ],
)
def test_good(read: Callable[[str], Any], word: str, value: Any) -> None:
    assert read(word) == value


@pytest.mark.parametrize("text", ["1.10", "123456789012345678901234567890", '{"a": [1,\n2]}', "null", '"ü"'])
def test_json_goes_out_as_it_is_written(text: str) -> None:
    key, value = words.pair(f"k:={text}")
    assert key == "k"
    assert msgspec.json.encode({"k": value}) == b'{"k":' + text.encode() + b"}"


@pytest.mark.parametrize(
    ("read", "word", "said"),
    [
        (words.user, "", "1 to 256 bytes"),
        (words.user, "é" * 129, "1 to 256 bytes"),
        (words.user, "\udcff", "UTF-8"),
        *((words.seconds, word, "whole number of seconds") for word in ("0", "-1", "1.5", "x", "", "٣", "9" * 9999)),
        *((words.token, word, "a token") for word in ("", " ", "a\nb", "a b", "ü", "a\x7f")),
        *((words.event_type, word, "task.created") for word in ("", "title=x", "a\n")),
        (words.pair, "title", "key=text or key:=json"),
        (words.pair, "=x", "key=text or key:=json"),
        (words.pair, ":=1", "key=text or key:=json"),
        (words.pair, "user_id=x", "--user"),
        (words.pair, "event_type=x", "the event's type"),
        *(
            (words.pair, f"k:={text}", "expected JSON after k:=")
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
def test_bad(read: Callable[[str], Any], word: str, said: str) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        read(word)
    assert said in str(caught.value)
    assert str(caught.value).isprintable()
