import os
import stat
import sys

import pytest

from tuner.cli.copying import command, path_text, program


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An environment in the project's folder, as `make setup` leaves it."""
    script = tmp_path / ".venv/bin/tuner"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.setattr(sys, "argv", [str(script), "run"])
    return script


def test_a_command_names_the_program_by_its_path_from_here(installed):
    assert command("show", installed.parents[2] / "runs/one") == ".venv/bin/tuner show runs/one"


def test_from_elsewhere_paths_are_whole(installed, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert command("show") == f"{installed} show"


def test_in_its_own_folder_it_is_not_looked_for_on_the_path(installed, monkeypatch):
    monkeypatch.chdir(installed.parent)
    assert program() == ["./tuner"]


def test_a_program_that_is_on_the_path_for_good_goes_by_its_name(installed, monkeypatch):
    monkeypatch.setenv("PATH", f"{installed.parent}{os.pathsep}{os.environ['PATH']}")
    assert program() == ["tuner"]
    # An activated environment is left again, so its path is printed.
    monkeypatch.setenv("VIRTUAL_ENV", str(installed.parents[1]))
    assert program() == [".venv/bin/tuner"]


def test_what_a_shell_would_take_apart_is_quoted(installed):
    assert command("show", "runs/my run") == ".venv/bin/tuner show 'runs/my run'"


def test_a_folder_reached_through_a_link(installed, tmp_path_factory, monkeypatch):
    link = tmp_path_factory.mktemp("links") / "project"
    link.symlink_to(installed.parents[2])
    monkeypatch.chdir(link)
    monkeypatch.setenv("PWD", str(link))
    assert path_text(link / "runs/one") == "runs/one"
    # A PWD that was left behind by another directory is not believed.
    monkeypatch.setenv("PWD", "/usr")
    assert path_text(installed.parents[2] / "runs/one") == "runs/one"
