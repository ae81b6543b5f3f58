"""The text that `wsbridge chain` prints once it is ready."""

import re
import shlex

from wsbridge.cli.chain.welcome import USER, Ports, welcome

TEXT = welcome("wsbridge", Ports([8004, 8005], backend=8000, sidecar=3500, kafka=9092), token="TOKEN", logs="/tmp/x")
COMMANDS = [
    shlex.split(line) for line in re.findall(r"^  ((?:curl|wsbridge) .*)", TEXT.replace("\\\n", ""), re.MULTILINE)
]


def test_welcome_names_each_bridge() -> None:
    assert re.findall(r"http://127.0.0.1:(\d+)/$", TEXT, re.MULTILINE) == ["8004", "8005"]


def test_welcome_has_commands_for_the_backend_the_sidecar_and_a_listener() -> None:
    to_backend, to_sidecar, to_listen = COMMANDS
    assert to_backend[1] == "http://127.0.0.1:8000/api/tasks"
    assert "authorization: Bearer TOKEN" in to_backend
    assert to_sidecar[1].startswith("http://127.0.0.1:3500/v1.0/publish/pubsub-kafka/task-updates?")
    assert f'"user_id": "{USER}"' in to_sidecar[-1]
    assert to_listen == ["wsbridge", "listen", "--user", USER, "--url", "ws://127.0.0.1:8005/ws"]


def test_welcome_says_where_the_logs_are_and_how_to_stop() -> None:
    assert "/tmp/x" in TEXT
    assert TEXT.endswith("Press Ctrl-C to stop.\n")
