"""The command line: what it offers, its exit codes, and that the client needs none of the server."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving import __version__
from serving.__main__ import main
from serving.access import tokens
from serving.config import Settings
from serving.engine.device import cuda_problem
from tests.serving import packages

ROOT = Path(__file__).parents[2]

SERVE_EXTRA = ("grpc_health", "grpc_reflection", "msgspec", "numpy", "onnxruntime", "prometheus_client", "structlog")

WITHOUT_EXTRAS = f"""
import sys
for name in {SERVE_EXTRA!r}:
    sys.modules[name] = None
from serving.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def without_extras(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command as if only the client were installed."""
    command = [sys.executable, "-W", "error", "-c", WITHOUT_EXTRAS, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("-h", "--help"):
        assert exit_code(flag) == 0
        out = capsys.readouterr().out
        assert all(f"\n    {command} " in out for command in ("serve", "predict", "models", "check", "token"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"triptych {__version__}\n"


def test_help_of_serve_documents_every_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert exit_code("serve", "--help") == 0
    out = capsys.readouterr().out
    for name in (*Settings.__struct_fields__, "config"):
        assert f"\n  --{name.replace('_', '-')} " in out
    assert "(default: 127.0.0.1:8001)" in out
    assert "--log-requests off|failed|all" in out
    assert "--max-client-rate NUMBER" in out
    assert "TRIPTYCH_" in out


@pytest.mark.parametrize("arguments", [[], ["serve"]])
def test_serve_is_the_default_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setenv("TRIPTYCH_MAX_BATCH_ROWS", "none")
    assert main(arguments) == 2
    expected = "triptych: environment: max_batch_rows='none': Expected a whole number\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("arguments", [["--max-batch-rows", "0"], ["serve", "--max-batch-rows=0"]])
def test_flags_alone_are_flags_of_serve(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == "triptych: command line: max_batch_rows='0': Expected `int` >= 1\n"


def test_a_settings_file_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "triptych.toml"
    assert main(["--config", str(file)]) == 2
    assert capsys.readouterr().err == f"triptych: {file}: No such file or directory\n"
    file.write_text("max_batch_rows = 0")
    assert main(["serve", "--config", str(file)]) == 2
    assert capsys.readouterr().err == f"triptych: {file}: max_batch_rows=0: Expected `int` >= 1\n"


@pytest.mark.parametrize(("flag", "value"), [("--strict-load", "true"), ("--strict-load=maybe", "maybe")])
def test_a_switch_may_be_given_with_a_value(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str, value: str
) -> None:
    monkeypatch.setenv("TRIPTYCH_STRICT_LOAD", "neither")
    assert main([flag, "--log-level", "loud"]) == 2
    err = capsys.readouterr().err
    assert f"strict_load={value!r}" in err or "log_level='loud'" in err
    assert "neither" not in err


@pytest.mark.parametrize(
    "arguments", [["--colour", "red"], ["serve", "--max-batch"], ["dance"], ["serve", "now"], ["--max-batch-rows"]]
)
def test_what_is_no_command_or_flag_is_a_usage_error(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert exit_code(*arguments) == 2
    assert "usage: triptych" in capsys.readouterr().err


def test_a_token_is_made_and_what_the_file_says_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "alice", "--scopes", "predict,manage", "--models", "topic", "--days", "30"]) == 0
    entry, secret = capsys.readouterr()
    assert secret.strip() not in entry
    (tmp_path / "tokens.toml").write_text(entry)
    found = tokens.read(str(tmp_path / "tokens.toml")).find(secret.strip().encode(), time.time())
    assert found is not None
    assert (found.name, found.scopes, found.models) == ("alice", {"predict", "manage"}, {"topic"})
    assert found.expires is not None
    assert 29 * 86_400 < found.expires.timestamp() - time.time() < 31 * 86_400


@pytest.mark.parametrize(
    "arguments", [("a b",), ("a", "--scopes", "all"), ("a", "--days", "nan"), ("a", "--days", "1e30")]
)
def test_what_can_be_no_token_is_said(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert main(["token", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("triptych: ")


def test_check_has_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(tmp_path / "missing")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("triptych: models folder ")
    packages.copy(tmp_path)
    assert main(["check", str(tmp_path), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("house_price ")
    (tmp_path / "house_price" / "1" / "model.onnx").write_bytes(b"")
    assert main(["check", str(tmp_path), "--device", "cpu"]) == 1


def test_check_takes_the_settings_of_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packages.copy(tmp_path)
    monkeypatch.setenv("TRIPTYCH_DEVICE", "cuda:99")
    assert main(["check", str(tmp_path)]) == 1
    assert "device cuda:99 can't be had: " in capsys.readouterr().err
    assert main(["check", str(tmp_path), "--device", "cpu", "--tf32", "perhaps"]) == 2
    assert "tf32='perhaps': Expected true or false" in capsys.readouterr().err
    if cuda_problem(0) is not None:
        assert main(["check", str(tmp_path), "--device", "auto"]) == 0
        assert capsys.readouterr().out.startswith(f"on the CPU: {cuda_problem(0)}\n")


def test_a_server_that_can_not_start_says_why_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "serving", "--device", "cpu"]
    command += ["--models", str(tmp_path), "--grpc-address", "127.0.0.1:0"]
    command += ["--http-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.splitlines()[-1].startswith(f"triptych: no model package in {tmp_path}: expected ")
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize("command", ["serve", "check"])
def test_without_extras_the_server_says_what_to_install(command: str) -> None:
    found = without_extras(command)
    assert found.returncode == 1
    assert found.stdout == ""
    assert found.stderr.startswith(
        "triptych: this command needs more than the client: pip install '.[serve,cpu]' in a checkout ("
    )
    assert found.stderr.count("\n") == 1


def test_without_extras_the_client_works() -> None:
    found = without_extras("predict", "sentiment", "Fine.", "--address", "127.0.0.1:1", "--timeout", "5")
    assert found.returncode != 0
    assert "Traceback" not in found.stderr
    assert "needs more than the client" not in found.stderr
    assert without_extras("--help").returncode == without_extras("models", "--help").returncode == 0
