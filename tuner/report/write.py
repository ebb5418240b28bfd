"""Results -> report.html, report.md, figures/*.png, tables/*.csv."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from threadpoolctl import threadpool_limits

from tuner import words
from tuner.errors import RunError
from tuner.report.advice import advice
from tuner.report.answer import answer, lines
from tuner.report.blocks import Block, Picture, Report, Section, Text
from tuner.report.certainty import certainty
from tuner.report.findings import Findings, Missing, attempt
from tuner.report.html import html
from tuner.report.images import Drawn, drawn
from tuner.report.markdown import markdown
from tuner.report.matters import matters
from tuner.report.search import all_trials, failures, reproduce, search
from tuner.results import Results
from tuner.row_files import write_table
from tuner.storage import Remote, unreachable

FOLDERS = ("figures", "tables")


@dataclass(frozen=True)
class Written:
    """What was written.

    Args:
        path: report.html.
        lines: The three lines that matter.
    """

    path: Path
    lines: tuple[str, ...]


def write_report(results: Results, out: Path | None = None) -> Written:
    """Write a run's report; what stood there of an earlier one is replaced, other files are left alone.

    Args:
        results: The run, in whatever state it is.
        out: The folder to write to; None for the run folder.

    Raises:
        RunError: The folder cannot be written.
    """
    out = out or results.folder
    found = Findings(results)
    with threadpool_limits(1):  # small matrices: on a busy machine, threads would wait for one another most of the time
        report = make_report(found)
    images, report = _draw(report)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _refuse_links(out)
        scratch = Path(tempfile.mkdtemp(prefix=".report-", dir=out))
        try:
            _fill(scratch, results, report, images)
            _move(scratch, out)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise RunError(f"{out}: the report cannot be written here: {why}. Choose another folder with --out.") from error
    return Written(out / "report.html", lines(found))


def publish(folder: Path, remote: Remote) -> str:
    """Carry a report to a run at a storage URI; the page last.

    Args:
        folder: Where it was written.
        remote: The run.

    Returns:
        The page's URI.

    Raises:
        RunError: The storage cannot be written.
    """
    parts = [path for name in FOLDERS for path in sorted((folder / name).iterdir())]
    with unreachable(remote, "must be writable"):
        for path in (*parts, folder / "report.md", folder / "report.html"):
            remote.upload(path, path.relative_to(folder).as_posix())
    return f"{remote}/report.html"


def make_report(found: Findings) -> Report:
    """Return what the report of a run says, top to bottom."""
    results = found.results
    parts = (answer, certainty, matters, advice, search, all_trials, failures, reproduce)
    head = results.sweep["sweep"]
    subtitle = (
        f"{head.get('trainable', 'a sweep')} on {results.sweep.get('data', {}).get('name', 'its own data')}: "
        f"{words.count(len(results.records()), 'trial')}, {results.status}; {results.metric}, "
        f"{'higher' if results.mode == 'max' else 'lower'} is better"
    )
    return Report(results.name, subtitle, tuple(part(found) for part in parts))


def _draw(report: Report) -> tuple[dict[str, Drawn], Report]:
    """Draw every picture; one that cannot be drawn is a sentence in its place."""
    images: dict[str, Drawn] = {}
    sections = []
    for section in report.sections:
        blocks = tuple(_drawn(block, images) if isinstance(block, Picture) else block for block in section.blocks)
        sections.append(Section(section.name, section.title, blocks))
    return images, Report(report.run, report.subtitle, tuple(sections))


def _drawn(picture: Picture, images: dict[str, Drawn]) -> Block:
    made = attempt(f"the figure {picture.name}", lambda: drawn(picture))
    if isinstance(made, Missing):
        return Text(f"{made.why}.", weak=True)
    images[picture.name] = made
    return picture


def _fill(folder: Path, results: Results, report: Report, images: dict[str, Drawn]) -> None:
    for name in FOLDERS:
        (folder / name).mkdir()
    for name, image in images.items():
        (folder / "figures" / f"{name}.png").write_bytes(image.light)
    write_table(results.trial_columns(), folder / "tables" / "trials.csv")
    write_table(results.epoch_columns(), folder / "tables" / "epochs.csv")
    for table in report.tables():
        write_table([shown.column for shown in table.columns], folder / "tables" / f"{table.name}.csv")
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    (folder / "report.html").write_text(html(report, images), encoding="utf-8")


def _refuse_links(out: Path) -> None:
    """Refuse to write through a link that a run folder made elsewhere may hold."""
    for name in FOLDERS:
        if (out / name).is_symlink():
            raise RunError(
                f"{out / name}: must be a folder, but it is a symbolic link, which a report follows nowhere. "
                "Remove it, or choose another folder with --out."
            )


def _move(scratch: Path, out: Path) -> None:
    """Put every file in its place; the page last, so that it never speaks of files that are not there."""
    for name in FOLDERS:
        (out / name).mkdir(exist_ok=True)
        for path in sorted((scratch / name).iterdir()):
            path.replace(out / name / path.name)
    for name in ("report.md", "report.html"):
        (scratch / name).replace(out / name)
