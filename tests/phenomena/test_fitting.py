from pathlib import Path
from typing import Any

import pytest
import torch

from anchorlab.phenomena import MLP, Fit, Initialization, Points, train_fits
from anchorlab.phenomena.fitting import parameters_of

X = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("form", [{}, {"antisymmetric": True}, {"antisymmetric": True, "activation": "sin:2"}])
def test_fits_learn_together_what_they_learn_alone(form: dict[str, Any], tmp_path: Path) -> None:
    fits = {
        f"seed{seed}": Fit(
            network=MLP(inputs=1, widths=(6, 5), **form),
            initialization=Initialization.named("xavier"),
            data={"train": Points(X, torch.sin(3 * X))},
            seed=seed,
            steps=5,
            dtype="float64",
        )
        for seed in range(3)
    }
    together = train_fits(fits, tmp_path / "together", members_at_once=3, progress=False)
    alone = train_fits(fits, tmp_path / "alone", members_at_once=1, progress=False)
    for first, second in zip(together, alone, strict=True):
        torch.testing.assert_close(parameters_of(first), parameters_of(second), atol=1e-9, rtol=1e-9)
