"""What every named scaling rule says, and whether it holds for this optimizer and this noise scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bsadvisor.advise.pairs import PairInUse, highest_factor
from bsadvisor.scaling_rules import SCALING_RULES, Change, Needs, ScalingRule, Setting
from bsadvisor.theory.scaling import WELL_BELOW, noise_dominates_up_to
from bsadvisor.values import Estimate, NoiseRegime, RuleSetting, RuleVerdict

_NOT_KNOWN: dict[Needs, str] = {
    "noise_scale": "it needs the noise scale, which is not known",
    "noise_scale_by_curvature": "it needs B_noise, which is not known",
    "betas": "it needs the optimizer's betas, which are not known",
    "weight_decay": "there is no weight decay to adapt, or it is not known",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseScales:
    """What a probe knows of the gradient noise; nothing by default."""

    own: Estimate | None = None
    """In the optimizer's geometry where that is known."""
    by_curvature: Estimate | None = None
    """B_noise."""

    @property
    def value(self) -> float | None:
        return self.own.value if self.own else None

    def dominates(self, batch_size: float) -> bool | None:
        """Whether B is well below the noise scale, at the unfavourable end; None: it cannot be told."""
        if self.own is None:
            return None
        low, high = self.own.low, self.own.high
        if low is not None and batch_size <= noise_dominates_up_to(low):
            return True
        return False if high is not None and batch_size > noise_dominates_up_to(high) else None

    def regime_at(self, batch_size: float) -> NoiseRegime | None:
        """Of one batch size, where the whole interval says so; None: it cannot be told."""
        low, high = (self.own.low, self.own.high) if self.own else (None, None)
        if self.dominates(batch_size):
            return "noise"
        if high is not None and batch_size >= WELL_BELOW * high:
            return "signal"
        surely_less = low is not None and batch_size < WELL_BELOW * low
        return "between" if surely_less and self.dominates(batch_size) is False else None

    def regime(self, smaller: float, larger: float) -> NoiseRegime | None:
        """Of both batch sizes together, by the estimate itself."""
        if self.value is None:
            return "noise" if self.dominates(larger) else None
        if larger <= noise_dominates_up_to(self.value):
            return "noise"
        return "signal" if smaller >= WELL_BELOW * self.value else "between"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A batch size at which rules are compared with what is recommended."""

    batch_size: int
    factor: float | None
    """Of the learning rate in use: the recommended one."""
    limit: float | None
    """Stability limit."""


def judge_rules(pair: PairInUse, noise: NoiseScales, rungs: Sequence[Rung]) -> tuple[RuleVerdict, ...]:
    """Every rule of the catalogue at every batch size.

    Args:
        pair: in use today; without a batch size there is nothing to scale from.
        noise: as measured.
        rungs: the batch sizes, and what is recommended there.
    """
    if pair.batch_size is None or not rungs:
        return ()
    changes = [_change(rung, pair, noise) for rung in rungs]
    return tuple(_verdict(rule, changes, pair.learning_rate, noise) for rule in SCALING_RULES.values())


def _change(rung: Rung, pair: PairInUse, noise: NoiseScales) -> Change:
    about = pair.optimizer
    assert pair.batch_size is not None
    return Change(
        batch_size=rung.batch_size,
        anchor=pair.batch_size,
        family=pair.family,
        noise_scale=noise.value,
        noise_scale_by_curvature=noise.by_curvature.value if noise.by_curvature else None,
        betas=about.betas if about else None,
        epsilon=about.epsilon if about else None,
        weight_decay=about.weight_decay if about else None,
        rate_factor=rung.factor,
        highest_factor=highest_factor(rung.limit, pair.learning_rate),
    )


def _verdict(
    rule: ScalingRule, changes: Sequence[Change], learning_rate: float | None, noise: NoiseScales
) -> RuleVerdict:
    settings = [rule.evaluate(change) for change in changes]
    judged = [_judge(rule, *both, noise) for both in zip(changes, settings, strict=True)]
    # Today's own batch size breaks no rule, so it says nothing of one, unless there is no other.
    moved = [
        found for found, change in zip(judged, changes, strict=True) if change.batch_size != change.anchor
    ]
    verdicts = {valid for valid, _ in moved or judged}
    _, reason = next((found for found in moved if not found[0]), judged[-1])  # the first that fails
    return RuleVerdict(
        name=rule.name,
        valid=verdicts.pop() if len(verdicts) == 1 else None,
        reason=reason,
        learning_rates=tuple(
            _setting(change, setting or Setting(), valid, learning_rate)
            for change, setting, (valid, _) in zip(changes, settings, judged, strict=True)
        ),
    )


def _judge(
    rule: ScalingRule, change: Change, setting: Setting | None, noise: NoiseScales
) -> tuple[bool | None, str]:
    """Whether the rule holds for this change, and why."""
    regime = rule.regimes.get(change.family)
    if regime is None:
        return False, rule.not_for
    if setting is None:
        return None, _NOT_KNOWN[rule.needs]
    if setting.problem:
        return False, setting.problem
    highest, factor = change.highest_factor, setting.rate_factor
    if highest is not None and factor is not None and factor > highest:
        return False, f"above the stability limit at B = {change.batch_size:,.0f}"
    if regime == "any" or change.batch_size == change.anchor:
        return True, rule.holds
    return _judge_regime(rule, max(change.batch_size, change.anchor), noise)


def _judge_regime(rule: ScalingRule, larger: float, noise: NoiseScales) -> tuple[bool | None, str]:
    """Of a rule that holds where gradients are mostly noise: at a quarter of the noise scale and below."""
    verdict = noise.dominates(larger)
    if verdict:
        return True, rule.holds
    if noise.own is None or (noise.own.low is None and noise.own.high is None):
        return None, "holds well below the noise scale, which is not known"
    reach = f"holds up to a quarter of the noise scale, {_in_words(noise.own)}"
    return verdict, f"{reach}: {'not' if verdict is False else 'perhaps not'} at B = {larger:,.0f}"


def _in_words(scale: Estimate) -> str:
    if scale.low is None or scale.high is None:
        end = scale.low if scale.low is not None else scale.high
        return f"at {'least' if scale.high is None else 'most'} {_size(end)}"
    return f"{_size(scale.low)} to {_size(scale.high)}"


def _size(examples: float | None) -> str:
    """Of a noise scale, which can be below one example."""
    return "?" if examples is None else f"{examples:,.0f}" if examples >= 10 else f"{examples:.2g}"


def _setting(
    change: Change, setting: Setting, valid: bool | None, learning_rate: float | None
) -> RuleSetting:
    factor, recommended = setting.rate_factor, change.rate_factor
    return RuleSetting(
        batch_size=int(change.batch_size),
        learning_rate=None if factor is None or learning_rate is None else factor * learning_rate,
        learning_rate_factor=factor,
        over_recommended=factor / recommended if factor is not None and recommended else None,
        adam_betas=setting.betas,
        epsilon=setting.epsilon,
        weight_decay=setting.weight_decay,
        valid=valid,
    )
