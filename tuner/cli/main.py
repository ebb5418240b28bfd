"""The entry of the command line: what goes wrong becomes a sentence and an exit status here, and nowhere else."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
import typer.main

from tuner.cli import (
    best,
    compare,
    doctor,
    export,
    jobs,
    list_,
    logs,
    ls,
    plan,
    predict,
    pull,
    report,
    resume,
    run,
    show,
    stop,
    study,
    submit,
    try_,
    watch,
    whatif,
)
from tuner.cli.arguments import spread_sets
from tuner.errors import TunerError, nearest

_RUN, _READ, _CLUSTER = "Run a sweep", "Read a run", "Run on a cluster"
_COMMANDS: tuple[tuple[str, Any, str, str], ...] = (
    ("run", run.run, _RUN, run.EXAMPLE),
    ("resume", resume.resume, _RUN, resume.EXAMPLE),
    ("study", study.study, _RUN, study.EXAMPLE),
    ("plan", plan.plan, _RUN, plan.EXAMPLE),
    ("try", try_.try_, _RUN, try_.EXAMPLE),
    ("submit", submit.submit, _CLUSTER, submit.EXAMPLE),
    ("jobs", jobs.jobs, _CLUSTER, jobs.EXAMPLE),
    ("logs", logs.logs, _CLUSTER, logs.EXAMPLE),
    ("stop", stop.stop, _CLUSTER, stop.EXAMPLE),
    ("ls", ls.ls, _READ, ls.EXAMPLE),
    ("show", show.show, _READ, show.EXAMPLE),
    ("watch", watch.watch, _READ, watch.EXAMPLE),
    ("best", best.best, _READ, best.EXAMPLE),
    ("export", export.export, _READ, export.EXAMPLE),
    ("predict", predict.predict, _READ, predict.EXAMPLE),
    ("whatif", whatif.whatif, _READ, whatif.EXAMPLE),
    ("report", report.report, _READ, report.EXAMPLE),
    ("compare", compare.compare, _READ, compare.EXAMPLE),
    ("doctor", doctor.doctor, _READ, doctor.EXAMPLE),
    ("pull", pull.pull, _READ, pull.EXAMPLE),
)


def _version(wanted: bool) -> None:
    if wanted:
        from tuner import __version__

        print(f"tuner {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tune hyperparameters: a sweep file in, data frames and a best config out."""


def make_app() -> typer.Typer:
    """Return the typer application with every command."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(epilog="Start with: tuner run search_spaces/cnn_digits.toml")(_root)
    for name, function, panel, example in _COMMANDS:
        app.command(name, rich_help_panel=panel, epilog=f"Example: {example}")(function)
    app.add_typer(list_.app, name="list", rich_help_panel=_READ)
    return app


def main() -> None:
    """Run the command line on sys.argv and exit with its status."""
    status = run_command(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        from tuner.cli.terminal import mute

        mute(sys.stdout)
    sys.exit(status)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: What follows `tuner`.

    Returns:
        Its exit status. A bug raises, with its traceback; a user's mistake is a sentence on standard error.
    """
    try:
        status = _command_line()(spread_sets(arguments), prog_name="tuner", standalone_mode=False)
    except TunerError as error:
        _complain(str(error))
        return error.exit_status
    except typer.TyperException as error:
        if sentence := _usage_sentence(error):
            _complain(sentence)
        return error.exit_code
    except typer.Abort:
        return 130
    return status if isinstance(status, int) else 0


@functools.cache
def _command_line() -> Callable[..., Any]:
    """Return every command as it is parsed; made once, as typer reads every signature for it, which takes 15 ms."""
    return typer.main.get_command(make_app())


def _complain(sentence: str) -> None:
    from tuner.cli.terminal import complain

    complain(sentence)


def _usage_sentence(error: typer.TyperException) -> str:
    """Return what typer says about the arguments as one sentence, with the way to the command's help.

    Empty where what it says is the help itself.
    """
    what = error.format_message().removesuffix(".").replace("Value error, ", "")
    if what.startswith("Usage:"):
        print(what)
        return ""
    context: Any = getattr(error, "ctx", None)
    path, remedy = context.command_path if context else "tuner", ""
    if (option := getattr(error, "option_name", "")) and what.startswith("No such option"):
        options = [name for parameter in context.command.params for name in parameter.opts]
        what = f"there is no option {option}"
        remedy = nearest(option, [name for name in options if name.startswith("--")])
    elif what.startswith("No such command") and "Did you" not in what:
        remedy = f"Valid: {', '.join(context.command.commands)}."
    stop = "" if what.endswith("?") else "."
    return " ".join(filter(None, (f"{path}: {what[:1].lower()}{what[1:]}{stop}", remedy, f"See: {path} --help")))
