"""The connection to a Ray cluster, or a Ray of our own on this machine; needs the `ray` extra."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from anchorlab.errors import InputError

_CONNECT_SECONDS = 10
_OBJECT_STORE_BYTES = 80 * 2**20  # about the least that Ray allows; results travel as files


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Connect to the cluster at `address`; if None, to this process's Ray, or to one started here for the block."""
    if ray.is_initialized():
        _check_same_cluster(address)
        yield
        return
    target = _located(address)
    if target is not None:
        _check_reachable(target)
    with _environment_kept(), _only_our_own_messages():
        try:
            _initialize(target)
            yield
        finally:
            ray.shutdown()


def is_own(address: str | None) -> bool:
    """Whether `connected(address)` would start a Ray on this machine."""
    return address is None and not ray.is_initialized()


def has_room(cpus: float, gpus: float) -> bool:
    """Whether any machine of the cluster is large enough for one task."""
    return any(processors >= cpus and devices >= gpus for processors, devices in _machines())


def no_room(cpus: float, gpus: float) -> str:
    """One line that says what is asked and what the machines of the cluster have."""
    sizes = sorted(set(_machines()), reverse=True)
    shown = ", ".join(f"{processors:g} and {devices:g}" for processors, devices in sizes) or "no machines"
    return f"cpus={cpus:g}, gpus={gpus:g}: no machine is that large (processors and GPUs: {shown})"


def _machines() -> list[tuple[float, float]]:
    nodes: Callable[[], list[dict[str, Any]]] = ray.nodes
    offers = [node["Resources"] for node in nodes() if node["Alive"]]
    return [(offer.get("CPU", 0.0), offer.get("GPU", 0.0)) for offer in offers]


def _check_same_cluster(address: str | None) -> None:
    known = ray.get_runtime_context().gcs_address
    if address not in (None, "auto", known):
        raise InputError(f"address={address!r}: this process already uses the Ray cluster at {known}")


def _located(address: str | None) -> str | None:
    configured = os.environ.get("RAY_ADDRESS", "auto") or "auto"
    if address != "auto" or configured != "auto":
        return configured if address == "auto" else address
    try:
        return str(ray._private.services.canonicalize_bootstrap_address_or_die("auto"))
    except ConnectionError:
        raise InputError("address='auto': there is no Ray cluster on this machine; start or join one first") from None


def _check_reachable(target: str) -> None:
    # Ray itself would try for many minutes.
    host, _, port = target.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"address={target!r}: must be 'auto', 'host:port' or 'ray://host:port'")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(f"address={target!r}: no Ray cluster answers there ({error})") from None


def _initialize(target: str | None) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if target is None:
            _start()
        else:
            _join(target)
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has taken it


def _start() -> None:
    ray.init(
        "local",  # without an address Ray would join any cluster that it finds
        num_cpus=len(os.sched_getaffinity(0)),
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )


def _join(target: str) -> None:
    try:
        ray.init(target, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"address={target!r}: cannot be used ({reason[0]})") from error


@contextmanager
def _environment_kept() -> Iterator[None]:
    # Ray tells its makers about its use unless forbidden, and asks for tokens in the whole process once it has.
    before = {name: os.environ.get(name) for name in ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE")}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _only_our_own_messages() -> Iterator[None]:
    # When a machine is lost, Ray prints that machine's log on standard output, whatever its options say.
    internals = ray._private.worker
    internals._worker_logs_enabled = False
    try:
        yield
    finally:
        internals._worker_logs_enabled = True
