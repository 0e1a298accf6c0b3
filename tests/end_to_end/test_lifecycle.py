"""Versions that come and go under load, on real servers: nobody's call fails, and nothing wrong is ever served."""

import asyncio
import queue
import shutil
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import psutil
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from serving.client import AsyncPredictionClient, PredictionClient
from tests.end_to_end.server import ServerProcess
from tests.end_to_end.test_workers import workers
from tests.serving.packages import change_graph, copy, copy_endless, double_prices, edit

HOUSE = {"rooms": 6, "lower_status": 5}
REVIEW = "a masterpiece, wonderful"
POLL = ("--model-poll-seconds", "0.1")
CALLERS = 64
PATIENCE = 60.0
KINDS = {"one process": (), "two workers": ("--workers", "2")}


def publish(models: Path, name: str, version: int, change: Callable[[Path], object] = lambda _: None) -> None:
    """Make a package beside the folder, and move it in as a whole."""
    aside = models.parent / "aside"
    folder = copy(aside, name, version)
    change(folder)
    (models / name).mkdir(parents=True, exist_ok=True)
    folder.rename(models / name / str(version))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    publish(folder, "house_price", 1)
    return folder


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def entries(server: ServerProcess, name: str) -> dict[str, tuple[str, str]]:
    """State and reason of each version, as the repository index has them."""
    with triton.InferenceServerClient(server.address) as client:
        index = client.get_model_repository_index(as_json=True)
    return {
        entry.get("version", ""): (entry["state"], entry.get("reason", ""))
        for entry in index["models"]
        if entry["name"] == name
    }


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", KINDS)
async def test_a_swap_under_load_fails_nobody_and_every_answer_is_of_one_version(models: Path, kind: str) -> None:
    answers: Counter[tuple[str, float]] = Counter()
    stop = asyncio.Event()

    async def caller(client: AsyncPredictionClient) -> None:
        while not stop.is_set():
            answer = await client.predict_house_price(HOUSE)
            answers[answer.version, answer[0].price_usd] += 1

    async def answered_by(version: str, times: int) -> None:
        goal = sum(count for (label, _), count in answers.items() if label == version) + times
        while sum(count for (label, _), count in answers.items() if label == version) < goal:
            await asyncio.sleep(0.01)
            assert not any(task.done() for task in callers), "no call fails"

    with ServerProcess("--models", str(models), *POLL, *KINDS[kind]) as server:
        await asyncio.to_thread(server.wait_ready)
        clients = [AsyncPredictionClient(server.address, timeout=30) for _ in range(4)]
        callers = [asyncio.create_task(caller(clients[number % 4])) for number in range(CALLERS)]
        async with asyncio.timeout(PATIENCE):
            await answered_by("1", 200)
            await asyncio.to_thread(publish, models, "house_price", 2, double_prices)
            await answered_by("2", 200)
            await asyncio.to_thread(shutil.rmtree, models / "house_price" / "1")
            await asyncio.to_thread(until, lambda: entries(server, "house_price").keys() == {"2"})
            await answered_by("2", 200)
            stop.set()
            await asyncio.gather(*callers)
        for client in clients:
            await client.close()
    prices = dict(answers.keys())
    assert answers.keys() == {("1", prices["1"]), ("2", prices["2"])}, "every answer is its version's own"
    assert prices["2"] == pytest.approx(2 * prices["1"])


def alter(folder: Path) -> None:
    data = bytearray((folder / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "model.onnx").write_bytes(data)


def be_off(folder: Path) -> None:
    """By a hundredth, in what it is held to."""
    edit(folder, lambda m: m["golden"]["outputs"]["probability"][0].__setitem__(0, 0.5))


def shuffle(folder: Path) -> None:
    """Each word gets the column of the one before it."""

    def change(graph: onnx.GraphProto) -> None:
        [lookup] = [node for node in graph.node if node.op_type == "LabelEncoder"]
        [columns] = [attribute for attribute in lookup.attribute if attribute.name == "values_int64s"]
        columns.ints[:] = [*columns.ints[1:], columns.ints[0]]

    change_graph(folder, change)


def lose_output(folder: Path) -> None:
    def change(graph: onnx.GraphProto) -> None:
        [lost] = [output for output in graph.output if output.name == "known_words"]
        graph.output.remove(lost)

    change_graph(folder, change)


def halve(folder: Path) -> None:
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[: len(data) // 2])


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "altered by a byte": (alter, "the SHA-256 of model.onnx is not the one in its manifest"),
    "golden outputs off": (be_off, "golden example 0: probability"),
    "vocabulary shuffled": (shuffle, "golden example"),
    "output lost": (lose_output, "output known_words: the manifest implies"),
    "half copied": (halve, "its manifest says"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_bad_version_is_refused_with_its_reason_and_the_good_one_serves_on(models: Path, kind: str) -> None:
    publish(models, "sentiment", 1)
    with ServerProcess("--models", str(models), *POLL, *KINDS[kind]) as server:
        server.wait_ready()
        with PredictionClient(server.address, timeout=30) as client:
            good = client.predict_sentiment(REVIEW)
            for version, (change, reason) in enumerate(BAD.values(), 2):
                publish(models, "sentiment", version, change)
                refused = server.wait_for("model refused")
                assert (refused["model"], refused["version"]) == ("sentiment", version)
                assert reason in refused["reason"]
                state, told = entries(server, "sentiment")[str(version)]
                assert (state, told) == ("UNAVAILABLE", refused["reason"])
                answer = client.predict_sentiment(REVIEW)
                assert (answer.version, answer[0]) == ("1", good[0])
            # The copy goes on, and then it is whole.
            shutil.copy(models / "sentiment" / "1" / "model.onnx", models / "sentiment" / str(version))
            until(lambda: client.predict_sentiment(REVIEW).version == str(version))
        states = [state for state, _ in entries(server, "sentiment").values()]
        assert Counter(states) == {"READY": 2, "UNAVAILABLE": len(BAD) - 1}


@pytest.fixture(params=KINDS)
def explicit(request: pytest.FixtureRequest, models: Path) -> Iterator[ServerProcess]:
    publish(models, "topic", 1)
    flags = ("--model-control", "explicit", "--load-models", "house_price", *KINDS[request.param])
    with ServerProcess("--models", str(models), *flags) as server:
        yield server.wait_ready()


def test_models_are_loaded_and_unloaded_by_request(explicit: ServerProcess, models: Path) -> None:
    with (
        triton.InferenceServerClient(explicit.address) as client,
        PredictionClient(explicit.address, timeout=30) as asking,
    ):
        assert client.is_server_ready()
        assert client.is_model_ready("house_price")
        assert not client.is_model_ready("topic")
        client.load_model("topic")
        for _ in range(8):  # whichever worker takes it
            with PredictionClient(explicit.address, timeout=30) as one:
                assert one.predict_topic("cocoa prices rose")[0].topics
        publish(models, "house_price", 2, double_prices)
        assert asking.predict_house_price(HOUSE).version == "1", "nobody asked for it"
        client.load_model("house_price")
        assert asking.predict_house_price(HOUSE).version == "2"
        client.unload_model("topic")
        assert not client.is_model_ready("topic")
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException, match="model 'weather' is not in the repository"):
            client.load_model("weather")


@pytest.mark.parametrize("kind", KINDS)
def test_a_load_that_waits_for_a_trial_holds_up_no_end(models: Path, kind: str) -> None:
    publish(models, "topic", 1)
    flags = ("--model-control", "explicit", "--load-models", "topic", "--drain-seconds", "60", *KINDS[kind])
    copy_endless(models.parent / "endless").rename(models / "house_price" / "2")
    edit(models / "house_price" / "2", lambda manifest: manifest.update(version=2))
    with ServerProcess("--models", str(models), *flags) as server:
        server.wait_ready()
        outcome: queue.SimpleQueue[str] = queue.SimpleQueue()

        def load() -> None:
            with triton.InferenceServerClient(server.address) as client:
                try:
                    client.load_model("house_price")
                    outcome.put("loaded")
                except InferenceServerException as error:
                    outcome.put(str(error.status()))

        loading = threading.Thread(target=load)
        loading.start()
        until(lambda: any("serving.repository.trial" in " ".join(p.cmdline()) for p in children(server)))
        assert entries(server, "topic")["1"][0] == "READY", "control answers meanwhile"
        server.terminate()
        asked = time.monotonic()
        assert server.exit_code() == 0
        assert time.monotonic() - asked < 20, "the trial alone takes longer"
        loading.join(PATIENCE)
        assert outcome.get(timeout=PATIENCE) == "StatusCode.UNAVAILABLE"


def children(server: ServerProcess) -> list[psutil.Process]:
    return [
        p for p in psutil.Process(server.process.pid).children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE
    ]


def test_statistics_are_those_of_all_workers(models: Path) -> None:
    calls = 24
    with ServerProcess("--models", str(models), "--workers", "2") as server:
        server.wait_ready()
        for _ in range(calls):  # each over a connection of its own, which either may take
            with PredictionClient(server.address, timeout=30) as client:
                client.predict_house_price([HOUSE, HOUSE])
        with triton.InferenceServerClient(server.address) as client:
            [statistics] = client.get_inference_statistics("house_price", as_json=True)["model_stats"]
    assert int(statistics["inference_count"]) == 2 * calls
    assert int(statistics["inference_stats"]["success"]["count"]) == calls


def test_a_worker_that_takes_anothers_place_serves_what_the_others_do(models: Path) -> None:
    with ServerProcess("--models", str(models), *POLL, "--workers", "2") as server:
        server.wait_ready()
        publish(models, "house_price", 2, double_prices)
        until(lambda: entries(server, "house_price").get("2", ("", ""))[0] == "READY")
        workers(server)[0].kill()
        server.wait_for("worker ready")
        for _ in range(8):
            with PredictionClient(server.address, timeout=30) as client:
                assert client.predict_house_price(HOUSE).version == "2"


def test_a_server_of_one_model_as_kserve_mounts_it(tmp_path: Path) -> None:
    folder = copy(tmp_path / "aside", "house_price")
    mount = tmp_path / "mnt"
    folder.rename(mount)
    with ServerProcess("--models", str(mount)) as server:
        server.wait_ready()
        with PredictionClient(server.address, timeout=30) as client:
            assert client.predict_house_price(HOUSE).version == "1"


def test_shadow_mode_compares_and_never_answers(models: Path) -> None:
    publish(models, "house_price", 2, double_prices)
    (models / "house_price" / "serving.toml").write_text("[shadow]\ncandidate = 2\nfraction = 1.0\n")
    with ServerProcess("--models", str(models)) as server:
        server.wait_ready()
        with PredictionClient(server.address, timeout=30) as client:
            assert {client.predict_house_price(HOUSE).version for _ in range(20)} == {"1"}
        until(lambda: shadow_rows(server) == {"differed": 20})


def shadow_rows(server: ServerProcess) -> dict[str, float]:
    with urllib.request.urlopen(server.metrics, timeout=30) as page:
        lines = page.read().decode().splitlines()
    found = {}
    for line in lines:
        if line.startswith("triptych_shadow_rows_total{") and not line.endswith(" 0.0"):
            found[line.partition('outcome="')[2].partition('"')[0]] = float(line.rpartition(" ")[2])
    return found
