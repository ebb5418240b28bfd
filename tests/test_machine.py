"""What this process may use: affinity, container limits, GPUs."""

from __future__ import annotations

import os

import pytest

from tuner.machine import count_cpus, count_gpus, memory_bytes


@pytest.fixture
def two_gpus(tmp_path, monkeypatch):
    """Put an nvidia-smi that lists two GPUs (one of them cut in two) first on PATH."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\nprintf "GPU 0: A (UUID: GPU-a)\\n  MIG 1g (UUID: MIG-b)\\nGPU 1: B (UUID: GPU-c)\\n"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_cpus_are_those_of_this_process(tmp_path):
    assert count_cpus(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1)])
def test_a_container_s_quota_limits_cpus(tmp_path, quota, cores):
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    # Half a core is still one trial at a time.
    assert count_cpus(tmp_path) == (cores or len(os.sched_getaffinity(0)))


def test_a_container_s_limit_limits_memory(tmp_path):
    (tmp_path / "memory.max").write_text("1000000\n")
    assert memory_bytes(tmp_path) == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert (memory_bytes(tmp_path) or 0) > 1_000_000


@pytest.mark.parametrize(
    ("visible", "count"),
    [(None, 2), ("", 0), ("-1", 0), ("0", 1), ("1,0", 2), ("0,7,1", 1), ("GPU-a, MIG-b", 2), ("none", 0)],
)
def test_visible_gpus_are_counted_as_cuda_does(two_gpus, monkeypatch, visible, count):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert count_gpus() == count


def test_without_a_driver_there_is_no_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert count_gpus() == 0


def test_a_broken_driver_counts_as_no_gpu(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\necho "NVIDIA-SMI has failed" >&2\nexit 9\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert count_gpus() == 0
