"""The bar, on a terminal that is a string."""

from __future__ import annotations

import io
import re
import sys

import pytest

from bsadvisor.cli.progress import progress_bar
from bsadvisor.values import Estimate, Progress


class Terminal(io.StringIO):
    """Remembers what was drawn on it."""

    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, *told: Progress) -> str:
    """What a person sees while the pipeline tells its progress, without colours."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("bsadvisor.cli.progress.SECONDS_BETWEEN_DRAWINGS", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with progress_bar(shown=True) as tell:
        for progress in told:
            tell(progress)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", terminal.getvalue())


def test_the_bar_shows_phase_examples_and_the_estimate_with_its_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    estimate = Estimate(value=212.0, low=160.0, high=300.0, confidence=0.95)
    seen = drawn(monkeypatch, Progress(phase="gradient", done=512, total=1024, noise_scale=estimate))
    assert "gradient" in seen
    assert "512 / 1,024 examples" in seen
    assert "B_simple 212 [160, 300]" in seen


def test_a_phase_without_a_known_end_shows_no_count(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = drawn(monkeypatch, Progress(phase="line search", done=0, total=None))
    assert "line search" in seen
    assert "examples" not in seen


def test_nothing_is_drawn_when_it_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(shown=False) as tell:
        tell(Progress(phase="gradient", done=1, total=2))
    assert capsys.readouterr() == ("", "")
