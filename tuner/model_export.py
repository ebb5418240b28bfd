"""A run's best model to take away: a folder, one file, or ONNX."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import RunError, UsageError
from tuner.loading import BUILTINS
from tuner.results import Results
from tuner.run_folder import write_text

EXAMPLE = """import sys
from pathlib import Path

from trainables.saved import load_saved

saved = load_saved(Path(__file__).parent, "{trainable}")  # saved.model is the torch module, in evaluation mode
for file in sys.argv[1:]:
    for prediction in saved.predict(saved.read(file)):
        print(file, {shown})
"""

_OWN_EXAMPLE = """import tomllib
from pathlib import Path

import torch

folder = Path(__file__).parent
config = tomllib.loads((folder / "config.toml").read_text())
state_dict = torch.load(folder / "model.pt", weights_only=True)
print(config, list(state_dict))  # build the model from the config as {trainable} does, then load_state_dict
"""


def model_folder(results: Results) -> Path:
    """Return the folder of the run's model: a study's final/, retrained on all but the test split; else best/.

    Raises:
        RunError: There is none, and why.
    """
    for folder in (results.folder / "final", results.folder / "best"):
        if (folder / "model.pt").is_file():
            return folder
    if not folder.is_dir():
        raise RunError(
            f"{results.folder}: there is no best/ yet: it is written when the sweep ends and a trial has completed. "
            f"See where it stands: tuner show {results.folder}"
        )
    raise RunError(
        f"{folder}: there is no model.pt: the trainable gave no state at the best epoch, or its checkpoint is damaged."
    )


def trainable_of(results: Results) -> str:
    """Return the name or reference of the run's trainable."""
    return str(results.sweep["sweep"].get("trainable", ""))


def export_model(results: Results, path: Path) -> list[str]:
    """Write the best model with all that is needed to use it.

    Args:
        results: The run.
        path: Ends in .pt: one file; in .onnx: ONNX; a folder otherwise, new or empty.

    Returns:
        The names of what was written.

    Raises:
        RunError: The run has no model.
        UsageError: The place is taken or cannot be written, or the model is of a user's own function.
    """
    source, trainable = model_folder(results), trainable_of(results)
    if path.suffix in (".pt", ".onnx") and trainable not in BUILTINS:
        raise UsageError(
            f"{path}: one file needs a built-in trainable ({', '.join(BUILTINS)}), but got ({trainable}). "
            "Name a folder: it gets the state and the config."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".onnx":
            importlib.import_module("trainables.saved").load_saved(source, trainable).to_onnx(path)
        elif path.suffix == ".pt":
            importlib.import_module("trainables.saved").write_file(source, trainable, path)
        else:
            return _write_folder(source, trainable, path)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageError(f"{path}: cannot be written: {why}. Choose another place.") from error
    return [path.name]


def _preprocess(source: Path) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = json.loads((source / "preprocess.json").read_text(encoding="utf-8"))
    return parsed


def _write_folder(source: Path, trainable: str, path: Path) -> list[str]:
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(f"{path}: the folder must be new or empty. Choose another one.")
    path.mkdir(exist_ok=True)
    # A run folder may be somebody else's: what a link in it points to is not part of it.
    names = sorted(file.name for file in source.iterdir() if file.is_file() and not file.is_symlink())
    for name in names:
        shutil.copyfile(source / name, path / name)
    write_text(path / "example.py", _example(source, trainable))
    return [*names, "example.py"]


def _example(source: Path, trainable: str) -> str:
    if trainable not in BUILTINS:
        return _OWN_EXAMPLE.format(trainable=trainable)
    of_classes = bool(_preprocess(source).get("classes"))
    shown = "saved.info.classes[prediction.argmax()], prediction.max()" if of_classes else "prediction"
    return EXAMPLE.format(trainable=trainable, shown=shown)
