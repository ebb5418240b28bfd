"""What the competitors are called in the JSON, the tables and the figures."""

from __future__ import annotations

AUTO, FP32 = "tuner", "tuner, fp32"
OURS = {AUTO: "auto", FP32: "fp32"}
"""This project's entries -> their resources.precision."""

RAY, LOOP, TWO, SKORCH = "Ray Tune", "for-loop", "two processes", "skorch + GridSearchCV"
OPTUNA = ("Optuna, threads", "Optuna, processes")
OPTUNA_OURS = ("Optuna, threads, tuner's training", "Optuna, processes, tuner's training")

EAGER, TORCHVISION = "eager loop", "eager loop, torchvision's images"
