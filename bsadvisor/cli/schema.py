"""`bsadvisor schema`: the shape of the JSON report."""

from __future__ import annotations

import json
import sys

from bsadvisor.cli.output import publish

EXAMPLES = """
\b
Example:
  bsadvisor schema > report.schema.json
"""


def schema() -> None:
    """Print the JSON Schema of the report that --format json writes."""
    from bsadvisor import report as reports

    publish(json.dumps(reports.schema(), indent=2, ensure_ascii=False) + "\n", sys.stdout)
