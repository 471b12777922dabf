"""Values to text, and JSON back to values; nothing else in the program turns numbers into text."""

from __future__ import annotations

from bsadvisor.report.codec import ReportError, from_json, schema, to_json, to_yaml
from bsadvisor.values import CheckSummary, Report, ScaleAdvice, TrackReport

FORMATS = ("text", "json", "yaml", "markdown")

CHECK_FORMATS = (*FORMATS, "github", "junit")

__all__ = [
    "CHECK_FORMATS",
    "FORMATS",
    "ReportError",
    "from_json",
    "render",
    "render_check",
    "schema",
    "to_json",
]


def render(
    report: Report | ScaleAdvice | TrackReport,
    format: str,
    *,
    width: int | None = None,
    color: bool = False,
    unicode: bool = True,
) -> str:
    """The report in one of `FORMATS`; `width` and `color` shape `text` only."""
    judged = isinstance(report, Report) and report.check is not None and report.verdict is not None
    if isinstance(report, Report) and judged and format in ("text", "markdown"):
        from bsadvisor.report.check_content import alone

        return render_check(alone(report), format, width=width, color=color, unicode=unicode)
    match format:
        case "text" if isinstance(report, ScaleAdvice):
            from bsadvisor.report.scale_text import scale_to_text

            return scale_to_text(report, width=width, color=color, unicode=unicode)
        case "markdown" if isinstance(report, ScaleAdvice):
            from bsadvisor.report.scale_markdown import scale_to_markdown

            return _spelled(scale_to_markdown(report), unicode=unicode)
        case "text" if isinstance(report, TrackReport):
            from bsadvisor.report.track_text import track_to_text

            return track_to_text(report, width=width, color=color, unicode=unicode)
        case "markdown" if isinstance(report, TrackReport):
            from bsadvisor.report.track_markdown import track_to_markdown

            return _spelled(track_to_markdown(report), unicode=unicode)
        case "text":
            from bsadvisor.report.text import to_text

            assert isinstance(report, Report)
            return to_text(report, width=width, color=color, unicode=unicode)
        case "json":
            return to_json(report)
        case "yaml":
            return to_yaml(report)
        case "markdown":
            from bsadvisor.report.markdown import to_markdown

            assert isinstance(report, Report)
            return _spelled(to_markdown(report), unicode=unicode)
    raise ValueError(f"no format {format!r}; there are {', '.join(FORMATS)}")


def render_check(
    summary: CheckSummary, format: str, *, width: int | None = None, color: bool = False, unicode: bool = True
) -> str:
    """A check in one of `CHECK_FORMATS`; as data, that of one target is its report."""
    reports = [target.report for target in summary.targets]
    data = reports[0] if len(reports) == 1 and reports[0] is not None else summary
    match format:
        case "text":
            from bsadvisor.report.check_text import to_text

            return to_text(summary, width=width, color=color, unicode=unicode)
        case "json":
            return to_json(data)
        case "yaml":
            return to_yaml(data)
        case "markdown":
            from bsadvisor.report.check_markdown import to_markdown

            return _spelled(to_markdown(summary), unicode=unicode)
        case "github":
            from bsadvisor.report.github import to_github

            return _spelled(to_github(summary), unicode=unicode)
        case "junit":
            from bsadvisor.report.junit import to_junit

            return to_junit(summary, unicode=unicode)
    raise ValueError(f"no format {format!r}; there are {', '.join(CHECK_FORMATS)}")


def _spelled(text: str, *, unicode: bool) -> str:
    """In words where the stream has no signs such as η; a file always has them."""
    from bsadvisor.report.content import IN_ASCII

    return text if unicode else text.translate(IN_ASCII)
