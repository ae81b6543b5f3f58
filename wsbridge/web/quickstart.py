"""The first commands to try. `wsbridge serve` prints them on a terminal in development mode."""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from wsbridge.config.settings import Settings

HOST, PORT = "127.0.0.1", 8004  # the defaults of the command line
NAME = "wsbridge"
_TOPIC = Settings().topics[0][0]  # to which `wsbridge publish` publishes by default


def program(argv0: str) -> str:
    """The command to type in any directory: its name if the shell finds it, else its quoted path."""
    path = Path(argv0).absolute()
    found = shutil.which(NAME)
    if path.name != NAME or not path.exists() or (found and Path(found).absolute() == path):
        return NAME
    return shlex.quote(str(path))


def topic_option(topic: str) -> str:
    """The option of `wsbridge publish` for this topic, in a terminal without WSBRIDGE_TOPICS; may be empty."""
    return "" if topic == _TOPIC else f" --topic {topic}"


def welcome(command: str, host: str, ports: Sequence[int], topic: str) -> str:
    """The text for the terminal. In `ports` the public port is the first and the internal one the last.

    The commands publish to `topic`, which must be one of the bridge's.
    """
    public, internal = f"{host}:{ports[0]}", f"{host}:{ports[-1]}"
    is_default = internal == f"{HOST}:{PORT}"
    to_listen, to_publish = ("", "") if is_default else (f" --url ws://{public}/ws", f" --url http://{internal}")
    return f"""
Open   http://{internal}/

or type, in another terminal:

  {command} listen --user alice{to_listen}
  {command} publish --user alice task.created task_id=1 title='Buy milk'{topic_option(topic)}{to_publish}

or, with curl instead of the command line:

  curl http://{internal}/events/{topic} -H 'content-type: application/json' \\
    -d '{{"event_type":"task.created","user_id":"alice","task_id":"1","title":"Buy milk"}}'

Press Ctrl-C to stop.

"""
