"""What findings mean together: a fault of one check explains the finding of another, which then refers to it."""

from collections.abc import Mapping, Sequence

from wsbridge.cli.doctor.findings import Finding, State
from wsbridge.cli.doctor.refused import LOSES_EVENTS
from wsbridge.cli.doctor.sidecar import SUBSCRIBE


def related(name: str, found: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """The findings of the check `name`, in the light of all findings."""
    return [_related(name, finding, found) for finding in found[name]]


def _related(name: str, finding: Finding, found: Mapping[str, Sequence[Finding]]) -> Finding:
    def failed(*names: str) -> list[str]:
        return [name for name in names if any(finding.state is State.FAILURE for finding in found.get(name, ()))]

    match name, finding.state:
        case "replicas" | "histories", State.OK if failed("canary"):
            # The replicas that answered prove little if not every event comes to them.
            return finding._replace(text=f"{finding.text}; but not every event comes to this address: see canary")
        case "subscription", State.FAILURE if causes := failed("app-token", "component"):
            return finding._replace(cure=f"first cure {' and '.join(causes)} (see above), then {SUBSCRIBE}")
        case "partitions", State.WARNING:
            causes = failed("app-token", "component", "subscription")
            causes += ["refused"] * any(refusal.text.startswith(LOSES_EVENTS) for refusal in found["refused"])
            return finding._replace(cure=f"see {', '.join(causes)}") if causes else finding
        case "redis-histories", State.OK if failed("redis-eviction"):
            why = "the bridge notices a loss only when a client or an event needs the lost history: see redis-eviction"
            return Finding(State.NOT_CHECKED, why)
    return finding
