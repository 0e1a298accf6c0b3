"""A device that fails while it serves: nothing wrong is answered, and what can come back does."""

import time
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from serving.server import DEVICE_LOST
from tests.chaos.conftest import Figure
from tests.chaos.faulty import ENVIRONMENT, LOST
from tests.chaos.load import Load, ask, priced
from tests.chaos.packages import reshaped
from tests.end_to_end.server import ServerProcess
from tests.end_to_end.test_workers import metric

SLACK = 15.0


@pytest.mark.parametrize("flags", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_version_that_fails_is_taken_out_and_comes_back(
    flags: tuple[str, ...], house: Path, tmp_path: Path, figure: Figure
) -> None:
    """Every run of a model fails, as when a provider broke."""
    word = tmp_path / "word"
    with ServerProcess(
        *flags, models=house, module="tests.chaos.faulty", environment={ENVIRONMENT: str(word)}
    ) as server:
        server.wait_ready()
        with Load(server.address) as load:
            word.write_text("fail")
            began = time.monotonic()
            failed = server.wait_for("model failed")
            figure("taken out after s", time.monotonic() - began)
            assert "golden examples" in failed["reason"]
            server.wait_for("model not recovered")
            assert ask(server) == "UNAVAILABLE", "nothing runs: another server may be asked"
            with triton.InferenceServerClient(server.address) as client:
                [entry] = client.get_model_repository_index().models
                assert (entry.state, "it failed while it served" in entry.reason) == ("UNAVAILABLE", True)
                assert not client.is_model_ready("house_price")
            assert metric(server, "triptych_model_ready") == 0
            assert metric(server, "triptych_model_failures_total") == 1
            word.unlink()
            mended = time.monotonic()
            server.wait_for("model recovered")
            load.wait_for(20)
            figure("back after s", time.monotonic() - mended)
            assert time.monotonic() - began < SLACK
        assert set(load.outcomes) == {"OK", "INTERNAL", "UNAVAILABLE"}
        figure("calls lost", load.outcomes["INTERNAL"])
        figure("calls refused", load.outcomes["UNAVAILABLE"])
        assert metric(server, "triptych_model_ready") == 1
        server.terminate()
        assert server.exit_code() == 0


def test_a_lost_device_ends_the_process_for_another_to_begin(house: Path, tmp_path: Path, figure: Figure) -> None:
    """An error of the device that stays with the process, as CUDA's do."""
    word = tmp_path / "word"
    with ServerProcess(
        *("--workers", "2"), models=house, module="tests.chaos.faulty", environment={ENVIRONMENT: str(word)}
    ) as server:
        server.wait_ready()
        with Load(server.address, callers=1) as load:
            began = time.monotonic()
            word.write_text(LOST)
            died = server.wait_for("worker died")
            word.unlink()
            assert died["exit_code"] == DEVICE_LOST
            server.wait_for("worker ready")
            load.wait_for(20)
            figure("replaced after s", time.monotonic() - began)
            assert time.monotonic() - began < SLACK
        figure("calls lost", load.outcomes["INTERNAL"])
        server.terminate()
        assert server.exit_code() == 0


def test_requests_that_can_not_be_computed_are_no_failure_of_the_device(tmp_path: Path, figure: Figure) -> None:
    """A flood of requests on which the graph itself fails."""
    with ServerProcess(models=reshaped(tmp_path)) as server:
        server.wait_ready()
        bad = priced(1.5)
        with Load(server.address, callers=1, message=priced(0.5)) as others:
            for _ in range(40):
                assert ask(server, bad) in ("INTERNAL", "INVALID_ARGUMENT")
            server.wait_for("batches fail, and the golden examples hold: it is what was asked")
            others.wait_for(20)
        assert others.lost == 0
        figure("others' calls lost", others.lost)
        assert metric(server, "triptych_model_ready") == 1
        assert metric(server, "triptych_model_failures_total") == 0
