"""Recommendations that a trial has measured, and those between them that are anchored on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bsadvisor.advise.headline import AS_GOOD
from bsadvisor.advise.measured_rates import expected_rate
from bsadvisor.advise.pairs import PairInUse, balanced, recommend, surest
from bsadvisor.theory.training_cost import inefficiency, steps_over_minimum, usable_fit
from bsadvisor.values import Headline, Recommendation, TrialPoint, TrialStats

TUNED = 1.1
"""Steps with the learning rate in use over those with the best: no change is worth it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """What the steps of a row are compared with."""

    pair: PairInUse
    batch_in_use: int
    own: float | None
    """Steps with the pair in use."""
    critical: float
    minimum: float
    """S_min."""


def recommend_measured(
    pair: PairInUse,
    trial: TrialStats,
    *,
    dataset_size: int | None,
    limit: Callable[[int], float | None],
) -> tuple[Recommendation, ...]:
    """The ladder around the measured critical batch size; empty where the trial settled nothing."""
    fit = usable_fit(trial.measured_critical_batch_size, trial.minimum_steps)
    if fit is None or pair.batch_size is None or not trial.curve:
        return ()
    points = {point.batch_size: point for point in trial.curve}
    own = trial.steps_in_use
    scale = _Scale(pair=pair, batch_in_use=pair.batch_size, own=own, critical=fit[0], minimum=fit[1])
    rows = recommend(
        pair, critical=fit[0], noise_scale=fit[0], dataset_size=dataset_size, limit=limit, also=points
    )
    return tuple(
        _measured(row, points[row.batch_size], scale)
        if row.batch_size in points
        else _anchored(row, points, scale)
        for row in rows
    )


def measured_headline(
    rows: tuple[Recommendation, ...], trial: TrialStats, pair: PairInUse, *, has_checkpoint: bool
) -> Headline | None:
    """`use` a measured pair or `keep` today's; None where the trial does not say."""
    fit = usable_fit(trial.measured_critical_batch_size, trial.minimum_steps)
    measured = [row for row in rows if row.basis == "measured"]
    if fit is None or not measured or pair.batch_size is None:
        return None
    if not has_checkpoint:
        return Headline(action="none", batch_size=None, reason="no checkpoint was given")
    home = next((row for row in measured if row.batch_size == pair.batch_size), None)
    tuned = home is not None and (home.steps_factor is None or home.steps_factor >= 1 / TUNED)
    if inefficiency(pair.batch_size, fit[0]) <= AS_GOOD and tuned:
        return Headline(
            action="keep",
            batch_size=pair.batch_size,
            reason="within a factor of two of the measured critical batch size, and no learning rate is much faster",
        )
    best = surest({point.batch_size: len(point.tried) for point in trial.curve}, fit[0])
    if best == pair.batch_size:
        reason = "the batch size in use with a faster learning rate"
    elif best != balanced([row.batch_size for row in measured], fit[0]):
        reason = "close to the measured critical batch size, and its learning rate was compared with others"
    elif trial.measured_critical_batch_size.value is not None:
        reason = "nearest to the measured critical batch size"
    else:
        reason = "the largest that was measured: the critical batch size lies beyond"
    return Headline(action="use", batch_size=best, reason=reason)


def _measured(row: Recommendation, point: TrialPoint, scale: _Scale) -> Recommendation:
    assert point.steps.value is not None
    return replace(
        _with_pair(row, point.learning_rate, point.steps.value, scale),
        learning_rate_low=point.learning_rate_low,
        learning_rate_high=point.learning_rate_high,
        learning_rate_confidence=None,
        basis="measured",
        rule=_how_measured(point),
        weight_decay=scale.pair.optimizer.weight_decay if scale.pair.optimizer else None,
    )


def _how_measured(point: TrialPoint) -> str:
    rates = len(point.tried)
    which = f"the best of {rates} learning rates" if rates > 1 else "the only learning rate tried"
    return f"{which}, timed in {point.seeds} {'run' if point.seeds == 1 else 'runs'}"


def _anchored(row: Recommendation, points: dict[int, TrialPoint], scale: _Scale) -> Recommendation:
    """Between the measured ones: their learning rates interpolated, and steps by the fitted curve."""
    rates = {size: point.learning_rate for size, point in points.items()}
    rate = expected_rate(rates, row.batch_size, family=scale.pair.family, noise_scale=scale.critical)
    return replace(
        _with_pair(row, rate, scale.minimum * steps_over_minimum(row.batch_size, scale.critical), scale),
        learning_rate_low=None,
        learning_rate_high=None,
        learning_rate_confidence=None,
        rule="from the measured learning rates of other batch sizes",
    )


def _with_pair(row: Recommendation, rate: float, steps: float, scale: _Scale) -> Recommendation:
    """The row with this learning rate and so many steps to the target."""
    factor = rate / scale.pair.learning_rate if scale.pair.learning_rate else None
    batch_factor = row.batch_size / scale.batch_in_use
    steps_factor = steps / scale.own if scale.own else None
    return replace(
        row,
        learning_rate=rate,
        learning_rate_factor=factor,
        relative_temperature=factor / batch_factor if factor else None,
        relative_update_noise=factor**2 / batch_factor if factor else None,
        steps_factor=steps_factor,
        examples_factor=steps_factor * batch_factor if steps_factor else None,
        steps_over_minimum=steps / scale.minimum,
        examples_over_minimum=steps * row.batch_size / (scale.minimum * scale.critical),
    )
