"""A sweep whose trainable looks for the test split in everything that its process holds; run by test_sealed.py.

Prints JSON: what was found before, in the trial, and (as a check of the search itself) with a test image hidden away.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import threading

import numpy as np
from sklearn.datasets import load_digits

import tuner
from trainables import data

WEIGHTS = np.random.default_rng(0).integers(0, 2**52, 64)
OPTIONS = {"name": "digits"}
FOUND: dict[str, list] = {}
HIDDEN: dict[str, object] = {}


def digests(images):
    """A number for the content of each image, whatever it is kept as: 17 grey levels, 0 to 1 or 0 to 255."""
    with np.errstate(all="ignore"):
        flat = np.asarray(images, dtype=np.float64).reshape(-1, 64)
        levels = np.rint(flat * (16 / max(flat.max(), 1e-9))).astype(np.int64)
        return set((levels @ WEIGHTS).tolist())


def rows_in(array):
    """The images that an array, or what it is a view of, may hold."""
    found = set()
    for _ in range(10):  # np.ma.masked is its own base
        if isinstance(array, (bytes, bytearray, memoryview)):
            array = np.frombuffer(array, np.uint8)
        if not isinstance(array, np.ndarray):
            break
        if array.dtype.kind in "uif" and array.size and array.size % 64 == 0:
            found |= digests(array)
        array = array.base
    return found


def holds_numbers(thing):
    """Whether a thing is of a kind that may hold images; a process has a million others."""
    return isinstance(thing, (np.ndarray, bytes, bytearray, memoryview)) or type(thing).__name__ == "Tensor"


def arrays(thing):
    """A thing as arrays, where it is one or holds its samples as one."""
    if isinstance(thing, np.ndarray):
        yield thing
    elif isinstance(thing, (bytes, bytearray, memoryview)):
        if len(thing) >= 64 and len(thing) % 64 == 0:
            yield np.frombuffer(thing, np.uint8)
    elif f"{type(thing).__module__}.{type(thing).__name__}" == "torch.Tensor":
        yield thing.detach().cpu().numpy()


def everything():
    """Every object of the process that may hold images: of what Python's collector knows, what that refers to,
    modules, and all frames.
    """
    seen = set()
    roots = [*gc.get_objects(), *sys.modules.values()]
    for frame in sys._current_frames().values():
        while frame is not None:
            roots += [*frame.f_locals.values(), *frame.f_globals.values()]
            frame = frame.f_back
    for root in roots:
        for thing in (root, *gc.get_referents(root)):
            if holds_numbers(thing) and id(thing) not in seen:
                seen.add(id(thing))
                yield thing


def attribute(thing, name):
    """A thing's attribute, None where asking for it raises."""
    try:
        return getattr(thing, name, None)
    except Exception:
        return None


def below(start):
    """An object's attributes, what it keeps under other names, and theirs, as far as they lead."""
    seen, queue = {id(start)}, [start]
    while queue:
        thing = queue.pop()
        names = [name for name in dir(thing) if not name.startswith("__")]
        names += ["__dict__", "__closure__", "__wrapped__", "__self__", "__defaults__"]
        values = [attribute(thing, name) for name in names if not isinstance(thing, np.ndarray)]
        values += thing.values() if isinstance(thing, dict) else thing if isinstance(thing, (list, tuple)) else []
        values += [cell.cell_contents for cell in getattr(thing, "__closure__", None) or ()]
        for value in values:
            if id(value) not in seen and not isinstance(value, (type, type(sys), str, int, float)):
                seen.add(id(value))
                yield value
                queue.append(value)


def look(things):
    """The test images that are among these things."""
    found = set()
    for thing in things:
        for array in arrays(thing):
            found |= SEALED & rows_in(array)
    return sorted(found)


def opened(where):
    """What opening the test split gives: the images, or the sentence that refuses it."""
    try:
        FOUND[where] = sorted(digests(data.load_test(OPTIONS, 0).x))
    except tuner.TunerError as error:
        FOUND[where] = []
        FOUND[f"{where} says"] = [str(error)]


def train(config, trial):
    """Look everywhere."""
    known = digests(trial.data.train.x) | digests(trial.data.val.x)
    assert len(known) > 1400 and not known & SEALED
    FOUND["attributes"] = look(below(trial))
    FOUND["process"] = look(everything())
    FOUND["base"] = look([split.x.base for split in (trial.data.train, trial.data.val) if split.x.base is not None])
    opened("load_test")
    thread = threading.Thread(target=opened, args=("load_test in a thread",))
    thread.start()
    thread.join()
    trial.report(epoch=1, score=1.0)


def main():
    """Run the sweep, then look for an image that was hidden on purpose."""
    global SEALED
    seen = digests(data.load(OPTIONS, 0).train.x) | digests(data.load(OPTIONS, 0).val.x)
    SEALED = digests(load_digits().images) - seen
    sweep = tuner.Sweep(
        trainable=train,
        data=OPTIONS,
        metric="score",
        mode="max",
        max_epochs=1,
        space={"x": 1},
        search={"strategy": "random", "trials": 1},
    )
    with tempfile.TemporaryDirectory() as folder:
        (record,) = tuner.run(sweep, storage=folder, backend="inline").records()
        FOUND["status"] = [record.status, record.error]
    FOUND["test split"] = sorted(SEALED & digests(data.load_test(OPTIONS, 0).x))
    image = load_digits().images[:1].copy()
    HIDDEN["one"] = lambda hidden=image: hidden
    del image
    SEALED |= digests(HIDDEN["one"]())
    FOUND["hidden"] = look(everything())
    print(json.dumps(FOUND))


if __name__ == "__main__":
    main()
