"""Settings: who wins, what is refused and where it came from, and that each is documented."""

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving.config import PREFIX, Settings, SettingsError, check_files, descriptions, misspelt, resolve
from serving.transport.tls import Tls
from tests.serving.certificates import Certificates

NAMES = Settings.__struct_fields__

OTHER: dict[str, tuple[str, Any]] = {
    "models": ("/srv/models", "/srv/models"),
    "grpc_address": ("[::1]:9000", "[::1]:9000"),
    "metrics_address": ("localhost:0", "localhost:0"),
    "http_address": ("0.0.0.0:8080", "0.0.0.0:8080"),
    "model_control": ("explicit", "explicit"),
    "model_poll_seconds": ("0.5", 0.5),
    "load_models": ("topic,sentiment", "topic,sentiment"),
    "versions": ("latest:2", "latest:2"),
    "device": ("cuda:0,cuda:1", "cuda:0,cuda:1"),
    "gpu_memory_limit": ("2000000000", 2 * 10**9),
    "tf32": ("true", True),
    "transport": ("grpcio", "grpcio"),
    "tls_certificate": ("/tls/tls.crt", "/tls/tls.crt"),
    "tls_key": ("/tls/tls.key", "/tls/tls.key"),
    "tls_client_ca": ("/tls/ca.crt", "/tls/ca.crt"),
    "tokens": ("/tokens/tokens.toml", "/tokens/tokens.toml"),
    "management_address": ("127.0.0.1:8003", "127.0.0.1:8003"),
    "management_http_address": ("[::1]:8004", "[::1]:8004"),
    "max_client_requests": ("100", 100),
    "max_client_rate": ("0.5", 0.5),
    "max_connections": ("10", 10),
    "max_connection_age_seconds": ("1800", 1800.0),
    "workers": ("1", 1),  # more of them go with one transport only: see below
    "max_batch_rows": ("32", 32),
    "max_queue_rows": ("100", 100),
    "max_batch_delay": ("0.005", 0.005),
    "max_text_tokens": ("1", 1),
    "max_message_bytes": ("2147483647", 2**31 - 1),
    "lame_duck_seconds": ("5", 5.0),
    "drain_seconds": ("0", 0.0),
    "watchdog_seconds": ("0", 0.0),
    "strict_load": ("true", True),
    "otlp_endpoint": ("http://localhost:4317", "http://localhost:4317"),
    "trace_sample_ratio": ("0.5", 0.5),
    "log_requests": ("failed", "failed"),
    "log_content": ("true", True),
    "log_format": ("json", "json"),
    "log_level": ("debug", "debug"),
}
"""For every setting a value in words, and what it means."""


def write(folder: Path, text: str) -> str:
    (folder / "triptych.toml").write_text(text)
    return str(folder / "triptych.toml")


def error(
    flags: dict[str, Any] | None = None, environment: dict[str, str] | None = None, file: str | None = None
) -> str:
    with pytest.raises(SettingsError) as caught:
        resolve(flags or {}, environment or {}, file)
    return str(caught.value)


def test_nothing_given_is_the_defaults() -> None:
    assert resolve({}, {}) == Settings()


def test_the_defaults_of_the_design() -> None:
    settings = Settings()
    assert (settings.grpc_address, settings.metrics_address) == ("127.0.0.1:8001", "127.0.0.1:8002")
    assert (settings.http_address, settings.model_control, settings.versions) == ("127.0.0.1:8000", "poll", "all")
    assert (settings.models, settings.device, settings.log_format) == ("models", "auto", "auto")
    assert (settings.max_batch_rows, settings.max_queue_rows, settings.max_batch_delay) == (256, 8192, 0.0)
    assert (settings.max_text_tokens, settings.max_message_bytes) == (8192, 4 * 1024 * 1024)
    assert (settings.lame_duck_seconds, settings.drain_seconds, settings.strict_load) == (0.0, 30.0, False)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_a_flag_a_variable_and_a_key(tmp_path: Path, name: str) -> None:
    words, value = OTHER[name]
    # Of TLS, none means anything alone, and management where models can't be managed means nothing.
    others = {other: OTHER[other][0] for other in ("tls_certificate", "tls_key") if name.startswith("tls")}
    if name.startswith("management"):
        others["model_control"] = "explicit"
    others.pop(name, None)
    wanted = msgspec.structs.replace(Settings(), **others, **{name: value})
    assert resolve({**others, name: words}, {}) == wanted
    assert resolve(others, {PREFIX + name.upper(): words}) == wanted
    toml = {bool: "true"}.get(type(value)) or repr(value)
    assert resolve(others, {}, write(tmp_path, f"{name} = {toml}")) == wanted


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    file = write(tmp_path, "max_batch_rows = 1\nmax_queue_rows = 1\nmax_text_tokens = 1")
    environment = {"TRIPTYCH_MAX_BATCH_ROWS": "2", "TRIPTYCH_MAX_QUEUE_ROWS": "2"}
    settings = resolve({"max_batch_rows": "3"}, environment, file)
    assert (settings.max_batch_rows, settings.max_queue_rows, settings.max_text_tokens) == (3, 2, 1)
    assert settings.max_message_bytes == Settings().max_message_bytes


def test_the_environment_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPTYCH_MAX_BATCH_ROWS", "7")
    assert resolve({}).max_batch_rows == 7


def test_variables_of_others_do_not_matter() -> None:
    environment = {"MAX_BATCH_ROWS": "1", "TRIPTYCH_ADDRESS": "here", "TRIPTYCH_PORT": "tcp://10.0.0.1:8001"}
    assert resolve({}, environment) == Settings()


def test_the_last_word_counts_even_where_an_earlier_one_is_wrong() -> None:
    assert resolve({"max_batch_rows": "3"}, {"TRIPTYCH_MAX_BATCH_ROWS": "many"}).max_batch_rows == 3


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("models", "", "Expected `str` of length >= 1"),
        ("device", "gpu", "Expected auto|cpu|cuda|cuda:I"),
        ("device", "cuda:x", "Expected auto|cpu|cuda|cuda:I"),
        ("device", "cuda:1\n", "Expected auto|cpu|cuda|cuda:I"),
        ("transport", "carrier pigeon", "Expected native|grpcio"),
        ("max_batch_rows", "0", "Expected `int` >= 1"),
        ("max_batch_rows", "-1", "Expected `int` >= 1"),
        ("max_batch_rows", "many", "Expected a whole number"),
        ("max_batch_rows", "1.5", "Expected a whole number"),
        ("max_queue_rows", "", "Expected a whole number"),
        ("max_message_bytes", str(2**31), "Expected `int` <= 2147483647"),
        ("max_text_tokens", str(10**30), "Expected `int` <= 2147483647"),
        ("drain_seconds", "-0.1", "Expected `float` >= 0.0"),
        ("drain_seconds", "soon", "Expected a number"),
        ("drain_seconds", "nan", "Expected `float` >= 0.0"),
        ("drain_seconds", "inf", "Expected `float` <= 1000000.0"),
        ("max_batch_delay", "-inf", "Expected `float` >= 0.0"),
        ("lame_duck_seconds", "1e999", "Number out of range"),
        ("strict_load", "maybe", "Expected true or false"),
        ("log_format", "xml", "Expected auto|text|json"),
        ("log_level", "INFO", "Expected debug|info|warning|error"),
        *(
            ("grpc_address", address, "Expected HOST:PORT")
            for address in (
                "",
                "8001",
                ":8001",
                "host",
                "host:",
                "host:port",
                "host:123456",
                "::1:80",
                "[::1]",
                "a b:1",
            )
        ),
        ("metrics_address", "http://host:1", "Expected HOST:PORT"),
        ("versions", "latest", "Expected all|latest:N"),
        ("otlp_endpoint", "collector:4317", "Expected http://HOST:PORT"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_source(name: str, value: str, message: str) -> None:
    for found, source in (
        (error({name: value}), "command line"),
        (error(environment={PREFIX + name.upper(): value}), "environment"),
    ):
        assert found.startswith(f"{source}: {name}={value!r}: {message}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_batch_rows = 0", "max_batch_rows=0: Expected `int` >= 1"),
        ("max_batch_rows = [1]", "max_batch_rows=[1]: Expected `int`, got `array`"),
        ("models = 5", "models=5: Expected `str`, got `int`"),
        ("drain_seconds = nan", "drain_seconds=nan: Expected `float` >= 0.0"),
        ("drain_seconds = inf", "drain_seconds=inf: Expected `float` <= 1000000.0"),
        ("models = {a = 1}", "models={'a': 1}: Expected `str`, got `object`"),
        ("max-batch-rows = 1", "max-batch-rows is not a setting; there are: models, grpc_address, "),
        ("[serve]\nmodels = 'x'", "serve is not a setting; there are: "),
        ("models", "not TOML: "),
        ("models = 'a'\nmodels = 'b'", "not TOML: "),
    ],
)
def test_a_line_of_the_file_that_does_not_fit_is_named_with_the_file(tmp_path: Path, line: str, message: str) -> None:
    file = write(tmp_path, line)
    assert error(file=file).startswith(f"{file}: {message}")


def test_a_file_that_can_not_be_read_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.toml")
    assert error(file=missing) == f"{missing}: No such file or directory"
    assert error(file=str(tmp_path)) == f"{tmp_path}: Is a directory"
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    assert error(file=str(tmp_path / "binary")).startswith(f"{tmp_path / 'binary'}: not TOML: ")


def test_a_flag_that_is_no_setting_is_refused() -> None:
    assert error({"colour": "red"}).startswith("command line: colour is not a setting; there are: ")


@pytest.mark.parametrize("words", ["true", "True", "1"])
def test_yes_has_several_words(words: str) -> None:
    assert resolve({"strict_load": words}, {}).strict_load is True
    assert resolve({"strict_load": "false"}, {}).strict_load is False


def test_several_workers_need_a_transport_that_shares_its_socket() -> None:
    assert resolve({}, {"TRIPTYCH_WORKERS": "4"}).workers == 4
    with pytest.raises(SettingsError, match="workers=4 needs transport=native"):
        resolve({"transport": "grpcio"}, {"TRIPTYCH_WORKERS": "4"})


@pytest.mark.parametrize(
    ("name", "other"),
    [("tls_certificate", "tls_key"), ("tls_key", "tls_certificate"), ("tls_client_ca", "tls_certificate")],
)
def test_of_tls_one_needs_the_other(name: str, other: str) -> None:
    assert error({name: "a.pem"}) == f"command line: {name}='a.pem' needs {other}"
    assert error(environment={PREFIX + name.upper(): "a.pem"}) == f"environment: {name}='a.pem' needs {other}"


@pytest.mark.parametrize("name", ["management_address", "management_http_address"])
def test_an_address_for_management_needs_models_that_can_be_managed(name: str) -> None:
    assert error({name: "127.0.0.1:1"}) == f"command line: {name}='127.0.0.1:1' needs model_control=explicit"
    assert resolve({name: "", "model_control": "poll"}, {}) == Settings()


def test_a_tokens_file_must_be_one(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    file.write_text("")
    check_files(resolve({"tokens": str(file)}, {}))
    file.write_text("[[tokens]]\nname = 'a'\n")
    with pytest.raises(SettingsError, match=r"^tokens='.*tokens\.toml': Object missing required field `sha256`"):
        check_files(resolve({"tokens": str(file)}, {}))


def test_there_is_tls_where_there_is_a_certificate() -> None:
    assert resolve({}, {}).tls is None
    files = {"tls_certificate": "a", "tls_key": "b", "tls_client_ca": "c"}
    assert resolve(files, {}).tls == Tls("a", "b", "c")


def test_files_that_can_not_be_used_are_found_before_anything_is_done(certificates: Certificates) -> None:
    server, client = certificates.server, certificates.client
    good = {"tls_certificate": server.certificate, "tls_key": server.key}
    check_files(resolve({}, {}))
    check_files(resolve(good, {}))
    check_files(resolve({**good, "tls_client_ca": certificates.client_ca}, {}))
    for name, file, words in (
        ("tls_key", client.key, f"not the key of {server.certificate}"),
        ("tls_certificate", "/nowhere", "No such file or directory"),
        ("tls_client_ca", server.key, "no certificate in PEM"),
    ):
        with pytest.raises(SettingsError) as caught:
            check_files(resolve({**good, name: file}, {}))
        assert str(caught.value) == f"{name}={file!r}: {words}"


@pytest.mark.parametrize("endpoint", ["localhost:4317", "grpc://localhost:4317", "http://", "http://a b"])
def test_where_traces_go_is_a_url(endpoint: str) -> None:
    assert error({"otlp_endpoint": endpoint}).startswith(f"command line: otlp_endpoint='{endpoint}': ")


def test_traces_need_what_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = resolve({"otlp_endpoint": "http://localhost:4317"}, {})
    check_files(settings)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"^otlp_endpoint needs more than is installed: .*\[tracing\]"):
        check_files(settings)


def test_every_setting_is_documented() -> None:
    found = descriptions()
    assert tuple(found) == NAMES == tuple(OTHER)
    assert all(len(description) > 8 for description in found.values())
    assert len(set(found.values())) == len(NAMES)


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        Settings().models = "elsewhere"  # type: ignore[misc]


def test_every_number_that_is_taken_is_finite() -> None:
    for name in NAMES:
        value = getattr(Settings(), name)
        assert not isinstance(value, float) or math.isfinite(value)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("TRIPTYCH_MAX_BATCH_ROW", "TRIPTYCH_MAX_BATCH_ROWS"),
        ("TRIPTYCH_MODLES", "TRIPTYCH_MODELS"),
        ("TRIPTYCH_LOGLEVEL", "TRIPTYCH_LOG_LEVEL"),
    ],
)
def test_what_is_nearly_a_setting_is_found(variable, meant):
    assert misspelt({variable: "1", "TRIPTYCH_MODELS": "models", "PATH": "/bin"}) == {variable: meant}


def test_what_kubernetes_makes_for_a_service_is_no_misspelt_setting():
    ports = ("PORT", "PORT_8001_TCP", "PORT_8001_TCP_ADDR", "PORT_8001_TCP_PORT", "PORT_8001_TCP_PROTO")
    others = ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_GRPC", "SERVICE_PORT_HTTP", "SERVICE_PORT_METRICS", "DATA")
    assert misspelt({f"TRIPTYCH_{name}": "1" for name in ports + others}) == {}
