"""The measurements of a siege, and the promises that it broke."""

from collections import Counter
from typing import Any

from tests.siege.bridge import State
from tests.siege.phase import Phase
from tests.siege.plan import Plan

MOST_P99 = 0.1  # seconds


LONGEST_PAUSE = 0.25  # seconds
MORE_MEMORY = 64  # MiB that may stay in use


def judged(
    plan: Plan, published: Counter[str], seen: dict[str, Any], phases: list[Phase], before: State, after: State
) -> list[str]:
    """The promises that were broken."""
    broken = list(seen["broken"])
    missing = {user: count for user, count in published.items() if seen["received"].get(user, 0) != count}
    if missing:
        broken.append(f"{len(missing)} users lost events, such as {dict(list(missing.items())[:3])}")
    print(f"events  {published.total()} published, {sum(seen['received'].values())} received; "
          f"{seen['refused']} good handshakes had to be repeated")  # fmt: skip
    for each in phases:
        latencies = sorted(seconds for sent, seconds in seen["latencies"] if sent in each)
        p50, p99, worst = (latencies[int(len(latencies) * part)] for part in (0.5, 0.99, 0.9999))
        pause = max(each.probes)
        print(f"{each.name:8}latency p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, worst {worst * 1e3:.0f} ms; "
              f"/healthz at most {pause * 1e3:.0f} ms in {len(each.probes)} probes; "
              f"of a core: {', '.join(f'{name} {part:.0%}' for name, part in each.cpu.items())}")  # fmt: skip
        if plan.judges_time and p99 > MOST_P99:
            broken.append(f"{each.name}: p99 is {p99 * 1e3:.0f} ms, at most {MOST_P99 * 1e3:.0f} are promised")
        if plan.judges_time and pause > LONGEST_PAUSE:
            broken.append(
                f"{each.name}: a pause of {pause * 1e3:.0f} ms, {LONGEST_PAUSE * 1e3:.0f} at most are promised"
            )
    if after.connections != before.connections:
        broken.append(f"{after.connections} sessions are left, there were {before.connections}")
    if after.descriptors > before.descriptors + 2:
        broken.append(f"{after.descriptors} descriptors are left, there were {before.descriptors}")
    if after.tasks > before.tasks + 2:
        broken.append(f"{after.tasks} tasks are left, there were {before.tasks}")
    if after.mebibytes > before.mebibytes + MORE_MEMORY:
        broken.append(f"{after.mebibytes} MiB are left, there were {before.mebibytes}")
    return broken
