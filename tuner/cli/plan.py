"""`tuner plan`: what would run, without running it."""

from __future__ import annotations

from tuner.cli.arguments import Json, Set, SweepFile, overrides

EXAMPLE = "tuner plan search_spaces/cnn_grid.toml"


def plan(sweep: SweepFile, set_: Set = None, json: Json = False) -> int:
    """Show what would run: trials, epochs, resources, warnings."""
    from tuner.plan import make_plan
    from tuner.spec import load_sweep
    from tuner.warm_start import learn

    loaded = load_sweep(sweep, overrides(set_))
    made = make_plan(loaded, learnt=learn(loaded))
    if json:
        from tuner.cli.terminal import show_json

        show_json(made.to_dict())
    else:
        from tuner.cli.plan_view import render
        from tuner.cli.terminal import console

        console().print(render(made))
    return 0
