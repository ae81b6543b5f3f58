"""How many examples hypothesis tries for a test: all in `make test`, a tenth in `make check` and `make mutants`."""

from hypothesis import HealthCheck, settings

# How fast examples are found is no matter of right or wrong, and depends on who else uses the machine.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY, FEW = 100, 10  # for a test that asks for no number
PROFILE = "tests"  # of `make test`
settings.register_profile(PROFILE, PATIENT, max_examples=MANY)
settings.register_profile("quick", PATIENT, max_examples=FEW)
settings.register_profile("repeatable", PATIENT, max_examples=FEW, derandomize=True, database=None)


def tries(count: int) -> settings:
    """Decorate a test that needs another number of examples than `MANY`; the profile scales it."""
    return settings(max_examples=max(1, count * settings().max_examples // MANY))
