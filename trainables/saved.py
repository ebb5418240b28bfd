"""A trained model as it was saved: its weights, its config and its preprocessing, ready for new files.

saved = load_saved("best", "cnn")       a folder with model.pt, config.toml and preprocess.json, or one exported file
saved.predict(saved.read("a.png"))      class probabilities (N, K), or values (N,)
"""

from __future__ import annotations

import importlib
import io
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainables.inputs import Preparation
from trainables.parameters import DEFAULTS
from trainables.training import as_predictions, infer
from tuner.errors import DataError, UsageError, nearest
from tuner.trainable import DataInfo

BILINEAR = 2  # PIL.Image.Resampling.BILINEAR, as the training images were resized
CPU = torch.device("cpu")
BATCH = 128
"""Samples predicted at a time: as many as stay in a CPU's cache."""
PARTS = ("trainable", "config", "preprocess", "state_dict")
"""What an exported file holds."""


@dataclass(frozen=True)
class Saved:
    """A trained model, on the CPU and in evaluation mode.

    Args:
        info: What it was trained on.
        preprocess: How raw samples become inputs, fitted on its training split.
        model: The torch module: prepared inputs -> outputs.
        prepare: Raw samples -> prepared inputs.
    """

    info: DataInfo
    preprocess: Mapping[str, Any]
    model: nn.Module
    prepare: Preparation

    def read(self, path: str | Path) -> NDArray[Any]:
        """Return a file's raw samples: an image as uint8 (1, C, H, W), a table's rows as float32 (N, F).

        Raises:
            DataError: Naming the file and what is wrong with it.
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path}: there is no such file.")
        return self._read_table(path) if self.preprocess["kind"] == "table" else self._read_image(path)

    def predict(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Return class probabilities (N, K), or values (N,) in the target's own units, of raw samples."""
        outputs = infer(self.model, self.prepare, torch.from_numpy(raw).split(BATCH))
        return as_predictions(outputs, self.info.task, self._scale())

    def to_onnx(self, path: Path) -> None:
        """Write the model and its preparation as ONNX: float32 raw samples (N, ...) -> predictions.

        Raw images count from 0 to 255; a table's rows are encoded as preprocess.json says.

        Raises:
            UsageError: The packages for it are not installed.
        """
        if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
            raise UsageError(
                f"{path}: writing ONNX needs {' and '.join(missing)}, which the project does not bring along. "
                'Install them: pip install "cnn-tuner[onnx]"'
            )
        whole = _Whole(self.model, self.prepare, self.info.task, self._scale()).eval()
        example = torch.zeros(2, *self.info.shape)
        batch = {0: torch.export.Dim("n", min=1)}
        torch.onnx.export(
            whole,
            (example,),
            str(path),
            input_names=["x"],
            output_names=["predictions"],
            dynamic_shapes=(batch,),
            external_data=False,
            verbose=False,
        )

    def _scale(self) -> tuple[float, float]:
        return self.preprocess.get("target_mean", 0.0), self.preprocess.get("target_std", 1.0)

    def _read_image(self, path: Path) -> NDArray[np.uint8]:
        from PIL import ImageOps

        from trainables.data.images import open_rgb

        channels, height, width = self.info.shape
        try:
            image = open_rgb(path, max(height, width))
            fitted = ImageOps.fit(image if channels == 3 else image.convert("L"), (width, height), BILINEAR)
        # Pillow raises OSError, SyntaxError, ValueError, struct.error, ... at a garbled file.
        except Exception as error:
            what = str(error).partition("\n")[0] or type(error).__name__
            raise DataError(f"{path}: not a readable image ({what}).") from error
        pixels = np.array(fitted, np.uint8).reshape(height, width, channels)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])

    def _read_table(self, path: Path) -> NDArray[np.float32]:
        from trainables.data.columns import apply_table
        from trainables.data.tables import read_frame

        if path.suffix.lower() not in (".csv", ".parquet"):
            raise DataError(f"{path}: a table must end in .csv or .parquet.")
        try:
            return apply_table(self.preprocess, read_frame(path).rename(columns=str))
        except DataError as error:
            raise error if str(error).startswith(str(path)) else DataError(f"{path}: {error}") from error


class _Whole(nn.Module):
    """Raw samples -> predictions, as one module."""

    def __init__(self, model: nn.Module, prepare: Preparation, task: str, scale: tuple[float, float]) -> None:
        super().__init__()
        self.model, self.prepare, self.task, self.scale = model, prepare, task, scale

    def forward(self, raw: Tensor) -> Tensor:
        outputs = self.model(self.prepare(raw))
        if self.task == "classification":
            return outputs.softmax(1)
        mean, std = self.scale
        return outputs[:, 0] * std + mean


def load_saved(path: str | Path, trainable: str = "") -> Saved:
    """Load a model that was saved.

    Args:
        path: A run's best/, a folder that `tuner export --model` wrote, or the one file that it wrote.
        trainable: "cnn", "resnet" or "mlp"; a file knows its own.

    Raises:
        DataError: A file that is missing or damaged, or weights that are not this config's.
        UsageError: A trainable that is not built in.
    """
    path = Path(path)
    parts = _from_folder(path, trainable) if path.is_dir() else _from_file(path)
    name, config, preprocess, state = (parts[part] for part in PARTS)
    if name not in DEFAULTS:
        raise UsageError(f'{path}: the trainable must be built in, but got ("{name}"). {nearest(str(name), DEFAULTS)}')
    info = info_of(preprocess)
    model = importlib.import_module(f"trainables.{name}").build(config, info)
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: the weights are not those of its config ({str(error).splitlines()[0]})") from error
    return Saved(info, preprocess, model.eval(), Preparation(config, info, preprocess, CPU))


def write_file(folder: Path, trainable: str, path: Path) -> None:
    """Write a folder with a model as one file, which torch.load(weights_only=True) takes: a dict of PARTS.

    Raises:
        DataError: As `load_saved`.
        OSError: The place cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(_from_folder(folder, trainable), buffer)
    scratch = path.with_name(f".{path.name}.writing")
    try:
        scratch.write_bytes(buffer.getbuffer())
        scratch.rename(path)
    finally:
        scratch.unlink(missing_ok=True)


def info_of(preprocess: Mapping[str, Any]) -> DataInfo:
    """Return what a model was trained on, as its preprocessing tells it."""
    task = preprocess.get("task", "classification")
    return DataInfo("saved", task, tuple(preprocess["shape"]), tuple(preprocess.get("classes", ())))


def _from_folder(folder: Path, trainable: str) -> dict[str, Any]:
    try:
        config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
        preprocess = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: config.toml and preprocess.json must be readable, but {error}.") from error
    values = (trainable, config, preprocess, _weights(folder / "model.pt"))
    return dict(zip(PARTS, values, strict=True))


def _from_file(path: Path) -> dict[str, Any]:
    parts = _weights(path)
    if not isinstance(parts, dict) or set(parts) != set(PARTS):
        raise DataError(f"{path}: must hold {', '.join(PARTS)}, as `tuner export --model` writes them.")
    return parts


def _weights(path: Path) -> Any:
    try:
        return torch.load(path, map_location=CPU, weights_only=True)
    # torch, zipfile and pickle raise a dozen kinds at a garbled file; whatever it is, it cannot be used.
    except Exception as error:
        what = str(error).partition("\n")[0]
        raise DataError(f"{path}: not a readable model ({what}).") from error
