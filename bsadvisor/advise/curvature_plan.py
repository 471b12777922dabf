"""How much of the data, and how many products, the curvature gets: by counting, so that it repeats."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bsadvisor.theory.noise_scale import MIN_MICRO_BATCHES

TIMES_THE_GRADIENT = 10
"""The curvature may cost so many times the passes of the gradient phase."""

LEAST_PHASE = 2048
"""Examples that a gradient phase counts as at least: on few examples, products are cheap anyway."""

LONGEST_SECONDS = 30.0

ITERATIONS = 24
"""Of Lanczos, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvaturePlan:
    """Sizes of the curvature phase."""

    micro_batch: int
    direction_batches: int
    """Micro-batches that eigenvectors are sought on."""
    certificate_batches: int
    """Other micro-batches, for everything else."""
    iterations: int
    allowance: float
    """Forward and backward passes over one example."""

    @property
    def direction_examples(self) -> int:
        return self.direction_batches * self.micro_batch

    @property
    def certificate_examples(self) -> int:
        return self.certificate_batches * self.micro_batch

    def halved(self) -> CurvaturePlan:
        """The same examples in micro-batches of half the size."""
        return replace(
            self,
            micro_batch=self.micro_batch // 2,
            direction_batches=self.direction_batches * 2,
            certificate_batches=self.certificate_batches * 2,
        )


def plan_curvature(
    *, gradient_examples: int, available: int, micro_batch: int, coupled: bool
) -> CurvaturePlan:
    """As many examples as the allowance pays for, a quarter of them for the directions.

    Args:
        gradient_examples: that the gradient phase measured.
        available: examples that there surely are.
        micro_batch: of the gradient phase; kept where examples are `coupled`, for it changes the loss.
    """
    phase = max(gradient_examples, LEAST_PHASE)
    certificate = min(512 if phase < 4096 else 1024, max(available - available // 5, 0))
    if not coupled:
        micro_batch = max(1, min(micro_batch, certificate // MIN_MICRO_BATCHES))
    units = max(certificate // micro_batch, min(MIN_MICRO_BATCHES, available // micro_batch * 4 // 5))
    return CurvaturePlan(
        micro_batch=micro_batch,
        direction_batches=max(min(units // 4, available // micro_batch - units), 0),
        certificate_batches=units,
        iterations=ITERATIONS,
        allowance=TIMES_THE_GRADIENT * phase,
    )
