"""`wsbridge listen`: shows the messages of a user, and explains each close and each gap."""

from collections.abc import Awaitable, Callable

from wsbridge import client
from wsbridge.cli.formatting import explain, printable
from wsbridge.cli.http import why_unreachable
from wsbridge.client import Cause, Client, Ended, Message
from wsbridge.core.close_codes import Close

Token = str | Callable[[], Awaitable[str | None]] | None


class Listener:
    """Follows `/ws` with a client until a close code forbids reconnecting.

    `show` is called with each message, byte for byte; `note` with each explanation for a person.
    """

    def __init__(self, follower: Client, *, show: Callable[[bytes], None], note: Callable[[str], None]) -> None:
        self.client = follower
        self._show = show
        self._note = note
        self._token_was_given = isinstance(follower.token, str)
        self._trouble = ""  # the last reported reason why connecting failed; each is reported once
        follower.on_disconnect = self._disconnected

    async def follow(self) -> None:
        """Reconnect until a close code or a refused handshake forbids it."""
        try:
            async with self.client:
                async for message in self.client:
                    self._show(bytes(message.text))
                    self._explain(message)
        except Ended as ended:
            no_websocket = f"no WebSocket at {self.client.url} (HTTP status {ended.cause}); check --url"
            self._note(explain(ended.cause) if isinstance(ended.cause, Close) else no_websocket)

    def _explain(self, message: Message) -> None:
        if message.type == "connected" and self._token_was_given and message.expires_in_ms is None:
            # Only a bridge that has verified the token says when it expires.
            self._token_was_given = False
            self._note("this bridge does not check tokens: --token had no effect")
        elif message.type == "gap":
            after = f"after {message.after} " if message.after else ""
            lost = f"gap ({message.reason}): the events {after}are lost; an application loads its state again here"
            self._note(printable(f"{lost}. Events continue from {message.last_event_id}"))

    def _disconnected(self, cause: Cause, seconds: float) -> None:
        if isinstance(cause, Close):
            self._trouble = ""
            when = f"in {seconds:.1f} s" if seconds else "now with a new token"
            self._note(f"{explain(cause)}. Reconnecting {when}")
            return
        why = why_unreachable(cause, client.CONNECT_TIMEOUT) if isinstance(cause, Exception) else f"HTTP status {cause}"
        if why != self._trouble:
            self._trouble = why
            self._note(f"cannot reach {self.client.url}: {printable(why)}. Retrying until it answers")
