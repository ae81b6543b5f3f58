"""The plan of a run of `python -m tests.chaos`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a run; durations in seconds."""

    seed: int
    seconds: float  # duration of the faults
    users: int = 60
    clients: int = 200
    batches: float = 12.0  # a second, of each partition
    history_ttl: float = 8.0
    history_size: int = 60
    rest: float = 2.0  # at most, between two faults, and of a fault after its alerts have fired
    redis: bool = True  # False: one replica with histories in its process, which are lost when it ends
    only: str = ""  # only faults whose names contain this
    every_alert: bool = False  # each fault that has an alert is injected once, however long that takes
    max_connections: int = 250  # of a replica: more than all clients

    def settings(self) -> dict[str, str]:
        return {
            "HISTORY_TTL": str(self.history_ttl),
            "HISTORY_SIZE": str(self.history_size),
            "DEDUPE_TTL": "120",  # longer than the time until the last redelivery
            "DRAIN_TIMEOUT": "3",
            "MAX_CONNECTIONS": str(self.max_connections),
            "MAX_CONNECTIONS_PER_USER": "0",
            "MAX_BACKLOG_BYTES": "262144",
        }
