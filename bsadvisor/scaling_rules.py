"""The closed catalogue of scaling rules: what each sets at another batch size, when it holds, who says so.

The formulas are in `theory`; which rule is recommended is decided in `advise`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

from bsadvisor.theory import adam_rules, scaling

Regime = Literal["any", "noise"]
"""`noise`: only well below the noise scale, where gradients are mostly noise."""

Needs = Literal["nothing", "noise_scale", "noise_scale_by_curvature", "betas", "weight_decay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change of batch size, and what rules ask about where it starts; None: not known."""

    batch_size: float
    anchor: float
    """The batch size that is left, in examples."""
    family: scaling.Family
    noise_scale: float | None = None
    """In the optimizer's geometry where that was measured."""
    noise_scale_by_curvature: float | None = None
    """B_noise."""
    betas: tuple[float, float] | None = None
    epsilon: float | None = None
    weight_decay: float | None = None
    rate_factor: float | None = None
    """By which the learning rate will change, whatever rule says so."""
    highest_factor: float | None = None
    """What the stability limit allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a rule sets; None: what it leaves alone."""

    rate_factor: float | None = None
    betas: tuple[float, float] | None = None
    epsilon: float | None = None
    weight_decay: float | None = None
    problem: str | None = None
    """Why it cannot be followed so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRule:
    """One entry of the catalogue."""

    name: str
    title: str
    formula: str
    explanation: str
    """What `bsadvisor explain NAME` prints."""
    source: str
    regimes: Mapping[scaling.Family, Regime]
    """Where it holds, by kind of optimizer; for those left out it does not."""
    holds: str
    """What is kept where it holds."""
    not_for: str = ""
    """Why it does not hold for the kinds of optimizer left out."""
    needs: Needs = "nothing"
    evaluate: Callable[[Change], Setting | None]
    """None where something that it needs is not known."""


# --- how each is evaluated ----------------------------------------------------------------------


def _without_noise_scale(rule: Callable[[float, float], float]) -> Callable[[Change], Setting | None]:
    return lambda change: Setting(rate_factor=rule(change.batch_size, change.anchor))


def _with_noise_scale(rule: Callable[[float, float, float], float]) -> Callable[[Change], Setting | None]:
    def evaluate(change: Change) -> Setting | None:
        noise_scale = change.noise_scale
        if noise_scale is None:
            return None
        return Setting(rate_factor=rule(change.batch_size, change.anchor, noise_scale))

    return evaluate


def _saturating_power(change: Change) -> Setting | None:
    power = scaling.SATURATING_POWER[change.family]
    return _with_noise_scale(partial(scaling.saturating_power, power=power))(change)


def _square_root_sde(change: Change) -> Setting | None:
    if change.betas is None:
        return None
    found = adam_rules.square_root_sde(
        change.batch_size, change.anchor, betas=change.betas, epsilon=change.epsilon or 0.0
    )
    return Setting(
        rate_factor=found.learning_rate,
        betas=found.betas,
        epsilon=None if change.epsilon is None else found.epsilon,
        problem=None if found.betas else "it would need a beta below zero",
    )


def _half_life(change: Change) -> Setting | None:
    if change.betas is None:
        return None
    first, second = change.betas
    return Setting(betas=(first, scaling.half_life_beta(second, change.batch_size, change.anchor)))


def _constant_timescale(change: Change) -> Setting | None:
    if not change.weight_decay or change.rate_factor is None:
        return None
    factor = change.batch_size / change.anchor
    return Setting(
        weight_decay=scaling.constant_timescale_decay(change.weight_decay, factor, change.rate_factor)
    )


def _surge(change: Change) -> Setting | None:
    if change.noise_scale_by_curvature is None:
        return None
    peak = adam_rules.surge_peak(change.noise_scale_by_curvature)
    return Setting(rate_factor=adam_rules.surge(change.batch_size, change.anchor, peak))


# --- the rules ----------------------------------------------------------------------------------

_ONLY_ADAM = "it describes steps divided by the gradient's size, as Adam's are"

_NO_PART_OF_IT = "the optimizer has no such average"

_RULES = (
    ScalingRule(
        name="saturating_power",
        title="The saturating power: measured exponents, flat above the noise scale",
        formula="eta(B) = eta(B0) [(1 + Bn/B0) / (1 + Bn/B)]^p, p = 0.5 (SGD) or 0.75 (Adam)",
        explanation=(
            "The best single step at batch size B is proportional to 1 / (1 + Bn/B) with the noise scale Bn: it "
            "rises while gradients are mostly noise and stays once they are not. Training runs follow the same "
            "curve with a smaller exponent. On 56 tuned pairs of 14 runs the exponents 0.5 (SGD) and 0.75 "
            "(Adam) were off by a factor of 1.40 and 1.49, less than any other rule here: the square root by "
            "1.55 and 1.64, the linear rule by 2.73 and 2.19. This is what bsadvisor recommends."
        ),
        source="McCandlish et al. 2018, equation 2.6 and appendix E.2; exponents from bsadvisor's own runs",
        regimes={"sgd": "any", "adam": "any", "other": "any"},
        holds="on both sides of the noise scale, with the least error on tuned runs",
        needs="noise_scale",
        evaluate=_saturating_power,
    ),
    ScalingRule(
        name="square_root",
        title="The square root: the same noise in every update",
        formula="eta(B) = eta(B0) sqrt(B/B0)",
        explanation=(
            "The noise of an update of SGD has the covariance eta^2 Sigma / B, which stays the same when the "
            "learning rate follows the root of the batch size. Progress per example then falls as the batch "
            "grows, so the number of steps and not that of epochs is to be kept. For Adam the reason is "
            "another: its updates are divided by the size of the gradient, which is mostly noise and falls as "
            "1 / sqrt(B) well below the noise scale. Without a noise scale it is what bsadvisor recommends."
        ),
        source="Krizhevsky 2014 (One weird trick), section 5; Hoffer et al. 2017; for Adam: Malladi et al. 2022",
        regimes={"sgd": "any", "adam": "noise", "other": "any"},
        holds="same noise per update; less progress per example as B grows",
        evaluate=_without_noise_scale(scaling.square_root),
    ),
    ScalingRule(
        name="linear",
        title="The linear rule: the same progress per example",
        formula="eta(B) = eta(B0) B/B0",
        explanation=(
            "One step on k times the examples with k times the learning rate goes as far as k steps did, and "
            "adds as much noise as they did together. That holds for SGD, with or without momentum, while "
            "gradients are mostly noise and steps are short against the curvature: above the noise scale, or "
            "above the stability limit, it overshoots. ResNet-50 at 8,192 images kept its error that way, after "
            "a warm-up: 23.74 %, against 23.60 % at 256 images, and 26.22 % by the square root. Never for Adam."
        ),
        source="Goyal et al. 2017 (Accurate, large minibatch SGD)",
        regimes={"sgd": "noise", "other": "noise"},
        holds="same progress and noise per example",
        not_for="Adam divides by the gradient's size: it goes too far",
        evaluate=_without_noise_scale(scaling.linear),
    ),
    ScalingRule(
        name="adascale",
        title="AdaScale: the gain of the best single step",
        formula="eta(B) = eta(B0) (1 + Bn/B0) / (1 + Bn/B)",
        explanation=(
            "The best single step of SGD on a quadratic, which is also the gain by which AdaScale multiplies the "
            "learning rate: linear well below the noise scale, flat well above it. AdaScale counts a step as so "
            "many steps of the old batch size, so the run is to be shortened by the same factor. It is exact "
            "for one step; tuned runs rise less (factor 1.93 off, against 1.40 for its square root)."
        ),
        source="Johnson et al. 2020 (AdaScale SGD); McCandlish et al. 2018, equation 2.6",
        regimes={"sgd": "any", "other": "any"},
        holds="best single step, on both sides of the noise scale",
        not_for="it is the gain of plain gradient steps, not of Adam's",
        needs="noise_scale",
        evaluate=_with_noise_scale(scaling.adascale),
    ),
    ScalingRule(
        name="malladi",
        title="The square root with betas and epsilon, for Adam",
        formula="kappa = B/B0: eta sqrt(kappa), 1 - kappa (1 - beta) for both betas, epsilon / sqrt(kappa)",
        explanation=(
            "Well below the noise scale Adam follows a stochastic differential equation whose solution, example "
            "for example, does not change when learning rate, both betas and epsilon are scaled together. The "
            "rule says nothing where the gradient itself is resolved: there it is too slow. It needs "
            "kappa (1 - beta) to be small; with beta_1 = 0.9 it ends before kappa = 10."
        ),
        source="Malladi, Lyu, Panigrahi and Arora 2022 (On the SDEs and Scaling Rules for Adaptive Gradient Algorithms)",
        regimes={"adam": "noise"},
        holds="same path of the run, example for example",
        not_for=_ONLY_ADAM,
        needs="betas",
        evaluate=_square_root_sde,
    ),
    ScalingRule(
        name="half_life",
        title="The half-life of beta_2 in examples",
        formula="beta_2(B) = beta_2^(B/B0), beta_1 kept",
        explanation=(
            "Adam's average of squared gradients forgets half of its past after a number of steps that beta_2 "
            "sets. Kept in examples and not in steps, that number does not change with the batch size. To first "
            "order it is Malladi's rule for beta_2, and unlike it never leaves the range from 0 to 1. Batch "
            "sizes down to 1 then train language models well. It sets no learning rate."
        ),
        source="Marek et al. 2025, section 4.3",
        regimes={"adam": "any"},
        holds="same memory of squared gradients, in examples",
        not_for=_NO_PART_OF_IT,
        needs="betas",
        evaluate=_half_life,
    ),
    ScalingRule(
        name="constant_timescale",
        title="Weight decay with the same averaging time in examples",
        formula="lambda(B) = lambda (B/B0) / (eta(B)/eta(B0))",
        explanation=(
            "AdamW's weights are a moving average of its updates over B / (eta lambda) examples. The decay that "
            "keeps this time grows with the batch size as far as the learning rate does not, and was the best one "
            "in runs of language models. It holds for decay that is decoupled from the gradient. It sets no "
            "learning rate."
        ),
        source="Bergsma et al. 2025 (Power Lines)",
        regimes={"adam": "any"},
        holds="same averaging time of decoupled decay, in examples",
        not_for="plain weight decay is part of the loss, which does not depend on the batch size",
        needs="weight_decay",
        evaluate=_constant_timescale,
    ),
    ScalingRule(
        name="constant_update",
        title="Adam with the same expected update per step",
        formula="eta(B) = eta(B0) sqrt[(1 + Bn/B) / (1 + Bn/B0)]",
        explanation=(
            "Adam divides by the size of the gradient, noise included. A larger batch has less noise, so the same "
            "learning rate moves further in the gradient's direction; to keep the expected update of a step, the "
            "learning rate must fall: as 1 / sqrt(B) below the noise scale, and no further above it. That "
            "answers another question than most people ask: it keeps the progress per step, and the run takes as "
            "many steps as before, each on more examples. It is no recommendation for fewer steps."
        ),
        source="derived from Adam's update (Kingma and Ba 2015); checked by simulation",
        regimes={"adam": "any"},
        holds="same expected update per step, for as many steps as before: falls as B grows",
        not_for=_ONLY_ADAM,
        needs="noise_scale",
        evaluate=_with_noise_scale(adam_rules.constant_update),
    ),
    ScalingRule(
        name="constant_progress",
        title="Adam with the same expected progress per example",
        formula="eta(B) = eta(B0) (B/B0) sqrt[(1 + Bn/B) / (1 + Bn/B0)]",
        explanation=(
            "As constant_update, but for the same number of epochs: k times the batch size is to go k times as far "
            "in a step. The learning rate rises as the square root of B below the noise scale and linearly above, "
            "with the exponent 3/4 between: what McCandlish et al. saw for Adam. It asks for progress and takes "
            "no notice of curvature or of noise, so it is an upper bound."
        ),
        source="derived from Adam's update; exponents as in McCandlish et al. 2018, section A.3",
        regimes={"adam": "any"},
        holds="same expected progress per example: an upper bound",
        not_for=_ONLY_ADAM,
        needs="noise_scale",
        evaluate=_with_noise_scale(adam_rules.constant_progress),
    ),
    ScalingRule(
        name="surge",
        title="Surge: the best step along the sign, held at its peak",
        formula="eta(B) ~ 2 / [sqrt(P/B) + sqrt(B/P)] up to P = (pi/2) B_noise, flat above",
        explanation=(
            "The best single step along the sign of the gradient rises as the square root of the batch size and, "
            "where the gradient is coherent along few sharp directions, falls again beyond a peak. The peak is set "
            "by curvature and cannot be had from B_simple. Away from such cases the exact best step of the same "
            "model goes on rising, so bsadvisor holds the peak instead of following the fall."
        ),
        source="Li et al. 2024 (Surge phenomenon in optimal learning rate and batch size scaling), equations 2 and 14",
        regimes={"adam": "noise"},
        holds="best single step along the gradient's sign, without its fall",
        not_for=_ONLY_ADAM,
        needs="noise_scale_by_curvature",
        evaluate=_surge,
    ),
)

SCALING_RULES: dict[str, ScalingRule] = {rule.name: rule for rule in _RULES}
