"""Memory that a process frees and asks for again at every step."""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES, _LARGEST_BYTES = 2**30, 2**25  # glibc takes no more than 32 MiB for the latter


def keep_freed_memory():
    """Let the C library keep up to 1 GiB that is freed, for the next step to take.

    Without it glibc gives the blocks of a step back to the system, and the next step waits for the
    same pages to be cleared and mapped again. Changes no result. Elsewhere than on glibc it does
    nothing.

    Returns:
        True where the C library took the request.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    taken = [mallopt(_TRIM_THRESHOLD, _KEPT_BYTES), mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)]
    return all(taken)
