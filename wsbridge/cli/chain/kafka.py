"""A Kafka of one node: its settings and commands."""

import base64
import secrets
from collections.abc import Sequence
from pathlib import Path

PARTITIONS = 3
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=BROKER://127.0.0.1:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={directory}/data
num.partitions={partitions}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=1000
"""


class Kafka:
    """The commands that format its storage and start it. Its files are in `directory`."""

    def __init__(self, java: Path, jars: Path, directory: Path, *, port: int, controller: int) -> None:
        """`controller` is the port at which the node talks to itself."""
        self._java = java
        self._jars = jars
        self._config = directory / "server.properties"
        self._config.write_text(
            _PROPERTIES.format(port=port, controller=controller, directory=directory, partitions=PARTITIONS),
            encoding="utf-8",
        )

    def format(self, cluster: str) -> Sequence[str]:
        """The command to run once before the first start; `cluster` is its id."""
        return self._command("kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", f"--config={self._config}")

    def start(self) -> Sequence[str]:
        return self._command("kafka.Kafka", str(self._config))

    def _command(self, program: str, *arguments: str) -> Sequence[str]:
        options = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", str(self._jars / "*"))
        return [str(self._java), *options, program, *arguments]


def new_cluster() -> str:
    """The id of a new cluster."""
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
