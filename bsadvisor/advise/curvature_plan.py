"""How much of the data, and how many products, the curvature gets: by counting, so that it repeats."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bsadvisor.theory.noise_scale import MIN_MICRO_BATCHES

TIMES_THE_GRADIENT = 10
"""The curvature may take so many times the gradient phase."""

LONGEST_SECONDS = 30.0

FREE_SECONDS = 5.0
"""Nobody minds this long: ten times the gradient phase of a small model would be a fraction of a second."""

SUSPICIOUS_SECONDS = 10.0
"""Nor this long where the run may be stuck, and all examples can be searched for a way out."""

CERTIFICATE, LARGE_CERTIFICATE = 256, 1024
"""Examples on which a curvature is certified: a quarter of those of the gradient phase, within these."""

ITERATIONS = 24
"""Of Lanczos, at most."""

SEARCH, SEARCH_ITERATIONS = 2048, 80
"""Examples, and products, of a thorough search for directions of negative curvature."""

HALVINGS = 3
"""Of the micro-batch, for a model whose memory is short."""

LEAST_FOR_NOISE, MOST_UNITS = 512, 64
"""Examples of B_noise, which gets half of those of the gradient phase, and its most micro-batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvaturePlan:
    """Sizes of the curvature phase, in micro-batches of the same size."""

    micro_batch: int
    noise_batches: int
    """For B_noise: the gradient phase's examples again."""
    direction_batches: int
    """That eigenvectors are sought on."""
    certificate_batches: int
    """Others than those, for what holds along the eigenvectors."""
    iterations: int
    search_direction_batches: int = 0
    """For a thorough search for a way out, where the run may be stuck."""
    search_certificate_batches: int = 0
    search_iterations: int = 0

    def halved(self) -> CurvaturePlan:
        """The same examples in micro-batches of half the size."""
        return replace(
            self,
            micro_batch=self.micro_batch // 2,
            noise_batches=self.noise_batches * 2,
            direction_batches=self.direction_batches * 2,
            certificate_batches=self.certificate_batches * 2,
            search_direction_batches=self.search_direction_batches * 2,
            search_certificate_batches=self.search_certificate_batches * 2,
        )

    def for_large_model(self) -> CurvaturePlan:
        """In smaller micro-batches: the graph of a second derivative is several times that of a step.

        B_noise gets as many of them as before, so that their sketches take no more memory.
        """
        plan = self
        for _ in range(HALVINGS):
            plan = plan.halved() if plan.micro_batch > 1 else plan
        return replace(plan, noise_batches=self.noise_batches)


def plan_curvature(
    *, gradient_examples: int, available: int, micro_batch: int, coupled: bool
) -> CurvaturePlan:
    """The certificate gets four times the examples of the directions.

    Args:
        gradient_examples: that the gradient phase measured.
        available: examples that there surely are, for the gradient and the curvature.
        micro_batch: of the gradient phase; kept where examples are `coupled`, for it changes the loss.
    """
    wanted = min(max(gradient_examples // 4, CERTIFICATE), LARGE_CERTIFICATE)
    certificate = min(wanted, available * 4 // 5)
    if not coupled:
        micro_batch = max(1, min(micro_batch, certificate // MIN_MICRO_BATCHES))
    within = available // micro_batch
    certificate_batches = min(max(certificate // micro_batch, MIN_MICRO_BATCHES), within * 4 // 5)
    return CurvaturePlan(
        micro_batch=micro_batch,
        noise_batches=min(max(gradient_examples // 2, LEAST_FOR_NOISE) // micro_batch, within, MOST_UNITS),
        direction_batches=min(max(certificate_batches // 4, 1), within - certificate_batches),
        certificate_batches=certificate_batches,
        iterations=ITERATIONS,
        search_direction_batches=min(SEARCH // micro_batch, within // 2),
        search_certificate_batches=min(SEARCH // micro_batch, within // 2),
        search_iterations=SEARCH_ITERATIONS,
    )


def seconds_allowed(gradient_seconds: float, *, suspicious: bool = False) -> float:
    """For the whole phase."""
    free = SUSPICIOUS_SECONDS if suspicious else FREE_SECONDS
    return min(LONGEST_SECONDS, max(TIMES_THE_GRADIENT * gradient_seconds, free))
