"""The main job on several seeds: does every seed show the contrast, and how long does it take?

python benchmarks/contrast.py [--seeds 5] [--out benchmarks/results/contrast.json]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from machine import describe

from anchorlab import run_contrast


def measure(seed: int, folder: Path) -> dict[str, object]:
    """One run of the main job from nothing to its report."""
    began = time.perf_counter()
    contrast = run_contrast("composite", folder, seed=seed)
    seconds = round(time.perf_counter() - began, 1)
    scores = {
        found.name: {"id": found.phase.id_accuracy, "ood": found.phase.ood_accuracy}
        for found in contrast.explanations
        if found.phase
    }
    reached = (
        min(score["id"] for score in scores.values()) >= 0.95
        and scores["memorising"]["ood"] <= 0.3
        and scores["reasoning"]["ood"] >= 0.9
    )
    return {"seed": seed, "seconds": seconds, **scores, "reached": reached}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(seed, Path(folder)))
        print(json.dumps(results[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps({"machine": describe(), "seeds": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
