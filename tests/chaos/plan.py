"""What a run of `python -m tests.chaos` does."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run does; durations in seconds."""

    seed: int
    seconds: float  # of faults
    users: int = 60
    clients: int = 200
    batches: float = 12.0  # a second, of each partition
    history_ttl: float = 8.0
    history_size: int = 60
    rest: float = 2.5  # between two faults, at most
    redis: bool = True  # False: one replica with histories in its process, which are lost when it ends
    only: str = ""  # faults with this in their names

    def settings(self) -> dict[str, str]:
        return {
            "HISTORY_TTL": str(self.history_ttl),
            "HISTORY_SIZE": str(self.history_size),
            "DEDUPE_TTL": "120",  # longer than anything comes again
            "DRAIN_TIMEOUT": "3",
            "MAX_CONNECTIONS_PER_USER": "0",
        }
