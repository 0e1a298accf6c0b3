"""One prediction, asked for in every way there is: typed, by Open Inference Protocol, over gRPC and over HTTP."""

import json
import struct
import urllib.request
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as oip

from benchmarks import h2load
from benchmarks.h2load import IN_FLIGHT, PREFIX_BYTES, Shot
from benchmarks.payloads import Payload, houses, manifest, reviews, usual_reviews
from benchmarks.servers import Server, real_server
from benchmarks.session import Session
from benchmarks.stats import median, ratio
from benchmarks.tables import Cell, Table

NAME = "protocols"

TYPED = "typed, gRPC"
_WARM_UP_REQUESTS = 500
_TIMEOUT = 10.0
_INFER = "/inference.GRPCInferenceService/ModelInfer"

_FIGURES = ("per_second", "p50_ms", "p99_ms", "cpu_us")


def run(session: Session) -> dict[str, Any]:
    """All ways in turns, in every round."""
    if reason := h2load.missing():
        session.reporter.step(f"skipped: {reason}")
        return {"settings": {"skipped": reason}, "summary": {}, "rounds": []}
    rounds, seconds = int(session.pick(5, 1)), int(session.pick(2, 1))
    raw: list[dict[str, Any]] = []
    with ExitStack() as stack:
        server = stack.enter_context(real_server(session.cores.server))
        asked = questions(server, session)
        cells = [(what, way, n) for n in ((64,) if session.quick else (1, 64)) for what, way in asked]
        stack.enter_context(session.reporter.benchmark(NAME, rounds * len(cells)))
        sizes = {key: reply_bytes(shot) for key, shot in asked.items()}
        for number in range(rounds):
            for what, way, in_flight in cells:
                shot = _in_flight(asked[what, way], in_flight)
                h2load.warm_up(shot, session.cores.load, _WARM_UP_REQUESTS)
                counted, found = h2load.measure(shot, session.cores.load, seconds, server.cpu_seconds)
                h2load.check_sizes(counted, sizes[what, way])
                raw.append({"round": number + 1, "what": what, "way": way, "in_flight": in_flight, **found})
                session.reporter.step(
                    f"round {number + 1}, {what}, {way}, {in_flight} in flight: {found['per_second']:,.0f}/s"
                )
    settings = {"rounds": rounds, "seconds": seconds, "cores": str(session.cores)}
    return {"settings": settings, "summary": _summary(raw), "rounds": raw}


def tables(record: dict[str, Any]) -> list[Table]:
    """A line for each way."""
    if not record["summary"]:
        return []
    columns = ("", "asked", "in flight", "req/s", "× typed", "p50 ms", "p99 ms", "CPU µs")
    rows: list[list[Cell]] = [
        [one["what"], one["way"], one["in_flight"], one["per_second"], one["ratio"], *(one[f] for f in _FIGURES[1:])]
        for one in record["summary"]["cells"]
    ]
    settings = record["settings"]
    note = (
        f"h2load; medians of {settings['rounds']} rounds of {settings['seconds']} s, all ways in turns; "
        f"{settings['cores']}. × typed: against the typed gRPC call of the same round. HTTP has a connection for each "
        "request in flight, gRPC has 8 for 64. CPU: of the server, for one request."
    )
    return [Table("Ways to ask", columns, rows, note, labels=2)]


def questions(server: Server, session: Session) -> dict[tuple[str, str], Shot]:
    """What is asked, by subject and by way."""
    return {**_houses(server), **_reviews(server, session)}


def _houses(server: Server) -> dict[tuple[str, str], Shot]:
    payload = houses()
    row = next(row for row in manifest("house_price")["golden"]["inputs"]["features"] if None not in row)
    raw = struct.pack("<13f", *row)
    names = [field.name for field in _house_fields()]
    tensor = {"name": "features", "datatype": "FP32", "shape": [1, 13]}
    return {
        ("house price", TYPED): _grpc(server, payload.method, payload.messages[0]),
        ("house price", "OIP, gRPC"): _grpc(server, _INFER, _infer("house_price", tensor, raw)),
        ("house price", "typed, HTTP"): _http(
            server, "/v1/house-price", {"houses": [dict(zip(names, row, strict=True))]}
        ),
        ("house price", "OIP, HTTP"): _http(
            server, "/v2/models/house_price/infer", {"inputs": [{**tensor, "data": row}]}
        ),
        ("house price", "OIP, HTTP, binary"): _binary(server, "house_price", tensor, raw),
    }


def _reviews(server: Server, session: Session) -> dict[tuple[str, str], Shot]:
    payload: Payload = reviews(session.data)
    text = usual_reviews(session.data)[0][0]
    tensor = {"name": "text", "datatype": "BYTES", "shape": [1]}
    raw = struct.pack("<I", len(text.encode())) + text.encode()
    return {
        ("sentiment", TYPED): _grpc(server, payload.method, payload.messages[0]),
        ("sentiment", "OIP, gRPC"): _grpc(server, _INFER, _infer("sentiment", tensor, raw)),
        ("sentiment", "typed, HTTP"): _http(server, "/v1/sentiment", {"reviews": [text]}),
        ("sentiment", "OIP, HTTP"): _http(
            server, "/v2/models/sentiment/infer", {"inputs": [{**tensor, "data": [text]}]}
        ),
        ("sentiment", "OIP, HTTP, binary"): _binary(server, "sentiment", tensor, raw),
    }


def _house_fields() -> Any:
    from protos.prediction.v1 import prediction_pb2 as pb

    return pb.House.DESCRIPTOR.fields


def _infer(model: str, tensor: dict[str, Any], raw: bytes) -> bytes:
    request = oip.ModelInferRequest(
        model_name=model,
        inputs=[oip.ModelInferRequest.InferInputTensor(**tensor)],
        raw_input_contents=[raw],
    )
    return bytes(request.SerializeToString())


def _grpc(server: Server, method: str, message: bytes) -> Shot:
    return Shot(server.address, method, message, 1, 1)


def _http(server: Server, path: str, body: dict[str, Any]) -> Shot:
    return Shot(server.http_address, path, json.dumps(body).encode(), 1, 1, json=True)


def _binary(server: Server, model: str, tensor: dict[str, Any], raw: bytes) -> Shot:
    described = {**tensor, "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    shot = _http(server, f"/v2/models/{model}/infer", {})
    return replace(shot, message=head + raw, headers=(f"inference-header-content-length: {len(head)}",))


def _in_flight(shot: Shot, in_flight: int) -> Shot:
    connections, streams = (in_flight, 1) if shot.json else IN_FLIGHT[in_flight]
    return replace(shot, connections=connections, streams=streams)


def reply_bytes(shot: Shot) -> int:
    """Bytes of the answer to a request made by another client."""
    if not shot.json:
        with grpc.insecure_channel(shot.address) as channel:
            return len(channel.unary_unary(shot.method)(shot.message, timeout=_TIMEOUT)) + PREFIX_BYTES
    headers = dict(header.split(": ") for header in ("content-type: application/json", *shot.headers))
    request = urllib.request.Request(f"http://{shot.address}{shot.method}", shot.message, headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as reply:
        return len(reply.read())


def _summary(raw: list[dict[str, Any]]) -> dict[str, Any]:
    typed = {(c["round"], c["what"], c["in_flight"]): c["per_second"] for c in raw if c["way"] == TYPED}
    cells = []
    for key in dict.fromkeys((cell["what"], cell["way"], cell["in_flight"]) for cell in raw):
        same = [cell for cell in raw if (cell["what"], cell["way"], cell["in_flight"]) == key]
        one: dict[str, Any] = dict(zip(("what", "way", "in_flight"), key, strict=True))
        one |= {figure: median(cell[figure] for cell in same) for figure in _FIGURES}
        one["ratio"] = median(ratio(c["per_second"], typed[c["round"], c["what"], c["in_flight"]]) for c in same)
        cells.append(one)
    return {"cells": cells}
