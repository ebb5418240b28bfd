from __future__ import annotations

import signal

import pytest

from tuner.signals import Signals


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_signal_is_an_exception_with_an_exit_status(number, status):
    signals, before = Signals(), signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), signals:
        signal.raise_signal(number)
    assert signals.exit_status == status and signal.getsignal(number) is before


def test_a_signal_waits_for_a_commit():
    signals, done = Signals(), []
    with pytest.raises(KeyboardInterrupt), signals:
        with signals.held(), signals.held():
            signal.raise_signal(signal.SIGTERM)
            done.append("committed")
        done.append("more")
    assert done == ["committed"] and signals.exit_status == 143


def test_a_signal_that_somebody_swallowed_is_raised_at_the_next_commit():
    signals, done = Signals(), []
    with pytest.raises(KeyboardInterrupt), signals:
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException:
            done.append("swallowed")
        with signals.held():
            done.append("committed")
        done.append("more")
    assert done == ["swallowed", "committed"]
    # What is committed after the sweep was left is not in its way.
    with signals.held():
        pass


def test_an_error_within_a_commit_is_not_hidden_by_a_signal():
    signals = Signals()
    with pytest.raises(ZeroDivisionError), signals, signals.held():
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError


def test_a_signal_that_is_ignored_stays_so():
    # As under nohup, and for a job that a script started in the background.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_does_not_interrupt_what_the_first_one_began():
    # A whole process group was told, or a parent passes on what its child got, too.
    signals, done = Signals(), []
    with pytest.raises(KeyboardInterrupt), signals:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            done.append("saved")
    assert done == ["saved"] and signals.exit_status == 143


def test_a_second_ctrl_c_interrupts_what_the_first_one_began():
    signals, done = Signals(), []
    with pytest.raises(KeyboardInterrupt), signals:
        signals.hold()
        try:
            with signals.heard():
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            signal.raise_signal(signal.SIGTERM)
            done.append("saves")
            signal.raise_signal(signal.SIGINT)
            done.append("saved")
    assert done == ["saves"]


def test_a_signal_that_comes_too_late_is_left_to_others():
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        with Signals() as signals:
            signals.hold()
            with signals.heard():
                pass
            signal.raise_signal(signal.SIGTERM)
            assert came == []
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
