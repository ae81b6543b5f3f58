"""The ways in which a connection ends: close codes, reasons and their labels in metrics."""

from typing import NamedTuple


class Close(NamedTuple):
    """How a connection ends. Clients reconnect after 4000 to 4499 and not after 4500 to 4999."""

    code: int
    reason: str

    @property
    def reconnect(self) -> bool:
        return self.code not in (1002, 1003, 1007, 1008, 1009) and self.code < 4500  # noqa: PLR2004 - the rule itself


NO_STATUS = Close(1005, "")  # the close frame of the peer had no code
LOST = Close(1006, "lost")  # there was no close frame
PROTOCOL_ERROR = Close(1002, "protocol_error")
UNSUPPORTED = Close(1003, "binary")
BAD_UTF8 = Close(1007, "bad_utf8")
POLICY = Close(1008, "policy")
TOO_LARGE = Close(1009, "too_large")
INTERNAL = Close(1011, "internal")
SHUTDOWN = Close(1012, "shutdown")
OVERLOADED = Close(1013, "overloaded")
UNAVAILABLE = Close(1013, "unavailable")
TOKEN_MISSING = Close(4401, "token_missing")
TOKEN_INVALID = Close(4401, "token_invalid")
TOKEN_EXPIRED = Close(4401, "token_expired")
SLOW_CONSUMER = Close(4408, "slow_consumer")
TOO_MANY_CONNECTIONS = Close(4429, "too_many_connections")
USER_ID_REQUIRED = Close(4500, "user_id_required")
USER_MISMATCH = Close(4503, "user_mismatch")
ORIGIN_FORBIDDEN = Close(4503, "origin_forbidden")
FORCE_DISCONNECT = Close(4509, "force_disconnect")
CLOSES = (
    PROTOCOL_ERROR, UNSUPPORTED, BAD_UTF8, POLICY, TOO_LARGE, INTERNAL, SHUTDOWN, OVERLOADED, UNAVAILABLE,
    TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED,
    SLOW_CONSUMER, TOO_MANY_CONNECTIONS, USER_ID_REQUIRED, USER_MISMATCH, ORIGIN_FORBIDDEN, FORCE_DISCONNECT,
)  # fmt: skip
_FROM_CLIENTS = frozenset({1000, 1001, 1005})
_CLIENT, _OTHER = "client", ("other", "client")
# Labels of closes in metrics, code and reason. All series exist from the start.
CLOSE_LABELS = (
    *((str(close.code), close.reason) for close in CLOSES),
    *(("1006", reason) for reason in ("lost", "ping_timeout", "internal")),
    *((str(code), _CLIENT) for code in sorted(_FROM_CLIENTS)),
    _OTHER,
)
_LABELS = frozenset(CLOSE_LABELS)


def close_labels(close: Close) -> tuple[str, str]:
    """Code and reason as labels of a metric. Clients may send any code and text, so unknown ones count as `other`."""
    labels = (str(close.code), close.reason)
    if labels in _LABELS:
        return labels
    return (str(close.code), _CLIENT) if close.code in _FROM_CLIENTS else _OTHER


class Refused(Exception):  # noqa: N818 - not an error of the server
    """A connection that is accepted only to be closed, because a page cannot read the HTTP status of a handshake."""

    def __init__(self, close: Close, text: str = "") -> None:
        super().__init__(text or close.reason)
        self.close = close
