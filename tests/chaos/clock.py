"""A wall clock of its own for one process: the C library's, shifted by what a file says, whenever it says so.

The monotonic clock goes on as it did, as when an administrator, or NTP, sets a machine's time.
"""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("TESTS_CLOCK_FILE"), O_RDONLY);
    shift = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, id, now);
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) now->tv_sec += *shift;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
"""


class Clock:
    """Set by the test, read by a process that runs in `environment`."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            pytest.skip("a clock jump: there is no C compiler here to make a clock")
        library, self._file = folder / "clock.so", folder / "clock"
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", library], input=SOURCE.encode(), check=True
        )
        self._file.write_bytes(bytes(8))
        self.environment = {"LD_PRELOAD": str(library), "TESTS_CLOCK_FILE": str(self._file)}

    def jump(self, seconds: int) -> None:
        """The clock shows so many seconds more, or less, than it should."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("=q", seconds))
