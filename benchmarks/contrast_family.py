"""Why the main job's task is what it is: the same two members on other composite tasks.

python benchmarks/contrast_family.py [--seeds 1] [--out benchmarks/results/contrast_family.json]
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from machine import describe

from anchorlab import Experiment, train_all
from anchorlab.experiments.contrast import contrast_experiments

# Offsets of the anchors, and the two that never meet in training. "sum seen": a seen pair adds up to the same.
FAMILY: dict[str, tuple[Sequence[int], tuple[int, int]]] = {
    "3 anchors in steps of 4, sum seen": ([5, 1, -3], (0, 2)),
    "4 anchors in steps of 1, sum seen": ([1, 2, 3, 4], (0, 3)),
    "4 anchors of chapter 13, sum not seen": ([5, 1, -2, -8], (2, 3)),
    "6 anchors, sum seen": ([5, 1, -2, -8, 3, -5], (2, 3)),
}


def members(offsets: Sequence[int], unseen: tuple[int, int], seed: int) -> dict[str, Experiment]:
    """The main job's two members on another task."""
    names = "abcdefgh"[: len(offsets)]
    pair = names[unseen[0]], names[unseen[1]]
    operations = {name: f"add:{offset}" for name, offset in zip(names, offsets, strict=True)}
    fields = {"operations": operations, "held_out": (pair, pair[::-1])}
    return {
        name: Experiment(**{**experiment.__dict__, "task_fields": fields})
        for name, experiment in contrast_experiments("composite", seed).items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for label, (offsets, unseen) in FAMILY.items():
        for seed in range(options.seeds):
            chosen = members(offsets, unseen, seed)
            with tempfile.TemporaryDirectory() as folder:
                runs = train_all(list(chosen.values()), [Path(folder) / name for name in chosen])
                scores = {run.name: [round(run.final(split), 4) for split in ("test", "ood")] for run in runs}
            rows.append({"task": label, "offsets": list(offsets), "seed": seed, **scores})
            print(json.dumps(rows[-1]), flush=True)
    if options.out:
        options.out.write_text(
            json.dumps({"columns": "[ID, OOD]", "machine": describe(), "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
