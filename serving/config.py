"""All settings of a server in one frozen object: defaults < file < environment < flags, validated at start."""

import difflib
import importlib.util
import os
import tomllib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from serving.access.tokens import TokenError
from serving.access.tokens import read as read_tokens
from serving.engine.wanted import WANTED
from serving.repository.policy import VERSIONS
from serving.transport.interface import MAX_CONNECTIONS
from serving.transport.tls import Tls, TlsError

PREFIX = "TRIPTYCH_"

# A shape is what a value looks like, where that is not seen from its type: `shapes`.
Address = Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):[0-9]{1,5}$", extra={"shape": "HOST:PORT"})]
OptionalAddress = Annotated[
    str, Meta(pattern=r"^((\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):[0-9]{1,5})?$", extra={"shape": "HOST:PORT"})
]
Device = Annotated[str, Meta(pattern=rf"^({WANTED})\Z", extra={"shape": "auto|cpu|cuda|cuda:I[,cuda:J...]"})]
File = Annotated[str, Meta(extra={"shape": "FILE"})]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Seconds = Annotated[float, Meta(ge=0.0, le=1e6)]


class SettingsError(ValueError):
    """A setting that can't be used; the message names it and says where it came from."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a server can be told. Every field is a flag, an environment variable and a key of the file."""

    models: Annotated[str, Meta(min_length=1, description="folder of model packages", extra={"shape": "FOLDER"})] = (
        "models"
    )
    grpc_address: Annotated[Address, Meta(description="where gRPC listens; port 0 takes a free one")] = "127.0.0.1:8001"
    metrics_address: Annotated[Address, Meta(description="where metrics and plain-HTTP health listen")] = (
        "127.0.0.1:8002"
    )
    http_address: Annotated[Address, Meta(description="where HTTP/JSON listens")] = "127.0.0.1:8000"
    model_control: Annotated[
        Literal["none", "poll", "explicit"],
        Meta(description="when models change: never, as the folder does, or by request of a client"),
    ] = "poll"
    model_poll_seconds: Annotated[
        float, Meta(ge=0.05, le=1e6), Meta(description="seconds from one look at the models folder to the next")
    ] = 1.0
    load_models: Annotated[
        str,
        Meta(
            description="models served from the start in explicit mode, with commas between; * is all",
            extra={"shape": "NAMES"},
        ),
    ] = "*"
    versions: Annotated[
        str,
        Meta(pattern=f"^({VERSIONS})$", extra={"shape": "all|latest:N"}),
        Meta(description="versions served of a model whose serving.toml says nothing of it: all, or latest:N"),
    ] = "all"
    device: Annotated[
        Device, Meta(description="auto, cpu, cuda, or GPUs by number with commas between; cuda never falls back")
    ] = "auto"
    gpu_memory_limit: Annotated[
        int,
        Meta(ge=0, le=2**50, extra={"shape": "BYTES"}),
        Meta(description="of tensors of one model version on a GPU; 0 is any"),
    ] = 0
    tf32: Annotated[
        bool,
        Meta(description="multiply float32 with 10 bits of mantissa on GPUs: seldom within tolerances"),
    ] = False
    transport: Annotated[
        Literal["native", "grpcio"], Meta(description="how gRPC is spoken: native, or by grpcio's own server")
    ] = "native"
    tls_certificate: Annotated[
        File, Meta(description="PEM file of the server's certificate and those that lead to its root; without, no TLS")
    ] = ""
    tls_key: Annotated[File, Meta(description="PEM file of its private key")] = ""
    tls_client_ca: Annotated[
        File, Meta(description="PEM file of the certificates that clients' own must lead to; without, they need none")
    ] = ""
    tokens: Annotated[
        File, Meta(description="TOML or JSON file of the tokens that clients must show; without, they need none")
    ] = ""
    management_address: Annotated[
        OptionalAddress,
        Meta(description="where models are loaded and unloaded over gRPC, and nowhere else; without, where all is"),
    ] = ""
    management_http_address: Annotated[OptionalAddress, Meta(description="the same over HTTP")] = ""
    max_client_requests: Annotated[
        int, Meta(ge=0, le=2**31 - 1), Meta(description="requests in flight of one client, in each process; 0 is any")
    ] = 0
    max_client_rate: Annotated[
        float,
        Meta(ge=0.0, le=1e9, extra={"shape": "NUMBER"}),
        Meta(description="requests a second of one client, in each process; 0 is any"),
    ] = 0.0
    max_connections: Annotated[Count, Meta(description="connections of the gRPC port, in each process")] = (
        MAX_CONNECTIONS
    )
    max_connection_age_seconds: Annotated[
        Seconds, Meta(description="seconds after which a connection is asked to go, give or take a tenth; 0 is never")
    ] = 0.0
    workers: Annotated[int, Meta(ge=1, le=256, description="processes on one gRPC port (native transport)")] = 1
    max_batch_rows: Annotated[int, Meta(ge=1, le=16_384), Meta(description="rows of one batch")] = 256
    max_queue_rows: Annotated[Count, Meta(description="rows that may wait for one model version")] = 8192
    max_batch_delay: Annotated[
        Seconds, Meta(description="seconds a batch that is not full may wait although the executor is free")
    ] = 0.0
    max_text_tokens: Annotated[Count, Meta(description="words of one text")] = 8192
    max_message_bytes: Annotated[Count, Meta(description="bytes of one request message")] = 4 * 1024 * 1024
    lame_duck_seconds: Annotated[
        Seconds, Meta(description="seconds to go on serving after SIGTERM, readiness already off")
    ] = 0.0
    drain_seconds: Annotated[Seconds, Meta(description="seconds in which accepted calls are answered at the end")] = (
        30.0
    )
    watchdog_seconds: Annotated[
        Seconds, Meta(description="seconds after which a batch is ended, and a process that hangs; 0 is never")
    ] = 60.0
    strict_load: Annotated[bool, Meta(description="exit where any model version fails to load")] = False
    otlp_endpoint: Annotated[
        str,
        Meta(pattern=r"^(https?://\S+)?$", extra={"shape": "http://HOST:PORT"}),
        Meta(description="URL of the OpenTelemetry collector that traces go to, over gRPC; without, no traces"),
    ] = ""
    trace_sample_ratio: Annotated[
        float,
        Meta(ge=0.0, le=1.0, extra={"shape": "NUMBER"}),
        Meta(description="share of the requests traced whose caller does not say"),
    ] = 0.01
    log_requests: Annotated[
        Literal["off", "failed", "all"], Meta(description="requests with a line in the log each, without their content")
    ] = "off"
    log_content: Annotated[
        bool, Meta(description="log the words of exceptions, which may hold parts of requests, with faults")
    ] = False
    log_format: Annotated[Literal["auto", "text", "json"], Meta(description="auto is text on a terminal")] = "auto"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Meta(description="least level logged")] = "info"

    @property
    def tls(self) -> Tls | None:
        """The files of TLS, where there is to be any."""
        if not self.tls_certificate:
            return None
        return Tls(self.tls_certificate, self.tls_key, self.tls_client_ca)


def resolve(
    flags: Mapping[str, Any], environment: Mapping[str, str] | None = None, file: str | None = None
) -> Settings:
    """The settings from flags (those given, by field name), environment variables and a TOML file.

    Raises:
        SettingsError: a value that does not fit, or a key that is none.
    """
    environment = os.environ if environment is None else environment
    merged: dict[str, Any] = {}
    source: dict[str, str] = {}

    def take(values: Mapping[str, Any], where: str) -> None:
        merged.update(values)
        source.update((name, where) for name in values)

    if file is not None:
        take(_read(file), file)
    names = Settings.__struct_fields__
    take(
        {name: environment[PREFIX + name.upper()] for name in names if PREFIX + name.upper() in environment},
        "environment",
    )
    take(flags, "command line")
    for name in merged:
        if name not in names:
            raise SettingsError(f"{source[name]}: {name} is not a setting; there are: {', '.join(names)}")
    try:
        settings = msgspec.convert(merged, Settings, strict=False)
    except msgspec.ValidationError as error:
        name = str(error).rpartition("$.")[2].rstrip("`")
        where = f"{source[name]}: {name}={merged[name]!r}: " if name in source else ""
        words = str(error).partition(" - at ")[0]
        if words.startswith("Invalid enum value") or "matching regex" in words:
            words = f"Expected {shapes()[name]}"
        elif words.endswith("got `str`"):
            words = f"Expected {_WORDS[words.split('`')[1]]}"
        raise SettingsError(f"{where}{words}") from error
    if settings.workers > 1 and settings.transport != "native":
        raise SettingsError(f"workers={settings.workers} needs transport=native: a socket can be shared only there")
    for name in ("management_address", "management_http_address"):
        if getattr(settings, name) and settings.model_control != "explicit":
            raise SettingsError(f"{source[name]}: {name}={getattr(settings, name)!r} needs model_control=explicit")
    for name, other in _TOGETHER:
        if getattr(settings, name) and not getattr(settings, other):
            raise SettingsError(f"{source[name]}: {name}={getattr(settings, name)!r} needs {other}")
    return settings


_WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
"""What a value must be that is none, by the type of the setting."""

_TOGETHER = (("tls_certificate", "tls_key"), ("tls_key", "tls_certificate"), ("tls_client_ca", "tls_certificate"))
"""Settings that mean nothing without another."""


def check_files(settings: Settings) -> None:
    """See that what the settings name can be used, before anything is done with it.

    Raises:
        SettingsError: it can't.
    """
    if settings.otlp_endpoint and not _traceable():
        raise SettingsError("otlp_endpoint needs more than is installed: pip install '.[tracing]' in a checkout")
    try:
        if settings.tls is not None:
            settings.tls.load()
        if settings.tokens:
            read_tokens(settings.tokens)
    except (TlsError, TokenError) as error:
        raise SettingsError(str(error)) from error


def _traceable() -> bool:
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.grpc") is not None
    except ModuleNotFoundError:
        return False


def misspelt(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that are no settings but nearly, and what they were probably meant to be.

    Others of that prefix are no concern of ours: Kubernetes makes some for a Service of that name.
    """
    names = [PREFIX + name.upper() for name in Settings.__struct_fields__]
    strange = (name for name in environment if name.startswith(PREFIX) and name not in names)
    return {name: close[0] for name in strange if (close := difflib.get_close_matches(name, names, 1, _NEARLY))}


_NEARLY = 0.88
"""Of two names: one letter more or less, or two that changed places, are nearer than that; other words are not."""


def _read(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file}: not TOML: {error}") from error


def descriptions() -> dict[str, str]:
    """What each setting means, by name."""
    hints = typing.get_type_hints(Settings, include_extras=True)
    return {
        name: next(meta.description for meta in reversed(hint.__metadata__) if meta.description)
        for name, hint in hints.items()
    }


def shapes() -> dict[str, str]:
    """What a value of each setting looks like, by name: for the help, and for whoever got one wrong."""
    plain = {bool: "true|false", int: "N", float: "SECONDS"}
    found = {}
    for name, hint in typing.get_type_hints(Settings, include_extras=True).items():
        said = [meta.extra["shape"] for meta in hint.__metadata__ if meta.extra]
        choices = "|".join(map(str, typing.get_args(hint.__origin__)))
        found[name] = said[-1] if said else choices or plain.get(hint.__origin__, "VALUE")
    return found
