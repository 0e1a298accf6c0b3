"""The command line: serve, predict, models, check, token."""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence

from serving import __version__
from serving.client import cli


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # `python -m serving --models DIR` is `python -m serving serve --models DIR`.
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = ["serve", *arguments]
    parser = argparse.ArgumentParser(prog="triptych", description="Serve models, or ask a server.")
    parser.add_argument("--version", action="version", version=f"triptych {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    serve = commands.add_parser("serve", help="serve a folder of models (the default)", allow_abbrev=False)
    serve.set_defaults(func=_serve)
    cli.add_commands(commands)
    check = commands.add_parser("check", help="verify every package of a models folder, as a server would")
    check.add_argument("models", nargs="?", default="models", help="folder of model packages (default: models)")
    check.add_argument("--device", default=argparse.SUPPRESS, help="as of serve, as are the next two")
    check.add_argument("--gpu-memory-limit", default=argparse.SUPPRESS, metavar="BYTES")
    check.add_argument("--tf32", default=argparse.SUPPRESS, nargs="?", const="true", metavar="true|false")
    check.set_defaults(func=_check)
    token = commands.add_parser("token", help="make a token, and the entry of the tokens file that stands for it")
    token.add_argument("name", help="of the client; several tokens may have one")
    token.add_argument("--scopes", default="predict", metavar="LIST", help="predict, manage or both (default: predict)")
    token.add_argument("--models", metavar="LIST", help="the only models that it is for (default: all)")
    token.add_argument("--days", type=float, metavar="N", help="after which it expires (default: never)")
    token.set_defaults(func=_token)
    try:
        if arguments[0] == "serve":
            _add_settings(serve)
        options = parser.parse_args(arguments)
        code: int = options.func(options)
    except ModuleNotFoundError as error:
        # The base install is the client alone.
        return _fail(f"this command needs more than the client: pip install '.[serve,cpu]' in a checkout ({error})")
    return code


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """A flag for every setting; those not given stay unset, so that file and environment count."""
    from serving.config import PREFIX, Settings, descriptions, shapes

    parser.add_argument("--config", metavar="FILE", help="TOML file of settings")
    shape = shapes()
    for name, description in descriptions().items():
        default = getattr(Settings(), name)
        flag = f"--{name.replace('_', '-')}"
        if isinstance(default, bool):
            parser.add_argument(
                flag, default=argparse.SUPPRESS, nargs="?", const="true", metavar=shape[name], help=description
            )
        else:
            help_text = f"{description} (default: {'none' if default == '' else default})"
            parser.add_argument(flag, default=argparse.SUPPRESS, metavar=shape[name], help=help_text)
    parser.epilog = f"Every flag is also an environment variable ({PREFIX}MAX_BATCH_ROWS) and a key of the file."


def _serve(options: argparse.Namespace) -> int:
    started = time.monotonic()
    # Until the server listens to them itself: nothing is lost yet, and a container's first process has no default.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # an exception would surface within some import
    from serving.process.memory import share_one_heap

    share_one_heap()
    import uvloop

    from serving import logs
    from serving.config import SettingsError, check_files, misspelt, resolve
    from serving.engine.cuda import CudaError, Driver
    from serving.engine.wanted import refusal
    from serving.redaction import show_content

    flags = {name: value for name, value in vars(options).items() if name not in ("func", "config")}
    try:
        settings = resolve(flags, file=options.config)
        check_files(settings)
        if settings.device.startswith("cuda"):
            Driver.find()  # or an end at once: to import all that serves takes longer
    except SettingsError as error:
        return _fail(str(error), code=2)
    except CudaError as error:
        return _fail(refusal(settings.device, str(error)))
    from serving.repository.watch import THREAD
    from serving.server import StartError, serve

    logs.configure(settings.log_format, settings.log_level)
    for name, meant in misspelt(os.environ).items():
        logging.getLogger(__name__).warning("not a setting", extra={"variable": name, "did_you_mean": meant})
    show_content(settings.log_content)
    code = 0
    try:
        if settings.workers > 1:
            from serving.fleet.supervisor import Supervisor

            Supervisor(settings, started).run()
        else:
            code = uvloop.run(serve(settings, started))
    except StartError as error:
        return _fail(str(error))
    if any(thread.name == THREAD for thread in threading.enumerate()):
        os._exit(code)  # stopped while a model was loading, which may never end
    return code


def _check(options: argparse.Namespace) -> int:
    from serving.check import CheckError, check
    from serving.config import SettingsError, resolve
    from serving.engine.device import CudaOptions

    try:
        settings = resolve({name: value for name, value in vars(options).items() if name not in ("func", "models")})
    except SettingsError as error:
        return _fail(str(error), code=2)
    try:
        return check(options.models, settings.device, CudaOptions(settings.gpu_memory_limit, settings.tf32))
    except CheckError as error:
        return _fail(str(error))


def _token(options: argparse.Namespace) -> int:
    from datetime import UTC, datetime, timedelta

    from serving.access import tokens

    secret = tokens.make()
    try:
        expires = None if options.days is None else datetime.now(UTC) + timedelta(days=options.days)
        models = None if options.models is None else options.models.split(",")
        entry = tokens.entry(secret, options.name, options.scopes.split(","), models, expires)
    except (ValueError, OverflowError) as error:
        return _fail(str(error), code=2)
    # The one is to be kept from the other: this for the file, and that for the client, which alone has it.
    print(entry)
    print(secret, file=sys.stderr)
    return 0


def _fail(message: str, code: int = 1) -> int:
    print(f"triptych: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
