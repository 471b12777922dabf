"""What the learning rate of Adam-like optimizers does at another batch size, by the published rules.

Adam divides by the root of the mean squared gradient, which for one parameter with mean mu and standard
deviation sigma of its examples' gradients is mu^2 + sigma^2 / B. Below the noise scale Bn = (sigma / mu)^2
that is mostly noise, and updates shrink as less of it is left. Over all parameters the one number Bn is the
noise scale in the optimizer's geometry, tr(D Sigma) / G'DG.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamFactors:
    """What `square_root_sde` changes."""

    learning_rate: float
    """eta(B) / eta(B_0)."""
    betas: tuple[float, float] | None
    """None where a beta would be negative: the rule does not reach so far."""
    epsilon: float


def square_root_sde(
    batch_size: float, anchor: float, *, betas: tuple[float, float], epsilon: float
) -> AdamFactors:
    """With kappa = B / B_0: eta sqrt(kappa), 1 - kappa (1 - beta) for both betas, epsilon / sqrt(kappa).

    Runs then follow the same stochastic differential equation, example for example, as long as gradients are
    mostly noise and kappa (1 - beta) is small.

    Args:
        batch_size, anchor: B and B_0, in examples.
        betas: of the two moving averages at B_0, each in [0, 1).
        epsilon: at B_0; outside the square root, as in PyTorch.

    Source: Malladi et al. 2022, definition of the Adam scaling rule.

    Example:
        >>> found = square_root_sde(128, 32, betas=(0.9, 0.999), epsilon=1e-8)
        >>> found.learning_rate, [round(beta, 6) for beta in found.betas or ()], found.epsilon
        (2.0, [0.6, 0.996], 5e-09)
    """
    kappa = batch_size / anchor
    first, second = (1 - kappa * (1 - beta) for beta in betas)
    return AdamFactors(
        learning_rate=math.sqrt(kappa),
        betas=(first, second) if min(first, second) >= 0 else None,
        epsilon=epsilon / math.sqrt(kappa),
    )


def constant_update(batch_size: float, anchor: float, noise_scale: float) -> float:
    """eta(B) / eta(B_0) that keeps the expected update of one step: it falls from B^-1/2 to flat.

    The expected update is eta s / sqrt(s^2 + 1 / B) with s = mu / sigma = Bn^-1/2, for a long beta_2.

    Args:
        batch_size, anchor: B and B_0, in examples.
        noise_scale: Bn = 1 / s^2, in examples.

    Source: derived from Adam's update (Kingma and Ba 2015); checked by simulation in the tests.

    Example:
        >>> constant_update(48, 16, noise_scale=48) == math.sqrt((1 + 1) / (1 + 3))
        True
    """
    return math.sqrt((1 + noise_scale / batch_size) / (1 + noise_scale / anchor))


def constant_progress(batch_size: float, anchor: float, noise_scale: float) -> float:
    """eta(B) / eta(B_0) that keeps the expected update per example: it rises from B^1/2 to B.

    The local exponent is 1 - 1 / (2 (1 + B / Bn)).

    Args:
        batch_size, anchor: B and B_0, in examples.
        noise_scale: Bn, in examples.

    Source: derived as `constant_update`; the exponents are those seen by McCandlish et al. 2018, section A.3.

    Example:
        >>> round(constant_progress(4, 1, noise_scale=1e9), 6), round(constant_progress(4, 1, noise_scale=1e-9), 6)
        (2.0, 4.0)
    """
    return batch_size / anchor * constant_update(batch_size, anchor, noise_scale)


def surge_shape(batch_size: float, peak: float) -> float:
    """eta(B) / eta_max = 2 / (sqrt(P / B) + sqrt(B / P)): rises as sqrt(B) to 1 at B = P, then falls.

    Args:
        batch_size: B, in examples.
        peak: P, the source's own noise scale, in examples; see `surge_peak`.

    Source: Li et al. 2024, equation 2, for steps along the sign of the gradient and B below
        pi / 2 (sigma / mu)^2.

    Example:
        >>> surge_shape(100, 100), surge_shape(25, 100), surge_shape(400, 100)
        (1.0, 0.8, 0.8)
    """
    return 2 / (math.sqrt(peak / batch_size) + math.sqrt(batch_size / peak))


def surge(batch_size: float, anchor: float, peak: float) -> float:
    """eta(B) / eta(B_0) on the rising half of `surge_shape`, held where its peak is passed.

    The fall needs a gradient that is coherent along few sharp directions; elsewhere the exact optimum of
    the same model goes on rising, so the fall is left out.

    Source: Li et al. 2024, equations 2 and 9.

    Example:
        >>> surge(400, 25, peak=100) == 1 / surge_shape(25, 100)
        True
    """
    return surge_shape(min(batch_size, peak), peak) / surge_shape(min(anchor, peak), peak)


def surge_peak(noise_scale_by_curvature: float) -> float:
    """P from B_noise = tr(H Sigma) / G'HG, where every parameter has the same noise: pi / 2 times it.

    Never from B_simple, which knows no curvature and can be off by orders of magnitude.

    Source: Li et al. 2024, equation 14, with equal sigma.

    Example:
        >>> round(surge_peak(20), 1)
        31.4
    """
    return math.pi / 2 * noise_scale_by_curvature
