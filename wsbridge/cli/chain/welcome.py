"""What to open and what to type once the chain is ready."""

from collections.abc import Sequence
from typing import NamedTuple

USER = "alice"  # has two tabs on the demo page


class Ports(NamedTuple):
    """The ports that a person needs."""

    bridges: Sequence[int]
    backend: int
    sidecar: int  # of the backend
    kafka: int


def welcome(command: str, ports: Ports, *, token: str, logs: str) -> str:
    """The text for the terminal. `command` runs wsbridge; the token is the user's; `logs` is a folder."""
    pages = "\n".join(f"  http://127.0.0.1:{port}/" for port in ports.bridges)
    publish = f"http://127.0.0.1:{ports.sidecar}/v1.0/publish/pubsub-kafka/task-updates?metadata.partitionKey={USER}"
    return f"""
Open one page of each bridge, side by side:

{pages}

Type in another terminal, to create a task in the backend:

  curl http://127.0.0.1:{ports.backend}/api/tasks -d '{{"title": "Buy milk"}}' \\
    -H 'authorization: Bearer {token}'

or, to publish through Dapr:

  curl '{publish}' \\
    -H 'content-type: application/json' \\
    -d '{{"event_type": "task.created", "user_id": "{USER}", "task_id": "456", "title": "Buy bread"}}'

Each task appears in all of {USER}'s tabs on both pages. To see the events in a terminal:

  {command} listen --user {USER} --url ws://127.0.0.1:{ports.bridges[-1]}/ws

Kafka is at 127.0.0.1:{ports.kafka}. The logs of all parts are in {logs}
Press Ctrl-C to stop.
"""
