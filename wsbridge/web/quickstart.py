"""What a newcomer can type next, with the path of this installation's command and the address of this bridge."""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

HOST, PORT = "127.0.0.1", 8004  # where the command line looks for a bridge by itself
NAME = "wsbridge"


def program(argv0: str) -> str:
    """The command as it can be typed in any directory: its name where the shell finds it, else its path, quoted."""
    path = Path(argv0).absolute()
    found = shutil.which(NAME)
    if path.name != NAME or not path.exists() or (found and Path(found).absolute() == path):
        return NAME
    return shlex.quote(str(path))


def welcome(command: str, host: str, ports: Sequence[int]) -> str:
    """Text for a terminal, of a bridge that has its public port first and the one for operators and sidecar last."""
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

Ctrl-C ends it.

"""
