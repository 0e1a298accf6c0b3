"""A stand-in for the base image of the Dockerfile, where no registry can be reached: Debian, from its archive."""

import os
from pathlib import Path

from image.check.buildah import Buildah
from image.check.commands import run

SUITE = "bookworm"
PACKAGES = "python3,python3-pip,ca-certificates"
MIRROR = "http://deb.debian.org/debian"
NAME = "localhost/triptych-base"

# The official image has its Python in /usr/local, under these names.
LINKS = {"python3": "/usr/bin/python3", "python": "python3", "pip": "/usr/bin/pip3"}
# What the packages' own set-up leaves behind that no two runs share, and what nobody needs.
LEFTOVERS = ("var/cache", "var/lib/apt/lists", "var/log")


def make(buildah: Buildah, folder: Path, mirror: str) -> str:
    """Make the base image once, in `folder`; returns its name."""
    tree = folder / "base"
    if not (tree / "usr/local/bin/pip").is_symlink():
        run("rm", "-rf", tree)
        options = ("--variant=minbase", f"--include={PACKAGES}")
        run("debootstrap", *options, SUITE, tree, mirror, log=folder / "debootstrap.log")
        for name in LEFTOVERS:
            run("find", tree / name, "-type", "f", "-delete")
        for name, target in LINKS.items():
            os.symlink(target, tree / "usr/local/bin" / name)
    environment = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    buildah.make(NAME, tree, environment)
    return NAME
