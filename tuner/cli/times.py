"""Where a sweep's seconds went, as `tuner run --timing` shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tuner.timing import PHASES, WORK, Clock

_LEAST_S = 0.005  # what would be shown as 0.00


def table(clock: Clock) -> Iterator[str]:
    """Yield the lines: the driver's phases, which add up to the time since the command was typed, and workers' work."""
    seconds = clock.seconds()
    first = "" if clock.first_epoch_s is None else f", the first epoch's row after {clock.first_epoch_s:.2f} s"
    yield ""
    yield f"time      {sum(seconds.values()):.2f} s in all{first}"
    yield from _rows(seconds, PHASES)
    if any(clock.work.values()):
        yield f"workers   {sum(clock.work.values()):.2f} s of all together"
        yield from _rows(clock.work, WORK)


def _rows(seconds: Mapping[str, float], words: Mapping[str, str]) -> Iterator[str]:
    total = sum(seconds.values())
    for name, explained in words.items():
        if seconds[name] >= _LEAST_S:
            yield f"  {name:<10}{seconds[name]:8.2f} s {100 * seconds[name] / total:3.0f} %  {explained}"
