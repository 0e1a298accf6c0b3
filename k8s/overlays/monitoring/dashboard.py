"""Grafana's dashboard of the servers, as code: run it, and it writes dashboard.json beside itself.

Built with Grafana's own types, for 11.6 and later. Rows go from "is it healthy?" to causes, and every panel answers one
question; its description says what to make of the answer.
"""

from collections.abc import Iterable
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as d
from panels import GREEN, RED, YELLOW, Query, figure, graph, listing, variable

FILE = Path(__file__).with_name("dashboard.json")

PROCESS = 'job=~"$job",namespace=~"$namespace",instance=~"$instance"'
MODEL = PROCESS + ',model=~"$model"'
VERSION = MODEL + ',version=~"$version"'
"""What the variables at the top leave."""

RATE = "[$__rate_interval]"
FAULTS = 'code=~"INTERNAL|UNKNOWN|UNAVAILABLE|DATA_LOSS"'
CAPACITY = 'reason=~"queue_full|too_late|expired"'
"""As the alerts have it."""


def main() -> None:
    """Write the file."""
    FILE.write_text(JSONEncoder(sort_keys=True, indent=1).encode(build()) + "\n", encoding="utf-8")


def build() -> d.Dashboard:
    """The dashboard."""
    board = (
        dashboard.Dashboard("Triptych")
        .uid("triptych")
        .description("Model servers: health, traffic, latency, batching, refusals, models, processes, GPUs.")
        .tags(["triptych", "inference"])
        .editable()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    )
    for each in (
        variable("job", "label_values(triptych_model_info, job)"),
        variable("namespace", 'label_values(triptych_model_info{job=~"$job"}, namespace)'),
        variable("instance", 'label_values(triptych_model_info{job=~"$job",namespace=~"$namespace"}, instance)'),
        variable("model", f"label_values(triptych_model_info{{{PROCESS}}}, model)"),
        variable("version", f"label_values(triptych_model_info{{{MODEL}}}, version)"),
    ):
        board.with_variable(each)
    for title, panels in (
        ("Is it healthy?", [*_health(), *_serving()]),
        ("Traffic", _traffic()),
        ("Latency", _latency()),
        ("Batching", _batching()),
        ("Refusals and faults", _trouble()),
        ("Models", _models()),
        ("Processes", _processes()),
        ("Security", _security()),
        ("GPUs", _gpus()),
    ):
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(panel)
    built = board.build()
    for number, one in enumerate(built.panels or [], start=1):
        one.id_val = number
    return built


def _health() -> Iterable[stat.Panel]:
    requests = f"sum(rate(triptych_requests_total{{{VERSION}}}{RATE}))"
    errors = f"sum(rate(triptych_requests_total{{{VERSION},{FAULTS}}}{RATE}))"
    refused = f"sum(rate(triptych_rejected_total{{{MODEL},{CAPACITY}}}{RATE}))"
    every_version = f"sum(rate(triptych_requests_total{{{MODEL}}}{RATE}))"
    yield figure(
        "Servers",
        "Those that are ready for traffic, those that run and are not, and those that Prometheus does not reach.",
        Query(f"count(triptych_ready{{{PROCESS}}} == 1) or vector(0)", "ready"),
        Query(f"count(triptych_ready{{{PROCESS}}} == 0) or vector(0)", "not ready"),
        Query(f"count(up{{{PROCESS}}} == 0) or vector(0)", "down"),
        steps={0: GREEN},
        bad=("not ready", "down"),
    )
    yield figure(
        "Models",
        "Models that have a version that is served, and versions that were refused.",
        Query(f"count(max by (model) (triptych_model_ready{{{MODEL}}}) == 1) or vector(0)", "served"),
        Query(f"count(min by (model, version) (triptych_model_ready{{{VERSION}}}) == 0) or vector(0)", "refused"),
        steps={0: GREEN},
        bad=("refused",),
    )
    yield figure("Requests", "A second.", Query(requests), unit="reqps", steps={0: GREEN}, spark=True)
    yield figure(
        "Our own faults",
        "Share of the calls that failed and not by the client's doing. The budget is 0.1 %.",
        Query(f"({errors} or vector(0)) / {requests}"),
        unit="percentunit",
        steps={0: GREEN, 0.001: YELLOW, 0.0144: RED},
        spark=True,
    )
    yield figure(
        "Slowest hundredth",
        "99th percentile, from a request's arrival to its answer.",
        Query(_quantile(0.99, "triptych_request_duration_seconds", VERSION)),
        unit="s",
        steps={0: GREEN, 0.05: YELLOW, 0.1: RED},
        spark=True,
    )
    yield figure(
        "Refused for lack of capacity",
        "Share of the calls that could not be answered in time and were told so.",
        Query(f"{refused} / {every_version}"),
        unit="percentunit",
        steps={0: GREEN, 0.001: YELLOW, 0.01: RED},
        spark=True,
    )


def _serving() -> Iterable[table.Panel]:
    yield listing(
        "What serves",
        "Every version that takes requests, and what computes it.",
        f"sum by (instance, model, version, provider, task) (triptych_model_info{{{VERSION}}})",
        ("instance", "model", "version", "provider", "task"),
        span=14,
    )
    yield listing(
        "Alerts",
        "Those that fire and those about to. docs/runbook.md has a section for each.",
        'sum by (alertname, alertstate, severity, instance, model) (ALERTS{alertname=~"Triptych.*"})',
        ("alertname", "alertstate", "severity", "instance", "model"),
        span=10,
        empty="no alerts",
    )


def _traffic() -> Iterable[timeseries.Panel]:
    requests = f"(rate(triptych_requests_total{{{VERSION}}}{RATE}))"
    yield graph(
        "By model",
        "A model whose share changes at once was released, or lost a client.",
        Query(f"sum by (model, version) {requests}", "{{model}} {{version}}"),
        unit="reqps",
    )
    yield graph(
        "By status",
        "Codes of gRPC, also of calls over HTTP.",
        Query(f"sum by (code) {requests}", "{{code}}"),
        unit="reqps",
        stacked=True,
    )
    yield graph(
        "By method",
        "Who asks how: the typed API, the Open Inference Protocol, HTTP.",
        Query(f"sum by (method) {requests}", "{{method}}"),
        unit="reqps",
        stacked=True,
    )


def _latency() -> Iterable[timeseries.Panel]:
    for title, what, metric in (
        ("From arrival to answer", "Waiting and computing and all between.", "triptych_request_duration_seconds"),
        (
            "Of that, waiting",
            "More than computing: too few servers, or calls in bursts.",
            "triptych_queue_duration_seconds",
        ),
        ("One batch, computing", "Grows with rows and with their length.", "triptych_execution_duration_seconds"),
    ):
        yield graph(
            title,
            what,
            *(Query(_quantile(q, metric, VERSION), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)),
            unit="s",
            span=6,
        )
    yield graph(
        "p99 by model",
        "From arrival to answer.",
        Query(_quantile(0.99, "triptych_request_duration_seconds", VERSION, "model"), "{{model}}"),
        unit="s",
        span=6,
    )


def _batching() -> Iterable[timeseries.Panel]:
    rows = f"sum by (model, version) (rate(triptych_batch_rows_sum{{{VERSION}}}{RATE}))"
    batches = f"sum by (model, version) (rate(triptych_batch_rows_count{{{VERSION}}}{RATE}))"
    yield graph(
        "Rows of a batch",
        "On average. It grows by itself under load: that is what batching is for.",
        Query(f"{rows} / {batches}", "{{model}} {{version}}"),
        span=6,
    )
    yield graph(
        "Batches, by why they left",
        "idle: nothing else was being computed. full: there was more than one could hold.",
        Query(f"sum by (reason) (rate(triptych_batches_total{{{VERSION}}}{RATE}))", "{{reason}}"),
        unit="ops",
        stacked=True,
        span=6,
    )
    yield graph(
        "Rows that wait",
        "A queue that does not shrink is more than can be computed.",
        Query(f"sum by (model) (triptych_queue_rows{{{MODEL}}})", "{{model}}"),
        span=6,
    )
    yield graph(
        "Requests in flight",
        "Accepted and not answered yet.",
        Query(f"sum by (model) (triptych_requests_in_flight{{{MODEL}}})", "{{model}}"),
        span=6,
    )


def _trouble() -> Iterable[timeseries.Panel]:
    yield graph(
        "Refused, by reason",
        "queue_full, too_late, expired: too few servers. The rest is the clients' doing, or a shutdown.",
        Query(f"sum by (reason) (rate(triptych_rejected_total{{{MODEL}}}{RATE}))", "{{reason}}"),
        unit="reqps",
        stacked=True,
    )
    yield graph(
        "Our own faults, by model",
        "Nothing here is usual: the log of the server has each under its number.",
        Query(
            f"sum by (model, code) (rate(triptych_requests_total{{{VERSION},{FAULTS}}}{RATE}))", "{{model}} {{code}}"
        ),
        unit="reqps",
        stacked=True,
    )
    yield graph(
        "Hangs, failures, deaths",
        "Batches and event loops that the watchdog ended, versions that failed while they served, workers that died.",
        Query(f"sum by (what) (increase(triptych_hangs_total{{{PROCESS}}}{RATE}))", "hung: {{what}}"),
        Query(f"sum(increase(triptych_model_failures_total{{{VERSION}}}{RATE}))", "failed: version"),
        Query(f"sum(increase(triptych_worker_restarts_total{{{PROCESS}}}{RATE}))", "died: worker"),
        bars=True,
    )


def _models() -> Iterable[timeseries.Panel]:
    yield graph(
        "Versions tried",
        "By what came of it; everything but ready is a version that is not served.",
        Query(f"sum by (outcome) (increase(triptych_model_loads_total{{{MODEL}}}{RATE}))", "{{outcome}}"),
        bars=True,
        span=6,
    )
    yield graph(
        "Words that the model knows",
        "The share of each text's, on average. It falls when the language drifts away from what was trained on.",
        Query(
            f"sum by (model) (rate(triptych_known_words_ratio_sum{{{MODEL}}}{RATE}))"
            f" / sum by (model) (rate(triptych_known_words_ratio_count{{{MODEL}}}{RATE}))",
            "{{model}}",
        ),
        unit="percentunit",
        span=6,
        most=1,
    )
    yield graph(
        "Shadowed rows",
        "That a candidate computed, too, by how its answers compare.",
        Query(
            f"sum by (model, outcome) (rate(triptych_shadow_rows_total{{{VERSION}}}{RATE}))", "{{model}} {{outcome}}"
        ),
        unit="ops",
        stacked=True,
        span=6,
        empty="no candidate",
    )
    yield graph(
        "Difference to the candidate",
        "The largest of a row's outputs.",
        *(
            Query(_quantile(q, "triptych_shadow_difference", VERSION, "model"), f"{{{{model}}}} p{round(q * 100)}")
            for q in (0.5, 0.99)
        ),
        span=6,
        empty="no candidate",
    )


def _processes() -> Iterable[timeseries.Panel]:
    yield graph(
        "Memory",
        "What is resident, and what the container may have. At its limit the kernel kills it.",
        Query(f"process_resident_memory_bytes{{{PROCESS}}}", "{{instance}}"),
        Query(f"triptych_memory_limit_bytes{{{PROCESS}}}", "{{instance}} limit"),
        unit="bytes",
        span=6,
    )
    yield graph(
        "Processor",
        "Cores kept busy. With several workers, the sum.",
        Query(f"rate(process_cpu_seconds_total{{{PROCESS}}}{RATE})", "{{instance}}"),
        unit="none",
        span=6,
    )
    yield graph(
        "File descriptors",
        "Connections, mostly. Share of those that the process may have.",
        Query(f"process_open_fds{{{PROCESS}}} / process_max_fds{{{PROCESS}}}", "{{instance}}"),
        unit="percentunit",
        span=6,
    )
    yield graph(
        "Running for",
        "A fall is a restart.",
        Query(f"time() - process_start_time_seconds{{{PROCESS}}}", "{{instance}}"),
        unit="s",
        span=6,
    )


def _security() -> Iterable[stat.Panel | timeseries.Panel]:
    left = f"triptych_tls_certificate_expiry_timestamp_seconds{{{PROCESS}}} - time()"
    yield figure(
        "Certificates last for",
        "The one that expires first.",
        Query(f"min({left})"),
        unit="s",
        steps={0: RED, 86_400: YELLOW, 7 * 86_400: GREEN},
        span=6,
        height=7,
        empty="no TLS",
    )
    yield graph(
        "Files taken anew",
        "Certificates and tokens that changed while the server ran. What is refused leaves the old ones in force.",
        Query(
            f"sum by (what, outcome) (increase(triptych_file_reloads_total{{{PROCESS}}}{RATE}))", "{{what}} {{outcome}}"
        ),
        bars=True,
        span=9,
        empty="no TLS, no tokens",
    )
    yield graph(
        "Turned away",
        "For want of a token or a right, and beyond what one client may ask.",
        Query(
            f'sum by (reason) (rate(triptych_rejected_total{{{PROCESS},reason=~"unauthorised|client_limit"}}{RATE}))',
            "{{reason}}",
        ),
        unit="reqps",
        span=9,
    )


def _gpus() -> Iterable[timeseries.Panel]:
    yield graph(
        "Computing",
        "Share of the time in which the GPU did anything. Text models keep a processor busy long before a GPU.",
        Query(f"triptych_gpu_utilization_ratio{{{PROCESS}}}", "{{instance}} {{gpu}}"),
        unit="percentunit",
        span=8,
        most=1,
        empty="no GPU",
    )
    yield graph(
        "Memory",
        "Taken by whomever, of what there is.",
        Query(f"triptych_gpu_memory_used_bytes{{{PROCESS}}}", "{{instance}} {{gpu}}"),
        Query(f"triptych_gpu_memory_total_bytes{{{PROCESS}}}", "{{instance}} {{gpu}} in all"),
        unit="bytes",
        span=8,
        empty="no GPU",
    )
    yield graph(
        "Memory by model",
        "What each version took when it was loaded and warmed.",
        Query(
            f'triptych_model_gpu_memory_bytes{{{PROCESS},model=~"$model"}}',
            "{{instance}} {{gpu}} {{model}} {{version}}",
        ),
        unit="bytes",
        span=8,
        empty="no GPU",
    )


def _quantile(q: float, metric: str, selector: str, *by: str) -> str:
    labels = ", ".join((*by, "le"))
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{{{selector}}}{RATE})))"


if __name__ == "__main__":
    main()
