from pathlib import Path

import pytest

from anchorlab.engine import Monitor, RunWriter, ray_worker
from anchorlab.errors import FolderInUse


def test_a_folder_still_locked_by_a_lost_process_is_waited_for(tmp_path: Path) -> None:
    lost, claims = RunWriter(tmp_path / "run"), []
    lost.claim({})

    def claim(item: int, monitor: Monitor) -> None:
        claims.append(item)
        if len(claims) == 3:
            lost.close()
        RunWriter(tmp_path / "run").claim({})

    with pytest.raises(FolderInUse, match="another process is training in this folder"):
        ray_worker.call_patiently(claim, 0, Monitor(), patience=0.0)
    ray_worker.call_patiently(claim, 1, Monitor(), patience=60.0)
    assert claims == [0, 1, 1]
