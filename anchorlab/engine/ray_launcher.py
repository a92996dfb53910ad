"""The Ray launcher: populations on all machines of a cluster, continued elsewhere when one is lost."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from anchorlab.errors import InputError

from .monitor import Monitor

Item = TypeVar("Item")


def train_on_ray(
    work: Callable[[Item, Monitor], None],
    items: Sequence[Item],
    *,
    address: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    monitor: Monitor = Monitor(),  # noqa: B008 - it has no state
) -> None:
    """Call `work(item, monitor)` for every item in a Ray task with `cpus` processors and `gpus` GPUs.

    `work` must be importable on every machine and write to a file system that all of them share. `address` is that of
    an existing cluster ("auto", "host:port" or "ray://host:port"); by default the Ray that this process has initialized
    is used, else one is started on this machine for the duration. Without GPUs every task has one thread. Items are
    begun in order.

    An item whose machine is lost begins again on another, where `work` finds its checkpoints; so does one whose process
    was killed, at most three times. While no machine is large enough for a task, this is logged, and the task waits for
    one to join. When this process is interrupted (SIGINT, SIGTERM, or the monitor's wish) or an item fails, all others
    save a checkpoint and stop before the error is raised here.

    Raises InputError if Ray is not installed, `address` cannot be reached, or this machine alone is too small;
    Interrupted when stopped, or when Ray itself fails; and what `work` raises.
    """
    _check("cpus", cpus, smallest="above 0", valid=cpus > 0)
    _check("gpus", gpus, smallest="0 or more", valid=gpus >= 0)
    if not items:
        return
    try:
        import ray  # noqa: F401, PLC0415 - an extra
    except ImportError:
        raise InputError("launcher='ray': Ray is not installed; run pip install 'anchorlab[ray]'") from None
    from .ray_driver import drive  # noqa: PLC0415 - needs that extra

    drive(work, items, address=address, cpus=cpus, gpus=gpus, monitor=monitor)


def _check(name: str, value: float, *, smallest: str, valid: bool) -> None:
    # Ray divides one processor or GPU between tasks, but gives more than one only whole.
    if not valid or not math.isfinite(value) or (value > 1 and value != int(value)):
        raise InputError(f"{name}={value!r}: must be {smallest}, and a whole number if more than 1")
