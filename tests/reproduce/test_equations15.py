"""Chapter 15: how claims are decided from planted numbers, and figures from tables that went through CSV."""

import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anchorlab.pde import problem
from anchorlab.reproduce.chapter15 import energies, features, frequencies, holes, newton, residuals
from anchorlab.reproduce.chapter15.frequencies import component_errors, values_of
from anchorlab.reproduce.claims import Value, decide
from anchorlab.reproduce.reproduction import Reproduction
from anchorlab.reproduce.study import Study

ALL = [one for module in (newton, residuals, energies, frequencies, holes, features) for one in module.REPRODUCTIONS]
BY_ID = {one.id: one for one in ALL}


def through_csv(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {name: pd.read_csv(io.StringIO(table.to_csv(index=False))) for name, table in tables.items()}


@pytest.mark.parametrize("one", ALL, ids=[one.id for one in ALL])
def test_claims_hold_fail_and_are_undecided_by_their_limits(one: Reproduction) -> None:
    assert set(one.scales) == {"smoke", "laptop", "paper"}
    assert one.scales["laptop"]["seeds"] >= one.claim.seeds == 3

    def values(shift: float, seeds: int) -> list[Value]:
        return [
            Value(
                seed, c.quantity, c.at_most * (1 - shift) if c.at_most is not None else (c.at_least or 0) * (1 + shift)
            )
            for c in one.claim.conditions
            for seed in range(seeds)
        ]

    assert decide(one.claim, values(0.01, 3)).verdict == "holds"
    assert decide(one.claim, values(-0.01, 3)).verdict == "fails"
    assert decide(one.claim, values(0.01, 1)).verdict == "undecided"


@pytest.mark.parametrize("name", ["ode15.1", "fig15.1"])
def test_smoke_scale_measures_all_that_is_claimed(name: str, tmp_path: Path) -> None:
    one = BY_ID[name]
    settings: dict[str, Any] = dict(one.scales["smoke"])
    measured = one.measure(Study("smoke", settings, tmp_path, tmp_path / "runs", progress=False))
    assert {c.quantity for c in one.claim.conditions} <= {value.quantity for value in measured.values}
    assert one.figure(through_csv(dict(measured.tables))).axes


def test_the_time_of_all_stages_counts(tmp_path: Path) -> None:
    cases = {"burgers": residuals.REPRODUCTIONS[0].scales["smoke"]["cases"]["burgers"]}
    study = Study("smoke", {"seeds": 2, "cases": cases}, tmp_path, tmp_path / "runs", progress=False)
    residuals.REPRODUCTIONS[0].measure(study)
    names = [f"seed-{seed}{part}" for seed in (0, 1) for part in ("-adam", "-lbfgs-1", "")]
    assert [run.folder.name for run in study.trained] == names


def test_a_polynomial_of_degree_four_is_near_newtons_law() -> None:
    factors = newton.polynomial(2.0, 200, seed=0)
    t = np.linspace(0, 2, 50)
    fitted = sum(factor * t**n for factor, n in zip(factors, (2, 3, 4), strict=True))
    np.testing.assert_allclose(fitted, t - np.sin(t) + t**3 / 6, atol=0.01)


def test_component_errors_tell_the_peaks_apart() -> None:
    nodes = np.linspace(-1, 1, 1001)
    exact = problem("four-frequency").exact_values(nodes[:, None])
    assert exact is not None
    difference = 0.5 * np.sin(8 * nodes) / 8 - 0.2 * np.sin(24 * nodes) / 36 + 0.3 * nodes
    np.testing.assert_allclose(component_errors(difference, exact, nodes), [0.0, 0.5, 0.2], atol=1e-9)


def planted(hybrid: dict[int, float], jacobi: float, network: float, *, low: int, high: int) -> list[Value]:
    """One seed: seconds of every hand-over, and the steps at which the network has learned sin 4x and sin 24x."""
    steps = [1, 10, 100, 1000]
    rows = [
        (method, step, k, 0.01 if step >= at else 1.0, 0)
        for method, places in (("network", {4: low, 8: low, 24: high}), ("jacobi", {4: high, 8: high, 24: low}))
        for k, at in places.items()
        for step in steps
    ]
    components = pd.DataFrame(rows, columns=["method", "step", "frequency", "error", "seed"])
    races = [("hybrid", m, 100.0 * k, s, 0.0, 0, 1001) for k, (m, s) in enumerate(hybrid.items(), 1)]
    races += [("jacobi", 0, 1000.0, jacobi, 0.0, 0, 1001), ("network", 0, 10.0, network, 0.0, 0, 1001)]
    columns = ["method", "network_steps", "iterations", "seconds", "network_seconds", "seed", "nodes"]
    return values_of(0, components, pd.DataFrame(races, columns=columns), 1001)


def test_the_race_is_won_by_a_middle_hand_over_that_is_faster_than_both() -> None:
    found = {one.quantity: one.value for one in planted({10: 5.0, 50: 2.0, 99: 4.0}, 8.0, math.inf, low=10, high=1000)}
    assert found == {"network order": 100, "jacobi order": 100, "time": 0.25, "iterations": 0.1, "middle": 0.5}


def test_the_race_is_lost_where_jacobi_alone_is_faster_or_the_last_hand_over_is_best() -> None:
    found = {one.quantity: one.value for one in planted({10: 5.0, 50: 4.0, 99: 3.0}, 2.0, 9.0, low=100, high=10)}
    assert (found["time"], found["middle"], found["network order"]) == (1.5, 1.0, 0.1)
    never = {one.quantity: one.value for one in planted({10: 5.0}, 2.0, 9.0, low=10, high=5000)}
    assert never["network order"] == math.inf


def test_a_training_that_diverged_helps_no_claim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A plain net, or a network beside random features, that diverged was not beaten."""
    for name, diverged, lost in (("fig15.2", "plain", {"plain"}), ("rfm", "network", {"network", "seconds"})):
        module = {"fig15.2": holes, "rfm": features}[name]
        solved = module.solved

        def planted(
            study: Study, case: str, *rest: Any, _solve: Any = solved, _case: str = diverged, **more: Any
        ) -> Any:
            found = _solve(study, case, *rest, **more)
            return [replace(one, status="diverged") for one in found] if case == _case else found

        monkeypatch.setattr(module, "solved", planted)
        one = BY_ID[name]
        values = one.measure(Study("smoke", one.scales["smoke"], tmp_path / name, tmp_path / "runs", False)).values
        assert {value.quantity for value in values if math.isnan(value.value)} == lost


def test_fig15_2_is_also_the_claim_of_fig5_3() -> None:
    assert "5.3" in BY_ID["fig15.2"].source
    assert "5.3" in BY_ID["fig15.2"].notes
