import copy
import http.server
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
import psutil
import pytest

from benchmarks import h2load, plot
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.h2load import Counted, Shot, check_sizes
from benchmarks.payloads import manifest
from benchmarks.peers import bench, bench_tables, environments, oip, predictor, registry
from benchmarks.peers.asking import examine, exams, good_reply, knows
from benchmarks.peers.processes import Tree
from benchmarks.peers.registry import GRPC, HTTP, PEERS, Ask, Peer
from benchmarks.servers import REPOSITORY, ServerFailed
from serving.package.manifest import TextRules
from serving.package.text import Normaliser, flatten

MODELS = REPOSITORY / "models"
ROW = [18.0, 0.0, 18.1, 0.0, 0.679, 6.4, 100.0, 1.8, 24.0, 666.0, 20.2, 27.25, 29.05]
SVG = "{http://www.w3.org/2000/svg}"


def test_the_predictor_gives_the_golden_outputs():
    for model, name in (("house_price", "price"), ("sentiment", "probability")):
        golden = manifest(model, 1)["golden"]
        tolerance = golden["tolerance"]["CPUExecutionProvider"]
        if model == "house_price":
            rows = [[np.nan if value is None else value for value in row] for row in golden["inputs"]["features"]]
            found = predictor.House(MODELS).run(np.array(rows, dtype=np.float32))
            assert found.shape == (len(rows), 1)
        else:
            found = predictor.Sentiment(MODELS).run(golden["inputs"]["text"])
            assert found.shape == (len(golden["inputs"]["text"]),)
        np.testing.assert_allclose(found.ravel(), np.ravel(golden["outputs"][name]), **tolerance)


@pytest.mark.parametrize("text", ["", " ", "A film.", "Ça, c'est ÉTÉ\t!", "a" + "  b" * 9000, "\x00 İ"])
def test_the_predictor_reads_text_as_the_server_does(text):
    sentiment = predictor.Sentiment(MODELS)
    rules = manifest("sentiment", 1)["inputs"][0]["text"]
    row = Normaliser(TextRules(rules["lowercase"], rules["to_space"]))(text)
    assert sentiment._normalise(text) == row
    [expected] = sentiment._session.run(["probability"], flatten("text", [row]))
    assert sentiment.run([text])[0] == expected[0, 0]


def test_labels_are_those_of_the_manifest():
    sentiment = predictor.Sentiment(MODELS)
    assert (sentiment.label(0.49), sentiment.label(0.5)) == ("negative", "positive")


def test_an_open_inference_request_has_the_bytes_of_the_protocol():
    raw = oip.house(ROW, raw=True)
    tensor = b"\x0a\x08features\x12\x04FP32\x1a\x02\x01\x0d"
    data = np.array(ROW, dtype="<f4").tobytes()
    assert raw == b"\x0a\x0bhouse_price\x2a" + bytes([len(tensor)]) + tensor + b"\x3a\x34" + data
    typed = oip.house(ROW, raw=False)
    assert data in typed
    assert b"\x3a\x34" not in typed
    assert oip.sentiment("good", raw=True, shape=[1, 1]).endswith(b"\x1a\x02\x01\x01\x3a\x08\x04\x00\x00\x00good")
    assert oip.sentiment("good", raw=False, shape=[1]).endswith(b"\x1a\x01\x01\x2a\x06\x42\x04good")


def test_open_inference_replies_are_read_raw_and_typed():
    price = b"\x0a\x0bhouse_price\x12\x011\x2a\x11\x0a\x05price\x12\x04FP32\x1a\x02\x01\x01\x32\x04m@\x14A"
    assert oip.price(price) == pytest.approx(9.265729)
    typed = b"\x0a\x0bhouse_price\x2a\x1d\x0a\x05price\x12\x04FP32\x1a\x02\x01\x01\x2a\x06\x32\x04m@\x14A"
    assert oip.price(typed.replace(b"\x2a\x1d", b"\x2a\x19")) == pytest.approx(9.265729)
    assert oip.label(b"\x2a\x07\x0a\x05label\x32\x0c\x08\x00\x00\x00negative") == "negative"
    assert oip.label(b"\x2a\x13\x0a\x05label\x2a\x0a\x42\x08negative") == "negative"
    with pytest.raises(ValueError, match="not one label"):
        oip.label(b"\x32\x0c\x07\x00\x00\x00negative")


def test_every_peer_is_asked_in_its_protocol_and_has_a_folder():
    assert {peer.folder for peer in PEERS} == {"triton", "mosec", "kserve", "mlserver", "bentoml", "litserve", "ray"}
    for peer in PEERS:
        house, sentiment = peer.asks["house_price"], peer.asks["sentiment"]
        if peer.protocol == GRPC:
            assert house.path == sentiment.path == "/inference.GRPCInferenceService/ModelInfer"
            assert b"house_price" in house.body(ROW)
        else:
            assert str(ROW[0]).encode() in house.body(ROW)
            json.loads(house.body(ROW))
            assert "good" in str(json.loads(sentiment.body("good")))
        assert b"good" in sentiment.body("good")
        assert environments.version(peer.folder, peer.package)
        assert (environments.FOLDER / peer.folder / "serve.py").is_file()


def test_peers_are_measured_only_when_they_are_named():
    assert "peers" in BENCHMARKS
    with pytest.raises(SystemExit):
        main(["peers", "--only", "nobody"])


def test_an_environment_is_made_again_when_its_requirements_change(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "FOLDER", tmp_path)
    monkeypatch.setattr(environments, "_ENVIRONMENTS", tmp_path / ".venvs")
    made: list[tuple[str, ...]] = []

    def run(*command: str) -> None:
        made.append(command)
        (tmp_path / ".venvs" / "one").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(environments, "_run", run)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "requirements.txt").write_text("# not this\nOne[extra]==1.2\ntwo==3 ; os_name\n")
    assert not environments.is_made("one")
    environments.make("one")
    assert environments.is_made("one")
    assert len(made) == 2
    assert (environments.version("one", "one"), environments.version("one", "two")) == ("1.2", "3")
    (tmp_path / "one" / "requirements.txt").write_text("one==1.3\n")
    assert not environments.is_made("one")
    with pytest.raises(ServerFailed, match=r"there is no nobody/requirements\.txt"):
        environments.is_made("nobody")
    with pytest.raises(ServerFailed, match="does not pin two"):
        environments.version("one", "two")


def test_what_can_not_be_installed_is_reported_in_the_installers_words():
    with pytest.raises(ServerFailed, match="not installed: no such thing"):
        environments._run(sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(1)")


def test_a_tree_counts_children_those_that_left_and_those_that_ended():
    burn = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.2: pass"
    sleep = "import time; time.sleep(60)"
    leave = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleep!r}])"
    program = (
        "import subprocess, sys, time\n"
        f"subprocess.run([sys.executable, '-c', {burn!r}])\n"
        f"subprocess.Popen([sys.executable, '-c', {sleep!r}], start_new_session=True)\n"
        f"subprocess.run([sys.executable, '-c', {leave!r}])\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "TRIPTYCH_PEER": "the-mark"}
    root = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE)
    tree = Tree(root.pid, "the-mark")
    try:
        assert root.stdout is not None
        with root.stdout as output:
            assert output.readline() == b"up\n"
        assert len(tree.members()) == 3, "one is an orphan"
        assert tree.cpu_seconds() >= 0.2
        resident, proportional = tree.memory_bytes()
        assert resident > proportional > 0
        assert tree.keeps_to(None)
        assert not tree.keeps_to(max(psutil.Process().cpu_affinity()) + 1)
        tree.pause()
        assert {one.status() for one in tree.members()} == {psutil.STATUS_STOPPED}
        tree.resume()
        assert psutil.STATUS_STOPPED not in {one.status() for one in tree.members()}
    finally:
        tree.kill()
        root.wait()
    deadline = time.monotonic() + 5
    while tree.members() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert tree.members() == []
    assert root.returncode == -signal.SIGKILL


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers as a peer does, rightly or always with the first house's price."""

    protocol_version = "HTTP/1.1"
    house = predictor.House(MODELS)
    sentiment = predictor.Sentiment(MODELS)
    confused = False

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/house_price":
            price = float(self.house.run(np.array([asked["features"]], dtype=np.float32))[0, 0])
            reply = {"price": round(price, 4) + (1.0 if self.confused and asked["features"][5] > 5 else 0.0)}
        else:
            reply = {"label": self.sentiment.label(float(self.sentiment.run([asked["text"]])[0]))}
        data = json.dumps(reply).encode()
        self.send_response(404 if self.path == "/nowhere" else 200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def peer_address(monkeypatch) -> Iterator[str]:
    with _Server(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_peer_is_examined_with_many_questions_at_once(peer_address, monkeypatch):
    peer = registry.BY_NAME["mosec"]
    both = exams(None)
    assert len({str(question) for question in both[0].questions}) == len(both[0].questions)
    assert set(both[1].answers) <= {"negative", "positive"}
    assert knows(peer, both, peer_address)
    for exam in both:
        examine(peer, peer_address, exam)
        assert exam.marks(0, peer.asks[exam.model].answer(good_reply(HTTP, peer_address, peer.asks[exam.model], exam)))
    monkeypatch.setattr(_Handler, "confused", True)
    with pytest.raises(ServerFailed, match=r"house_price: \d+ of 64 answers are wrong when many ask at once"):
        examine(peer, peer_address, both[0])
    with pytest.raises(ServerFailed, match=r"house_price: .* where .* is right"):
        good_reply(HTTP, peer_address, peer.asks["house_price"], both[0])
    lost = Ask("/nowhere", peer.asks["sentiment"].body, peer.asks["sentiment"].answer)
    with pytest.raises(ServerFailed, match="no answer under load: HTTP status 404"):
        examine(Peer("lost", "Lost", "lost", HTTP, {"sentiment": lost}), peer_address, both[1])


def test_h2load_posts_json_and_other_statuses_fail_a_cell(peer_address):
    if reason := h2load.missing():
        pytest.skip(reason)
    body, size = json.dumps({"features": ROW}).encode(), len(b'{"price": 12.3456}')
    shot = Shot(peer_address, "/house_price", body, 2, 1, json=True)
    h2load.warm_up(shot, None, 20)
    check_sizes(h2load.shoot(shot, None, 1), size, slack=3)
    lost = Shot(peer_address, "/nowhere", json.dumps({"text": "good"}).encode(), 2, 1, json=True)
    with pytest.raises(ServerFailed, match=r"\d+ of \d+ requests failed"):
        check_sizes(h2load.shoot(lost, None, 1), len(b'{"label": "positive"}'))


def test_replies_of_other_sizes_fail_a_cell():
    counted = Counted(12, 10, 0, 5.0, 300, 0.5, 1.0, 0.0)
    check_sizes(counted, 30)
    check_sizes(counted, 25)
    with pytest.raises(ServerFailed, match="bytes of data"):
        check_sizes(counted, 31)
    check_sizes(counted, 31, slack=1)
    with pytest.raises(ServerFailed, match="bytes of data"):
        check_sizes(counted, 24)


def _measured(per_second: float) -> dict[str, float]:
    figures = dict.fromkeys(("p50_ms", "p99_ms", "cpu_us", "server_cores", "client_cores", "other_cores"), 1.0)
    return {"requests": 100, "per_second": per_second, **figures}


def _record() -> dict[str, object]:
    """Two rounds of a run in which one server broke, and another could not be installed."""
    names = ("triptych", "floor", "triton", "mosec", "mosec16", "ray")
    speeds = {"triptych": 7000.0, "floor": 1000.0, "triton": 2000.0, "mosec": 4000.0, "mosec16": 5000.0}
    raw = []
    for number, (what, in_flight) in itertools.product(
        (1, 2), itertools.product(("house price, 1 row", "sentiment, 1 real review"), (1, 64))
    ):
        cell: dict[str, object] = {"round": number, "what": what, "in_flight": in_flight}
        cell |= {name: _measured(speed * number) for name, speed in speeds.items()}
        broken = in_flight == 64 and number == 2
        raw.append(cell | {"ray": {"failed": "3 of 9 requests failed"} if broken else _measured(90.0)})
    summary = bench._summary(raw, list(names))
    summary["open_loop"] = [
        {"server": name, "share": share, "rate": 100 * share, "per_second": 100 * share, "due": 9, "answered": 9}
        | {"errors": 0, "p50_ms": 0.5, "p95_ms": 1.0, "p99_ms": p99 * share, "lag_p99_ms": 0.1}
        for share in (0.5, 0.9)
        for name, p99 in (("triptych", 1.0), ("triton", 4.0))
    ]
    summary["servers"] = {
        name: {"title": registry.BY_NAME[name].title if name in registry.BY_NAME else name.capitalize()}
        | {"protocol": GRPC, "version": "1.0", "processes": 2, "ready_seconds": 1.0, "rss_mib": 90.0, "pss_mib": 70.0}
        for name in names
    }
    summary["failed"] = {"bentoml": "not installed: no such version"}
    settings = {"rounds": 2, "seconds": 2, "cores": "one core each"}
    return {"settings": settings, "summary": summary, "rounds": raw}


def test_ratios_are_of_neighbours_and_a_failure_in_one_round_fails_the_cell():
    summary = _record()["summary"]
    full = summary["cells"][1]
    assert (full["what"], full["in_flight"]) == ("house price, 1 row", 64)
    assert full["mosec"]["per_second"] == 6000.0
    assert full["mosec"]["ours_ratio"] == 1.75
    assert full["mosec"]["floor_ratio"] == 4.0
    assert full["ray"] == {"failed": "3 of 9 requests failed"}
    assert summary["cells"][0]["ray"]["per_second"] == 90.0


def test_the_tables_name_the_best_peer_and_what_failed():
    targets, seen, servers, failed, curve = bench_tables.tables(_record())
    assert [row[1:] for row in targets.rows] == [
        ["Triton", "2.5×", "3×", "3.50×", "aim reached"],
        ["mosec, 16 rows", "1.5×", "2×", "1.40×", "**missed**"],
        ["best peer: mosec, 16 rows", "2×", "4×", "1.40×", "**missed**"],
        ["Triton", "< 1×", "≤ 0.5×", "0.25×", "aim reached"],
    ]
    assert ["house price, 1 row", "64", "Ray Serve", "failed: 3 of 9 requests failed"] in [row[:4] for row in seen.rows]
    assert [row[0] for row in servers.rows[1:3]] == ["Floor", "Triton"]
    assert failed.rows == [["BentoML", "failed: not installed: no such version"]]
    assert [row[0] for row in curve.rows] == ["Triptych", "Triptych", "Triton", "Triton"]


def test_without_triton_its_targets_are_not_measured():
    record = copy.deepcopy(_record())
    summary = record["summary"]
    summary["open_loop"] = []
    for cell in summary["cells"]:
        cell["triton"] = {"failed": "gone"}
    targets, *others = bench_tables.tables(record)
    assert [row[-1] for row in targets.rows] == ["not measured", "**missed**", "**missed**", "not measured"]
    assert len(others) == 3
    assert [table.title for table in bench_tables.tables({"settings": {"skipped": "no h2load"}, "summary": {}})] == [
        "Peers"
    ]


def test_the_pictures_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_tables, "PAGE", tmp_path / "page.md")
    bench_tables.draw(_record())
    bars = ElementTree.parse(tmp_path / bench_tables.BARS).getroot()
    # The background, and two bars for each of six servers.
    assert len(bars.findall(f".//{SVG}rect")) == 13
    shown = [text.text for text in bars.iter(f"{SVG}text")]
    assert "house price 10,500" in shown
    assert "sentiment –" in shown
    lines = ElementTree.parse(tmp_path / bench_tables.CURVES).getroot()
    assert len(lines.findall(f".//{SVG}polyline")) == 4


def test_bars_of_nothing_are_a_chart():
    assert ElementTree.fromstring(plot.bar_chart("T & U", "c", ["a"], [plot.Bars("<b>", False, [None])])) is not None
