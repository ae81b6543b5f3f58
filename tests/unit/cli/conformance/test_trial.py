"""What a scenario learns of a client that does not do what it must."""

import pytest

from wsbridge.cli.conformance.connection import Violation
from wsbridge.cli.conformance.trial import Trial


async def test_trial_prints_lines_that_differ_names_both() -> None:
    trial = Trial()
    for line in ("e:1", "e:1"):
        trial.printed(line)
    with pytest.raises(Violation, match=r"^printed e:1 e:1; expected e:1 e:2$"):
        await trial.prints("e:1", "e:2")


async def test_trial_prints_one_line_too_many_is_a_violation() -> None:
    trial = Trial()
    for line in ("e:1", "e:2"):
        trial.printed(line)
    with pytest.raises(Violation, match=r"expected e:1$"):
        await trial.prints("e:1")


async def test_trial_client_that_has_ended_cannot_connect_or_print() -> None:
    trial = Trial()
    trial.ended("exit code 1: no such module")
    with pytest.raises(Violation, match=r"the client ended .exit code 1: no such module"):
        await trial.connects()
    with pytest.raises(Violation, match="printed nothing; expected e:1"):
        await trial.prints("e:1")
    await trial.gives_up()
    assert await trial.next(0) is None
