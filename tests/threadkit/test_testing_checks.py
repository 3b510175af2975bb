"""The fake clock, and the checks for leaked threads and descriptors."""

from __future__ import annotations

import threading

import pytest

from threadkit.testing import FakeClock, no_leaks


def test_a_fake_clock_moves_only_when_told():
    clock = FakeClock(5.0)
    assert [clock(), clock(), clock.advance(1.5), clock()] == [5.0, 5.0, 6.5, 6.5]
    clock.set(2.0)
    assert clock() == 2.0
    assert repr(clock) == "FakeClock(2.0)"


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_a_fake_clock_does_not_advance_backwards(seconds):
    with pytest.raises(ValueError, match="seconds must be 0 or more, but is"):
        FakeClock().advance(seconds)


def test_a_thread_left_running_is_named():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, args=(5,), name="forgotten")
    forgotten = pytest.raises(AssertionError, match="threads left running: forgotten")
    with forgotten, no_leaks(join_timeout=0.01):
        thread.start()
    stop.set()
    thread.join(5)


def test_a_thread_about_to_end_is_waited_for():
    stop = threading.Event()
    with no_leaks(join_timeout=5):
        threading.Thread(target=stop.wait, args=(5,)).start()
        stop.set()


def test_a_descriptor_left_open_is_named_with_its_file(tmp_path):
    path = tmp_path / "kept-open.txt"
    leak = pytest.raises(AssertionError, match=r"descriptors left open: \d+ \(.*kept-open.txt\)")
    with leak, no_leaks():
        file = path.open("w")
    file.close()


def test_what_was_there_before_is_no_leak(tmp_path):
    with (tmp_path / "open-before.txt").open("w") as file, no_leaks():
        file.write("still open")
        (tmp_path / "closed-again.txt").write_text("closed")


def test_an_error_in_the_block_is_not_hidden_by_the_leak_it_caused():
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, args=(5,))

    def fail():
        thread.start()
        raise KeyError

    with pytest.raises(KeyError), no_leaks():
        fail()
    stop.set()
    thread.join(5)
