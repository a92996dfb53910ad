"""Make docs/results.md from the results in docs/results/; `generate_results.py DIR` first takes over those of DIR.

DIR is the --out of `anchorlab reproduce`; its results at laptop and paper scale are taken.
"""

import shutil
import sys
from pathlib import Path

from anchorlab.reproduce import get, names, read_result, results_page

FOLDER = Path(__file__).parent / "results"
PAGE = FOLDER.with_suffix(".md")


def keep(source: Path) -> None:
    """Take over the results that `anchorlab reproduce --out SOURCE` wrote."""
    for scale in ("laptop", "paper"):
        for path in sorted(source.glob(f"*/{scale}/result.json")):
            name = f"{path.parent.parent.name}-{scale}"
            shutil.copyfile(path, FOLDER / f"{name}.json")
            shutil.copyfile(path.with_name("figure.png"), FOLDER / f"{name}.png")


def page() -> str:
    """The page from the kept results, in the order of the catalogue."""
    results = [read_result(path) for path in FOLDER.glob("*.json")]
    order = names()
    notes = {name: get(name).notes for name in order}
    return results_page(sorted(results, key=lambda one: (order.index(one.id), one.scale)), notes, figures="results")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for folder in sys.argv[1:]:
        keep(Path(folder))
    PAGE.write_text(page(), encoding="utf-8")
