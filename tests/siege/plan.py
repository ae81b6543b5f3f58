"""The scale of a siege."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The scale; `bad` is kind → number of peers, `handshakes` are bad ones a second."""

    good: int
    seconds: float
    calm: float
    bad: dict[str, int]
    handshakes: int
    judges_time: bool


EACH = ("dripping", "pinging", "fragmenting", "talking", "garbage", "garbled", "half_closed", "resetting")
FULL = Plan(
    5_000, 40.0, 10.0, {"silent": 500, "unread": 200, "bombing": 4, **dict.fromkeys(EACH, 50)},
    handshakes=2_000, judges_time=True,
)  # fmt: skip
SHORT = Plan(
    300, 6.0, 2.0, {"silent": 50, "unread": 20, "bombing": 1, **dict.fromkeys(EACH, 4)},
    handshakes=300, judges_time=False,  # other tests run beside it
)  # fmt: skip
