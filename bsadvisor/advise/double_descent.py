"""Whether the held-out loss of a run fell, rose and fell again: an epoch-wise double descent.

Source: Nakkiran et al. 2019 (Deep Double Descent), section 4; Heckel and Yilmaz 2021 for why it is a sum of
bias-variance trade-offs at several times.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median

from bsadvisor.values import TrackedCheckpoint

MIN_POINTS = 5
"""A valley, a peak and a second valley that are each more than one checkpoint's whim."""

DEPARTURE = 0.7
"""Root mean square distance of normal numbers from the medians of three among them, over their deviation."""

CONFIDENCE = 0.99
"""That neither the rise nor the second fall is an accident of examples and iterates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A held-out loss with its standard error."""

    step: int
    loss: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleDescent:
    """The first valley, the peak after it, and the lowest point after that."""

    valley: Point
    peak: Point
    second: Point


def find_double_descent(checkpoints: Sequence[TrackedCheckpoint]) -> DoubleDescent | None:
    """The highest peak that the held-out loss rises to, and falls from again, beyond its scatter.

    The losses are smoothed by running medians of three, so that one checkpoint makes no peak; what they
    depart from these by, in logarithms, is the scatter of single iterates.
    """
    points = list(_points(checkpoints))
    if len(points) < MIN_POINTS:
        return None
    smooth = _smoothed(points)
    departures = [math.log(a.loss / b.loss) ** 2 for a, b in zip(points, smooth, strict=True)]
    scatter = math.sqrt(sum(departures) / len(points)) / DEPARTURE
    found = (_around(smooth, index) for index in range(1, len(smooth) - 1))
    certain = [one for one in found if _is_certain(one, scatter, len(points))]
    return max(certain, key=lambda one: one.peak.loss, default=None)


def _points(checkpoints: Sequence[TrackedCheckpoint]) -> Iterator[Point]:
    for one in checkpoints:
        loss = one.heldout_loss
        if loss is None or loss.value is None or loss.low is None or loss.high is None or loss.value <= 0:
            continue
        quantile = NormalDist().inv_cdf((1 + loss.confidence) / 2)
        yield Point(step=one.step, loss=loss.value, error=(loss.high - loss.low) / 2 / quantile)


def _smoothed(points: Sequence[Point]) -> list[Point]:
    """Running medians of three; the ends stay as they are."""
    inner = [
        Point(step=at.step, loss=median(near.loss for near in (before, at, after)), error=at.error)
        for before, at, after in zip(points, points[1:], points[2:], strict=False)
    ]
    return [points[0], *inner, points[-1]]


def _around(points: Sequence[Point], peak: int) -> DoubleDescent:
    """The lowest points on either side of a peak."""
    before, after = points[:peak], points[peak + 1 :]
    return DoubleDescent(
        valley=min(before, key=lambda point: point.loss),
        peak=points[peak],
        second=min(after, key=lambda point: point.loss),
    )


def _is_certain(found: DoubleDescent, scatter: float, tries: int) -> bool:
    """Rise and second fall are each beyond what so many points would show by accident."""
    quantile = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / tries)

    def beyond(low: Point) -> bool:
        error = math.hypot(low.error / low.loss, found.peak.error / found.peak.loss, 2**0.5 * scatter)
        return math.log(found.peak.loss / low.loss) > quantile * error

    return beyond(found.valley) and beyond(found.second)
