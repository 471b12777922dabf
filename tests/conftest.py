"""Before torch is loaded: tests run side by side, so each takes one thread (and so do its programs)."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
