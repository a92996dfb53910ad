import pytest
import torch

from anchorlab.errors import InputError
from anchorlab.phenomena import column_splits, pixels


def test_columns_are_learned_in_turn() -> None:
    picture = torch.arange(16, dtype=torch.float64).view(4, 4)
    splits = column_splits(picture)
    assert splits["train"].targets[:, 0].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert splits["test"].inputs[0].tolist() == pytest.approx([-1 / 3, -1])
    corner = pixels(picture)
    assert corner.inputs[-1].tolist() == [1, 1]
    assert corner.inputs[1].tolist() == pytest.approx([-1 / 3, -1])  # x goes along a row


@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (4,), (2, 2, 3)])
def test_a_picture_is_square(shape: tuple[int, ...]) -> None:
    for function in (pixels, column_splits):
        with pytest.raises(InputError, match=r"^picture: has shape \[.*\]; must be \[side, side\] with a side"):
            function(torch.zeros(shape))
