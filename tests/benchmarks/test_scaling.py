import re
import socket
import threading

import pytest
import yaml
from rich.console import Console

from benchmarks import marks, results
from benchmarks.scaling import bench as scaling
from benchmarks.scaling import page
from benchmarks.scaling.limits import POD_MEMORY_BYTES, limits, scale
from benchmarks.scaling.sizes import (
    SCALES,
    Assumptions,
    Measured,
    MissingResults,
    Work,
    parameters,
    pod_rate,
    records,
    size,
    use,
)
from benchmarks.scaling.tables import assumed, breaks, gpus, sizes
from benchmarks.scaling.wire import Meter
from benchmarks.servers import REPOSITORY
from benchmarks.session import Reporter, Session

WORK = Work("m", "work", best_us=20, clients_us=40, version_us=10, graph_us=8, up=910, down=10)
OF = Measured((WORK,), 0.75, 200 * 2**20, 4_096, 500, 40_000, 0.5)
GIVEN = Assumptions()


@pytest.fixture(scope="module")
def real():
    counted = results.load(scaling.NAME)
    if counted is None:
        pytest.skip("scaling has no results yet")
    return scaling.base(counted)


def test_the_page_is_what_this_code_and_these_results_make():
    text = page.PAGE.read_text(encoding="utf-8")
    assert marks.render(text, page.parts()) == text


def test_what_is_written_by_hand_stays_and_no_part_is_forgotten():
    old = "# Mine\n<!-- made: one -->\nold\n<!-- end -->\nMine, too.\n"
    made = "# Mine\n<!-- made: one -->\nnew\n<!-- end -->\nMine, too.\n"
    assert marks.render(old, {"one": "new"}) == made
    assert marks.render(made, {"one": "new"}) == made
    with pytest.raises(ValueError, match="has the marks"):
        marks.render(old, {"one": "new", "two": "lost"})


def test_a_result_that_is_missing_is_named():
    with pytest.raises(MissingResults, match="no results yet of nonsense"):
        records(("startup", "nonsense"))


def test_sizes_follow_the_formulae_of_the_page():
    found = size(1e6, WORK, OF, GIVEN)
    assert use(OF, GIVEN) == pytest.approx(0.5)
    assert found.pods == 102  # a million times 50 µs are 50 cores, half used 100, a third of them in each zone
    assert found.nodes == 6
    assert found.cells == 1
    assert found.gbit_up == pytest.approx(8.0)
    assert found.clients == found.pod_connections == 5_000
    assert found.connection_gib == pytest.approx(5_000 * 4_096 / 2**30)
    assert found.proxy_cores == pytest.approx(100)
    assert found.series == 51_000
    assert found.core_usd == pytest.approx(4.08)
    assert found.zone_usd == pytest.approx(1_100 * 3.6 * 2 / 3 * 0.02)
    cells = size(1e8, WORK, OF, GIVEN)
    assert (cells.cells, cells.pod_connections) == (100, 5_000)
    assert cells.per_million(1e8) == pytest.approx(found.per_million(1e6), rel=0.05)


@pytest.mark.parametrize("rate", SCALES)
def test_a_zone_may_be_lost_at_every_scale(real, rate):
    for work in real.works:
        left = size(rate, work, real, GIVEN).pods * (GIVEN.zones - 1) / GIVEN.zones
        assert rate * work.planned_us * 1e-6 / left <= real.busy + 1e-9


def test_limits_are_reached_where_their_numbers_say(real):
    found = {one.what: one.rate(real.works[0]) for one in limits(real, GIVEN)}
    rate = pod_rate(real.works[0], real, GIVEN)
    # RFC 1035: 12 bytes of header, the question, and 16 for each address.
    assert found["DNS over UDP"] == pytest.approx((1_232 - 72) // 16 * rate)
    assert 12 + 60 + found["DNS over TCP"] / rate * 16 <= 65_535
    assert found["one pod"] == pytest.approx(real.busy / (real.works[0].planned_us * 1e-6))
    assert [scale(one) for one in (9e3, 1e4, 2e6, 2e8)] == [10_000, 10_000, 100_000_000, None]


def test_a_pod_has_the_memory_that_kubernetes_gives_it():
    deployment = yaml.safe_load((REPOSITORY / "k8s/base/deployment.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["memory"] == f"{POD_MEMORY_BYTES // 2**30}Gi"
    assert container["resources"]["requests"]["cpu"] == "1"


def test_the_autoscaler_allows_half_of_what_a_pod_does(real):
    text = (REPOSITORY / "k8s/components/autoscale/scaledobject.yaml").read_text()
    (allowed,) = (
        float(one["metadata"]["threshold"])
        for one in yaml.safe_load(text)["spec"]["triggers"]
        if "triptych_requests_total" in one["metadata"]["query"]
    )
    rate = min(pod_rate(work, real, GIVEN) for work in real.works)
    assert 0.85 * rate <= allowed <= rate
    assert use(real, GIVEN) == pytest.approx(0.5)
    assert f"{rate:,.0f}" in text


def test_the_words_on_sizes_are_true_of_these_figures(real):
    dearest = max(real.works, key=lambda work: work.planned_us)
    small, middle, large = (size(rate, dearest, real, GIVEN) for rate in SCALES)
    assert small.pods == GIVEN.zones
    assert middle.zone_usd > middle.core_usd  # "the bill is the network's"
    assert 0.5 < large.proxy_cores / large.pods < 2  # "about as many cores"
    assert max(one.node_gbit for one in (small, middle, large)) < GIVEN.nic_gbit / 2  # "never first"
    gain = dearest.best_us / (dearest.best_us - dearest.graph_us)
    assert gain < GIVEN.gpu_hour_usd / GIVEN.core_hour_usd  # "not for these models"
    first, *_ = breaks(real, GIVEN).rows
    assert first[0] == "one pod"


def test_the_tables_have_every_assumption_and_scale(real):
    assert len(assumed(GIVEN).rows) == len(parameters(GIVEN)) == len(vars(GIVEN))
    assert len(sizes(real, GIVEN).columns) == 1 + len(SCALES) * len(real.works)
    assert [row[0] for row in gpus(real, GIVEN).rows] == [work.what for work in real.works]


def test_the_page_names_every_assumption_that_its_formulae_use():
    text = page.PAGE.read_text(encoding="utf-8")
    by_hand = re.sub(r"<!-- made.*?<!-- end -->", "", text, flags=re.DOTALL)
    names = {name for name, _, _ in parameters(GIVEN)}
    used = set(re.findall(r"\b(?:[a-z]+_)+(?:usd|us|second|seconds|cores)\b", by_hand)) - {
        "triptych_execution_duration_seconds",
    }
    assert used <= names


def test_the_meter_counts_each_way_and_changes_nothing():
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as peer:
            while data := peer.recv(1 << 16):
                peer.sendall(data * 2)

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    host, port = listener.getsockname()
    with Meter(f"{host}:{port}") as meter:
        address, _, relay = meter.address.rpartition(":")
        with socket.create_connection((address, int(relay)), timeout=5) as client:
            client.sendall(b"abc")
            answer = b""
            while len(answer) < 6:
                answer += client.recv(16)
    server.join(5)
    assert answer == b"abcabc"
    assert (meter.up, meter.down) == (3, 6)


def test_a_real_server_is_counted():
    found = scaling.run(Session(True, None, Reporter(Console(quiet=True))))["summary"]
    assert found["scrape"]["series"] > 200
    assert 0 < found["connection_bytes"] < 100_000
    house, review = found["wire"]["house_price"], found["wire"]["sentiment"]
    # 13 doubles of nine bytes each, and HTTP/2's share; a reply is far smaller than a review.
    assert 119 < house["up"] < 400
    assert house["down"] < review["up"] / 3
    assert scaling.base({"summary": found}).works[1].what == "sentiment"
