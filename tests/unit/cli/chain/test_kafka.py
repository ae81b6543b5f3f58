"""The settings and commands of the chain's Kafka."""

from pathlib import Path

from wsbridge.cli.chain.kafka import Kafka, new_cluster


def test_kafka_commands_use_the_jars_and_the_properties(tmp_path: Path) -> None:
    kafka = Kafka(Path("/bin/java"), Path("/opt/kafka/libs"), tmp_path, port=1_000, controller=2_000)
    properties = dict(line.split("=", 1) for line in (tmp_path / "server.properties").read_text().splitlines())
    assert properties["advertised.listeners"] == "BROKER://127.0.0.1:1000"
    assert properties["controller.quorum.voters"] == "1@127.0.0.1:2000"
    assert properties["log.dirs"] == f"{tmp_path}/data"
    for command, program in ((kafka.format("id"), "kafka.tools.StorageTool"), (kafka.start(), "kafka.Kafka")):
        assert command[0] == "/bin/java"
        assert command[command.index("-cp") + 1] == "/opt/kafka/libs/*"
        assert command[command.index("-cp") + 2] == program
    assert "--cluster-id=id" in kafka.format("id")


def test_new_cluster_is_a_uuid_in_base64() -> None:
    assert len(new_cluster()) == 22
    assert new_cluster() != new_cluster()
