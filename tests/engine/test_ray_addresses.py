import sys

import pytest
import ray

from anchorlab.engine.ray_launcher import train_on_ray
from anchorlab.errors import InputError


def test_nothing_to_do() -> None:
    train_on_ray(print, [], address="nobody.reads.this")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "address='127.0.0.1:1': no Ray cluster answers there"),
        ("ray://127.0.0.1:1", "address='ray://127.0.0.1:1': no Ray cluster answers there"),
        ("127.0.0.1:70000", "no Ray cluster answers there"),
        ("headnode", "address='headnode': must be 'auto', 'host:port' or 'ray://host:port'"),
        (":1", "address=':1': must be 'auto', 'host:port' or 'ray://host:port'"),
    ],
)
def test_unreachable_address(address: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=message):
        train_on_ray(print, [1], address=address)


def test_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match=r"address='127.0.0.1:1': no Ray cluster answers there"):
        train_on_ray(print, [1], address="auto")


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        ({"cpus": 0}, "cpus=0: must be above 0"),
        ({"cpus": 1.5}, "cpus=1.5: must be above 0, and a whole number if more than 1"),
        ({"cpus": float("nan")}, "cpus=nan"),
        ({"gpus": -1}, "gpus=-1: must be 0 or more"),
        ({"gpus": float("inf")}, "gpus=inf"),
    ],
)
def test_impossible_needs(needs: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train_on_ray(print, [1], **needs)


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"Ray is not installed; run pip install 'anchorlab\[ray\]'"):
        train_on_ray(print, [1])
