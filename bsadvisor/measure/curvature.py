"""The curvature phase: the most useful parts first, each within what is left of the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from bsadvisor.errors import TargetError, is_out_of_memory
from bsadvisor.measure.escape_direction import escape_direction
from bsadvisor.measure.gauss_newton import GaussNewton, NoOutputError
from bsadvisor.measure.hessian import (
    Hessian,
    Method,
    choose_method,
    double_backward_allowed,
    first_line,
)
from bsadvisor.measure.preserve import in_full_precision, preserved
from bsadvisor.measure.problem import Problem
from bsadvisor.measure.sampler import Sampler
from bsadvisor.measure.spectrum import Sample, Spectrum, find_spectrum
from bsadvisor.measure.unit_products import Multiplies, unit_products
from bsadvisor.random_state import seed_everything
from bsadvisor.theory import curvature_noise
from bsadvisor.theory.curvature_noise import CurvatureProducts
from bsadvisor.theory.noise_scale import MIN_MICRO_BATCHES
from bsadvisor.values import EscapeDirection, SkippedPart

T = TypeVar("T")

BASIS_BYTES = 2**30
"""A larger Lanczos basis is not kept."""

SEARCHES = {1: "", 2: " on half of the examples", 4: " on a quarter of them"}
"""How a search for the way out of a saddle shrinks with the time that there is."""

LEAST_ITERATIONS = 16
"""Of Lanczos: what there must be time for."""

CHECKED_EXAMPLES, CHECKED_BATCHES = 2, 4
"""On which exact products are compared with differences."""

# What each part costs, in forward and backward passes: `python -m tests.benchmarks.hessian_cost`.
PASSES_PER_GRADIENT, PASSES_PER_PRODUCT, PASSES_PER_LOSS = 1.2, 1.9, 0.5
PASSES_PER_DIFFERENCE = 2.5
GAUSS_NEWTON_PASSES = 4.5

SCANNED_LOSSES = 25


def is_large(num_parameters: int, iterations: int) -> bool:
    """Whether memory, and not time, is what a model's curvature runs short of: then no basis is kept."""
    return 4 * num_parameters * iterations > BASIS_BYTES


class Plan(Protocol):
    """Sizes of the phase; see `advise.curvature_plan`."""

    @property
    def micro_batch(self) -> int: ...
    @property
    def noise_batches(self) -> int: ...
    @property
    def direction_batches(self) -> int: ...
    @property
    def certificate_batches(self) -> int: ...
    @property
    def iterations(self) -> int: ...
    @property
    def search_direction_batches(self) -> int: ...
    @property
    def search_certificate_batches(self) -> int: ...
    @property
    def search_iterations(self) -> int: ...


class CurvatureUnavailableError(Exception):
    """In words, why the curvature cannot be measured."""


class OutOfMemoryForProductsError(Exception):
    """The second graph does not fit: try again with a smaller micro-batch."""


@dataclass(kw_only=True)
class MeasuredCurvature:
    """What the phase found; None for what the budget left out."""

    method: Method
    method_reason: str | None
    products: CurvatureProducts | None = None
    """In the optimizer's geometry."""
    plain_products: CurvatureProducts | None = None
    gauss_newton_products: CurvatureProducts | None = None
    spectrum: Spectrum | None = None
    """In the optimizer's geometry."""
    plain_spectrum: Spectrum | None = None
    escape: EscapeDirection | None = None
    skipped: list[SkippedPart] = field(default_factory=list)


class Budget:
    """Looks at the clock before every part and in the middle of it.

    Args:
        time_left: seconds.
        stop: whether someone asked to.
        seconds_per_pass: forward and backward over one example, as far as it is known beforehand.
    """

    def __init__(
        self, time_left: Callable[[], float], stop: Callable[[], bool], seconds_per_pass: float
    ) -> None:
        self._time_left = time_left
        self._stop = stop
        self._expected = seconds_per_pass
        self._seconds = 0.0
        self._passes = 0.0
        self.skipped: list[SkippedPart] = []

    def spend(self, part: str, passes: float, run: Callable[[], T | None]) -> T | None:
        """What a part gives; None, and a note of what it would have taken, where there is no time for it.

        Args:
            passes: forward and backward over one example that the part makes.
            run: gives None where `is_spent` stopped it.
        """
        seconds = passes * self._seconds_per_pass()
        began = time.perf_counter()
        found = None if self.is_spent() or seconds > self._time_left() else run()
        spent = time.perf_counter() - began
        if found is None:
            self.skipped.append(SkippedPart(part=part, seconds=max(seconds, spent)))
            return None
        self._seconds += spent
        self._passes += passes
        return found

    def is_spent(self, reserved_passes: float = 0.0) -> bool:
        """Whether to stop in the middle of a part, to leave time for what must follow it."""
        return self._stop() or self._time_left() <= reserved_passes * self._seconds_per_pass()

    def _seconds_per_pass(self) -> float:
        return self._seconds / self._passes if self._passes else self._expected


class CurvatureProbe:
    """One curvature phase of one problem.

    Args:
        problem: model in the state to be measured; it is as before afterwards.
        sampler: owner of the data's splits.
        plan: how much of each.
        divide_by_examples: whether the loss is a sum.
        noise_trace: tr(Sigma) in the optimizer's geometry, where it is known.
        seconds_per_pass: of the gradient phase, over one example.
        seed: of dropout masks and starting vectors.
        may_be_stuck: whether a thorough search for a way out is worth its time.
        keep_basis: of Lanczos; None: where it fits.

    Cost: see each part.
    """

    def __init__(
        self,
        problem: Problem,
        sampler: Sampler,
        plan: Plan,
        *,
        divide_by_examples: bool,
        noise_trace: float | None,
        seconds_per_pass: float,
        seed: int,
        may_be_stuck: bool = False,
        keep_basis: bool | None = None,
    ) -> None:
        self._problem = problem
        self._plan = plan
        self._noise_trace = noise_trace
        self._seconds_per_pass = seconds_per_pass
        self._seed = seed
        self._sizes = [parameter.numel() for parameter in problem.parameters.values()]
        self._keep_basis = keep_basis
        self._may_be_stuck = may_be_stuck
        self._divide_by = plan.micro_batch if divide_by_examples else 1
        self._sampler = sampler

    def run(self, *, time_left: Callable[[], float], stop: Callable[[], bool]) -> MeasuredCurvature:
        """Measure what the budget allows.

        Raises:
            CurvatureUnavailableError: the model cannot be differentiated in full precision.
            OutOfMemoryForProductsError: with this micro-batch.
        """
        model = self._problem.model
        try:
            with preserved(model), in_full_precision(model), double_backward_allowed(model):
                seed_everything(self._seed)
                return self._measure(Budget(time_left, stop, self._seconds_per_pass))
        except (TargetError, FloatingPointError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise CurvatureUnavailableError(first_line(error)) from error
        # Out here, where no traceback keeps the graph that did not fit.
        raise OutOfMemoryForProductsError

    def _measure(self, budget: Budget) -> MeasuredCurvature:
        plan = self._plan
        self._noise = self._sampler.curvature(0, plan.noise_batches, plan.micro_batch)
        self._usual = self._sample(plan.direction_batches, plan.certificate_batches, plan.iterations)
        self._check_data()
        plain = Hessian(problem=self._problem, seed=self._seed, divide_by=self._divide_by)
        method, reason = self._choose_method(plain)
        plain = replace(plain, method=method)
        found = MeasuredCurvature(method=method, method_reason=reason)
        if self._problem.preconditioner is None:
            self._measure_own(found, plain, budget)
            found.plain_products, found.plain_spectrum = found.products, found.spectrum
        else:
            self._measure_own(found, replace(plain, scale=scale_of(self._problem)), budget)
            found.plain_products = self._products(plain, budget, "B_noise")
            found.plain_spectrum = self._let_go(
                self._spectrum(self._usual, plain, budget, "lambda_max and lambda_min"), keep_lowest=False
            )
        if found.plain_products is not None and not curvature_noise.bends_up(found.plain_products):
            found.gauss_newton_products = self._gauss_newton(plain, budget)
        found.skipped = budget.skipped
        return found

    def _measure_own(self, found: MeasuredCurvature, own: Hessian, budget: Budget) -> None:
        """In the optimizer's geometry, whose scale is held no longer than this."""
        found.products = self._products(own, budget, "the curvature along the gradient")
        spectrum = self._search(own, budget) if self._may_be_stuck else None
        spectrum = spectrum or self._spectrum(self._usual, own, budget, "the ends of the spectrum")
        found.escape = self._escape(own, spectrum, budget)
        found.spectrum = self._let_go(spectrum, keep_lowest=found.escape is not None)

    # --- parts ---

    def _check_data(self) -> None:
        if not (self._enough_for_noise or self._enough_for_spectrum):
            examples = max(len(self._noise) * self._plan.micro_batch, self._usual.direction_examples)
            raise CurvatureUnavailableError(f"there are too few examples ({examples}) to measure it on")

    @property
    def _enough_for_noise(self) -> bool:
        return len(self._noise) >= MIN_MICRO_BATCHES

    @property
    def _enough_for_spectrum(self) -> bool:
        return self._usual.is_enough

    def _choose_method(self, plain: Hessian) -> tuple[Method, str | None]:
        size = CHECKED_EXAMPLES
        groups = [range(at * size, (at + 1) * size) for at in range(CHECKED_BATCHES)]
        few = replace(plain, divide_by=min(self._divide_by, size))
        return choose_method(few, self._sampler.check(groups))

    def _products(self, hessian: Hessian, budget: Budget, part: str) -> CurvatureProducts | None:
        if not self._enough_for_noise:
            return None
        passes = _passes(hessian, 1) * self._plan.micro_batch * len(self._noise)
        return budget.spend(part, passes, lambda: self._units(hessian, budget))

    def _gauss_newton(self, hessian: Hessian, budget: Budget) -> CurvatureProducts | None:
        """Where the curvature along the gradient is not positive; None where there is no such matrix."""
        if hessian.method != "exact":  # it would be made of second derivatives that there are none of
            return None
        matrix = GaussNewton(problem=self._problem, seed=self._seed, divide_by=self._divide_by)
        passes = GAUSS_NEWTON_PASSES * self._plan.micro_batch * len(self._noise)
        try:
            return budget.spend("the Gauss-Newton B_noise", passes, lambda: self._units(matrix, budget))
        except (NoOutputError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            return None  # a kernel without the derivatives that this needs; the rest stands without it

    def _units(self, matrix: Multiplies, budget: Budget) -> CurvatureProducts | None:
        return unit_products(
            matrix,
            self._noise,
            examples=self._plan.micro_batch,
            sizes=self._sizes,
            seed=self._seed,
            should_stop=budget.is_spent,
        )

    def _sample(self, direction: int, certificate: int, iterations: int) -> Sample:
        size = self._plan.micro_batch
        return Sample(
            direction=self._sampler.curvature(0, direction, size),
            certificate=self._sampler.curvature(direction * size, certificate, size),
            micro_batch=size,
            iterations=iterations,
        )

    def _search(self, hessian: Hessian, budget: Budget) -> Spectrum | None:
        """On more examples, as far as there is time, and until both ends have converged."""
        plan, part = self._plan, "a thorough search for a way out of a saddle"
        for shrink, size in SEARCHES.items():
            sample = self._sample(
                plan.search_direction_batches // shrink,
                plan.search_certificate_batches // shrink,
                plan.search_iterations,
            )
            found = self._spectrum(sample, hessian, budget, f"{part}{size}")
            if found is not None:
                return found
        return None

    def _spectrum(self, sample: Sample, hessian: Hessian, budget: Budget, part: str) -> Spectrum | None:
        if not sample.is_enough:
            return None
        keep_basis = self._keeps_basis(sample.iterations)
        per_product = _passes(hessian, 1) * sample.direction_examples * (1 if keep_basis else 2)
        certificate = _passes(hessian, 3) * sample.certificate_examples
        return budget.spend(
            part,
            min(sample.iterations, LEAST_ITERATIONS) * per_product + certificate,
            lambda: find_spectrum(
                hessian,
                sample,
                keep_basis=keep_basis,
                seed=self._seed,
                enough=lambda: budget.is_spent(certificate),
                should_stop=budget.is_spent,
            ),
        )

    def _let_go(self, spectrum: Spectrum | None, *, keep_lowest: bool) -> Spectrum | None:
        """Of its vectors, where they would be in the way of what follows."""
        if spectrum is None or self._keeps_basis(spectrum.sample.iterations):
            return spectrum
        return spectrum.lean(keep_lowest=keep_lowest)

    def _keeps_basis(self, iterations: int) -> bool:
        if self._keep_basis is not None:
            return self._keep_basis
        return not is_large(sum(self._sizes), iterations)

    def _escape(self, hessian: Hessian, spectrum: Spectrum | None, budget: Budget) -> EscapeDirection | None:
        if spectrum is None or not spectrum.lowest.negative:
            return None
        return budget.spend(
            "the saddle verdict",
            SCANNED_LOSSES * PASSES_PER_LOSS * spectrum.sample.certificate_examples,
            lambda: escape_direction(
                hessian,
                spectrum.sample.certificate,
                spectrum.lowest,
                noise_trace=self._noise_trace,
                first_number=len(spectrum.sample.direction),
                should_stop=budget.is_spent,
            ),
        )


def scale_of(problem: Problem) -> Tensor | None:
    """(P,) root of the preconditioner in use; None without one."""
    if problem.preconditioner is None:
        return None
    diagonal: Mapping[str, Tensor] = problem.preconditioner
    parts = [
        diagonal[name].detach().to(parameter.dtype).sqrt().reshape(-1)
        for name, parameter in problem.parameters.items()
    ]
    return torch.cat(parts)


def _passes(hessian: Hessian, products: int) -> float:
    """Over one example, for a gradient and so many products."""
    if hessian.method == "finite_differences":
        return PASSES_PER_DIFFERENCE * products
    return PASSES_PER_GRADIENT + PASSES_PER_PRODUCT * products
