"""Standard error is held back, and shown where it explains a failure."""

import os

import pytest

from training.quiet import silent_stderr


def test_standard_error_is_held_back(capfd: pytest.CaptureFixture[str]) -> None:
    with silent_stderr():
        os.write(2, b"greetings")
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_standard_error_is_shown_after_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with silent_stderr():
            os.write(2, b"the reason")
            raise ImportError

    with pytest.raises(ImportError):
        fail()
    assert capfd.readouterr().err == "the reason"
