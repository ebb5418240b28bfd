from __future__ import annotations

import pytest

from tuner.backends.ray_tune.oom import oom_kills


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("groups", "file", "text"),
    [
        ("0::/user/app\n", "user/app/memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 0\n"),
        ("0::/seen/from/outside\n", "memory.events", "oom_kill 3\n"),
        ("5:cpu:/\n4:memory:/job\n0::/\n", "memory/job/memory.oom_control", "under_oom 0\noom_kill 3\n"),
        ("4:memory,pids:/seen/from/outside\n", "memory/memory.oom_control", "oom_kill_disable 0\noom_kill 3\n"),
    ],
    ids=["v2", "v2 in a container", "v1", "v1 in a container"],
)
def test_the_count_of_this_control_group_is_read(tmp_path, groups, file, text):
    write(tmp_path / "cgroup", groups)
    write(tmp_path / "fs" / file, text)
    assert oom_kills(tmp_path / "cgroup", tmp_path / "fs") == 3


@pytest.mark.parametrize("groups", ["", "nonsense\n", "0::/\n", "4:memory:/\n"])
def test_where_nothing_is_said_nothing_was_killed(tmp_path, groups):
    write(tmp_path / "cgroup", groups)
    assert oom_kills(tmp_path / "cgroup", tmp_path / "fs") == 0
    assert oom_kills(tmp_path / "none", tmp_path / "fs") == 0


def test_this_process_can_be_asked():
    assert oom_kills() >= 0
