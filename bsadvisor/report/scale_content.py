"""What an answer of `bsadvisor scale` says, in words, before any layout."""

from __future__ import annotations

from collections.abc import Iterator

from bsadvisor.report import content, numbers
from bsadvisor.values import NoiseRegime, RuleSetting, RuleVerdict, ScaleAdvice, ScaledPair

HEADERS = ("rule", "learning\nrate", "over\nadvised", "does it hold?")

_REGIMES: dict[NoiseRegime, str] = {
    "noise": "both batch sizes are well below it: gradients are mostly noise",
    "between": "gradients are neither mostly noise nor mostly signal at these batch sizes",
    "signal": "both batch sizes are well above it: gradients are mostly signal",
}


def title(answer: ScaleAdvice) -> tuple[str]:
    """Program, optimizer and where it starts."""
    start = (
        f"from B = {numbers.integer(answer.from_batch_size)}, "
        f"η = {numbers.given_learning_rate(answer.from_learning_rate)}"
    )
    return (f"bsadvisor {answer.bsadvisor_version} scale · {answer.optimizer} · {start}",)


def advice(answer: ScaleAdvice) -> content.Advice:
    """The pair to copy, what else to set, and what to think of it."""
    best = answer.recommended
    return content.Advice(
        action=_action(answer),
        pair="   ".join(filter(None, [f"B = {numbers.integer(best.batch_size)}", _rate(best), _reach(best)])),
        now="",
        notes=tuple(filter(None, [_others(best), best.reason, _basis(best)])),
    )


def _action(answer: ScaleAdvice) -> str:
    if answer.recommended.batch_size == answer.from_batch_size:
        return "Keep"
    return "Use" if answer.recommended.basis == "measured" else "Try"


def _rate(best: ScaledPair) -> str:
    return f"η = {numbers.learning_rate(best.learning_rate)}"


def _reach(best: ScaledPair) -> str:
    if best.learning_rate_low is None and best.learning_rate_high is None:
        return ""
    ends = best.learning_rate_low, best.learning_rate_high
    level = best.learning_rate_confidence
    reach = numbers.span(*ends, write=numbers.learning_rate)
    return f"({reach})" if level is None else f"({reach}, {numbers.percent(level)})"


def _others(best: ScaledPair) -> str:
    """What is to be set beside the learning rate."""
    parts = []
    if best.adam_betas is not None:
        parts.append("betas " + " and ".join(map(numbers.beta, best.adam_betas)))
    if best.weight_decay:
        parts.append(f"weight decay {numbers.significant(best.weight_decay)}")
    return " · ".join(parts)


def _basis(best: ScaledPair) -> str:
    return "" if best.basis == "measured" else "predicted, not measured"


def facts(answer: ScaleAdvice) -> Iterator[content.Fact]:
    """What the report knows."""
    if answer.noise_scale is not None:
        lines = [numbers.interval(answer.noise_scale, "examples")]
        if answer.regime is not None:
            lines.append(_REGIMES[answer.regime])
        yield content.Fact(label="noise scale", lines=tuple(lines))
    limit = answer.recommended.learning_rate_limit
    if limit is not None:
        line = f"largest stable η {numbers.learning_rate(limit)} at this batch size, at the report's point"
        yield content.Fact(label="stability", lines=(line,))


def rows(answer: ScaleAdvice) -> Iterator[tuple[str, ...]]:
    """A row per rule, under `HEADERS`."""
    for rule in answer.scaling_rules:
        (at,) = rule.learning_rates
        over = "" if at.over_recommended is None else numbers.factor(at.over_recommended)
        yield rule.name, rate(at), over, f"{holds(rule)}: {_why(rule, at)}"


def to_explain(answer: ScaleAdvice) -> str:
    """The rule to read about first."""
    best, names = answer.recommended.rule, [rule.name for rule in answer.scaling_rules]
    return best if best in names else names[0]


def is_idle(rule: RuleVerdict) -> bool:
    """Whether it sets nothing here."""
    (at,) = rule.learning_rates
    return at.learning_rate is None and at.adam_betas is None and at.weight_decay is None


def idle(answer: ScaleAdvice) -> Iterator[str]:
    """The rules that set nothing, by reason."""
    reasons = dict.fromkeys(rule.reason for rule in answer.scaling_rules if is_idle(rule))
    for reason in reasons:
        names = [rule.name for rule in answer.scaling_rules if is_idle(rule) and rule.reason == reason]
        yield f"{', '.join(names)}: {reason}"


def rate(at: RuleSetting) -> str:
    """The learning rate of a rule, or a factor where none is known; empty where it sets none."""
    if at.learning_rate is not None:
        return numbers.learning_rate(at.learning_rate)
    return "" if at.learning_rate_factor is None else numbers.factor(at.learning_rate_factor)


def holds(rule: RuleVerdict) -> str:
    """In a word."""
    if rule.valid is not None:
        return "yes" if rule.valid else "no"
    verdicts = {at.valid for at in rule.learning_rates}
    return "in part" if verdicts >= {True, False} else "not known"


def _why(rule: RuleVerdict, at: RuleSetting) -> str:
    """With what the rule sets beside the learning rate."""
    also = []
    if at.adam_betas is not None:
        also.append("betas " + " and ".join(map(numbers.beta, at.adam_betas)))
    if at.epsilon is not None:
        also.append(f"epsilon {numbers.learning_rate(at.epsilon)}")
    if at.weight_decay is not None:
        also.append(f"weight decay {numbers.significant(at.weight_decay)}")
    return "; ".join([rule.reason, *also])
