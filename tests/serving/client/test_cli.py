"""The client's command line: within this process, and, for pipes and signals, as a process of its own."""

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from protos.prediction.v1 import prediction_pb2 as pb
from serving.client import FEATURES
from serving.client.cli import add_commands
from tests.serving.certificates import Certificates

Cli = Callable[..., tuple[Any, str, str]]

PROGRAM = """
import argparse, sys
from serving.client.cli import add_commands
parser = argparse.ArgumentParser(prog="triptych")
add_commands(parser.add_subparsers())
arguments = parser.parse_args()
sys.exit(arguments.func(arguments))
"""


@pytest.fixture
def triptych(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the command line here: exit code, standard output and standard error."""
    parser = argparse.ArgumentParser(prog="triptych")
    add_commands(parser.add_subparsers())

    def run(*argv: str) -> tuple[Any, str, str]:
        try:
            arguments = parser.parse_args(argv)
            code = arguments.func(arguments)
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], int]]:
    """Give these bytes on standard input."""
    path = tmp_path / "stdin"
    path.touch()
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        yield path.write_bytes


@pytest.fixture
def process() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start the command line as a process."""
    started = []

    def start(*argv: str) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", PROGRAM, *argv]
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def reviews_of(server: Any) -> list[list[str]]:
    return [list(call.request.reviews) for call in server.calls]


def test_sentiment(server: Any, triptych: Cli) -> None:
    code, out, err = triptych("predict", "sentiment", "A wonderful film.", "Dreadful.")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "positive  87.5%   known words  50%   A wonderful film.",
        "negative  75.0%   known words  50%   Dreadful.",
    ]


def test_tls(start_server: Any, triptych: Cli, certificates: Certificates) -> None:
    identity, own = certificates.server, certificates.client
    pair = (Path(identity.key).read_bytes(), Path(identity.certificate).read_bytes())
    asked = grpc.ssl_server_credentials([pair], Path(certificates.client_ca).read_bytes(), require_client_auth=True)
    server = start_server(credentials=asked)
    where = ["--address", server.address, "--tls-ca", certificates.ca]
    who = ["--tls-certificate", own.certificate, "--tls-key", own.key]
    assert triptych("predict", "sentiment", "x", *where, *who)[0] == 0
    assert triptych("models", *where, *who, "--tls-server-name", "localhost")[0] == 0
    for flags in (where, [*where, *who, "--tls-server-name", "elsewhere"], ["--address", server.address, "--tls"]):
        code, out, err = triptych("predict", "sentiment", "x", *flags)
        assert (code, out) == (1, "")
        assert err.startswith("triptych: UNAVAILABLE: ")
    code, out, err = triptych("models", *where, "--tls-key", own.key)
    assert (code, out, err) == (
        1,
        "",
        "triptych: a client's certificate and its key go together: give both, or neither\n",
    )
    code, out, err = triptych("models", "--tls-ca", "/nowhere")
    assert (code, out, err) == (1, "", "triptych: /nowhere: No such file or directory\n")


def test_a_token_from_a_file(server: Any, triptych: Cli, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    assert triptych("predict", "sentiment", "x", "--token-file", str(file))[0] == 0
    assert server.calls[-1].metadata["authorization"] == "Bearer secret"
    code, out, err = triptych("models", "--token-file", str(tmp_path / "missing"))
    assert (code, out, err) == (1, "", f"triptych: {tmp_path / 'missing'}: No such file or directory\n")


def test_topic(server: Any, triptych: Cli) -> None:
    code, out, err = triptych("predict", "topic", "Net profit rose.", "--top-k", "2")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "known words 100%   Net profit rose.",
        "   1. earn              75.0%",
        "   2. acq               12.5%",
    ]


@pytest.mark.parametrize("name", ["house-price", "house_price"])
def test_house_price(server: Any, triptych: Cli, name: str) -> None:
    given = [name for name in FEATURES if name not in {"tax_rate", "black_population_index"}]
    flags = [f"--{name.replace('_', '-')}={number}.5" for number, name in enumerate(given, 1)]
    code, out, err = triptych("predict", name, *flags)
    assert (code, out, err) == (0, "   $26,000   2 of 13 features unknown, their mean taken\n", "")
    [house] = server.calls[0].request.houses
    assert {field.name: value for field, value in house.ListFields()} == {
        name: number + 0.5 for number, name in enumerate(given, 1)
    }


def test_house_price_with_nothing_imputed(server: Any, triptych: Cli) -> None:
    flags = [f"--{name.replace('_', '-')}=1" for name in FEATURES]
    assert triptych("predict", "house-price", *flags) == (0, "    $4,000\n", "")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ["sentiment", "A wonderful film.", "--model-version", "3"],
            {"sentiment": "positive", "positive_probability": 0.875, "known_words": 0.5, "model": "sentiment"},
        ),
        (
            ["topic", "Net profit rose.", "--top-k=1", "--model-version=3"],
            {"topics": [{"topic": "earn", "topic_id": 3, "probability": 0.75}], "known_words": 1, "model": "topic"},
        ),
        (
            ["house-price", "--rooms", "6.5", "--model-version=3"],
            {"price_usd": 26_000, "imputed": [n for n in FEATURES if n != "rooms"], "model": "house_price"},
        ),
    ],
)
def test_json(server: Any, triptych: Cli, argv: list[str], expected: dict[str, Any]) -> None:
    code, out, err = triptych("predict", *argv, "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line) for line in out.splitlines()] == [expected | {"version": "3"}]


def test_texts_from_arguments_files_and_standard_input(
    server: Any, triptych: Cli, tmp_path: Path, stdin: Callable[[bytes], int]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("one\ntwo\n")
    second.write_bytes("\ufeffthree, naïve\r\n\r\nfour".encode())
    stdin(b"five\nsix\n")
    files = ["--file", str(first), "--file", str(second)]
    assert triptych("predict", "sentiment", "zero", "-", *files)[0] == 0
    assert reviews_of(server) == [["zero", "five\nsix\n", "one\ntwo\n", "three, naïve\n\nfour"]]


@pytest.mark.parametrize("argv", [[], ["-"], ["--file", "-"]])
def test_standard_input(server: Any, triptych: Cli, stdin: Callable[[bytes], int], argv: list[str]) -> None:
    stdin("A wonderful film…\n".encode())
    assert triptych("predict", "sentiment", *argv)[0] == 0
    assert reviews_of(server) == [["A wonderful film…\n"]]


def test_lines(server: Any, triptych: Cli, tmp_path: Path, stdin: Callable[[bytes], int]) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one\r\n\ntwo\x0cand\xe2\x80\xa8a half")  # only ends of lines end a line
    stdin(b"three\n")
    assert triptych("predict", "sentiment", "--lines", "--file", str(file), "--file", "-")[0] == 0
    assert reviews_of(server) == [["one", "", "two\x0cand\u2028a half", "three"]]


def test_many_lines_are_sent_in_batches_and_answered_in_order(server: Any, triptych: Cli, tmp_path: Path) -> None:
    file = tmp_path / "file"
    lines = [f"{i} {'wonderful' if i % 3 else ''}" for i in range(600)]
    file.write_text("\n".join(lines))
    code, out, _ = triptych("predict", "sentiment", "--lines", "--file", str(file), "--json")
    assert code == 0
    assert [len(reviews) for reviews in reviews_of(server)] == [256, 256, 88]
    sentiments = [json.loads(line)["sentiment"] for line in out.splitlines()]
    assert sentiments == ["positive" if i % 3 else "negative" for i in range(600)]


def test_long_texts_are_sent_in_smaller_batches(server: Any, triptych: Cli, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("\n".join("x" * length for length in (200_000, 200_000, 200_000, 600_000, 1)))
    assert triptych("predict", "sentiment", "--lines", "--file", str(file))[0] == 0
    assert [[len(text) for text in texts] for texts in reviews_of(server)] == [
        [200_000, 200_000],
        [200_000],
        [600_000],
        [1],
    ]


def test_a_text_does_not_command_the_terminal(server: Any, triptych: Cli) -> None:
    code, out, _ = triptych("predict", "sentiment", "\x1b[2J\nred " + "long " * 100)
    assert code == 0
    [line] = out.splitlines()
    assert line.endswith("   ?[2J red long long long long long long long long long lon...")


CSV = "rooms, by_river ,tax_rate\n6.5,1,\n\n5,,300\n"
JSON = '{"rooms": 6.5, "by_river": 1, "tax_rate": null}\n\n{"rooms": 5, "tax_rate": 300}\n'


@pytest.mark.parametrize("content", [CSV, JSON, "\ufeff" + CSV])
@pytest.mark.parametrize("source", ["file", "stdin"])
def test_houses_from_a_file(
    server: Any, triptych: Cli, tmp_path: Path, stdin: Callable[[bytes], int], content: str, source: str
) -> None:
    file = tmp_path / "houses"
    file.write_text(content)
    stdin(content.encode())
    code, out, err = triptych("predict", "house-price", "--file", "-" if source == "stdin" else str(file), "--json")
    assert (code, err) == (0, "")
    assert [json.loads(line)["price_usd"] for line in out.splitlines()] == [26_000, 20_000]
    houses = [{field.name: value for field, value in house.ListFields()} for house in server.calls[0].request.houses]
    assert houses == [{"rooms": 6.5, "by_river": 1}, {"rooms": 5, "tax_rate": 300}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rooms,size\n6,1\n", "line 1: unknown feature 'size'; the features are crime_rate, residential_zoning, "),
        ("rooms,rooms\n6,1\n", "line 1: a feature is named twice"),
        ("rooms,tax_rate\n6,1\n\n6\n", "line 4: 1 cells under a header of 2"),
        ("rooms,tax_rate\n6,many\n", "line 2: tax_rate: expected a number, got 'many'"),
        ('{"rooms": 6}\n{"rooms": [6]}\n', "line 2: rooms: expected a number, got [6]"),
        ('{"rooms": 6}\n{"size": 6}\n', "line 2: unknown feature 'size'; the features are "),
        ('{"rooms": 6\n', "line 1: Expecting ',' delimiter"),
    ],
)
def test_what_is_no_house_is_named(server: Any, triptych: Cli, tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "houses"
    file.write_text(content)
    code, out, err = triptych("predict", "house-price", "--file", str(file))
    assert (code, out) == (1, "")
    assert err.startswith(f"triptych: {file}, {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["predict"],
        ["predict", "poetry", "x"],
        ["predict", "sentiment", "x", "--timeout", "0"],
        ["predict", "sentiment", "x", "--timeout", "soon"],
        ["predict", "topic", "x", "--top-k", "-1"],
        ["predict", "house-price"],
        ["predict", "house-price", "--rooms", "many"],
        ["predict", "house-price", "--rooms", "6", "--file", "houses.csv"],
    ],
)
def test_usage(server: Any, triptych: Cli, argv: list[str]) -> None:
    code, out, err = triptych(*argv)
    assert (code, out) == (2, "")
    assert "error: " in err
    assert "_seconds" not in err
    assert not server.calls


@pytest.mark.parametrize("argv", [["predict"], ["predict", "house-price"], ["predict", "topic"], ["models"]])
def test_help(triptych: Cli, argv: list[str]) -> None:
    code, out, _ = triptych(*argv, "--help")
    assert code == 0
    assert out.startswith("usage: triptych")


def test_the_help_on_houses_says_what_the_features_are(triptych: Cli) -> None:
    _, out, _ = triptych("predict", "house-price", "--help")
    assert all(meaning in " ".join(out.split()) for meaning in FEATURES.values())


def test_a_refusal_is_one_line(server: Any, triptych: Cli) -> None:
    server.fail(grpc.StatusCode.NOT_FOUND, "model sentiment has\nno version 9")
    assert triptych("predict", "sentiment", "x", "--model-version=9") == (
        1,
        "",
        "triptych: NOT_FOUND: model sentiment has no version 9\n",
    )


def test_a_refusal_of_a_later_batch_says_where_it_counts_from(server: Any, triptych: Cli, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x\n" * 300)
    server.behave()
    server.fail(grpc.StatusCode.INVALID_ARGUMENT, "reviews[3]: too long")
    code, out, err = triptych("predict", "sentiment", "--lines", "--file", str(file))
    assert (code, len(out.splitlines())) == (1, 256)
    assert err == "triptych: INVALID_ARGUMENT: reviews[3]: too long (counted from instance 256)\n"


@pytest.mark.parametrize("command", [["predict", "sentiment", "x"], ["models"]])
def test_nobody_there(server: Any, triptych: Cli, command: list[str]) -> None:
    server.stop()
    code, out, err = triptych(*command, "--address", server.address)
    assert (code, out) == (1, "")
    assert err.startswith("triptych: UNAVAILABLE: ")
    assert err.endswith("(is the server running?)\n")
    assert err.count("\n") == 1


def test_timeout(server: Any, triptych: Cli) -> None:
    server.hang()
    code, _, err = triptych("predict", "sentiment", "x", "--timeout", "0.1")
    assert code == 1
    assert err.startswith("triptych: DEADLINE_EXCEEDED: ")


def test_files_that_cannot_be_read(server: Any, triptych: Cli, tmp_path: Path) -> None:
    missing, binary = str(tmp_path / "missing"), tmp_path / "binary"
    binary.write_bytes(b"caf\xe9")
    assert triptych("predict", "sentiment", "--file", missing) == (
        1,
        "",
        f"triptych: {missing}: No such file or directory\n",
    )
    code, _, err = triptych("predict", "sentiment", "--file", str(binary))
    assert code == 1
    assert err.startswith(f"triptych: {binary}: not UTF-8: ")


def test_an_argument_that_is_no_text(server: Any, triptych: Cli) -> None:
    code, _, err = triptych("predict", "sentiment", "caf\udce9")
    assert code == 1
    assert err.startswith("triptych: reviews[0]: '\\udce9' at character 3")


def test_models(server: Any, triptych: Cli) -> None:
    assert triptych("models") == (0, "sentiment    ready\ntopic        not ready\nhouse_price  absent\n", "")


def test_predictions_come_as_soon_as_their_batch_is_read(server: Any, process: Any) -> None:
    child = process("predict", "sentiment", "--lines", "--json")
    for _ in range(2):
        child.stdin.write("A wonderful film.\n" * 256)
        child.stdin.flush()
        for _ in range(256):  # all of them while standard input is still open
            assert json.loads(child.stdout.readline())["sentiment"] == "positive"
    child.stdin.write("the last")
    out, err = child.communicate()
    assert (len(out.splitlines()), err, child.returncode) == (1, "", 0)


def test_an_interrupt_is_quiet(server: Any, process: Any) -> None:
    server.hang()
    child = process("predict", "sentiment", "x")
    assert server.called.wait(60)
    child.send_signal(signal.SIGINT)
    assert (*child.communicate(), child.returncode) == ("", "", 130)


def test_a_broken_pipe_is_quiet(server: Any, process: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("A wonderful film.\n" * 4096)  # more answers than a pipe holds
    child = process("predict", "sentiment", "--lines", "--file", str(file))
    assert child.stdout.readline().startswith("positive")
    child.stdout.close()
    assert (child.stderr.read(), child.wait()) == ("", 141)


def test_nobody_there_is_one_line_of_a_process(server: Any, process: Any) -> None:
    server.stop()
    child = process("models")
    out, err = child.communicate()
    assert (out, err.count("\n"), child.returncode) == ("", 1, 1)


def test_an_answer_for_another_request_is_not_printed(server: Any, triptych: Cli) -> None:
    prediction = pb.SentimentPrediction(sentiment=pb.SENTIMENT_POSITIVE)
    server.say(pb.PredictSentimentResponse(predictions=[prediction]).SerializeToString())
    code, out, err = triptych("predict", "sentiment", "one", "two")
    assert (code, out) == (1, "")
    assert err == "triptych: INTERNAL: the answer is not for this request: 1 predictions for 2 instances\n"


def test_a_servers_words_do_not_command_the_terminal(server: Any, triptych: Cli) -> None:
    server.fail(grpc.StatusCode.INTERNAL, "\x1b[2Jred\x07\u202e\x9b1m\nalert")
    assert triptych("predict", "sentiment", "x") == (1, "", "triptych: INTERNAL: ?[2Jred???1m alert\n")
    topics = [pb.TopicScore(topic="\x1b[31mearn")]
    server.say(pb.PredictTopicResponse(predictions=[pb.TopicPrediction(topics=topics)]).SerializeToString())
    code, out, _ = triptych("predict", "topic", "x")
    assert code == 0
    assert "?[31mearn" in out
