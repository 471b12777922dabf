"""The learning rate at another batch size: one recommendation, with what is known of its error."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bsadvisor.advise.pairs import PairInUse, betas_at, highest_factor, rate_range, weight_decay_at
from bsadvisor.advise.rules import NoiseScales
from bsadvisor.theory import scaling
from bsadvisor.values import Recommendation, ScaledPair

FAR = 16
"""Beyond this factor between batch sizes the stored errors are no guide: on the tuned runs in the tests the
range of the saturating power held 10 of 24 rates there, the one that needs no noise scale all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Factors of the learning rate in use, and the share of past errors between them."""

    low: float | None = None
    high: float | None = None
    confidence: float | None = None


def recommend_at(
    batch_size: int,
    pair: PairInUse,
    noise: NoiseScales,
    *,
    limit: float | None = None,
    measured: Recommendation | None = None,
) -> ScaledPair:
    """What was measured there, else the saturating power, else, without a noise scale, the square root.

    Args:
        batch_size: asked for.
        pair: in use, with batch size and learning rate.
        noise: as a report has it.
        limit: stability limit at that batch size; it caps, though never below the learning rate in use.
        measured: the row of a report whose learning rate was measured there.
    """
    assert pair.batch_size is not None and pair.learning_rate is not None
    if measured is not None and measured.learning_rate is not None:
        return _measured(batch_size, pair, measured, measured.learning_rate)
    highest = highest_factor(limit, pair.learning_rate)
    rule, factor, reason = _rule(batch_size, pair, noise)
    capped = highest is not None and factor > highest
    if highest is not None and capped:
        factor = highest
        reason += "; capped at the stability limit" if highest > 1 else "; capped at the rate in use"
    if noise.value is not None and _is_far(batch_size, pair.batch_size):
        reason += f"; over more than {FAR}x the batch size, the range is that of all rules that may hold"
    reach = _range(batch_size, pair, noise, factor, highest)
    return ScaledPair(
        batch_size=batch_size,
        learning_rate=factor * pair.learning_rate,
        learning_rate_low=None if reach.low is None else reach.low * pair.learning_rate,
        learning_rate_high=None if reach.high is None else reach.high * pair.learning_rate,
        learning_rate_confidence=reach.confidence,
        learning_rate_limit=limit,
        capped=capped,
        basis="predicted",
        rule=rule,
        reason=reason,
        adam_betas=betas_at(batch_size, pair),
        weight_decay=weight_decay_at(pair, batch_size / pair.batch_size, factor),
    )


def _rule(batch_size: int, pair: PairInUse, noise: NoiseScales) -> tuple[str, float, str]:
    """Name, factor and reason."""
    anchor = pair.batch_size
    assert anchor is not None
    if noise.value is not None:
        power = scaling.SATURATING_POWER[pair.family]
        factor = scaling.saturating_power(batch_size, anchor, noise.value, power)
        return "saturating_power", factor, f"by the saturating power {power:g}, with the measured noise scale"
    steepest = "(B/B0)^0.75" if pair.family == "adam" else "(B/B0)"
    reason = f"by the square root: without a noise scale, anything from unchanged to {steepest} may hold"
    return "square_root", scaling.square_root(batch_size, anchor), reason


def _range(
    batch_size: int, pair: PairInUse, noise: NoiseScales, factor: float, highest: float | None
) -> Range:
    """Of the rule's stored errors; without a noise scale also of every rule that may hold."""
    if batch_size == pair.batch_size:
        return Range()
    assert pair.batch_size is not None
    if noise.value is not None and not _is_far(batch_size, pair.batch_size):
        low, high, confidence = rate_range(batch_size, replace(pair, learning_rate=1.0), factor, None)
        return Range(low=low, high=_least(high, highest), confidence=confidence)
    ends = _without_noise_scale(batch_size, pair)
    return Range(low=min(ends), high=_least(max(ends), highest))


def _is_far(batch_size: int, anchor: int) -> bool:
    return max(batch_size, anchor) > FAR * min(batch_size, anchor)


def _without_noise_scale(batch_size: int, pair: PairInUse) -> tuple[float, ...]:
    """Unchanged (far above the noise scale), the steepest rule (far below), the square root's own errors."""
    anchor = pair.batch_size
    assert anchor is not None
    ratio, root = batch_size / anchor, scaling.square_root(batch_size, anchor)
    steepest = ratio ** scaling.SATURATING_POWER["adam"] if pair.family == "adam" else ratio
    error = scaling.range_factor(pair.family, scaling.SQUARE_ROOT_ERROR)
    return 1.0, steepest, root / error, root * error


def _least(high: float | None, highest: float | None) -> float | None:
    return min((end for end in (high, highest) if end is not None), default=None)


def _measured(batch_size: int, pair: PairInUse, row: Recommendation, learning_rate: float) -> ScaledPair:
    assert pair.batch_size is not None and pair.learning_rate is not None
    return ScaledPair(
        batch_size=batch_size,
        learning_rate=learning_rate,
        learning_rate_low=row.learning_rate_low,
        learning_rate_high=row.learning_rate_high,
        learning_rate_confidence=row.learning_rate_confidence,
        learning_rate_limit=row.learning_rate_limit,
        capped=False,
        basis="measured",
        rule="measured",
        reason="measured by the trial in the report",
        adam_betas=betas_at(batch_size, pair),
        weight_decay=weight_decay_at(pair, batch_size / pair.batch_size, learning_rate / pair.learning_rate),
    )
