"""`tuner report`: a run's report as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.arguments import Run

EXAMPLE = "tuner report latest"

Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write here instead of into the run folder.", show_default=False),
]


def report(run: Run, out: Out = None) -> int:
    """Write the report: HTML, Markdown, figures, tables."""
    from tuner.cli.copying import path_text
    from tuner.report import publish, write_report
    from tuner.results import load
    from tuner.storage import Remote, is_uri, shown

    results = load(run)
    written = write_report(results, out)
    place = path_text(written.path)
    if out is None and is_uri(uri := shown(results.folder)):
        place = publish(written.path.parent, Remote(uri))
    print(place)
    for line in written.lines:
        print(line)
    return 0
