"""Figures of a run: `draw_<what>(data, *, dark=False)` gives a matplotlib figure; nothing is written here."""

from __future__ import annotations

from tuner.analysis.figures.curves import (
    draw_best_so_far,
    draw_learning_curves,
    draw_overlaid,
    draw_time_and_epochs,
    draw_train_and_val,
)
from tuner.analysis.figures.effects import draw_one_at_a_time, draw_pairwise, draw_partial_dependence
from tuner.analysis.figures.importance import draw_importance
from tuner.analysis.figures.pareto import draw_pareto
from tuner.analysis.figures.predictions import draw_confusion, draw_precision_recall, draw_residuals, draw_roc
from tuner.analysis.figures.slices import draw_parallel, draw_slices

__all__ = [
    "draw_importance",
    "draw_partial_dependence",
    "draw_pairwise",
    "draw_one_at_a_time",
    "draw_slices",
    "draw_parallel",
    "draw_learning_curves",
    "draw_train_and_val",
    "draw_best_so_far",
    "draw_overlaid",
    "draw_time_and_epochs",
    "draw_confusion",
    "draw_roc",
    "draw_precision_recall",
    "draw_residuals",
    "draw_pareto",
]
