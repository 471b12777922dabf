"""Values to text, and JSON back to values; nothing else in the program turns numbers into text."""

from __future__ import annotations

from bsadvisor.report.codec import ReportError, from_json, schema, to_json, to_yaml
from bsadvisor.values import Report, ScaleAdvice

FORMATS = ("text", "json", "yaml", "markdown")

__all__ = ["FORMATS", "ReportError", "from_json", "render", "schema", "to_json"]


def render(
    report: Report | ScaleAdvice,
    format: str,
    *,
    width: int | None = None,
    color: bool = False,
    unicode: bool = True,
) -> str:
    """The report in one of `FORMATS`; the last three arguments shape `text` only."""
    match format:
        case "text" if isinstance(report, ScaleAdvice):
            from bsadvisor.report.scale_text import scale_to_text

            return scale_to_text(report, width=width, color=color, unicode=unicode)
        case "markdown" if isinstance(report, ScaleAdvice):
            from bsadvisor.report.scale_markdown import scale_to_markdown

            return scale_to_markdown(report)
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
            return to_markdown(report)
    raise ValueError(f"no format {format!r}; there are {', '.join(FORMATS)}")
