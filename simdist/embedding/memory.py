"""Memory of a process that runs a network on a CPU."""

from __future__ import annotations

import ctypes
import sys


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for what it needs next.

    glibc gives a layer's output back to the kernel each time and takes it anew, page fault by page
    fault: without this a network is 1.5 times slower.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
            libc.mallopt(m_mmap_max, 0)
            libc.mallopt(m_trim_threshold, 2**31 - 1)
            # The same for all threads but the main one, whose heaps have 64 MB each.
            libc.mallopt(m_top_pad, 2**27)


def tune_process(*, threads: int = 1) -> None:
    """Set up a process that embeds on a CPU: its threads, and memory that is kept."""
    import torch

    torch.set_num_threads(threads)
    keep_freed_memory()
