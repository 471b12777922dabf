"""What commands that measure have in common: refuse, run, publish, exit code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import typer

from bsadvisor import pipeline
from bsadvisor import report as reports
from bsadvisor.cli.output import (
    Format,
    check_writable,
    choose_format,
    publish_report,
    take_stdout,
    write_file,
)
from bsadvisor.cli.progress import progress_bar
from bsadvisor.cli.saved import read_report, state_beside, trial_log_beside
from bsadvisor.cli.signals import heeding_signals, stopped_exit_code
from bsadvisor.errors import EXIT_DONE, EXIT_INCONCLUSIVE, UsageError
from bsadvisor.pipeline import StopSignal
from bsadvisor.settings import ProbeSettings, TargetRequest
from bsadvisor.values import Report


def measure_and_publish(
    command: str,
    request: TargetRequest,
    settings: ProbeSettings,
    *,
    resume: Path | None,
    format: Format | None,
    output: Path | None,
    quiet: bool,
) -> NoReturn:
    """Measure, write the report to the file or to stdout, and exit."""
    chosen = choose_format(format, output)
    if output:
        check_writable(output)
    resumed_log = _trial_to_resume(resume)
    kept = output if output and chosen == "json" else None
    stop = StopSignal()
    with take_stdout() as stdout:
        with heeding_signals(stop), progress_bar(shown=sys.stderr.isatty() and not quiet) as progress:
            report = pipeline.probe(
                request,
                settings,
                progress=progress,
                notify=keep_silent if quiet else say,
                stop=stop,
                resume=_statistics_to_resume(resume, resumed_log),
                sidecar=state_beside(kept) if kept else None,
                trial_log=trial_log_beside(kept) if kept else None,
                resumed_trial_log=resumed_log,
                command=command,
            )
        if output:
            write_file(output, reports.render(report, chosen))
        else:
            publish_report(report, chosen, stdout)
    raise typer.Exit(_exit_code(report, stop, dry_run=settings.trial.dry_run))


def _trial_to_resume(resume: Path | None) -> Path | None:
    """Finished heats beside the report; a trial that was killed has left these and no report."""
    if resume is None:
        return None
    log = trial_log_beside(resume)
    if not log.exists():
        read_report(str(resume))
        return None
    return log


def _statistics_to_resume(resume: Path | None, log: Path | None) -> Path | None:
    """Of an unfinished probe; a trial only begins after a finished one."""
    return state_beside(resume) if resume and log is None else None


def refuse_unusable(settings: ProbeSettings) -> None:
    """Refuse values that nothing can be measured with; a NaN fails every comparison."""
    trial = settings.trial
    flags: dict[str, float | None] = {
        "--max-examples": settings.max_examples if trial.max_examples is None else trial.max_examples,
        "--micro-batch": settings.micro_batch,
        "--precision": settings.precision,
        "--time-budget": settings.time_budget,
        "--horizon": trial.horizon,
        "--target-loss": trial.target_loss,
    }
    for flag, number in flags.items():
        if number is not None and not number > 0:
            raise UsageError(f"{flag} {number} is not above 0", f"give {flag} a number above 0")
    if not 0 < settings.confidence < 1:
        raise UsageError(f"--confidence {settings.confidence} is no probability", "give --confidence 0.95")


def _exit_code(report: Report, stop: StopSignal, *, dry_run: bool) -> int:
    if stop.requested:
        return stopped_exit_code(stop)
    if report.command == "trial":
        answer = report.trial_plan if dry_run else report.trial and report.trial.curve
        return EXIT_DONE if answer else EXIT_INCONCLUSIVE
    return EXIT_INCONCLUSIVE if report.gradient.noise_scale_simple.value is None else EXIT_DONE


def say(note: str) -> None:
    """What a waiting person should know."""
    print(f"note: {note}", file=sys.stderr)


def keep_silent(note: str) -> None:
    """For `--quiet`."""
