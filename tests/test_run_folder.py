"""A run folder's making: names that cannot clash, one driver at a time, the user's code frozen whole."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tuner.errors import RunError
from tuner.history import Event
from tuner.journal import FILE_NAME, Journal
from tuner.results import LOCK_NAME
from tuner.run_folder import freeze_code, local_imports, lock, lock_new, make_run_folder, write_text

# -- names ----------------------------------------------------------------------------------------------------------


def test_a_taken_name_gets_a_number(tmp_path):
    names = [make_run_folder(tmp_path / "new" / "runs", "mine", exact=False).name for _ in range(3)]
    assert names == ["mine", "mine-2", "mine-3"]
    assert make_run_folder(tmp_path / "new" / "runs", "mine-2", exact=False).name == "mine-2-2"


def test_a_taken_name_that_was_asked_for_is_refused_with_both_ways_on(tmp_path):
    folder = make_run_folder(tmp_path, "mine", exact=True)
    (folder / "notes.txt").write_text("somebody's")
    with pytest.raises(RunError) as refused:
        make_run_folder(tmp_path, "mine", exact=True)
    assert str(refused.value) == (
        f"{folder}: the name is taken. Choose another --name, or go on with it: tuner resume {folder}"
    )
    assert [child.name for child in tmp_path.iterdir()] == ["mine"]


def test_a_file_of_that_name_is_taken_too(tmp_path):
    (tmp_path / "mine").write_text("")
    assert make_run_folder(tmp_path, "mine", exact=False).name == "mine-2"
    with pytest.raises(RunError, match="mine: the name is taken"):
        make_run_folder(tmp_path, "mine", exact=True)


@pytest.mark.parametrize("name", ["ü", "a.b", "sweep_1+2", "2026-01-02", "x" * 200])
def test_names_that_are_fine(tmp_path, name):
    assert make_run_folder(tmp_path, name, exact=True) == tmp_path / name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/tmp/x", ".hidden", "-x", "a b", "a\n", "a\0", "latest"]
)
def test_names_that_are_none(tmp_path, name):
    for exact in (True, False):
        with pytest.raises(RunError, match="--name: a run's name must be letters, digits"):
            make_run_folder(tmp_path / "runs", name, exact=exact)
    assert not list(tmp_path.iterdir())


def test_a_storage_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    for storage in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(RunError, match=r"file.*: runs must be writable here, but got \(.*Choose another --storage"):
            make_run_folder(storage, "mine", exact=False)
    with pytest.raises(RunError, match="File name too long"):
        make_run_folder(tmp_path, "x" * 300, exact=False)


def at_once(count, call):
    """Call a function in so many threads at one moment; return what each returned, or raised."""
    gate = threading.Barrier(count)

    def one(_):
        gate.wait()
        try:
            return call()
        except RunError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_runs_that_start_at_once_get_folders_of_their_own(tmp_path):
    folders = at_once(12, lambda: make_run_folder(tmp_path / "runs", "mine", exact=False))
    assert len({folder.name for folder in folders}) == 12

    def begin():
        lease = lock_new(make_run_folder(tmp_path / "runs", "named", exact=True))
        with closing(Journal(tmp_path / "runs" / "named" / FILE_NAME)) as journal:
            journal.append(Event("sweep", body={"toml": "", "sha256": "", "origin": None}))
        lease.close()  # it is over at once, and another may have seen the folder when it was still empty
        return lease

    named = at_once(12, begin)
    assert sum(isinstance(outcome, RunError) for outcome in named) == 11


def test_an_empty_folder_of_the_name_that_was_asked_for_is_used(tmp_path):
    # A driver that is killed between the folder's making and its lock leaves one.
    (tmp_path / "mine").mkdir()
    folder = make_run_folder(tmp_path, "mine", exact=True)
    with lock_new(folder), pytest.raises(RunError, match="only one driver may run a sweep"):
        lock_new(folder)


# -- one driver -----------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from tuner.run_folder import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
input()
"""


def test_a_second_driver_is_refused_by_the_first_ones_name_and_takes_over_when_it_is_killed(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(RunError) as refused:
            lock(tmp_path)
        who = f"process {holder.pid} on {platform.node()} (since 20"
        assert str(refused.value).startswith(f"{tmp_path}: only one driver may run a sweep, but {who}")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with lock(tmp_path):  # the kernel freed it
            assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()


def test_a_lock_is_free_again_once_it_is_closed(tmp_path):
    (tmp_path / LOCK_NAME).write_text("what a longer-winded driver left behind " * 10)
    for _ in range(2):
        with lock(tmp_path):
            assert set(json.loads((tmp_path / LOCK_NAME).read_text())) == {"host", "pid", "since"}


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}"])
def test_an_owner_that_cannot_be_read_is_another_process(tmp_path, text):
    (tmp_path / LOCK_NAME).write_text(text)
    with (tmp_path / LOCK_NAME).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="but another process is at it"):
            lock(tmp_path)


def test_a_command_that_looks_whether_a_driver_is_there_keeps_none_from_starting(tmp_path):
    (tmp_path / LOCK_NAME).touch()
    with (tmp_path / LOCK_NAME).open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        lock(tmp_path).close()


def test_of_drivers_that_start_at_once_exactly_one_goes_on(tmp_path):
    outcomes = at_once(8, lambda: lock(tmp_path))
    refused = [outcome for outcome in outcomes if isinstance(outcome, RunError)]
    assert len(refused) == 7
    assert all(f"process {os.getpid()} on" in str(error) for error in refused)
    for outcome in outcomes:
        if not isinstance(outcome, RunError):
            outcome.close()


def test_a_folder_that_cannot_be_locked_is_told(tmp_path):
    with pytest.raises(RunError, match=r"must be able to lock its run folder, but got \(No such file"):
        lock(tmp_path / "nowhere")
    (tmp_path / LOCK_NAME).mkdir()
    with pytest.raises(RunError, match=r"but got \(Is a directory"):
        lock(tmp_path)


# -- files ----------------------------------------------------------------------------------------------------------


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "sweep.toml"
    write_text(path, "ü = 1\n")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half \ud800")
    assert path.read_text(encoding="utf-8") == "ü = 1\n"
    write_text(path, "x = 2\n")
    assert path.read_text() == "x = 2\n"
    assert [child.name for child in path.parent.iterdir()] == ["sweep.toml"]


# -- the user's code ------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """Return a function that writes files and returns what of them freezing mine.py copies."""

    def frozen(**files):
        root = tmp_path / "project"
        for name, text in files.items():
            path = root / f"{name.replace('__in__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        run = tmp_path / "run"
        assert freeze_code(root / "mine.py", run) == run / "code" / "mine.py"
        copies = {
            path.relative_to(run / "code").as_posix(): path for path in (run / "code").rglob("*") if path.is_file()
        }
        assert all(path.read_bytes() == (root / name).read_bytes() for name, path in copies.items())
        return sorted(copies)

    return frozen


def test_a_file_alone_is_copied_alone(project):
    assert project(mine="import os, json, torch, numpy as np\nfrom tuner import StopTrial\n", other="") == ["mine.py"]


def test_what_it_imports_is_copied_directly_or_not(project):
    copied = project(
        mine="import first\nimport numpy\n",
        first="from second import x, y\n",
        second="import first  # in a circle\nx = y = 1\n",
        third="import second\n",
    )
    assert copied == ["first.py", "mine.py", "second.py"]


@pytest.mark.parametrize(
    "line",
    [
        "import pkg.sub",
        "import pkg.sub as s, os",
        "from pkg import sub",
        "from pkg.sub import x",
        "def train(config, trial):\n    from pkg import sub",
        "try:\n    import pkg.sub\nexcept ImportError:\n    pass",
        "if True:\n    from pkg.sub import *",
    ],
)
def test_every_way_to_import_a_package_is_followed(project, line):
    copied = project(mine=line, pkg__in____init__="", pkg__in__sub="x = 1", pkg__in__unused="")
    assert copied == ["mine.py", "pkg/__init__.py", "pkg/sub.py"]


def test_relative_imports_are_followed(project):
    copied = project(
        mine="import pkg\n",
        pkg__in____init__="from .a import x\nfrom . import b\n",
        pkg__in__a="from .deep.c import x\n",
        pkg__in__b="",
        pkg__in__deep__in____init__="",
        pkg__in__deep__in__c="from ..d import x\nfrom .. import e\nfrom . import f\n",
        pkg__in__d="x = 1",
        pkg__in__e="",
        pkg__in__deep__in__f="",
        pkg__in__unused="",
        a="# of the same name, but elsewhere",
        f="",
    )
    inside = ["__init__", "a", "b", "d", "deep/__init__", "deep/c", "deep/f", "e"]
    assert copied == ["mine.py", *(f"pkg/{name}.py" for name in inside)]


def test_a_package_without_an_init_file_is_followed(project):
    assert project(mine="from pkg.sub import x\n", pkg__in__sub="x = 1") == ["mine.py", "pkg/sub.py"]


def test_the_environment_beside_a_file_stays_where_it_is(project):
    # A virtual environment, and this project's own packages, where somebody works in a clone of it.
    assert project(
        mine="import numpy\nimport tuner\nfrom trainables.cnn import build\n",
        **{".venv__in__lib__in__site-packages__in__numpy__in____init__": ""},
        tuner__in____init__="",
        trainables__in__cnn="",
    ) == ["mine.py"]


@pytest.mark.parametrize("text", ["def broken(:\n", b"x = 1\0\n", b"\xff\xfe\n"], ids=["syntax", "null", "encoding"])
def test_a_neighbour_that_python_cannot_read_is_copied_as_it_is(project, text):
    # It may be imported only where it is never reached; if it is, the trial's log says so.
    assert project(mine="def train(config, trial):\n    import beside\n", beside=text) == ["beside.py", "mine.py"]


def test_a_file_in_another_encoding_is_copied_byte_by_byte(project):
    text = "# -*- coding: latin-1 -*-\nimport beside  # übung\n".encode("latin-1")
    assert project(mine=text, beside="") == ["beside.py", "mine.py"]


def test_a_link_is_frozen_as_what_it_leads_to(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (real / "actual.py").write_text("import helper\n")
    (real / "helper.py").write_text("")
    (tmp_path / "link.py").symlink_to(real / "actual.py")
    copy = freeze_code(tmp_path / "link.py", tmp_path / "run")
    assert copy.read_text() == "import helper\n"
    assert sorted(path.name for path in copy.parent.iterdir()) == ["actual.py", "helper.py"]


def test_imports_never_lead_out_of_the_folder(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside.py").write_text("")
    (tmp_path / "inside" / "mine.py").write_text("from .. import outside\nfrom ...outside import x\nimport outside\n")
    assert local_imports(tmp_path / "inside" / "mine.py") == [tmp_path / "inside" / "mine.py"]


def test_the_copy_runs_without_the_original(project, tmp_path):
    project(
        mine="import pkg.a\nfrom beside import y\nprint(pkg.a.x + y)\n",
        pkg__in____init__="",
        pkg__in__a="from .b import x\n",
        pkg__in__b="x = 1\n",
        beside="y = 2\n",
    )
    shutil.rmtree(tmp_path / "project")
    command = [sys.executable, str(tmp_path / "run" / "code" / "mine.py")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "3\n"
