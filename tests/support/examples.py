"""How many examples hypothesis tries for a test: all in `make test`, a tenth in `make check` and `make mutants`."""

from hypothesis import HealthCheck, settings

# The time to find examples says nothing about correctness, and depends on other work on the machine.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY, FEW = 100, 10  # for a test that sets no number
PROFILE = "tests"  # of `make test`
settings.register_profile(PROFILE, PATIENT, max_examples=MANY)
settings.register_profile("quick", PATIENT, max_examples=FEW)
settings.register_profile("repeatable", PATIENT, max_examples=FEW, derandomize=True, database=None)


def tries(count: int) -> settings:
    """Set another number of examples than `MANY` for a test; the profile scales it."""
    return settings(max_examples=max(1, count * settings().max_examples // MANY))
