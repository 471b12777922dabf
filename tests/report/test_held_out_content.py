"""What is said of held-out examples, and of the temperature of pairs."""

from __future__ import annotations

from dataclasses import replace

from bsadvisor.report.held_out_content import COLUMNS, temperature_lines
from tests.report.sample import contract_report

(ROW, *_) = contract_report().recommendations


def ladder(count: int) -> list[str]:
    """Of so many doublings from 8, at half the temperature each."""
    pairs = [
        replace(ROW, batch_size=8 * 2**power, relative_temperature=80 * 0.5**power) for power in range(count)
    ]
    return list(temperature_lines(pairs, 10_000_000))


def test_a_long_ladder_is_broken_between_pairs_only() -> None:
    legend, *lines = ladder(18)
    assert legend == "η/B over today's, and B as a share of the data set"
    assert len(lines) > 3 and all(len(line) <= COLUMNS for line in lines)
    pairs = ", ".join(lines).split(", ")
    assert len(pairs) == 18
    assert all(pair.endswith("%)") and "x at " in pair for pair in pairs)


def test_todays_pair_and_those_without_a_learning_rate_are_left_out() -> None:
    today, unknown = replace(ROW, relative_temperature=1.0), replace(ROW, relative_temperature=None)
    assert not list(temperature_lines([today, unknown], 1000))
    hot = replace(ROW, batch_size=16, relative_temperature=2.0)
    assert list(temperature_lines([today, hot], None)) == ["η/B over today's", "2.0x at 16"]
