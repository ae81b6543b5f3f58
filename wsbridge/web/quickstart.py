"""The first commands to try. `wsbridge serve` prints them on a terminal in development mode."""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

HOST, PORT = "127.0.0.1", 8004  # the defaults of the command line
NAME = "wsbridge"


def program(argv0: str) -> str:
    """The command to type in any directory: its name if the shell finds it, else its quoted path."""
    path = Path(argv0).absolute()
    found = shutil.which(NAME)
    if path.name != NAME or not path.exists() or (found and Path(found).absolute() == path):
        return NAME
    return shlex.quote(str(path))


def welcome(command: str, host: str, ports: Sequence[int]) -> str:
    """The text for the terminal. In `ports` the public port is the first and the internal one the last."""
    public, internal = f"{host}:{ports[0]}", f"{host}:{ports[-1]}"
    is_default = internal == f"{HOST}:{PORT}"
    to_listen, to_publish = ("", "") if is_default else (f" --url ws://{public}/ws", f" --url http://{internal}")
    return f"""
Open   http://{internal}/

or type, in another terminal:

  {command} listen --user alice{to_listen}
  {command} publish --user alice task.created task_id=1 title='Buy milk'{to_publish}

or, with curl instead of the command line:

  curl http://{internal}/events/task-updates -H 'content-type: application/json' \\
    -d '{{"event_type":"task.created","user_id":"alice","task_id":"1","title":"Buy milk"}}'

Press Ctrl-C to stop.

"""
