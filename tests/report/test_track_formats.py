"""A tracked run in each of its formats, and its settings as they are pasted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from rich.cells import cell_len
from torch.utils.data import DataLoader, TensorDataset

from bsadvisor.report import ReportError, from_json, ramp_settings, render, to_json
from bsadvisor.report.trend_chart import trend_chart
from bsadvisor.values import Estimate, TrackReport
from tests.report.anything import of_type
from tests.report.tracked import TRACKED, track_ramp
from tests.report.valid import validate

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", TRACKED)
@pytest.mark.parametrize(("format", "ending"), [("text", "txt"), ("markdown", "md")])
def test_a_track_reads_as_it_did(name: str, format: str, ending: str) -> None:
    """Run with BSADVISOR_REGENERATE=1 to accept what is rendered now."""
    golden = GOLDEN / f"{name}.{ending}"
    shown = render(TRACKED[name](), format)
    if os.environ.get("BSADVISOR_REGENERATE"):
        golden.write_text(shown, encoding="utf-8")
    assert shown == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TRACKED)
@pytest.mark.parametrize("unicode", [True, False])
def test_eighty_columns_suffice(name: str, unicode: bool) -> None:
    lines = render(TRACKED[name](), "text", unicode=unicode).splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert unicode or "\n".join(lines).isascii()


@pytest.mark.parametrize("name", TRACKED)
def test_the_json_follows_the_schema_and_is_no_report_of_a_checkpoint(name: str) -> None:
    text = to_json(TRACKED[name]())
    validate(json.loads(text))
    with pytest.raises(ReportError, match="of a whole run"):
        from_json(text)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(of_type(TrackReport))
def test_any_track_is_valid_json(found: TrackReport) -> None:
    validate(json.loads(to_json(found)))


# --- the chart ----------------------------------------------------------------------------------


def test_marks_stand_at_their_logarithms_and_missing_ends_are_open() -> None:
    scales = [
        Estimate(value=10.0, low=1.0, high=100.0, confidence=0.95),
        Estimate(value=100.0, low=10.0, high=None, confidence=0.95),
        Estimate(value=None, low=10.0, high=None, confidence=0.95),
        Estimate(value=None, low=None, high=None, confidence=0.95),
    ]
    lines = trend_chart(scales, cells=11, unicode=True)
    assert lines == ["├────●────┤", "     ├────●", "     ├────╶", ""]
    assert trend_chart(scales, cells=11, unicode=False)[0] == "|----*----|"


# --- the settings -------------------------------------------------------------------------------


def pasted() -> dict[str, str]:
    found = track_ramp()
    assert found.ramp_summary is not None
    return {
        part.title: "\n".join(part.lines) for part in ramp_settings.settings(found.ramp, found.ramp_summary)
    }


def test_the_pasted_loader_gives_the_batches_of_the_ramp() -> None:
    found = track_ramp()
    dataset = TensorDataset(torch.arange(700))
    names = {"torch": torch, "DataLoader": DataLoader, "dataset": dataset}
    exec(pasted()["PyTorch"], names)
    loader = names["loader"]
    assert isinstance(loader, DataLoader) and found.ramp_summary is not None
    sizes = [len(batch[0]) for batch in loader]
    assert len(sizes) == len(loader) == found.ramp_summary.steps
    assert sum(sizes) == pytest.approx(found.ramp_summary.examples, rel=0.01)
    for step, size in enumerate(sizes):
        assert size == [stage.batch_size for stage in found.ramp if stage.from_step <= step][-1]
    seen = torch.cat([batch[0] for batch in list(loader)[:20]])
    assert len(seen.unique()) == len(seen)  # no example twice within an epoch


def test_megatrons_ramp_is_the_nearest_of_its_kind() -> None:
    found = track_ramp()
    assert found.ramp_summary is not None
    words = pasted()["Megatron"].split()
    first, increment, samples = map(int, words[1:4])
    last = int(words[words.index("--global-batch-size") + 1])
    assert (first, last) == (found.ramp[0].batch_size, found.ramp[-1].batch_size)
    assert (last - first) % increment == 0  # Megatron refuses anything else
    examples = found.ramp_summary.examples
    assert samples < examples
    steps, seen = 0, 0
    while seen < examples:
        seen += ramp_settings.rampup(seen, first, last, increment, samples)
        steps += 1
    assert steps == pytest.approx(found.ramp_summary.steps, rel=0.1)
