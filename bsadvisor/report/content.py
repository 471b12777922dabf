"""What a report says, in words, before any layout: shared by the terminal and Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

from bsadvisor.report import numbers
from bsadvisor.report.dropout_content import dropout_lines
from bsadvisor.report.held_out_content import held_out_lines, temperature_lines
from bsadvisor.values import (
    Anchor,
    CurvatureStats,
    Estimate,
    GradientStats,
    Headline,
    LocalStats,
    NoiseRegime,
    Recommendation,
    Report,
    SaddleVerdict,
    ShortRun,
    SignalToNoise,
    StoppedBy,
    TargetDescription,
    TrialPlan,
    TrialStats,
    Verdict,
)

SHOWN_LAYERS = 3

LONGEST_LAYER_NAME = 30

_ACTIONS = {"use": "Use", "try": "Try", "keep": "Keep", "none": "No change recommended"}

_STOPPED: dict[StoppedBy, str] = {
    "precision": "stopped at the asked precision",
    "max_examples": "stopped by --max-examples",
    "time": "stopped by the time budget",
    "data": "stopped at the end of the data",
    "interrupt": "stopped by an interrupt",
}


_PHASES = {"heldout": "held out"}
"""Names of phases that are no plain words."""

_AT_A_SADDLE: dict[Verdict, str] = {
    "warning": "yes: negative curvature holds the run up",
    "possible": "perhaps: negative curvature may hold the run up",
    "unresolved": "neither seen nor excluded",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The recommended pair, or why there is none."""

    action: str
    pair: str
    now: str
    """The pair in use today; empty where none is known."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something measured, under one label."""

    label: str
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table of pairs."""

    header: str
    cells: tuple[str, ...]
    numeric: bool = True
    dispensable: int = 0
    """Where the page is narrow, columns go in descending order; those with 0 stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTable:
    """The choices: one row per recommendation."""

    columns: tuple[Column, ...]
    current: int | None
    """Row of the pair in use today."""
    recommended: int | None
    caption: str


IN_ASCII = str.maketrans(
    {"▸": ">", "…": "..", "·": "-", "√": "sqrt", "η": "lr", "≥": ">=", "≤": "<=", "²": "^2", "λ": "lambda_"}
)
"""Our own signs, for a stream that carries nothing else."""


def printable(text: str) -> str:
    """A user's own words without what a terminal would act on: control codes, line ends, bidi marks."""
    return "".join(char if char.isprintable() else " " for char in text)


# --- the target and the advice ------------------------------------------------------------------


def title(report: Report) -> tuple[str, str]:
    """Program, target and weights; optimizer, size and device."""
    about = report.target
    optimizer, details = about.optimizer, about.optimizer_details
    if optimizer and details and details.step is not None:
        optimizer += f" at step {numbers.integer(details.step)}"
    parameters = numbers.counted(about.parameters, "parameter")
    if about.trainable_parameters != about.parameters:
        parameters += f" ({numbers.integer(about.trainable_parameters)} trainable)"
    measured = f"bsadvisor {report.bsadvisor_version}", about.model, about.checkpoint or "no checkpoint"
    how = optimizer, parameters, f"{about.dtype} on {about.device}"
    return " · ".join(measured), " · ".join(filter(None, how))


def advice(report: Report) -> Advice:
    """The one line that a person can copy, what is in use now, and what to think of it."""
    headline, row, in_use = report.headline, recommended_row(report), _pair_in_use(report)
    return Advice(
        action=_ACTIONS[headline.action],
        pair="" if row is None else _pair(row),
        now=f"now: {in_use}" if in_use and headline.action != "keep" else "",
        notes=tuple(filter(None, _notes(report, headline, row))),
    )


def recommended_row(report: Report) -> Recommendation | None:
    """The row that the headline recommends."""
    rows = (row for row in report.recommendations if row.batch_size == report.headline.batch_size)
    return next(rows, None)


def _pair(row: Recommendation) -> str:
    parts = [f"B = {numbers.integer(row.batch_size)}"]
    if row.learning_rate is not None:
        rate = _rate_writer(row)
        parts.append(f"η = {rate(row.learning_rate)}")
    elif row.learning_rate_factor is not None and not row.current:
        parts.append(f"{numbers.factor(row.learning_rate_factor)} the learning rate")
    if row.learning_rate_confidence is not None:
        ends = row.learning_rate_low, row.learning_rate_high
        reach = numbers.span(*ends, write=numbers.learning_rate)
        parts.append(f"({reach}, {numbers.percent(row.learning_rate_confidence)})")
    elif row.basis == "measured" and row.learning_rate_low is not None:
        ends = row.learning_rate_low, row.learning_rate_high
        parts.append(f"({numbers.span(*ends, write=numbers.learning_rate)} as good)")
    return "   ".join(parts)


def _rate_writer(row: Recommendation) -> Callable[[float], str]:
    """All the digits of a rate that somebody chose."""
    chosen = row.current and row.basis == "predicted"
    return numbers.given_learning_rate if chosen else numbers.learning_rate


def _pair_in_use(report: Report) -> str:
    batch_size, rate = report.target.batch_size, report.target.learning_rate
    parts = [
        f"B = {numbers.integer(batch_size)}" if batch_size is not None else "",
        f"η = {numbers.given_learning_rate(rate)}" if rate is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _notes(report: Report, headline: Headline, row: Recommendation | None) -> Iterator[str]:
    if row is None:
        yield headline.reason
        return
    changed = headline.action != "keep"
    basis = "predicted, not measured" if row.basis == "predicted" else "measured"
    yield f"{_cost(row)} · {basis}" if changed else headline.reason
    yield headline.reason if changed else ""
    yield _escape(report, row) if changed else ""
    yield _tokens(report, row)


def _cost(row: Recommendation) -> str:
    if row.steps_factor is not None and row.examples_factor is not None:
        steps, examples = numbers.factor(row.steps_factor), numbers.factor(row.examples_factor)
        return f"{steps} the steps for {examples} the examples"
    steps, examples = map(numbers.factor, (row.steps_over_minimum, row.examples_over_minimum))
    return f"{steps} the fewest steps, {examples} the fewest examples"


def _escape(report: Report, row: Recommendation) -> str:
    """What the recommended pair does at a saddle, where it was chosen for what comes after it."""
    today = next((other.escape_steps for other in report.recommendations if other.current), None)
    if row.escape_steps is None or today is None:
        return ""
    steps, now = map(numbers.significant, (row.escape_steps, today))
    return f"about {steps} steps to leave the saddle, {now} with today's pair"


def _tokens(report: Report, row: Recommendation) -> str:
    per_example = report.target.tokens_per_example
    if per_example is None:
        return ""
    tokens = numbers.significant(row.batch_size * per_example, digits=3)
    return f"{numbers.counted(row.batch_size, report.target.example)} are about {tokens} tokens"


# --- the table of pairs -------------------------------------------------------------------------


def pair_table(report: Report) -> PairTable | None:
    """Every recommended pair and what it costs; None where nothing could be recommended."""
    rows = report.recommendations
    if not rows:
        return None
    chosen = recommended_row(report)
    return PairTable(
        columns=tuple(column for column in _columns(rows) if any(column.cells)),
        current=next((index for index, row in enumerate(rows) if row.current), None),
        recommended=None if chosen is None else rows.index(chosen),
        caption=_caption(report),
    )


def _columns(rows: tuple[Recommendation, ...]) -> Iterator[Column]:
    """A column is empty where its quantity is known for no row."""

    def column(header: str, cell: Callable[[Recommendation], str | None], dispensable: int = 0) -> Column:
        return Column(header=header, cells=tuple(cell(row) or "" for row in rows), dispensable=dispensable)

    factors_only = all(row.learning_rate is None for row in rows)
    rule = numbers.factor if factors_only else numbers.learning_rate
    relative = any(row.steps_factor is not None for row in rows)
    over = "" if relative else "\nover least"
    yield column("batch", lambda row: numbers.integer(row.batch_size))
    yield column("learning\nrate", _rate_cell)
    yield column(f"steps{over}", lambda row: _ratio(row.steps_factor if relative else row.steps_over_minimum))
    yield column(
        f"examples{over}",
        lambda row: _ratio(row.examples_factor if relative else row.examples_over_minimum),
        1,
    )
    yield column("noise", lambda row: _ratio(row.relative_update_noise), 3)
    yield column("steps to\nescape", lambda row: _known(row.escape_steps))
    yield column("√\nrule", lambda row: rule(row.other_rules.square_root) if row.other_rules else None, 4)
    yield column("linear\nrule", lambda row: rule(row.other_rules.linear) if row.other_rules else None, 5)
    yield Column(header="", cells=tuple(map(_role, rows)), numeric=False, dispensable=2)


def _rate_cell(row: Recommendation) -> str | None:
    if row.learning_rate is not None:
        return _rate_writer(row)(row.learning_rate)
    return None if row.learning_rate_factor is None else numbers.factor(row.learning_rate_factor)


def _known(number: float | None) -> str | None:
    return None if number is None else numbers.significant(number)


def _ratio(number: float | None) -> str | None:
    return None if number is None else numbers.ratio(number)


def _role(row: Recommendation) -> str:
    role = "now" if row.current and row.role in (None, "current") else (row.role or "").replace("_", " ")
    measured = "measured" if row.basis == "measured" else ""
    return ", ".join(filter(None, (measured, role)))


def _caption(report: Report) -> str:
    """What the columns mean, and how sure the learning rates are where the headline has not said it."""
    rows = report.recommendations
    measured = any(row.basis == "measured" for row in rows)
    how = "measured where marked, else predicted" if measured else "predicted"
    if all(row.steps_factor is None for row in rows):
        return f"{how[0].upper()}{how[1:]}, to the same loss, over the least possible at any batch size."
    noise = (
        " and noise (of one update, η²/B)" if any(r.relative_update_noise is not None for r in rows) else ""
    )
    against = "the pair in use" if measured else "now"
    parts = [f"Steps and examples ({how}, to the same loss){noise} are relative to {against}."]
    if report.saddle is not None and any(row.escape_steps is not None for row in rows):
        parts.append(f"Steps to escape (predicted): until {_left(report.saddle)} in half of such runs.")
    ranged = next((row for row in rows if row.learning_rate_confidence is not None), None)
    if report.headline.action in ("keep", "none") and ranged is not None:
        parts.append(_rate_error(ranged))
    return " ".join(parts)


def _rate_error(row: Recommendation) -> str:
    if not row.learning_rate or not row.learning_rate_high or row.learning_rate_confidence is None:
        return ""
    factor = row.learning_rate_high / row.learning_rate
    if not math.isfinite(factor):
        return ""
    reach = numbers.significant(factor)
    share = numbers.percent(row.learning_rate_confidence)
    return f"Learning rates are within a factor of {reach} of the best in {share} of past cases."


# --- what was measured --------------------------------------------------------------------------


def facts(report: Report) -> Iterator[Fact]:
    """Each measured quantity with its unit and interval."""
    if report.trial is not None and report.trial.curve:
        yield Fact(label="trial", lines=tuple(_trial(report, report.trial)))
    elif report.trial is None and report.trial_plan is not None:
        yield Fact(label="trial", lines=tuple(_planned(report, report.trial_plan)))
    yield Fact(label="gradient noise", lines=tuple(_noise_scales(report)))
    if report.gradient.dropout is not None:
        label = "augmentation" if report.gradient.dropout.mask_trace is None else "dropout"
        yield Fact(label=label, lines=tuple(dropout_lines(report.gradient.dropout)))
    yield Fact(label="critical batch", lines=tuple(_critical_batch_size(report)))
    if report.local is not None:
        yield Fact(label="best one step", lines=tuple(_best_step(report, report.local)))
        yield Fact(label="loss", lines=(f"{numbers.interval(report.local.loss)} at these weights",))
    if report.curvature is not None:
        yield from _curvature(report, report.curvature)
    if report.saddle is not None:
        yield Fact(label="saddle", lines=tuple(_saddle(report, report.saddle)))
    if report.generalization is not None:
        yield Fact(
            label="held out", lines=tuple(held_out_lines(report.generalization, report.target.example))
        )
        temperatures = tuple(temperature_lines(report.recommendations, report.target.dataset_size))
        if temperatures:
            yield Fact(label="temperature", lines=temperatures)
    layers = _noisiest_layers(report.gradient)
    if layers:
        yield Fact(label="most noise in", lines=(layers,))
    yield Fact(label="measured on", lines=tuple(_run(report)))
    sources = _sources(report.target.anchor)
    if sources:
        yield Fact(label="pair in use", lines=(sources,))


def _planned(report: Report, plan: TrialPlan) -> Iterator[str]:
    """What measuring would take."""
    sizes = ", ".join(map(numbers.integer, plan.batch_sizes))
    runs = numbers.counted(plan.runs, "run")
    yield f"not run: it would take about {numbers.seconds(plan.seconds)} s for {runs}"
    yield f"at B = {sizes}, {numbers.significant(plan.examples)} {report.target.example}s in all:"
    yield report.target.trial_command


def _trial(report: Report, trial: TrialStats) -> Iterator[str]:
    """The measured critical batch size, and the runs that it comes from."""
    critical, unit = trial.measured_critical_batch_size, f"{report.target.example}s"
    if critical.value is None and critical.low is None:
        yield "critical batch size not resolved by these runs"
    else:
        level = numbers.percent(critical.confidence)
        yield f"critical batch {numbers.interval(critical, unit)} ({level}), measured"
    for point in trial.curve:
        size, runs = numbers.integer(point.batch_size), numbers.counted(point.seeds, "run")
        steps, rate = numbers.interval(point.steps, "steps"), numbers.learning_rate(point.learning_rate)
        yield f"B = {size}: {steps}, η {rate}, {runs}"
    target = numbers.significant(trial.target_loss or 0.0, digits=3)
    start = numbers.significant(trial.start_loss, digits=3)
    judged = numbers.counted(trial.evaluation_examples, report.target.example)
    yield f"loss {start} to {target} on {judged}, {numbers.integer(trial.examples_used)} trained on"


def _noise_scales(report: Report) -> Iterator[str]:
    gradient, about = report.gradient, report.target
    size = "" if about.dataset_size is None else f" of {numbers.integer(about.dataset_size)}"
    level = numbers.percent(gradient.noise_scale_simple.confidence)
    unit = f"{about.example}s"
    yield f"B_simple {numbers.interval(gradient.noise_scale_simple, unit)} ({level}), population"
    others = [
        (gradient.noise_scale_training_set, f"this training set{size}"),
        (gradient.noise_scale_preconditioned, _geometry(about) + _estimated(gradient)),
    ]
    for estimate, where in others:
        if estimate is not None and estimate.value is not None:
            yield f"{numbers.interval(estimate, unit)}, {where}"
    if gradient.signal_to_noise is not None:
        yield from _regime(report.regime, gradient.signal_to_noise)
    if report.equilibrium is not None and report.equilibrium.ratio.value is not None:
        yield f"{numbers.interval(report.equilibrium.ratio)} times what η and B alone would leave"
    yield from _weighted_noise_scale(gradient, report.curvature, unit)


def _weighted_noise_scale(
    gradient: GradientStats, curvature: CurvatureStats | None, unit: str
) -> Iterator[str]:
    """B_noise, or what stands in for it where it is not defined."""
    weighted, stand_in = gradient.noise_scale, gradient.noise_scale_gauss_newton
    if weighted is None:
        return
    if weighted.value is not None or weighted.low is not None:
        yield f"B_noise {numbers.interval(weighted, unit)}, weighted by curvature"
        return
    along = curvature.along_gradient.value if curvature and curvature.along_gradient else None
    if stand_in is None and (along is None or along > 0):
        yield "B_noise not resolved: it takes more examples"
        return
    yield "B_noise not defined: no positive curvature along the gradient"
    if stand_in is not None and (stand_in.value is not None or stand_in.low is not None):
        yield f"by the Gauss-Newton matrix {numbers.interval(stand_in, unit)}"


def _geometry(about: TargetDescription) -> str:
    return f"{about.optimizer or 'the optimizer'}'s geometry"


_REGIMES: dict[NoiseRegime | None, str] = {
    "noise": "the gradient is mostly noise",
    "signal": "the gradient is mostly signal",
    "between": "the gradient is noise and signal alike",
    None: "it is not known whether the gradient is mostly noise",
}


def _regime(regime: NoiseRegime | None, found: SignalToNoise) -> Iterator[str]:
    """Of the whole gradient at the batch size in use, and of its coordinates one by one."""
    yield f"at B = {numbers.integer(found.batch_size)} {_REGIMES[regime]}:"
    noise, signal = (
        numbers.interval(estimate, write=numbers.share)
        for estimate in (found.noise_dominated, found.signal_dominated)
    )
    yield f"mostly noise in {noise} of its coordinates,"
    yield f"mostly signal in {signal}"


def _estimated(gradient: GradientStats) -> str:
    return ", estimated" if gradient.geometry is not None and gradient.geometry.source == "probe" else ""


def _critical_batch_size(report: Report) -> Iterator[str]:
    critical = report.predicted_critical_batch_size
    yield numbers.interval(critical, f"{report.target.example}s, predicted")
    if critical.band_low is not None or critical.band_high is not None:
        band = numbers.span(critical.band_low, critical.band_high)
        yield f"possible from a checkpoint alone: {band} ({numbers.percent(critical.band_confidence)})"


def _best_step(report: Report, local: LocalStats) -> Iterator[str]:
    """At the batch size in use, and without noise; each where it was found."""
    along = "the gradient" if local.direction == "gradient" else "the optimizer's direction"
    in_use = report.target.batch_size
    steps = [
        (f"at B = {numbers.integer(point.batch_size)}", point.learning_rate)
        for point in local.curve
        if point.batch_size == in_use
    ]
    for kind, step in [*steps, ("without noise", local.max_learning_rate)]:
        if step.value is not None:
            yield f"η {numbers.interval(step, write=numbers.learning_rate)} {kind}"
    yield f"for one step along {along}:"
    yield "never a learning rate to train with"


def _curvature(report: Report, curvature: CurvatureStats) -> Iterator[Fact]:
    """The stability limit first: it is what a reader can act on."""
    limit = curvature.learning_rate_limit
    if limit is not None and (limit.value is not None or limit.low is not None):
        reach = numbers.interval(limit, write=numbers.learning_rate)
        yield Fact(label="stability", lines=(f"largest stable η {reach}, at this point",))
    lines = [*_spectrum(report, curvature), *_not_measured(curvature)]
    if lines:
        yield Fact(label="curvature", lines=tuple(lines))


def _spectrum(report: Report, curvature: CurvatureStats) -> Iterator[str]:
    """The ends, and what they were measured on."""
    ends = [
        ("λmax", curvature.lambda_max, ""),
        ("λmax", curvature.lambda_max_preconditioned, f", {_geometry(report.target)}"),
        ("λmin", curvature.lambda_min, ""),
    ]
    known = [(name, value, where) for name, value, where in ends if value is not None]
    if not known:
        return
    if all(value.low == value.value == value.high == 0 for _, value, _ in known):
        yield "zero everywhere: the loss is piecewise linear in the weights"
    else:
        level = f" ({numbers.percent(known[0][1].confidence)})"
        for name, value, where in known:
            yield f"{name} {numbers.interval(value)}{level}{where}"
            level = ""
    sought, other = map(numbers.integer, (curvature.direction_examples, curvature.certificate_examples))
    by = "" if curvature.method == "exact" else ", by finite differences"
    yield f"directions from {sought}, measured on {other} other {report.target.example}s{by}"


def _not_measured(curvature: CurvatureStats) -> Iterator[str]:
    parts = [
        f"{skipped.part.replace('lambda_', 'λ')} ({numbers.seconds(skipped.seconds)} s)"
        for skipped in curvature.skipped
        if not skipped.part.endswith("half as large")  # a second try at what stands before it
    ]
    if parts:
        yield f"left out, with the time it would take: {', '.join(parts)}"


def _saddle(report: Report, saddle: SaddleVerdict) -> Iterator[str]:
    """What to do about it is a finding's remedy."""
    if saddle.verdict not in _AT_A_SADDLE:
        adaptive = report.curvature is not None and report.curvature.lambda_max_preconditioned is not None
        where = f" in {_geometry(report.target)}" if adaptive else ""
        yield f"none: {saddle.advice}{where}" if saddle.verdict == "none" else saddle.advice
        return
    yield _AT_A_SADDLE[saddle.verdict]
    if saddle.curvature is not None and _is_of_a_direction_of_its_own(report, saddle.curvature):
        yield f"curvature along it {_along(saddle.curvature)}"
    if saddle.loss_drop is not None and saddle.loss_drop.value is not None:
        yield f"loss to gain along it {numbers.interval(saddle.loss_drop)}, {_level(saddle.loss_drop)}"
    if saddle.evidence is not None:
        run, hurried = saddle.evidence.short_run, saddle.evidence.hurried_run
        yield from () if run is None else _run_tried(run)
        yield from () if hurried is None else _run_tried(hurried, " in a hurry")
    left, steps = _left(saddle), saddle.escape_steps
    if left and steps is not None and not any(row.escape_steps for row in report.recommendations):
        yield f"about {numbers.significant(steps)} steps until {left}, predicted"


def _left(saddle: SaddleVerdict) -> str:
    """What counts as having left; empty where the loss does not fall along the direction."""
    evidence = saddle.evidence
    if evidence is None or evidence.escaped_drop is None or not evidence.loss:
        return ""
    return f"{numbers.share(evidence.escaped_drop / abs(evidence.loss))} is off the loss"


def _is_of_a_direction_of_its_own(report: Report, along: Estimate) -> bool:
    """Not that of λmin, which is printed already: so it is in an adaptive optimizer's geometry."""
    smallest = report.curvature.lambda_min if report.curvature else None
    return smallest is None or smallest.value != along.value


def _along(curvature: Estimate) -> str:
    """The mean over all examples has no error."""
    if curvature.value is not None and curvature.low == curvature.high:
        return f"{numbers.significant(curvature.value)} over all examples"
    return f"{numbers.interval(curvature)}, {_level(curvature)}"


def _run_tried(run: ShortRun, how: str = "") -> Iterator[str]:
    """Both halves of what the verdict rests on."""
    steps = numbers.counted(run.steps, "step")
    yield f"{steps}{how} lower the loss by {numbers.interval(run.loss_drop)}"
    yield f"from its lowest point along it by {numbers.interval(run.kicked_loss_drop)}"


def _level(estimate: Estimate) -> str:
    return f"{numbers.percent(estimate.confidence)} either end"


def _noisiest_layers(gradient: GradientStats) -> str:
    """The layers with the largest share of tr(Sigma)."""
    total = gradient.noise_trace.value
    traces = [(group.noise_trace.value, group.name) for group in gradient.groups]
    known = sorted(((trace, name) for trace, name in traces if trace is not None), reverse=True)
    if not total or len(known) < 2:
        return ""
    return ", ".join(f"{_tail(name)}: {numbers.share(trace / total)}" for trace, name in known[:SHOWN_LAYERS])


def _tail(name: str) -> str:
    return name if len(name) <= LONGEST_LAYER_NAME else f"…{name[1 - LONGEST_LAYER_NAME :]}"


def _run(report: Report) -> Iterator[str]:
    run, about = report.probe, report.target
    of_all = "" if about.dataset_size is None else f" of {numbers.integer(about.dataset_size)}"
    batches = numbers.counted(run.micro_batches, "micro-batch", "micro-batches")
    size = numbers.integer(run.micro_batch_size)
    yield f"{numbers.integer(run.examples)}{of_all} {about.example}s, {batches} of {size}"
    phases = [
        f"{_PHASES.get(field.name, field.name).replace('_', ' ')} {numbers.seconds(duration)}"
        for field in fields(run.seconds_per_phase)
        if (duration := getattr(run.seconds_per_phase, field.name)) is not None
    ]
    yield f"{numbers.seconds(run.seconds)} s" + (f" ({', '.join(phases)})" if phases else "")
    yield _STOPPED[run.stopped_by]


def _sources(anchor: Anchor) -> str:
    found = {"B": anchor.batch_size_from, "η": anchor.learning_rate_from}
    return "; ".join(f"{name} from {source}" for name, source in found.items() if source)
