"""`tuner study`: the whole workflow, from the baseline to the test score."""

from __future__ import annotations

from tuner.cli.arguments import (
    Address,
    Backend,
    BackendName,
    Insecure,
    Name,
    Quiet,
    Set,
    Storage,
    Strict,
    SweepFile,
    Timing,
    overrides,
)
from tuner.cli.run import watched

EXAMPLE = "tuner study search_spaces/cnn_digits.toml --set search.trials=12"


def study(
    sweep: SweepFile,
    storage: Storage = "runs",
    name: Name = None,
    backend: Backend = BackendName.ray,
    address: Address = None,
    insecure: Insecure = False,
    set_: Set = None,
    quiet: Quiet = False,
    strict: Strict = False,
    timing: Timing = False,
) -> int:
    """Run the whole workflow, up to the test score."""
    from tuner.spec import load_sweep
    from tuner.study import study as run_study

    loaded = load_sweep(sweep, overrides(set_))
    return watched(
        lambda watch: run_study(
            loaded, storage=storage, name=name, backend=backend.value, address=address, insecure=insecure, watch=watch
        ),
        inline=backend is BackendName.inline,
        quiet=quiet,
        strict=strict,
        timing=timing,
    )
