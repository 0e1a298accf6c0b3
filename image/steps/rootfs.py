"""Collects the root file system that a Python and its virtual environment need to run, and nothing else.

    python rootfs.py VENV ROOT

Takes the interpreter that runs it, the standard library without what a server never uses, the shared libraries that
any of them or the environment is linked to, and the few files of /etc that a C library or a container engine looks
for. No shell, no package manager, no set-user-id program. What Debian's packages gave is told to scanners as the
distroless images tell it: one file for each package in /var/lib/dpkg/status.d.
"""

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

# Left out of the standard library: what installs, edits, shows windows or tests, and the modules that drag in
# libraries of the system for databases, terminals and NIS.
UNUSED = (
    *("EXTERNALLY-MANAGED", "__pycache__", "config-3*", "dist-packages", "ensurepip", "idlelib", "lib2to3"),
    *("pydoc_data", "site-packages", "test", "tkinter", "turtle.py", "turtledemo", "venv"),
    *("curses", "_curses*", "dbm", "_dbm*", "_gdbm*", "nis.*", "readline*", "sqlite3", "_sqlite3*", "_tkinter*"),
)
SYSTEM_FILES = (
    "/etc/debian_version",  # NVIDIA's container runtime looks here to learn where libraries belong
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/openssl.cnf",
    "/usr/lib/ssl/openssl.cnf",
    "/usr/lib/locale/C.utf8",
)
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/:/nonexistent\nnonroot:x:65532:65532:nonroot:/tmp:/nonexistent\n",
    "etc/group": "root:x:0:\nnonroot:x:65532:\n",
}
FROM_THE_HOST = {"libcuda.so.1"}
"""The driver's, put into a container when it starts."""
DPKG = Path("/var/lib/dpkg/info")


def main(venv: Path, root: Path) -> None:
    """Make `root`, which must be empty or absent."""
    library = Path(sysconfig.get_path("stdlib"))
    for link in ("bin", "lib", "lib64", "sbin"):
        if Path("/", link).is_symlink():
            root.mkdir(exist_ok=True)
            (root / link).symlink_to(os.readlink(Path("/", link)))
    for name in ("python", "python3"):
        place(Path(sys.executable).parent / name, root)
    for file in files(library):
        place(file, root)
    for name in SYSTEM_FILES:
        place(Path(name), root)
    for each in libraries([*binaries(root), *binaries(venv)], venv):
        place(each, root)
    for name, text in ACCOUNTS.items():
        (root / name).write_text(text)
    (root / "tmp").mkdir(mode=0o1777)
    (root / "tmp").chmod(0o1777)
    tell_packages(root)
    compile_library(root / library.relative_to("/"), root)
    # The cache of the loader; not its own cache of inodes and times, which no two builds share.
    subprocess.run(["ldconfig", "-X", "-r", root], check=True)
    shutil.rmtree(root / "var/cache", ignore_errors=True)


def files(folder: Path) -> Iterator[Path]:
    """All files of the standard library but `UNUSED`."""
    for entry in sorted(folder.iterdir()):
        if any(fnmatch(entry.name, pattern) for pattern in UNUSED):
            continue
        if entry.is_dir() and not entry.is_symlink():
            yield from files(entry)
        else:
            yield entry


def place(path: Path, root: Path) -> None:
    """Copy a file, a folder, or a link and what it leads to, to the same place below `root`."""
    path = path.parent.resolve() / path.name
    copy = root / path.relative_to("/")
    if path.is_symlink():
        if not copy.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(os.readlink(path))
            place(path.parent / os.readlink(path), root)
    elif path.is_dir():
        for entry in sorted(path.iterdir()):
            place(entry, root)
    elif not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)


def binaries(folder: Path) -> Iterator[Path]:
    """The ELF files of a folder, links aside."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == b"\x7fELF":
                    yield path


def libraries(programs: Iterable[Path], venv: Path) -> set[Path]:
    """The system's libraries that `programs` are linked to, directly or not.

    Raises:
        SystemExit: one is neither in the system nor in `venv` nor comes from the host.
    """
    # Told of a file that is no program, or static, ldd fails and goes on.
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    own = {path.name for path in venv.rglob("*.so*")} | FROM_THE_HOST
    missing = set(re.findall(r"^\t(\S+) => not found", told, re.M)) - own
    if missing:
        raise SystemExit(f"no library {', '.join(sorted(missing))}")
    found = {Path(each) for each in re.findall(r"^\t(?:\S+ => )?(/\S+) \(0x", told, re.M)}
    return {path for path in found if not path.is_relative_to(venv)}


def owners() -> dict[Path, str]:
    """Debian's package for each file of the system."""
    return {
        Path(line).parent.resolve() / Path(line).name: listing.stem
        for listing in sorted(DPKG.glob("*.list"))
        for line in listing.read_text().splitlines()
    }


def tell_packages(root: Path) -> None:
    """Write what Debian says of the packages whose files are in `root`, and copy their licences."""
    owner = owners()
    inside = (Path("/") / path.relative_to(root) for path in root.rglob("*") if not path.is_dir())
    packages = {owner[path] for path in inside if path in owner} | {"ca-certificates"}
    folder = root / "var/lib/dpkg/status.d"
    folder.mkdir(parents=True)
    for package in sorted(packages):
        name = package.partition(":")[0]
        status = subprocess.run(["dpkg-query", "--status", package], capture_output=True, text=True, check=True)
        (folder / name).write_text(status.stdout)
        licence = Path("/usr/share/doc", name, "copyright")
        if licence.exists():
            place(licence, root)


def compile_library(library: Path, root: Path) -> None:
    """Compile the standard library, so that the bytes depend on nothing but the sources."""
    compileall.compile_dir(
        library,
        quiet=2,
        stripdir=root,
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
