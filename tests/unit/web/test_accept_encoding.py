"""The choice of a content coding."""

import pytest

from wsbridge.web.accept_encoding import choose

AVAILABLE = ("br", "gzip", "identity")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", "identity"),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate, br, zstd", "br"),
        ("br;q=0.5, GZIP", "gzip"),
        ("br ; q=0.001", "br"),
        ("gzip; q=0", "identity"),
        ("gzip;q=0.000, *", "br"),
        ("deflate", "identity"),
        ("*", "br"),
        ("br;q=0, *;q=0.5", "gzip"),
        ("gzip;q=0.5, identity", "identity"),
        ("gzip;q=0.5, identity;q=0.4", "gzip"),
        ("identity;q=0, gzip", "gzip"),
        ("gzip;q=2", "identity"),
        ("gzip;q=", "identity"),
        (";;,=", "identity"),
        ("identity;q=0", None),
        ("*;q=0", None),
        ("*;q=0, identity;q=0.1", "identity"),
    ],
)
def test_choose_follows_names_weights_and_the_order_of_the_available(header: str, expected: str | None) -> None:
    assert choose(header, AVAILABLE) == expected
