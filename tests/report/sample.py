"""Reports to render: the example of the contract, and what can be missing from it."""

from __future__ import annotations

from dataclasses import replace

from bsadvisor.advise.pairs import PairInUse
from bsadvisor.advise.rules import NoiseScales, Rung, judge_rules
from bsadvisor.values import (
    Anchor,
    CriticalBatchSize,
    Estimate,
    Finding,
    GradientStats,
    GroupStats,
    Headline,
    LocalPoint,
    LocalStats,
    OptimizerDetails,
    OtherRules,
    ProbeRun,
    RawSums,
    Recommendation,
    Report,
    Role,
    SecondsPerPhase,
    Severity,
    TargetDescription,
    UpdateNoise,
)

UNRESOLVED = Estimate(value=None, low=None, high=None, confidence=0.95)


def estimate(value: float, spread: float = 1.4) -> Estimate:
    """An interval of a factor `spread` to either side."""
    return Estimate(value=value, low=value / spread, high=value * spread, confidence=0.95)


# --- the example of the contract ----------------------------------------------------------------


def contract_report() -> Report:
    """B_simple 212, B_crit 95, B = 32 and Adam today."""
    return Report(
        schema_version=1,
        bsadvisor_version="0.1.0",
        command="probe",
        target=_target(),
        probe=ProbeRun(
            examples=1024,
            micro_batch_size=32,
            micro_batches=32,
            stopped_by="precision",
            seconds=6.24,
            seconds_per_phase=SecondsPerPhase(load=0.52, gradient=2.13, line_search=3.59),
            seed=0,
        ),
        gradient=_gradient(),
        local=LocalStats(
            direction="optimizer",
            loss=estimate(0.213, 1.06),
            max_learning_rate=estimate(0.031, 1.3),
            quadratic_max_learning_rate=None,
            curve=(LocalPoint(batch_size=32, learning_rate=estimate(0.004), loss_decrease=estimate(1e-4)),),
        ),
        predicted_critical_batch_size=CriticalBatchSize(
            value=95.0,
            low=71.7,
            high=134.4,
            confidence=0.95,
            band_low=12.0,
            band_high=760.0,
            band_confidence=0.8,
            method="B_simple / 2.23",
        ),
        headline=Headline(
            action="try", batch_size=128, reason="nearest to the predicted critical batch size"
        ),
        recommendations=pairs(95.0, [32, 64, 128, 256, 512]),
        findings=(
            Finding(
                code="BSA203",
                severity="note",
                message="BatchNorm couples the examples of a batch: measured in micro-batches of 32",
                remedy="pass --micro-batch with the batch size one device normalises over",
                evidence={"micro_batch": 32},
            ),
        ),
    )


def _target() -> TargetDescription:
    return TargetDescription(
        model="demo/model.py",
        parameters=2410,
        trainable_parameters=2410,
        checkpoint="demo/checkpoint.pt",
        checkpoint_sha256="ab" * 32,
        example="image",
        tokens_per_example=None,
        anchor=Anchor(batch_size_from="BATCH_SIZE in model.py", learning_rate_from="checkpoint"),
        dataset_size=1437,
        optimizer="AdamW",
        optimizer_details=OptimizerDetails(
            family="adam", betas=(0.9, 0.999), weight_decay=0.01, epsilon=1e-8, step=400, state_loaded=True
        ),
        batch_size=32,
        learning_rate=1e-3,
        device="cpu",
        dtype="float32",
    )


def _gradient() -> GradientStats:
    return GradientStats(
        squared_norm=estimate(0.02),
        noise_trace=estimate(4.24, 1.1),
        noise_scale_simple=Estimate(value=212.0, low=160.0, high=300.0, confidence=0.95),
        noise_scale_training_set=Estimate(value=184.7, low=144.0, high=248.2, confidence=0.95),
        noise_scale=None,
        noise_scale_preconditioned=Estimate(value=95.0, low=60.0, high=180.0, confidence=0.95),
        effective_noise_dimensions=estimate(33.0),
        update_noise=UpdateNoise(geometry="gradient descent", variance=estimate(1.3e-7)),
        raw=RawSums(
            micro_batches=(16, 16),
            examples=(512, 512),
            weight=(512.0, 512.0),
            weight_squared=(16384.0, 16384.0),
            weighted_squared_norm=(80.1, 79.9),
            weight_squared_squared_norm=(2563.2, 2556.8),
            total_squared_norm=25313.7,
            gram=((6400.25, 6256.6), (6256.6, 6400.25)),
        ),
        groups=tuple(
            GroupStats(
                name=name,
                squared_norm=estimate(0.01),
                noise_trace=estimate(trace),
                noise_scale_simple=estimate(200.0),
            )
            for name, trace in [
                ("features.0.weight", 1.2),
                ("head.weight", 2.1),
                ("head.bias", 0.9),
                ("features.0.bias", 0.04),
            ]
        ),
        left_out=(),
    )


def pairs(
    critical: float, batch_sizes: list[int], *, anchor: int | None = 32, rate: float | None = 1e-3
) -> tuple[Recommendation, ...]:
    """Rows with the costs that B_crit implies and a learning rate that grows as (B / B0)^0.45."""
    return tuple(_pair(critical, batch_size, anchor, rate) for batch_size in batch_sizes)


def _pair(critical: float, batch_size: int, anchor: int | None, rate: float | None) -> Recommendation:
    times = batch_size / anchor if anchor else None
    steps = (1 + critical / batch_size) / (1 + critical / anchor) if anchor else None
    grown = times**0.45 if times else None
    learning_rate = rate * grown if rate and grown else None
    ranged = learning_rate is not None and batch_size != anchor
    roles: dict[int, Role] = {128: "balanced", 512: "largest_useful"}
    return Recommendation(
        batch_size=batch_size,
        learning_rate=learning_rate,
        learning_rate_factor=grown,
        learning_rate_low=learning_rate / 1.6 if learning_rate and ranged else None,
        learning_rate_high=learning_rate * 1.6 if learning_rate and ranged else None,
        learning_rate_confidence=0.8 if ranged else None,
        other_rules=OtherRules(square_root=(rate or 1) * times**0.5, linear=(rate or 1) * times)
        if times
        else None,
        role="current" if batch_size == anchor else roles.get(batch_size),
        current=batch_size == anchor,
        basis="predicted",
        rule="(B / B0)^0.45",
        steps_factor=steps,
        examples_factor=steps * times if steps and times else None,
        steps_over_minimum=1 + critical / batch_size,
        examples_over_minimum=1 + batch_size / critical,
        relative_temperature=grown / times if grown and times else None,
        relative_update_noise=grown**2 / times if grown and times else None,
    )


# --- what can be missing ------------------------------------------------------------------------


def named_rules() -> Report:
    """Every named scaling rule at every recommended batch size."""
    report = contract_report()
    about = report.target
    pair = PairInUse(
        batch_size=about.batch_size, learning_rate=about.learning_rate, optimizer=about.optimizer_details
    )
    rungs = [
        Rung(batch_size=row.batch_size, factor=row.learning_rate_factor, limit=None)
        for row in report.recommendations
    ]
    noise = NoiseScales(own=report.gradient.own_noise_scale)
    return replace(report, scaling_rules=judge_rules(pair, noise, rungs))


def no_learning_rate() -> Report:
    """The table gives factors."""
    report = contract_report()
    target = replace(
        report.target, learning_rate=None, anchor=replace(report.target.anchor, learning_rate_from=None)
    )
    missing = Finding(
        code="BSA104",
        severity="warning",
        message="no learning rate was found: the table gives factors, not learning rates",
        remedy="set LEARNING_RATE in the file or pass --lr with the one you train with",
    )
    rows = pairs(95.0, [32, 64, 128, 256, 512], rate=None)
    return replace(report, target=target, recommendations=rows, findings=(missing,))


def no_batch_size() -> Report:
    """Nothing can be said relative to today."""
    report = contract_report()
    target = replace(
        report.target, batch_size=None, anchor=replace(report.target.anchor, batch_size_from=None)
    )
    return replace(report, target=target, recommendations=pairs(95.0, [32, 64, 128, 256, 512], anchor=None))


def keep() -> Report:
    """Today's pair is as good as any."""
    report = contract_report()
    rows = pairs(95.0, [32, 64, 128, 256], anchor=64, rate=3.25e-4)
    headline = Headline(
        action="keep", batch_size=64, reason="within a factor of two of the predicted critical batch size"
    )
    target = replace(report.target, batch_size=64, learning_rate=3.25e-4)
    return replace(report, target=target, headline=headline, recommendations=rows, findings=())


def no_upper_end() -> Report:
    """The examples bound the noise scale from below only."""
    report = contract_report()
    open_above = replace(report.gradient.noise_scale_simple, high=None)
    critical = replace(report.predicted_critical_batch_size, high=None, band_high=None)
    headline = Headline(
        action="none",
        batch_size=None,
        reason="the noise scale has no upper end yet: no change can be recommended from it",
    )
    finding = Finding(
        code="BSA211",
        severity="warning",
        message="1,024 examples cannot bound the noise scale from above: it is at least 160",
        remedy="raise --time-budget",
    )
    return replace(
        report,
        gradient=replace(report.gradient, noise_scale_simple=open_above),
        predicted_critical_batch_size=critical,
        headline=headline,
        findings=(finding,),
    )


def nothing_resolved() -> Report:
    """Not even a lower bound, and so no line search."""
    report = contract_report()
    gradient = replace(
        report.gradient,
        squared_norm=Estimate(value=-0.001, low=-0.01, high=0.01, confidence=0.95),
        noise_scale_simple=UNRESOLVED,
        noise_scale_training_set=UNRESOLVED,
        noise_scale_preconditioned=UNRESOLVED,
        groups=(),
        examples_for_precision=90_000,
    )
    critical = CriticalBatchSize(
        value=None,
        low=None,
        high=None,
        confidence=0.95,
        band_low=None,
        band_high=None,
        band_confidence=0.8,
        method="B_simple / 2.23",
    )
    headline = Headline(action="none", batch_size=None, reason="the gradient was not resolved from its noise")
    finding = Finding(
        code="BSA212",
        severity="warning",
        message="the gradient could not be told from noise with 1,024 examples",
        remedy="about 90,000 examples would do: raise --max-examples",
    )
    return replace(
        report,
        gradient=gradient,
        local=None,
        predicted_critical_batch_size=critical,
        headline=headline,
        recommendations=(),
        findings=(finding,),
    )


def initial_weights() -> Report:
    """No checkpoint: the table is shown, nothing is recommended."""
    report = contract_report()
    headline = Headline(
        action="none",
        batch_size=None,
        reason="measured at initial weights, where noise scales are far below the run's",
    )
    finding = Finding(
        code="BSA101",
        severity="warning",
        message="no checkpoint: measured at the weights that the file built",
        remedy="give --checkpoint FILE from the run you want advice for",
    )
    target = replace(
        report.target, checkpoint=None, checkpoint_sha256=None, optimizer=None, optimizer_details=None
    )
    return replace(report, target=target, headline=headline, findings=(finding,))


def interrupted() -> Report:
    """Ctrl-C before the line search."""
    report = contract_report()
    run = replace(
        report.probe,
        examples=512,
        micro_batches=16,
        stopped_by="interrupt",
        seconds=1.4,
        seconds_per_phase=SecondsPerPhase(load=0.3, gradient=1.1),
    )
    finding = Finding(
        code="BSA218",
        severity="warning",
        message="interrupted after 512 examples: this report is partial",
        remedy="go on with --resume and the report's file",
    )
    return replace(report, probe=run, local=None, findings=(finding,))


def many_findings() -> Report:
    """Every severity, with sentences longer than a line."""
    report = contract_report()
    severities: list[Severity] = ["error", "warning", "warning", "note", "note", "info"]
    findings = tuple(
        Finding(
            code=f"BSA2{number:02}",
            severity=severity,
            message=f"the {severity} number {number} was found where it takes a whole sentence to describe",
            remedy="do something about it that also takes more than one line of eighty columns to write down",
        )
        for number, severity in enumerate(severities)
    )
    return replace(report, findings=findings)


def extreme() -> Report:
    """Numbers far from one."""
    report = contract_report()
    gradient = replace(
        report.gradient,
        noise_scale_simple=estimate(1e9),
        noise_scale_training_set=estimate(1e-12),
        noise_scale_preconditioned=estimate(5e-4, 1e6),
    )
    target = replace(
        report.target,
        parameters=70_000_000_000,
        dataset_size=10**12,
        batch_size=1024,
        learning_rate=1e-12,
        tokens_per_example=2048.0,
        example="sequence",
    )
    critical = replace(
        report.predicted_critical_batch_size, value=4.5e8, low=3.2e8, high=6.3e8, band_low=5e7, band_high=4e9
    )
    return replace(
        report,
        target=target,
        gradient=gradient,
        predicted_critical_batch_size=critical,
        headline=Headline(
            action="try", batch_size=536_870_912, reason="nearest to the predicted critical batch size"
        ),
        recommendations=pairs(4.5e8, [1024, 2**20, 2**25, 2**29, 2**30], anchor=1024, rate=1e-12),
    )


def hostile_names() -> Report:
    """Long, in another script, and with what a terminal or Markdown would act on."""
    report = contract_report()
    target = replace(
        report.target,
        model="experiments/2026/" + "a_very_long_directory_name/" * 4 + "модель|`x`\x1b[31m.py",
        checkpoint="runs/" + "x" * 120 + ".pt",
    )
    groups = tuple(replace(group, name="block." * 20 + group.name) for group in report.gradient.groups)
    return replace(report, target=target, gradient=replace(report.gradient, groups=groups))
