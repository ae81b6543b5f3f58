"""`wsbridge why`: requests the stations of an event from a bridge, and prints the answer."""

import json
from http import HTTPStatus
from urllib.parse import quote

from wsbridge.cli import http
from wsbridge.cli.formatting import printable

TIMEOUT = 10.0  # seconds
DELIVERED = "delivered"
_REFUSALS = {
    401: "the bridge refuses the token: set WSBRIDGE_ADMIN_TOKEN to the same value as the bridge's",
    403: "the bridge refuses the question: set WSBRIDGE_ADMIN_TOKEN to the same value for the bridge and this command",
    404: "there is no such route: is it a bridge of an older version, or is WSBRIDGE_INTERNAL_PORT another port?",
}


class Refused(Exception):  # noqa: N818 - a state, not an error
    """The bridge does not answer the question; the text gives the reason."""


def ask(url: str, user: str, event_id: str, *, token: str | None) -> http.Answer:
    """The bridge's answer.

    Raises:
        Refused: it has no answer.
        Unreachable: no bridge answered.

    """
    path = f"/users/{quote(user, safe='')}/events/{quote(event_id, safe='')}"
    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer = http.send(url.rstrip("/") + path, headers=headers, timeout=TIMEOUT)
    if answer.status != HTTPStatus.OK or not isinstance(answer.field("answer"), str):
        raise Refused(f"{answer.status}: {_REFUSALS.get(answer.status, 'unexpected response; check --url')}")
    return answer


def report(answer: http.Answer) -> str:
    """The answer as lines for people. Untrusted ids and texts become one line of printable text each."""
    body = json.loads(answer.body)
    lines = [body["answer"]]
    for station in body["stations"]:
        name = f"{station['name']:8}"
        words = [station["at"], name, station["replica"], station.get("session", ""), station["text"]]
        lines.append("  " + "  ".join(word for word in words if word))
    return "\n".join(printable(line) for line in lines)
