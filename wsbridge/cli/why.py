"""`wsbridge why`: requests the stations of an event from a bridge, and prints the answer."""

import json
from http import HTTPStatus

from wsbridge.cli import http
from wsbridge.cli.formatting import printable
from wsbridge.cli.options import Failed

DELIVERED = "delivered"


def ask(url: str, user: str, event_id: str, *, token: str | None) -> http.Answer:
    """Request the stations of an event and the sentence about them.

    Raises `Failed` if the response has no answer, and `Unreachable` if there is no response.
    """
    answer = http.ask_operator_route(url, "/user/events", token=token, user_id=user, event_id=event_id)
    if answer.status != HTTPStatus.OK or not isinstance(answer.field("answer"), str):
        raise Failed(http.refusal(answer.status, token))
    return answer


def report(answer: http.Answer) -> str:
    """Return the answer as lines to print. Each untrusted id and text is made printable and cannot break its line."""
    body = json.loads(answer.body)
    lines = [body["answer"]]
    for station in body["stations"]:
        name = f"{station['name']:8}"
        words = [station["at"], name, station["replica"], station.get("session", ""), station["text"]]
        lines.append("  " + "  ".join(word for word in words if word))
    return "\n".join(printable(line) for line in lines)
