"""The garbage collector ignores surviving objects, until there are so many that much may be free."""

import subprocess
import sys

# In its own process, because thresholds and frozen objects belong to the process.
PROGRAM = """
import gc, weakref
from structlog.testing import capture_logs
from wsbridge.supervision import garbage
from wsbridge.supervision.garbage import Garbage

class Node: pass

def cycle():
    node = Node(); node.itself = node
    return node

found = Garbage(); found.freeze()
at_start = gc.get_freeze_count()
kept = [cycle() for _ in range(1_000)]
gc.collect(1)
survived = gc.get_freeze_count() - at_start
young = weakref.ref(cycle()); gc.collect(1)
old = weakref.ref(kept[0]); kept.clear(); gc.collect()
with capture_logs() as lines: found.look()
unchanged = old() is not None and not lines
garbage.SPARE = 0; found._limit = gc.get_freeze_count() - 1
with capture_logs() as lines: found.look()
allocations, young_ones, _ = gc.get_threshold()
assert allocations * young_ones <= 15_000  # objects: a pause of some 10 ms
print(at_start > 10_000, survived >= 1_000, young() is None, unchanged, old() is None, len(lines))
"""


def test_garbage_freezes_survivors_and_collects_old_cycles_above_its_limit() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[0] == "True True True True True 1"
