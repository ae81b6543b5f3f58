"""docs/scaling.md has the numbers that `benchmarks.sizing` calculates."""

import dataclasses

import pytest

from benchmarks.sizing import BUSY, COSTS, FULL, RATES, STEPS, Demand, main, table, tables
from tests.support.running import ROOT

DOCUMENT = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("title", RATES)
def test_document_table_is_what_the_formulas_calculate(title: str) -> None:
    """`python -m benchmarks.sizing` prints the tables."""
    assert tables()[title] in DOCUMENT


@pytest.mark.parametrize("field", dataclasses.fields(COSTS), ids=lambda field: field.name)
def test_document_formulas_have_every_cost(field: "dataclasses.Field[float]") -> None:
    formulas = DOCUMENT.split("## Formulas")[1].split("| cost |")[0]
    assert f"{getattr(COSTS, field.name):g} " in formulas


def test_command_in_the_document_prints_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    command = next(line for line in DOCUMENT.splitlines() if line.startswith("python -m benchmarks.sizing"))
    main(command.split()[3:])
    assert capsys.readouterr().out == table([Demand(120_000, 2_000)]) + "\n"


@pytest.mark.parametrize("rate", RATES.values())
@pytest.mark.parametrize("connections", STEPS)
def test_demand_without_one_replica_is_carried_by_the_others(connections: int, rate: float) -> None:
    demand = Demand(connections, connections * rate)
    others = demand.replicas - 1
    assert others >= 1
    assert demand.share <= FULL
    assert demand.cores <= others * BUSY


def test_demand_low_rate_costs_more_than_full_bulks_and_never_less() -> None:
    quiet, busy = Demand(10_000, 100), Demand(10_000, 100_000)
    assert quiet.most_cores > quiet.cores
    assert busy.most_cores == busy.cores


def test_demand_kept_events_are_bounded_by_the_history_size() -> None:
    slow, fast = Demand(1_000, 10, dedupe_ttl=0), Demand(1_000, 100_000, dedupe_ttl=0)
    event = COSTS.kept + slow.size
    assert slow.redis_gb * 1e9 == pytest.approx(1_000 * COSTS.user + 10 * 300 * event)
    assert fast.redis_gb * 1e9 == pytest.approx(1_000 * COSTS.user + 100 * 1_000 * event)
