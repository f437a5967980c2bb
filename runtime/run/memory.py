"""Memory that is kept between batches, where the C library is glibc; and the most that a process had.

By default glibc gives each large block back to the system when it is freed, so that every activation of every batch is
mapped anew and its pages filled with zeros: a million page faults for three batches of a ResNet-50. Owns the two
settings that keep freed memory with the process; they hold until it ends. Numbers do not depend on them.
"""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Names of the settings in glibc's malloc.h."""
LARGEST = 2**31 - 1


def peak_memory() -> float | None:
    """Bytes that this process had in memory at most; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(most if sys.platform == "darwin" else most * 1024)


def keep_freed_memory() -> bool:
    """Let the process keep what it frees.

    Returns:
        Whether the C library took both settings; False where it is another one, and nothing is changed.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, LARGEST))
