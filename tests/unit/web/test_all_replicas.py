"""A question to all replicas: the answers, and what is said about missing ones."""

import pytest

from wsbridge.broker.base import BrokerUnavailable, Poll
from wsbridge.web.all_replicas import AllReplicas, Answers


async def here(question: bytes) -> bytes:
    return b"here:" + question


@pytest.mark.parametrize(
    ("poll", "expected"),
    [
        (Poll([b"a", b"b"], 2), Answers([b"a", b"b"])),
        (Poll([b"a", b"b"], 1), Answers([b"a", b"b"])),
        (Poll([b"a"], 3), Answers([b"a"], 2, "2 of 3 replicas did not answer")),
        (Poll([], 2), Answers([b"here:q"], 0, "the other replicas did not answer")),
        (BrokerUnavailable("down"), Answers([b"here:q"], 0, "the other replicas could not be asked: down")),
        (None, Answers([b"here:q"])),
    ],
)
async def test_all_replicas_have_an_answer_of_this_one_at_least(
    poll: Poll | BrokerUnavailable | None, expected: Answers
) -> None:
    async def asking(question: bytes, patience: float | None = None) -> Poll:
        assert (question, patience) == (b"q", 0.5)
        if isinstance(poll, Poll):
            return poll
        raise poll or AssertionError

    assert await AllReplicas(asking if poll else None, here).ask(b"q", 0.5) == expected
