"""Make docs/results.md from the results in docs/results/; `generate_results.py DIR` first takes over those of DIR.

DIR is the --out of `anchorlab reproduce`; its results at laptop and paper scale are taken.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from anchorlab.errors import InputError
from anchorlab.reproduce import get, names, read_result, results_page

FOLDER = Path(__file__).parent / "results"


def keep(sources: Sequence[Path], folder: Path = FOLDER) -> None:
    """Take over the results that `anchorlab reproduce --out SOURCE` wrote for each source, or none of them.

    Raises InputError for a source without results, and for a result without figure or of an unknown id.
    """
    taken: dict[Path, Path] = {}
    for source in sources:
        paths = [path for scale in ("laptop", "paper") for path in sorted(source.glob(f"*/{scale}/result.json"))]
        if not paths:
            raise InputError(f"folder={str(source)!r}: holds no results at laptop or paper scale")
        for path in paths:
            result = read_result(path)
            get(result.id)
            if not (figure := path.with_name("figure.png")).is_file():
                raise InputError(f"folder={str(source)!r}: {str(figure)!r} is missing; measure {result.id} again")
            name = folder / f"{result.id}-{result.scale}"
            taken |= {Path(f"{name}.json"): path, Path(f"{name}.png"): figure}
    for kept, path in taken.items():
        shutil.copyfile(path, kept)


def page(folder: Path = FOLDER) -> str:
    """The page from the kept results, in the order of the catalogue; raises InputError for one of an unknown id."""
    results = [read_result(path) for path in folder.glob("*.json")]
    notes = {one.id: get(one.id).notes for one in results}
    order = names()
    return results_page(sorted(results, key=lambda one: (order.index(one.id), one.scale)), notes, figures="results")


def main(sources: Sequence[str], folder: Path = FOLDER) -> None:
    """Take over results and write the page beside their folder; a wrong source ends with 2 and changes nothing."""
    folder.mkdir(exist_ok=True)
    try:
        keep([Path(source) for source in sources], folder)
        folder.with_suffix(".md").write_text(page(folder), encoding="utf-8")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
