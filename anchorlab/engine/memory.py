"""How this process gets memory from the system, and what it does when there is too little."""

import ctypes
import resource
import sys

import psutil
import torch
from torch import Tensor

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_KEPT = 2**30
_SIGNS = ("DefaultCPUAllocator: can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next tensor, for this process alone.

    By default every tensor above 32 MiB is mapped anew and filled with zeros by the system each time, which takes
    longer than many of the operations on it. Does nothing where the C library is not glibc.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            for option, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2 * _KEPT - 1), (_M_TOP_PAD, _KEPT // 8)):
                mallopt(option, value)


def allow_many_open_files() -> None:
    """Let this process open as many files as the system permits: every member of a population keeps one locked."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def sent(values: Tensor, device: torch.device) -> Tensor:
    """The values on `device`; on the way to a GPU nothing waits for the steps that it is still doing."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def available_memory(device: torch.device) -> int:
    """Bytes that can still be had on `device`."""
    return int(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a tensor did not fit; torch has no type of its own for this on a CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
