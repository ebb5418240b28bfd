"""Folders at a URI, on a real S3 protocol server."""

from __future__ import annotations

import threading

import pytest

from tuner.errors import RunError, UsageError
from tuner.lease import Lease, standing
from tuner.lease_remote import LeaseObjects
from tuner.storage import Remote, is_uri, local_path


def test_objects_are_listed_read_replaced_and_deleted(s3):
    folder = Remote(f"{s3}/runs/one")
    assert folder.entries() == {} and not folder.has("a/b")
    folder.write("a/b", b"old")
    folder.write("a/b", b"new")
    folder.write("c", b"")
    assert {path: entry.size for path, entry in folder.entries().items()} == {"a/b": 3, "c": 0}
    assert folder.entry("a/b") == folder.entries()["a/b"] and folder.entry("a") is None is folder.entry("x")
    assert [*folder.entries("a")] == ["a/b"] and folder.has("a/b") and not folder.has("a")
    assert folder.read("a/b") == b"new" and Remote(f"{s3}/runs").folders() == ["one"]
    folder.delete(["a/b", "never"])
    assert [*folder.entries()] == ["c"]
    with pytest.raises(FileNotFoundError):
        folder.read("a/b")


def test_of_many_that_create_an_object_one_does(s3):
    folder, won, barrier = Remote(s3 + "/x"), list[bytes](), threading.Barrier(8)

    def create(name):
        barrier.wait()
        if folder.create("lease", name):
            won.append(name)

    threads = [threading.Thread(target=create, args=(b"%d" % number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [folder.read("lease")]


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("ftp://host/runs", r"must begin with s3://, gs:// or file://, but got \(ftp://\)"),
        ("s3://", "must name a bucket, but got none. Write s3://BUCKET/runs"),
        ("s3:///runs", "must name a bucket"),
        ("gs://bucket/runs", r"needs the package gcsfs.*Install it: pip install 'cnn-tuner\[gs\]'"),
    ],
)
def test_a_wrong_uri_is_a_sentence(uri, sentence):
    with pytest.raises(UsageError, match=sentence):
        Remote(uri)


def test_a_file_uri_is_a_path(tmp_path):
    assert not is_uri(tmp_path) and not is_uri(f"file://{tmp_path}") and is_uri("s3://bucket/runs")
    assert local_path(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    with pytest.raises(UsageError, match="must name a path of this machine"):
        local_path("file://host/runs")


def test_what_a_store_says_is_an_oserror(s3, monkeypatch):
    with pytest.raises(OSError, match="bucket"):
        Remote("s3://no-such-bucket/runs").write("a", b"")


def test_a_lease_at_a_uri_keeps_out_all_but_its_own_mirror(s3, tmp_path):
    store = LeaseObjects(Remote(f"{s3}/run"))
    with Lease(store, "run", boot="this kernel, one mirror") as lease:
        lease.check()
        # Another container on the same kernel has another mirror.
        with pytest.raises(Exception, match="only one driver may run a sweep, but process"):
            Lease(store, "run", boot="this kernel, another mirror")
        found = standing(store)
        assert found.number == 1 and found.binds and 0 < found.left_s <= 45
    assert standing(store).left_s == 0
    with Lease(store, "run", boot="this kernel, another mirror"):
        assert standing(store).number == 2


def test_a_dead_drivers_lease_is_waited_for_and_a_living_ones_is_not(s3, monkeypatch):
    monkeypatch.setattr("tuner.lease.VALID_S", 3.0)
    monkeypatch.setattr("tuner.lease.RENEW_S", 1.0)
    store, told = LeaseObjects(Remote(f"{s3}/run")), []
    dead = Lease(store, "run", boot="dead")
    dead._closed.set()  # as one that was killed: it renews nothing more, and gives nothing back
    with Lease(store, "run", boot="next", wait=told.append) as lease:
        assert len(told) == 1 and "Waiting for the end of its lease" in told[0]
        with pytest.raises(Exception, match="only one driver may run a sweep"):
            Lease(store, "run", boot="third", wait=told.append)
        lease.check()
    assert len(told) == 2


def test_a_driver_that_ends_meanwhile_was_no_dead_one(s3, monkeypatch):
    store = LeaseObjects(Remote(f"{s3}/run"))
    alive = Lease(store, "run", boot="alive")
    with pytest.raises(RunError, match=r"was at it until this moment\. See how it ended: tuner show run"):
        Lease(store, "run", boot="next", wait=lambda sentence: alive.close())
