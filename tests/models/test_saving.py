import errno
from pathlib import Path

import pytest
from safetensors import SafetensorError

from anchorlab import models


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_full_disk_is_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    model = models.build("post_ln", 12, 5, layers=1, heads=1, width=8)

    def fail(folder: Path) -> None:  # in the words of the library
        raise SafetensorError(f"Error while serializing: I/O error: it failed (os error {number})")

    monkeypatch.setattr(model, "save_pretrained", fail)
    with pytest.raises((OSError, SafetensorError)) as caught:
        models.save(model, tmp_path)
    assert getattr(caught.value, "errno", None) == (number if number == errno.ENOSPC else None)
