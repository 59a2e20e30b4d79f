"""This machine's memory: how much there is, and what the imports used and nobody needs any more."""

from __future__ import annotations

import ctypes
import gc
import os


def settle() -> None:
    """Give free memory back to the kernel, and let the collector pass over what stays for good.

    glibc keeps what the reading of byte-code freed: 0.5 to 3 MB of a daemon that has 50 (malloc_trim(3)).
    Elsewhere than on glibc only the collector's part is done.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def total() -> int:
    """Return the bytes of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
