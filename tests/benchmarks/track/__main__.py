"""`python -m tests.benchmarks.track [--write]`: see `judge`."""

from __future__ import annotations

from tests.benchmarks.track.judge import main

main()
