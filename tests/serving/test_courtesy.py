"""Work that can wait: the interpreter switches sooner as long as anybody does any, and then as before."""

import os
import sys
import threading

import pytest

from serving.courtesy import LAST_NICE, SWITCH_SECONDS, gently, step_back


def test_the_last_who_is_done_sets_it_back() -> None:
    usual = sys.getswitchinterval()
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with gently():
            inside.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with gently():
        assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS)
        thread.start()
        assert inside.wait(30)
    assert sys.getswitchinterval() == pytest.approx(SWITCH_SECONDS), "another is still at it"
    leave.set()
    thread.join()
    assert sys.getswitchinterval() == usual


def test_a_thread_steps_back_alone() -> None:
    found: list[int] = []

    def work() -> None:
        step_back(LAST_NICE)
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [LAST_NICE]
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) < LAST_NICE
