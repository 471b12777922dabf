"""An answer of `bsadvisor track` for a pull request or a note."""

from __future__ import annotations

from collections.abc import Iterator

from bsadvisor.report import track_content
from bsadvisor.report.markdown import escaped, finding_lines, heading, table_row
from bsadvisor.report.ramp_settings import settings
from bsadvisor.values import TrackReport


def track_to_markdown(found: TrackReport) -> str:
    """Ramp, checkpoints, what is known, settings, findings."""
    facts = [
        f"- **{fact.label}**: {'; '.join(map(escaped, fact.lines))}" for fact in track_content.facts(found)
    ]
    parts = [
        heading(track_content.advice(found)),
        "  \n".join(map(escaped, track_content.title(found))),
        *_ramp(found),
        _checkpoints(found),
        "\n".join(facts),
        *_settings(found),
        "\n".join(finding_lines(found.findings)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _ramp(found: TrackReport) -> Iterator[str]:
    if found.ramp:
        headers = [header.replace("\n", " ") for header in track_content.RAMP_HEADERS]
        rows = track_content.ramp_rows(found)
        yield "\n".join([table_row(headers), table_row("--:" for _ in headers), *map(table_row, rows)])
        yield track_content.RAMP_CAPTION


def _checkpoints(found: TrackReport) -> str:
    *headers, _ = track_content.headers(found)
    lines = [
        table_row([*headers, track_content.scale_name(found), "checkpoint"]),
        table_row([*("--:" for _ in headers), "--:", ":--"]),
    ]
    for index, one in enumerate(found.checkpoints):
        lines.append(table_row([*map(escaped, track_content.row(found, index)), escaped(one.checkpoint)]))
    return "\n".join(lines)


def _settings(found: TrackReport) -> Iterator[str]:
    if found.ramp and found.ramp_summary:
        for part in settings(found.ramp, found.ramp_summary):
            language = "sh" if part.title == "Megatron" else "python"
            yield f"{part.title}:\n\n```{language}\n" + "\n".join(part.lines) + "\n```"
