"""User ids: valid and invalid texts."""

import pytest

from wsbridge.core.user_ids import is_user


@pytest.mark.parametrize(
    ("text", "good"),
    [
        pytest.param("u", True, id="short"),
        pytest.param("a" * 256, True, id="256 bytes"),
        pytest.param("a" * 257, False, id="257 bytes"),
        pytest.param("é" * 128, True, id="256 bytes in 128 characters"),
        pytest.param("é" * 128 + "e", False, id="257 bytes in 129 characters"),
        pytest.param('</script>\n"\x1b', True, id="ugly"),
        pytest.param("", False, id="empty"),
        pytest.param("\ud800", False, id="lone surrogate"),
    ],
)
def test_is_user_holds_for_1_to_256_bytes_of_utf8(text: str, good: bool) -> None:
    assert is_user(text) is good
