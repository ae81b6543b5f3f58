"""User ids: which texts are valid."""

MAX_USER_BYTES = 256  # of a user id in UTF-8; a longer one is refused on connecting, and events for it are dropped


def is_user(text: str) -> bool:
    """Whether the text is a user id: 1 to 256 bytes in UTF-8."""
    try:
        return 0 < len(text.encode()) <= MAX_USER_BYTES
    except UnicodeEncodeError:
        return False
