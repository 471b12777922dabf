"""What an answer of `bsadvisor track` says, in words, before any layout."""

from __future__ import annotations

from collections.abc import Iterator

from bsadvisor.report import content, numbers
from bsadvisor.values import Estimate, NoiseTrend, RampSummary, TrackReport, WeightAverage

_GEOMETRY = {"simple": "B_simple", "preconditioned": "B_simple in the optimizer's geometry"}

_LOSSES = {"heldout": "held-out loss", "train": "training loss"}

_STEPS_FROM = {
    "checkpoint": "steps as the checkpoints have them",
    "optimizer": "steps as the optimizer's state counts them",
    "name": "steps from the names of the files",
    "order": "in the order of their names, steps unknown",
}


def title(found: TrackReport) -> tuple[str, str]:
    """Program, target and checkpoints; optimizer, size and device."""
    about, checkpoints = found.target, found.checkpoints
    first, last = checkpoints[0].step, checkpoints[-1].step
    several = "" if first == last else f"{numbers.integer(first)} to {numbers.integer(last)}"
    at = several or numbers.integer(first)
    what = numbers.counted(len(checkpoints), "checkpoint")
    where = "" if checkpoints[0].step_from == "order" else f", step {at}"
    how = (
        about.optimizer,
        numbers.counted(about.parameters, "parameter"),
        f"{about.dtype} on {about.device}",
    )
    return (
        f"bsadvisor {found.bsadvisor_version} track · {about.model} · {what}{where}",
        " · ".join(filter(None, how)),
    )


def advice(found: TrackReport) -> content.Advice:
    """The ramp in a line, or why there is none."""
    about, summary = found.target, found.ramp_summary
    now = "" if about.batch_size is None else f"now: B = {numbers.integer(about.batch_size)}"
    if not found.ramp or summary is None:
        return content.Advice(
            action="No ramp advised", pair="", now=now, notes=(f"because {found.ramp_reason}",)
        )
    sizes = " → ".join(numbers.integer(stage.batch_size) for stage in found.ramp)
    steps = f"{numbers.ratio(summary.steps / summary.steps_now)}x the steps"
    return content.Advice(
        action="Try",
        pair=f"B = {sizes}",
        now=now,
        notes=(
            f"{steps} for the same {numbers.integer(summary.examples)} {_plural(found)} "
            "· predicted, not measured",
            found.ramp_reason,
        ),
    )


def _plural(found: TrackReport) -> str:
    return f"{found.target.example}s"


# --- the checkpoints ----------------------------------------------------------------------------


def scales(found: TrackReport) -> list[Estimate]:
    """The noise scale that is shown: in the optimizer's geometry where all checkpoints have it."""
    adaptive = [one.noise_scale_preconditioned for one in found.checkpoints]
    whole = [scale for scale in adaptive if scale is not None]
    return whole if len(whole) == len(adaptive) else [one.noise_scale_simple for one in found.checkpoints]


def scale_name(found: TrackReport) -> str:
    """Which of the noise scales is shown."""
    whole = all(one.noise_scale_preconditioned is not None for one in found.checkpoints)
    return _GEOMETRY["preconditioned" if whole else "simple"]


def headers(found: TrackReport) -> tuple[str, ...]:
    """Of the columns of `row`."""
    return ("step", "loss", *(["held out"] if _has_heldout(found) else []), "noise scale")


def row(found: TrackReport, index: int) -> tuple[str, ...]:
    """Step, losses and noise scale of a checkpoint."""
    one, scale = found.checkpoints[index], scales(found)[index]
    losses = [one.loss, *([one.heldout_loss] if _has_heldout(found) else [])]
    return (
        numbers.integer(one.step),
        *(numbers.significant(loss.value, 3) if loss and loss.value is not None else "" for loss in losses),
        numbers.interval(scale).removesuffix(", no upper bound"),
    )


def _has_heldout(found: TrackReport) -> bool:
    return any(one.heldout_loss is not None for one in found.checkpoints)


def ramp_rows(found: TrackReport) -> Iterator[tuple[str, ...]]:
    """A row per stage, under `RAMP_HEADERS`."""
    for stage in found.ramp:
        yield (
            numbers.integer(stage.from_step),
            numbers.integer(stage.batch_size),
            numbers.factor(stage.learning_rate_factor),
            "" if stage.adam_betas is None else numbers.beta(stage.adam_betas[1]),
            numbers.integer(stage.decay_from_step),
            numbers.factor(stage.decay_factor),
        )


RAMP_HEADERS = ("from\nstep", "batch", "learning\nrate", "beta_2", "or, at today's\nB, from step", "η times")

RAMP_CAPTION = "Right: the same noise, example for example, by decaying the learning rate instead."


# --- what is known ------------------------------------------------------------------------------


def facts(found: TrackReport) -> Iterator[content.Fact]:
    """Trends, when to look again, and how it was measured."""
    summary = found.ramp_summary
    if summary is not None:
        yield content.Fact(label="worth of a ramp", lines=tuple(_worth(summary)))
    if found.weight_average is not None:
        yield content.Fact(label="weights", lines=tuple(_averaged(found.weight_average)))
    for trend in found.trends:
        yield content.Fact(label=f"against {trend.against}", lines=tuple(_trend(trend)))
    again = found.measure_again
    if again is not None:
        places = [
            f"at step {numbers.integer(again.at_step)}" if again.at_step is not None else "",
            f"at loss {numbers.significant(again.at_loss, 3)}" if again.at_loss is not None else "",
        ]
        why = "by its own trend" if again.basis == "measured" else "as in published runs, assumed"
        lines = (f"{' or '.join(filter(None, places))}: the noise scale doubles, {why}",)
        yield content.Fact(label="measure again", lines=lines)
    examples = sum(one.examples for one in found.checkpoints)
    yield content.Fact(
        label="measured on",
        lines=(
            f"{numbers.integer(examples)} {_plural(found)} in all, {numbers.seconds(found.seconds)} s",
            _STEPS_FROM[found.checkpoints[0].step_from],
        ),
    )


def _worth(summary: RampSummary) -> Iterator[str]:
    level = numbers.percent(summary.loss_change.confidence)
    yield f"{_LOSSES[summary.loss_of]} {numbers.interval(summary.loss_change)} at the end ({level}), predicted"
    how = "by averaging them" if summary.noise_from == "averaged_weights" else "by the gradients"
    yield f"noise in the weights is {numbers.significant(summary.noise_loss)} of it, {how}"


def _averaged(average: WeightAverage) -> Iterator[str]:
    """What the user may want to use in place of the last checkpoint."""
    at, each = (numbers.significant(loss, 3) for loss in (average.loss, average.mean_loss))
    yield f"{_LOSSES[average.loss_of]} {at} with those of the last {average.checkpoints} averaged"
    yield f"{each} as they are, on average"


def _trend(trend: NoiseTrend) -> Iterator[str]:
    level = numbers.percent(trend.exponent.confidence)
    exponent = numbers.interval(trend.exponent)
    yield f"noise scale ~ {trend.against}^p, p = {exponent} ({level})"
    words = {"grows": "it grows", "falls": "it falls", "unresolved": "whether it grows cannot be told"}
    growth = numbers.interval(trend.growth)
    yield f"{words[trend.verdict]}: {growth} times from the first to the last of {trend.checkpoints}"
