import math
import pickle
from pathlib import Path

import pytest
import torch

from anchorlab.engine import Run
from anchorlab.errors import InputError
from anchorlab.phenomena import MLP, Fit, Initialization, Points, load_mlp, train_fits
from anchorlab.phenomena.observers import (
    FrequencyError,
    OutputOnGrid,
    frequency_errors,
    outputs_on_grid,
)
from anchorlab.phenomena.spectra import relative_error, sines

POINTS = (torch.arange(16, dtype=torch.float64)[:, None] / 8 - 1) * math.pi
VALUES = sines(POINTS, (1, 3))
GRID = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    fits = {
        f"seed{seed}": Fit(
            network=MLP(inputs=1, widths=(8,)),
            initialization=Initialization.named("xavier"),
            data={"train": Points(POINTS, VALUES)},
            seed=seed,
            steps=6,
            evaluate_every=3,
            observers=(FrequencyError(POINTS, VALUES, (1, 3)), OutputOnGrid(GRID, (0, 6))),
        )
        for seed in (0, 1)
    }
    return train_fits(fits, tmp_path_factory.mktemp("fits"), progress=False)


def test_errors_and_outputs_are_those_of_the_trained_net(runs: list[Run]) -> None:
    for run in runs:
        network, parameters = load_mlp(run.folder / "model")
        outputs = network(parameters, POINTS.float())[0, :, 0]
        errors = frequency_errors(run)
        assert errors["step"].tolist() == [0, 0, 3, 3, 6, 6]
        last = errors[errors["step"] == 6].set_index("k")["error"]
        wanted = relative_error(POINTS, outputs, VALUES[:, 0], torch.tensor([1.0, 3.0]))
        assert last.to_dict() == pytest.approx(dict(zip((1, 3), wanted.tolist(), strict=True)), rel=1e-4)
        found = outputs_on_grid(run)
        assert list(found) == [0, 6]
        torch.testing.assert_close(found[6].float(), network(parameters, GRID.float())[0], atol=1e-5, rtol=1e-4)


def test_members_have_their_own_rows(runs: list[Run]) -> None:
    first, second = map(frequency_errors, runs)
    assert (first["error"] - second["error"]).abs().min() > 1e-6


def test_rows_are_grouped_by_frequency_and_point(runs: list[Run]) -> None:
    rows = runs[0].metrics()
    assert set(rows.loc[rows["metric"] == "frequency_error", "group"]) == {"k=1", "k=3"}
    assert set(rows.loc[rows["metric"] == "output", "group"]) == {f"point={place}" for place in range(5)}


def test_several_outputs_and_inputs(tmp_path: Path) -> None:
    places = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    fit = Fit(
        network=MLP(inputs=2, widths=(4,), outputs=2),
        initialization=Initialization.named("xavier"),
        data={"train": Points(places, places)},
        steps=1,
        observers=(OutputOnGrid(places),),
    )
    (run,) = train_fits({"one": fit}, tmp_path, progress=False)
    network, parameters = load_mlp(run.folder / "model")
    torch.testing.assert_close(outputs_on_grid(run)[1].float(), network(parameters, places)[0])
    assert "point=2 output=1" in set(run.metrics()["group"])


def test_observers_travel_and_are_named_by_their_numbers() -> None:
    error, output = FrequencyError(POINTS, VALUES, (1, 3)), OutputOnGrid(GRID, (0, 6))
    for one in (error, output):
        assert repr(pickle.loads(pickle.dumps(one))) == repr(one)
        assert len(repr(one)) < 80
    others = [
        FrequencyError(POINTS, VALUES, (1,)),
        FrequencyError(POINTS, 2 * VALUES, (1, 3)),
        FrequencyError(POINTS + 2 * math.pi, VALUES, (1, 3)),
    ]
    assert len({repr(error), *map(repr, others)}) == 4
    assert len({repr(output), repr(OutputOnGrid(GRID)), repr(OutputOnGrid(2 * GRID, (0, 6)))}) == 3


@pytest.mark.parametrize(
    ("values", "frequencies", "message"),
    [
        (VALUES, (), "frequencies: there are none"),
        (VALUES[:, 0], (1,), r"values: have shape \[16\]; must be \[16, 1\]"),
        (VALUES, (2,), "frequencies: the targets have none at k=2"),
        (VALUES, ((1, 3),), "frequencies: have 2 inputs; must have 1"),
    ],
)
def test_wrong_values_are_named(values: torch.Tensor, frequencies: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        FrequencyError(POINTS, values, frequencies)


def test_what_was_not_measured_is_named(tmp_path: Path) -> None:
    fit = Fit(
        network=MLP(inputs=1, widths=(4,)),
        initialization=Initialization.named("xavier"),
        data={"train": Points(POINTS, VALUES)},
        steps=1,
    )
    (run,) = train_fits({"one": fit}, tmp_path, progress=False)
    with pytest.raises(InputError, match="no outputs were measured; train with OutputOnGrid"):
        outputs_on_grid(run)
