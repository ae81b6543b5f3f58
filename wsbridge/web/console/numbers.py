"""The numbers of one replica: gauges as they are now, counters and histograms since its start."""

import time
from dataclasses import dataclass, field

from wsbridge import __version__
from wsbridge.sessions.admission import Admission
from wsbridge.sessions.bus import Bus
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.slow_consumers import SlowConsumers
from wsbridge.supervision.health_checks import Checks
from wsbridge.telemetry.metrics import Metrics


@dataclass(eq=False)
class Numbers:
    """Reads the numbers from the parts of the bridge."""

    registry: Registry
    bus: Bus
    slow_consumers: SlowConsumers
    metrics: Metrics
    checks: Checks
    admission: Admission
    started: float = field(default_factory=time.monotonic)

    def read(self) -> dict[str, object]:
        """Return the fields of the line `numbers`. Counters are sent in full, so a lost line does no harm."""
        metrics = self.metrics
        return {
            "version": __version__,
            "at": time.time(),
            "uptime": time.monotonic() - self.started,
            "cpu": time.process_time(),
            "connections": len(self.registry),
            "users": self.registry.user_count,
            "draining": self.admission.draining,
            "checks": dict(self.checks.run()),
            "queue": {
                "entries": self.bus.depth,
                "bytes": self.bus.bytes,
                "max_entries": self.bus.depth + self.bus.room(),
                "max_bytes": self.bus.bytes + self.bus.room_bytes(),
            },
            "unsent_bytes": self.slow_consumers.bytes,
            "deliveries": metrics.deliveries,
            "sent_bytes": metrics.sent_bytes,
            "opened": metrics.opened,
            "events": metrics.events,
            "closes": {" ".join(close).strip(): count for close, count in metrics.closes.items() if count},
            "errors": _above_zero(metrics.errors),
            "retries": _above_zero(metrics.retries),
            "drops": _above_zero(metrics.drops),
            "last_drops": metrics.last_drops,
            "losses": metrics.losses,
            "lost_at": metrics.lost_at,
            "latency": {
                name: {"bounds": stage.bounds, "counts": stage.counts} for name, stage in metrics.latencies.items()
            },
        }


def _above_zero(counts: dict[str, int]) -> dict[str, int]:
    return {str(name): count for name, count in counts.items() if count}
