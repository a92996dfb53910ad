import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anchorlab.phenomena import fitting

PAGE = Path(__file__).parents[2] / "docs" / "phenomena.md"
_FEWER = {"steps=2000": "steps=3", "(10, 30, 100, 300, 1000)": "(1, 2)", "(250, 1000, 4000)": "(8, 16, 32)"}


def test_the_code_of_the_page_runs_when_pasted_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer steps and neurons, in one process and one namespace."""

    def train(work: Callable[..., None], items: list[Any], *, monitor: Any) -> None:
        for one in items:
            work(one, monitor)

    monkeypatch.setattr(fitting, "train_in_processes", train)
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
    for long, short in _FEWER.items():
        assert long in code
        code = code.replace(long, short)
    monkeypatch.chdir(tmp_path)
    found: dict[str, object] = {}
    exec(compile(code, PAGE.name, "exec"), found)
    assert found["best"] in (1, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fits", "runs"]
