"""The power law of the noise scale: found where it is, with intervals that hold it."""

from __future__ import annotations

import numpy as np
import pytest

from bsadvisor.theory.noise_trend import Inverse, PowerLaw, fit_power_law, inverse_of


def measured(
    seed: int, *, points: int, exponent: float, scatter: float, error: float, reach: float = 40.0
) -> tuple[list[float], list[Inverse]]:
    """A run's q at steps spread evenly in logarithms; `error` is that of one q over the mean q."""
    random = np.random.default_rng(seed)
    steps = np.geomspace(50, 50 * reach, points)
    law = 200 * (steps / steps[0]) ** exponent
    scale = law * np.exp(scatter * random.standard_normal(points))
    deviation = error * float(np.mean(1 / law))
    found = 1 / scale + deviation * random.standard_normal(points)
    return list(steps), [Inverse(value=float(q), error=deviation) for q in found]


def holds(law: PowerLaw, exponent: float) -> bool:
    return (law.low is None or law.low <= exponent) and (law.high is None or exponent <= law.high)


CASES = [(8, 0.5, 0.3, 0.2), (8, 0.0, 0.6, 0.3), (10, 1.0, 0.3, 0.5)]


@pytest.mark.parametrize(("points", "exponent", "scatter", "error"), CASES)
def test_the_interval_holds_the_exponent(points: int, exponent: float, scatter: float, error: float) -> None:
    laws = [
        fit_power_law(
            *measured(seed, points=points, exponent=exponent, scatter=scatter, error=error), confidence=0.9
        )
        for seed in range(60)
    ]
    covered = np.mean([law is not None and holds(law, exponent) for law in laws])
    assert covered >= 0.9 - 2 * (0.9 * 0.1 / 60) ** 0.5


def test_growth_is_rarely_seen_where_there_is_none_and_mostly_where_there_is() -> None:
    def seen(exponent: float) -> float:
        runs = (measured(seed, points=8, exponent=exponent, scatter=0.4, error=0.2) for seed in range(40))
        laws = [fit_power_law(*run, confidence=0.95) for run in runs]
        return float(np.mean([law is not None and law.low is not None and law.low > 0 for law in laws]))

    assert seen(0.0) <= 0.08
    assert seen(0.9) >= 0.9


def test_checkpoints_whose_noise_scale_is_not_resolved_still_count() -> None:
    """q <= 0 within its error says that the noise scale is large; leaving it out would hide the growth."""
    steps = [100.0, 200.0, 400.0, 800.0, 1600.0]
    resolved = [Inverse(value=0.01, error=0.001), Inverse(value=0.009, error=0.001)]
    lost = [Inverse(value=-0.0002, error=0.0004) for _ in range(3)]
    law = fit_power_law(steps, [*resolved, *lost], confidence=0.95)
    assert law is not None and law.low is not None and law.low > 0
    assert law.high is None


@pytest.mark.parametrize("steps", [[10.0, 20.0], [10.0, 10.0, 10.0], []])
def test_no_law_goes_through_too_few_points(steps: list[float]) -> None:
    assert fit_power_law(steps, [Inverse(value=0.01, error=0.001)] * len(steps), confidence=0.9) is None


def test_an_interval_gives_back_the_inverse_that_it_was_made_from() -> None:
    q, error, quantile = 0.01, 0.003, 1.959964
    found = inverse_of(1 / q, 1 / (q + quantile * error), 1 / (q - quantile * error), confidence=0.95)
    assert found is not None
    assert found.value == pytest.approx(q) and found.error == pytest.approx(error, rel=1e-4)
    assert inverse_of(None, None, None, confidence=0.95) is None
    unresolved = inverse_of(None, 100.0, None, confidence=0.95)
    assert unresolved is not None and unresolved.value == 0
