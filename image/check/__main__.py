"""Builds the image, twice, runs it, calls it, stops it, and prints what was seen and how large it is.

Needs root on Debian or the like, and from its archive buildah, runc and, to make the base image, debootstrap.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from image.check import base, checks, platforms
from image.check.buildah import Buildah, Image, context
from image.check.commands import CheckError
from image.check.container import Container

CHECKOUT = Path(__file__).parents[2]
MEGABYTE = 1e6
LARGEST = 12
# What differs between the runs; the ports are none that a server of yours would have.
ADDRESSES = {
    "TRIPTYCH_HTTP_ADDRESS": "0.0.0.0:18000",
    "TRIPTYCH_GRPC_ADDRESS": "0.0.0.0:18001",
    "TRIPTYCH_METRICS_ADDRESS": "0.0.0.0:18002",
    "TRIPTYCH_LOG_FORMAT": "json",
}
RUNS = {
    "default": {},
    "two-workers": {"TRIPTYCH_WORKERS": "2"},
    "grpcio": {"TRIPTYCH_TRANSPORT": "grpcio"},
}


def main() -> int:
    """Run the check; returns 0 if all holds."""
    parser = argparse.ArgumentParser(prog="python -m image.check", description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--base", metavar="IMAGE", help="a base to pull (default: Debian's Python, by debootstrap)")
    parser.add_argument("--mirror", metavar="URL", default=base.MIRROR, help="Debian's archive")
    parser.add_argument("--once", action="store_true", help="build once: nothing is said of reproducibility")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp/triptych-image"), help="for layers and logs")
    parser.add_argument("--storage-driver", default="overlay", help="buildah's; vfs works everywhere, and takes room")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root, to mount images and to choose the user of a container")
    arguments.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        check(arguments)
    except CheckError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    return 0


def check(arguments: argparse.Namespace) -> None:
    """Build, look, run, stop.

    Raises:
        CheckError: something does not hold.
    """
    folder, device = arguments.folder, arguments.device
    for machine, devices in platforms.PLATFORMS.items():
        if device in devices:
            print(platforms.resolve(CHECKOUT, folder, machine, device))
    buildah = Buildah(folder, arguments.storage_driver)
    python = arguments.base or base.make(buildah, folder, arguments.mirror)
    tree = context(CHECKOUT, folder)
    names = [f"triptych:{device}"] if arguments.once else [f"triptych:{device}", f"triptych:{device}-again"]
    for name in names:
        buildah.build(name, tree, {"PYTHON_IMAGE": python, "DEVICE": device}, epoch())
    image, *again = (buildah.inspect(name) for name in names)
    for other in again:
        print(checks.same(image, other))
    print(checks.configuration(image))
    try:
        root = buildah.mount(names[0])
        print(checks.files(root))
        print(checks.bill(root))
        for name, settings in RUNS.items():
            work(Container(name, folder, root, image.config, ADDRESSES | settings), image)
        print_sizes(image, root)
    finally:
        buildah.forget()


def work(container: Container, image: Image) -> None:
    """See a server through its life."""
    with container:
        ready = container.wait_for("serving")
        print(f"{container.log.stem}: ready in {ready['seconds']} s; {checks.answers(ready)}")
        for seen in (checks.healthy(container, image), checks.locked(container), checks.sound(container)):
            print(f"  {seen}")
        print(f"  {checks.written(container)}")
        code = container.stop()
        checks.expect(code == 0, f"after SIGTERM it ended with {code}:\n{container.log.read_text()}")
        print("  SIGTERM: exit code 0")


def print_sizes(image: Image, root: Path) -> None:
    """Print the layers, and what is largest in them, in megabytes."""
    print("\n| layer | unpacked, MB | compressed, MB |\n|---|---|---|")
    for layer in image.layers:
        print(f"| `{layer.folder}` | {layer.unpacked / MEGABYTE:.2f} | {layer.packed / MEGABYTE:.2f} |")
    sums = (sum(layer.unpacked for layer in image.layers), sum(layer.packed for layer in image.layers))
    print(f"| together | {sums[0] / MEGABYTE:.2f} | {sums[1] / MEGABYTE:.2f} |\n")
    (packages,) = root.glob("opt/venv/lib/python3*/site-packages")
    sizes = {each.name: size(each) for each in [*packages.iterdir(), *packages.glob("nvidia/*")]}
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST]
    print("largest: " + ", ".join(f"{name} {bytes_ / MEGABYTE:.1f}" for name, bytes_ in largest))


def size(path: Path) -> int:
    """Bytes of a file or of a folder's files."""
    return sum(each.stat().st_size for each in [path, *path.rglob("*")] if each.is_file() and not each.is_symlink())


def epoch() -> int:
    """SOURCE_DATE_EPOCH: as told, or when the last change was committed (reproducible-builds.org)."""
    told = os.environ.get("SOURCE_DATE_EPOCH")
    return int(told or subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=CHECKOUT))


if __name__ == "__main__":
    sys.exit(main())
