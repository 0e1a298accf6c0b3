"""Cuts off what only a debugger reads of the extension modules of a virtual environment.

    python strip.py VENV

Some wheels carry more symbols and line numbers than code. The loader reads an ELF file by its segments (System V ABI,
chapter 5) and never looks at its sections (chapter 4), so a module may end where its last segment does. That takes no
binutils, which the image that this runs in does not have.
"""

import struct
import sys
from pathlib import Path
from typing import NamedTuple

IDENT = b"\x7fELF\x02\x01"
"""64 bits, little-endian: x86-64 and aarch64 alike."""
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")


class Header(NamedTuple):
    """An ELF file's first bytes (chapter 4): `segments` and `sections` are where the tables of them begin."""

    ident: bytes
    type: int
    machine: int
    version: int
    entry: int
    segments: int
    sections: int
    flags: int
    size: int
    segment_size: int
    segment_count: int
    section_size: int
    section_count: int
    names: int


def main(venv: Path) -> int:
    """Strip every module in `venv` that can be debugged; returns the bytes that went."""
    return sum(strip(path) for path in sorted(venv.rglob("*.so")) if path.is_file() and not path.is_symlink())


def strip(path: Path) -> int:
    """Cut an ELF file with debugging information after its last segment; returns the bytes that went."""
    data = path.read_bytes()
    if not data.startswith(IDENT):
        return 0
    header = Header._make(HEADER.unpack_from(data))
    names = header.sections + header.names * SECTION.size
    if not header.section_count or b".debug_info\0" not in _contents(data, names):
        return 0
    end = header.segments + header.segment_count * SEGMENT.size
    for i in range(header.segment_count):
        _, _, offset, _, _, length, _, _ = SEGMENT.unpack_from(data, header.segments + i * SEGMENT.size)
        end = max(end, offset + length)
    without = header._replace(sections=0, section_count=0, names=0)
    path.write_bytes(HEADER.pack(*without) + data[HEADER.size : end])
    return len(data) - end


def _contents(data: bytes, header: int) -> bytes:
    """What the section whose header is at this offset holds."""
    _, _, _, _, offset, length, _, _, _, _ = SECTION.unpack_from(data, header)
    return data[offset : offset + length]


if __name__ == "__main__":
    print(f"{main(Path(sys.argv[1])) / 1e6:.1f} MB of symbols removed")
