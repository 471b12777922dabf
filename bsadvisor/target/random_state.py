"""Loading draws random numbers: the same ones every time, and nobody else notices."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def fixed_randomness() -> Iterator[None]:
    """Seed every generator, so that a target loads the same each time, and restore them after."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
