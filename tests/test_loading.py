"""load_trainable: built-ins, files, modules and functions; and one sentence for every mistake."""

from __future__ import annotations

import functools
import sys
import textwrap

import pytest

from tuner.errors import UsageError
from tuner.loading import BUILTINS, load_trainable
from tuner.spec import code


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file into a user's folder and returns its path."""

    def write_file(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write_file


@pytest.fixture(autouse=True)
def same_path():
    """Fail a test that leaves more than its own folder on sys.path."""
    before = set(sys.path)
    yield
    assert len(set(sys.path) - before) <= 1


def refused(reference):
    """Return the sentence with which a reference is refused."""
    with pytest.raises(UsageError) as caught:
        load_trainable(reference)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_the_built_ins_are_those_of_a_sweep_file():
    assert code.BUILTINS == BUILTINS


def test_a_built_in_name_is_its_module_s_train():
    train, module = load_trainable("mlp")
    assert train is sys.modules["trainables.mlp"].train
    assert module is sys.modules["trainables.mlp"]


def test_a_function_is_itself_with_the_module_around_it():
    def train(config, trial): ...

    assert load_trainable(train) == (train, sys.modules[__name__])
    partial = functools.partial(train, trial=None)
    # A partial has no module of its own; its function's is what a person means.
    assert load_trainable(partial) == (partial, sys.modules[__name__])


def test_a_file_is_loaded_with_everything_in_it(write):
    path = write("mine.py", "SHAPE = ('width',)\ndef build(config, data): ...\ndef train(config, trial): return 7\n")
    train, module = load_trainable(f"{path}:train")
    assert train({}, None) == 7
    assert module.SHAPE == ("width",)
    assert module.__file__ == str(path)


def test_a_file_may_hold_dataclasses_and_pickle_them(write):
    path = write(
        "mine.py",
        """
        from __future__ import annotations
        import dataclasses, pickle

        @dataclasses.dataclass
        class State:
            epoch: int

        def train(config, trial):
            return pickle.loads(pickle.dumps(State(3)))
        """,
    )
    # Both look the class's module up in sys.modules.
    assert load_trainable(f"{path}:train")[0]({}, None).epoch == 3


def test_a_module_in_a_package_is_imported():
    train, module = load_trainable("trainables.cnn:build")
    assert module is sys.modules["trainables.cnn"]
    assert train is module.build


def test_an_unchanged_file_is_run_once(write):
    path = write("mine.py", "def train(config, trial): ...\n")
    assert load_trainable(f"{path}:train")[0] is load_trainable(f"{path}:train")[0]


def test_a_changed_file_gives_the_new_code(write):
    path = write("mine.py", "def train(config, trial): return 1\n")
    old = load_trainable(f"{path}:train")[0]
    # Same size, same second: what a bytecode cache cannot tell from the file before.
    write("mine.py", "def train(config, trial): return 2\n")
    new = load_trainable(f"{path}:train")[0]
    assert (old({}, None), new({}, None)) == (1, 2)


def test_a_changed_neighbour_gives_the_new_code(write):
    path = write("mine.py", "from width import WIDTH\ndef train(config, trial): return WIDTH\n")
    write("width.py", "WIDTH = 1\n")
    assert load_trainable(f"{path}:train")[0]({}, None) == 1
    write("width.py", "WIDTH = 2\n")
    assert load_trainable(f"{path}:train")[0]({}, None) == 2


def test_files_of_two_folders_import_their_own_neighbours(write):
    text = "from width import WIDTH\ndef train(config, trial):\n    import later\n    return WIDTH, later.HERE\n"
    paths = [write(f"{folder}/mine.py", text) for folder in "ab"]
    for folder in "ab":
        write(f"{folder}/width.py", f"WIDTH = {folder!r}\n")
        write(f"{folder}/later.py", f"HERE = {folder!r}\n")
    for path, folder in [*zip(paths, "ab", strict=True), (paths[0], "a")]:
        # What the function imports only when it runs comes from its folder, too.
        assert load_trainable(f"{path}:train")[0]({}, None) == (folder, folder)
        sys.modules.pop("later")


def test_loading_leaves_nothing_in_the_user_s_folder(write, tmp_path):
    path = write("mine.py", "import beside\ndef train(config, trial): ...\n")
    write("beside.py", "")
    load_trainable(f"{path}:train")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beside.py", "mine.py"]


def test_a_file_at_the_project_s_root_does_not_reload_the_project(write, tmp_path):
    # In an editable install, tuner lies beside such a file; a second copy of its exceptions would match nothing.
    path = write("mine.py", "from tuner.errors import ShapeError\ndef train(config, trial): return ShapeError\n")
    other = write("other/mine.py", "def train(config, trial): ...\n")
    first = load_trainable(f"{path}:train")[0]({}, None)
    load_trainable(f"{other}:train")
    from tuner.errors import ShapeError

    assert first is ShapeError


def test_an_unknown_name_names_the_nearest_built_in():
    assert 'trainable "cn": must be a built-in name' in refused("cn")
    assert 'Did you mean "cnn"?' in refused("cn")


def test_a_missing_file_names_the_nearest(write, tmp_path):
    write("train_digits.py", "")
    sentence = refused(f"{tmp_path}/train_digit.py:train")
    assert "train_digit.py cannot be read: no such file or directory" in sentence
    assert 'Did you mean "train_digits.py"?' in sentence


def test_a_missing_module_is_told_from_a_missing_import(write):
    assert "there is no module nowhere. Install it, or name its file" in refused("nowhere.at_all:train")
    path = write("mine.py", "import os\nimport not_installed_here\n")
    sentence = refused(f"{path}:train")
    assert f"{path}, line 2: importing it must not raise" in sentence
    assert "ModuleNotFoundError: No module named 'not_installed_here'" in sentence
    assert "Install it" in sentence


def test_a_missing_function_names_the_nearest_of_the_file_s_own(write):
    path = write("mine.py", "from os.path import join\ndef train_one(config, trial): ...\n")
    sentence = refused(f"{path}:train_on")
    assert "there is no function train_on in mine.py" in sentence
    assert 'Did you mean "train_one"?' in sentence
    assert "join" not in refused(f"{path}:x")


def test_a_name_that_is_no_function_is_refused(write):
    path = write("mine.py", "train = 3\n")
    assert "mine.py: train must be a function, but got (int)" in refused(f"{path}:train")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("import os\n\ndef train(config, trial)\n    pass\n", 3, "expected ':'"),
        ("x = 1\ny = x / 0\n", 2, "ZeroDivisionError: division by zero"),
        ("import json\njson.loads('{')\n", 2, "JSONDecodeError"),
        ("import sys\nsys.exit(1)\n", 2, 'if __name__ == "__main__"'),
        ("raise ValueError('one\\ntwo')\n", 1, "two"),
    ],
)
def test_code_that_raises_is_named_with_file_and_line(write, text, line, words):
    path = write("mine.py", text)
    sentence = refused(f"{path}:train")
    assert f"{path}, line {line}: importing it must not raise" in sentence
    assert words in sentence
    # A file that failed is run again next time, not taken for loaded.
    write("mine.py", "def train(config, trial): ...\n")
    assert load_trainable(f"{path}:train")


def test_an_error_in_a_neighbour_names_the_neighbour(write):
    path = write("mine.py", "import beside\n")
    beside = write("beside.py", "\n\n1 / 0\n")
    assert f"{beside}, line 3: importing it must not raise" in refused(f"{path}:train")


def test_a_frozen_copy_sees_the_place_it_was_made_of(tmp_path):
    copy = tmp_path / "mine.py"
    copy.write_text("def train(config, trial): return __file__\n")
    # Also where the copy itself was loaded before, and again after it.
    for origin in (None, "/elsewhere/mine.py", None):
        assert load_trainable(f"{copy}:train", origin)[0]({}, None) == (origin or str(copy))
