"""A pair judged: from a saved report without torch, or from a target that is probed first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bsadvisor.advise.check.judge import judge
from bsadvisor.advise.check.remarks import about_baseline, about_files, with_remarks
from bsadvisor.advise.check.soundness import contradictions
from bsadvisor.pipeline import Probed, StopSignal, probe_target
from bsadvisor.settings import ProbeSettings, RuleSeverity, TargetRequest
from bsadvisor.target.asked import read_asked
from bsadvisor.target.places import source_of
from bsadvisor.target.spec import Said, target_folder
from bsadvisor.target.staleness import state_of
from bsadvisor.values import CheckRequest, ProgressCallback, Report, Source, SourcedPair

_ABOUT_THE_PAIR_IN_USE = ("BSA104", "BSA108", "BSA112")
"""Remarks that `check` leaves out: their remedies set the pair in use, and flags are judged here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSettings:
    """What the command line says about judging."""

    rules: Sequence[str] = ()
    """`NAME=VALUE` each."""
    fail_on: RuleSeverity | None = None
    baseline: Report | None = None


def check_report(report: Report, request: TargetRequest, settings: CheckSettings, beside: Path) -> Report:
    """Judge the request's pair by a saved report.

    Args:
        beside: the folder of the report.
    """
    asked = read_asked(request, beside, settings.rules, settings.fail_on)
    in_use = _pair_in_use(report)
    judged = _judge(report, asked, settings, in_use=in_use, filling=in_use)
    about = report.target
    assert judged.check is not None
    check = replace(
        judged.check,
        checkpoint=state_of(about.checkpoint, about.checkpoint_sha256, beside),
        data=state_of(about.data_file, about.data_sha256, beside),
    )
    judged = replace(judged, check=check)
    stale = [*about_files(judged), *about_baseline(report, settings.baseline)]
    return with_remarks(judged, [*stale, *contradictions(report)])


def check_target(
    request: TargetRequest,
    probing: ProbeSettings,
    settings: CheckSettings,
    *,
    progress: ProgressCallback,
    notify: Callable[[str], None],
    stop: StopSignal,
) -> Report:
    """Probe a target from the pair that the checkpoint or the file knows, and judge the request's.

    Raises:
        BsadvisorError: rules that cannot be understood, a target that cannot be loaded or run.
        KeyboardInterrupt: stopped before anything was measured.
    """
    asked = read_asked(request, target_folder(request), settings.rules, settings.fail_on)
    probed = probe_target(request, probing, progress=progress, notify=notify, stop=stop, judging=True)
    report = probed.report
    judged = _judge(report, asked, settings, in_use=_pair_in_use(report), filling=_pair_in_file(probed))
    kept = tuple(found for found in judged.findings if found.code not in _ABOUT_THE_PAIR_IN_USE)
    return with_remarks(replace(judged, findings=kept), about_baseline(report, settings.baseline))


def _judge(
    report: Report,
    asked: CheckRequest,
    settings: CheckSettings,
    *,
    in_use: SourcedPair,
    filling: SourcedPair,
) -> Report:
    baseline = settings.baseline
    return judge(
        report,
        asked,
        in_use=in_use,
        filling=filling,
        baseline=baseline,
        baseline_pair=_pair_in_use(baseline) if baseline else None,
    )


# --- pairs --------------------------------------------------------------------------------------


def _pair_in_use(report: Report) -> SourcedPair:
    about = report.target
    return SourcedPair(
        batch_size=about.batch_size,
        batch_size_from=source_of(about.anchor.batch_size_from, about.model),
        learning_rate=about.learning_rate,
        learning_rate_from=source_of(about.anchor.learning_rate_from, about.model),
    )


def _pair_in_file(probed: Probed) -> SourcedPair:
    """What training would use if no flag and no YAML said anything else."""
    pair, model = probed.target.judged, probed.report.target.model
    assert pair is not None
    batch, rate = pair.batch_size, pair.learning_rate
    return SourcedPair(
        batch_size=int(batch.value) if batch else None,
        batch_size_from=_source(batch, model),
        learning_rate=rate.value if rate else None,
        learning_rate_from=_source(rate, model),
    )


def _source(said: Said | None, model: str) -> Source | None:
    return source_of(said.by, model) if said else None
