"""What the user asks for: flags and YAML, as values.

It has a file of its own so that the command line can be read, completed and helped with before `values` is
loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

LARGEST_BATCH = 10**12
"""Examples; nobody trains with more, and numbers beyond are typing errors."""

RuleSeverity = Literal["note", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRequest:
    """Where the model, data and settings are, as typed: each `None` is looked for elsewhere."""

    target: str | None = None
    """`FILE.py`, `FILE.py:NAME`, or None when the YAML names the model."""
    config: str | None = None
    checkpoint: str | None = None
    data: str | None = None
    """`FILE.py:NAME` of the training data."""
    loss: str | None = None
    """`FILE.py:NAME`, `cross_entropy` or `mse`."""
    optimizer: str | None = None
    """Name of a `torch.optim` class, any case."""
    batch_size: int | None = None
    """Examples per optimizer step in use today, over all devices and accumulation steps."""
    learning_rate: float | None = None
    device: str | None = None
    dtype: str | None = None
    trust_checkpoint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """How long and how precisely to measure."""

    precision: float = 0.5
    """Stop when (high - low) / (2 value) of `noise_scale_simple` is below this."""
    time_budget: float = 60.0
    """Seconds."""
    max_examples: int | None = None
    micro_batch: int | None = None
    """Examples per gradient; None: chosen from the data, the batch size and the device."""
    confidence: float = 0.95
    curvature: bool = True
    seed: int = 0
    trial: TrialSettings = field(default_factory=lambda: TrialSettings())


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialSettings:
    """Whether and how to measure by training."""

    when: Literal["never", "if_it_fits", "always"] = "never"
    """`if_it_fits`: where its planned time is within what is left of the budget."""
    horizon: int = 150
    """Steps ahead with the pair in use, whose loss becomes the target."""
    target_loss: float | None = None
    """Given instead."""
    keep_betas: bool = False
    """Leave the averages of squared gradients as they are at every batch size."""
    max_examples: int | None = None
    """Trained on in all runs together."""
    dry_run: bool = False
    """Plan only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleRequest:
    """The question of `bsadvisor scale`, as typed: each `None` is looked for in the report."""

    to_batch_size: int
    from_batch_size: int | None = None
    from_learning_rate: float | None = None
    optimizer: str | None = None
    betas: tuple[float, float] | None = None
    weight_decay: float | None = None
