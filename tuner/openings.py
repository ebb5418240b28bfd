"""How often a study has opened the test split, by the notes of its journal: pure.

An opening begins with the note `test_opened`, before anything is read, and ends with `test_scores`. One that was killed
between the two has shown no score to anybody: the next resume takes it up again (`test_continued`), and it stays one
opening. Any other needs the user's word, `--again`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Openings:
    """Where a study stands with its test split.

    Args:
        count: Openings begun.
        scored: Whether the newest has its scores.
        over: Whether the study was wound up, and nothing was opened since.
    """

    count: int = 0
    scored: bool = False
    over: bool = False


def openings(notes: Iterable[Mapping[str, Any]]) -> Openings:
    """Return what the notes of a journal, in its order, say of the test split."""
    count, scored, over = 0, False, False
    for note in notes:
        if "test_opened" in note:
            count, scored, over = count + 1, False, False
        scored = scored or "test_scores" in note
        over = over or note.get("study") == "done"
    return Openings(count, scored, over)
