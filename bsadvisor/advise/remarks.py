"""From facts to findings: what a report remarks, most serious first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from bsadvisor.advise.pairs import CAPPED
from bsadvisor.findings import finding
from bsadvisor.settings import ProbeSettings
from bsadvisor.values import (
    AssumptionFacts,
    CriticalBatchSize,
    CurvatureStats,
    Finding,
    GradientStats,
    LocalStats,
    ProbeRun,
    Recommendation,
    SaddleVerdict,
    TargetDescription,
    TargetFacts,
)

UNSHUFFLED_P = 1e-3

_ORDER = {"error": 0, "warning": 1, "note": 2, "info": 3}


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By severity, then by code."""
    return tuple(sorted(findings, key=lambda found: (_ORDER[found.severity], found.code)))


def about_target(target: TargetDescription, facts: TargetFacts) -> Iterator[Finding]:
    """What was noticed while loading."""
    if target.checkpoint is None:
        yield finding("BSA101")
    if facts.learning_rate_now is not None and target.learning_rate is not None:
        yield finding("BSA102", now=facts.learning_rate_now, peak=target.learning_rate)
    if facts.batch_size_assumed:
        yield finding("BSA103", batch_size=target.batch_size)
    if target.learning_rate is None:
        yield finding("BSA104")
    if target.batch_size is None:
        yield finding("BSA108")
    for number in facts.unread:
        yield finding(
            "BSA112",
            name=number.name,
            file=number.file,
            value=f"{number.value:g}",
            wanted=number.wanted,
            flag=number.flag,
        )
    if target.optimizer is None:
        yield finding("BSA111")
    yield from _about_optimizer(target)
    yield from _about_checkpoint(target, facts)
    if facts.sampler:
        yield finding("BSA109", sampler=facts.sampler)
    if facts.loader_shuffles is False:
        yield finding("BSA110")
    if facts.frozen_parameters:
        yield finding("BSA208", count=len(facts.frozen_parameters))
    for names in facts.tied_parameters:
        yield finding("BSA209", names=" = ".join(names))


def _about_optimizer(target: TargetDescription) -> Iterator[Finding]:
    about = target.optimizer_details
    if about is None or target.optimizer is None:
        return
    if about.family == "other":
        yield finding("BSA113", optimizer=target.optimizer)
    if about.trust_ratios:
        yield finding("BSA115", optimizer=target.optimizer)


def _about_checkpoint(target: TargetDescription, facts: TargetFacts) -> Iterator[Finding]:
    places = [
        f"`{facts.checkpoint_wrapper}`" if facts.checkpoint_wrapper else "",
        f"names prefixed `{facts.checkpoint_prefix}`" if facts.checkpoint_prefix else "",
    ]
    if any(places):
        yield finding("BSA105", where=", ".join(filter(None, places)))
    if facts.optimizer_state == "mismatch":
        yield finding("BSA107", problem=facts.optimizer_state_problem)


def about_measurement(
    run: ProbeRun,
    gradient: GradientStats,
    assumptions: AssumptionFacts,
    settings: ProbeSettings,
    dataset_size: int | None,
) -> Iterator[Finding]:
    """How the measurement went."""
    yield from _about_assumptions(run, assumptions)
    if gradient.left_out:
        names = ", ".join(gradient.left_out[:3]) + (", …" if len(gradient.left_out) > 3 else "")
        yield finding("BSA207", count=len(gradient.left_out), names=names)
    if run.stopped_by == "interrupt":
        yield finding("BSA218", examples=run.examples, advice="go on with --resume and the report's file")
    yield from _about_resolution(run, gradient, settings, dataset_size)


def _about_assumptions(run: ProbeRun, facts: AssumptionFacts) -> Iterator[Finding]:
    if facts.loss_reduction == "sum":
        yield finding("BSA201")
    if facts.loss_reduction == "token_mean":
        yield finding("BSA202")
    if facts.coupling == "batch_norm":
        yield finding("BSA203", micro_batch=run.micro_batch_size)
    if facts.coupling == "other":
        yield finding("BSA204", size=facts.coupling_size, micro_batch=run.micro_batch_size)
    if facts.order_p_value is not None and facts.order_p_value < UNSHUFFLED_P:
        yield finding("BSA205", p_value=facts.order_p_value)
    if not facts.repeatable:
        yield finding("BSA206")
    if facts.dropped_examples:
        yield finding("BSA214", dropped=facts.dropped_examples)
    if facts.out_of_memory_at:
        sizes = ", ".join(map(str, facts.out_of_memory_at))
        yield finding("BSA215", sizes=sizes, micro_batch=run.micro_batch_size)
    if facts.curvature_problem is not None:
        yield finding("BSA219", problem=facts.curvature_problem)
    if facts.curvature_by_differences is not None:
        yield finding("BSA220", reason=facts.curvature_by_differences)
    if facts.single_class is not None:
        yield finding("BSA216", label=facts.single_class)


def _about_resolution(
    run: ProbeRun, gradient: GradientStats, settings: ProbeSettings, dataset_size: int | None
) -> Iterator[Finding]:
    scale = gradient.noise_scale_simple
    advice = _more_examples(run, gradient.examples_for_precision, settings, dataset_size)
    if is_zero(gradient):
        yield finding("BSA213")
    elif scale.value is None:
        yield finding("BSA212", examples=run.examples, advice=advice)
    elif scale.high is None and scale.low is not None:
        yield finding("BSA211", examples=run.examples, low=scale.low, advice=advice)
    elif run.stopped_by in ("time", "data", "max_examples") and gradient.examples_for_precision is not None:
        yield finding(
            "BSA210",
            examples=run.examples,
            stopped_by={"data": "the end of the data", "time": "--time-budget"}.get(
                run.stopped_by, "--max-examples"
            ),
            needed=f"{gradient.examples_for_precision:,}",
            advice=advice,
        )


def is_zero(gradient: GradientStats) -> bool:
    """Whether every measured gradient was exactly zero."""
    return len(gradient.raw.weight) > 0 and not any(gradient.raw.weighted_squared_norm)


def _more_examples(
    run: ProbeRun, needed: int | None, settings: ProbeSettings, dataset_size: int | None
) -> str:
    """The flag that would reach the precision, with the value it would take."""
    if dataset_size is not None and needed is not None and needed > dataset_size:
        return f"even all {dataset_size:,} examples would not do: a larger data set, or a wider --precision"
    if run.stopped_by == "data" and needed is None:
        return "the data holds no more: a larger data set"
    if run.stopped_by == "data":
        return "the data holds no more: a larger data set, or --precision above what was reached"
    if needed is None or needed <= run.examples:
        return "give it more with --time-budget and --max-examples"
    seconds = (run.seconds_per_phase.gradient or run.seconds) * needed / max(run.examples, 1)
    budget = max(settings.time_budget, 10 * math.ceil(seconds * 1.5 / 10))
    if run.stopped_by == "max_examples":
        return f"--max-examples {needed}" + (
            f" --time-budget {budget:.0f}" if budget > settings.time_budget else ""
        )
    return f"--time-budget {budget:.0f}" + (
        "" if settings.max_examples is None else f" --max-examples {needed}"
    )


def about_local(direction: str | None, local: LocalStats | None) -> Iterator[Finding]:
    """Whether a line search that ran found a step."""
    if local is None and direction is not None:
        yield finding("BSA217", direction=direction)


def about_advice(
    target: TargetDescription,
    facts: TargetFacts,
    gradient: GradientStats,
    critical: CriticalBatchSize,
    rows: tuple[Recommendation, ...],
) -> Iterator[Finding]:
    """Where the ladder ends, and how today's pair stands."""
    size, largest = target.dataset_size, max((row.batch_size for row in rows), default=0)
    if (
        size is not None
        and rows
        and largest <= size < 2 * largest
        and not any(row.role == "largest_useful" for row in rows)
    ):
        yield finding("BSA301", dataset_size=size)
    if target.checkpoint is not None and _is_outside(target.batch_size, critical):
        better = next(row.batch_size for row in rows if row.role == "balanced")
        yield finding(
            "BSA302",
            batch_size=target.batch_size,
            band_low=critical.band_low,
            band_high=critical.band_high,
            advice=f"B = {better:,} is nearest to it",
        )
    if facts.clip_grad_norm is not None and target.batch_size is not None:
        share = clipping_share(gradient, target.batch_size, facts.clip_grad_norm)
        if share is not None:
            yield finding("BSA303", batch_size=target.batch_size, clip=facts.clip_grad_norm, share=share)


def _is_outside(batch_size: int | None, critical: CriticalBatchSize) -> bool:
    if batch_size is None or critical.band_low is None or critical.band_high is None:
        return False
    return not critical.band_low <= batch_size <= critical.band_high


def clipping_share(gradient: GradientStats, batch_size: int, clip: float) -> float | None:
    """Share of steps whose gradient norm exceeds `clip`, by a Gaussian |g_B|^2.

    Mean |G|^2 + tr(Sigma) / B; variance 2 tr(Sigma^2) / B^2 + 4 G'Sigma G / B, the second bounded by
    the share that one of the effective dimensions has.
    """
    norm, trace = gradient.squared_norm.value, gradient.noise_trace.value
    dimensions = gradient.effective_noise_dimensions.value
    if norm is None or trace is None or dimensions is None or trace <= 0:
        return None
    mean = max(norm, 0.0) + trace / batch_size
    variance = (
        2 * trace**2 / dimensions / batch_size**2 + 4 * max(norm, 0.0) * trace / dimensions / batch_size
    )
    return 0.5 * math.erfc((clip**2 - mean) / math.sqrt(2 * variance))


def about_curvature(
    target: TargetDescription, curvature: CurvatureStats | None, rows: tuple[Recommendation, ...]
) -> Iterator[Finding]:
    """Where the stability limit had a say."""
    capped = [row.batch_size for row in rows if CAPPED in row.rule]
    if capped:
        yield finding("BSA304", batch_size=min(capped))
    limit = curvature.learning_rate_limit if curvature else None
    rate = target.learning_rate
    if rate is not None and limit is not None and limit.high is not None and rate > limit.high:
        yield finding("BSA305", learning_rate=rate, limit=limit.value)


def about_saddle(saddle: SaddleVerdict | None) -> Iterator[Finding]:
    """What holds the run up, and what would not."""
    codes = {"warning": "BSA401", "possible": "BSA402"}
    if saddle is None:
        return
    if saddle.verdict in codes:
        yield finding(codes[saddle.verdict], advice=saddle.advice)
    if saddle.verdict == "unresolved" and saddle.evidence is not None:
        needed = saddle.examples_needed
        yield finding(
            "BSA403",
            examples=saddle.evidence.examples,
            needed="many more" if needed is None else f"about {needed:,}",
        )
