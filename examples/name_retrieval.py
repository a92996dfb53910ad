"""Train a small Llama in which shift and broadcast heads do the work, to try `anchorlab probe` on.

    python examples/name_retrieval.py runs/names            # four layers, about a minute on one core
    python examples/name_retrieval.py runs/names --small    # three layers, about twenty seconds
    anchorlab probe runs/names/run/model --prompts task:identity

Two kinds of rows, told apart by their last tokens alone:

- names: the task `identity`, "… my name is X …": the answer is the number after the anchor, wherever it stands;
- repetitions: different numbers, of which the last one comes back at the end; the answer is what followed it before.

Names alone are learned without a shift head: the name need only find the anchor near it, and other tokens read what
they like. Repetitions make every token read the one before it, and the names then use the same heads.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from anchorlab import Experiment, tasks, train
from anchorlab.engine import Run

NAMES = 0.25  # of the rows; repetitions take longer to learn
SETTINGS: dict[str, Any] = {
    "model": "llama",
    "heads": 4,
    "width": 64,
    "feed_forward_width": 64,
    "model_options": {"key_value_heads": 2},
    "initialization_rate": 0.8,
    "weight_decay": 0.1,
    "batch_size": 128,
    "steps": 4000,
    "evaluation_rows": 400,
    "device": "cpu",
}
LARGE = {
    **{"layers": 4, "schedule": "constant", "learning_rate": 2e-3},
    **{"evaluate_every": 100, "stop_accuracy": {"test": 0.99}},
}
SMALL = {
    **{"layers": 3, "warmup": 50, "learning_rate": 3e-3, "steps": 2000},
    **{"evaluate_every": 50, "stop_accuracy": {"test": 0.985}},
}


def names(length: int) -> tasks.Task:
    """The task of the rows with names."""
    return tasks.create("identity", length=length)


def write_rows(folder: Path, split: str, count: int, *, length: int) -> None:
    """Write one split of the language as Parquet, in the columns that `Experiment.data` reads."""
    known = round(NAMES * count)
    sample = names(length).sample(split, known, seed=0)
    tokens, labels = repetitions(count - known, length, seed=("train", "test").index(split))
    columns = {
        "input_ids": np.concatenate([sample.tokens, tokens]).tolist(),
        "label": np.concatenate([sample.label, labels]).tolist(),
        "group": ["names"] * known + ["repetitions"] * (count - known),
    }
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / f"{split}.parquet")


def repetitions(count: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of different numbers, the last of which has come before, and what followed it then."""
    random = np.random.Generator(np.random.Philox(seed))
    low, high = names(length).numbers
    shuffled = random.permuted(np.tile(np.arange(low, high + 1), (count, 1)), axis=1)
    asked, rows = random.integers(0, length - 2, count), np.arange(count)
    tokens = shuffled[:, :length]
    tokens[:, -1] = tokens[rows, asked]
    return tokens, tokens[rows, asked + 1]


def train_llama(folder: Path, *, small: bool = False, seed: int = 0) -> Run:
    """Write the rows to `folder`/rows, train on them in `folder`/run until the held-out ones are answered."""
    length, count, chosen = (12, 20_000, SMALL) if small else (16, 40_000, LARGE)
    write_rows(folder / "rows", "train", count, length=length)
    write_rows(folder / "rows", "test", 800, length=length)
    settings = {**SETTINGS, **chosen, "data": str(folder / "rows"), "seed": seed}
    return train(Experiment(**settings), folder / "run")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a small Llama on names and repetitions.")
    parser.add_argument("folder", type=Path, help="where rows and run go")
    parser.add_argument("--small", action="store_true", help="three layers, rows of 12 tokens")
    parser.add_argument("--seed", type=int, default=0, help="of the initialization")
    given = parser.parse_args()
    run = train_llama(given.folder, small=given.small, seed=given.seed)
    table = run.metrics()
    last = table[(table["split"] == "test") & (table["metric"] == "accuracy") & (table["step"] == table["step"].max())]
    for row in last.itertuples():
        print(f"{row.group or 'all held-out rows'}: {row.value:.3f}")
    ended = run.environment
    print(f"after {ended['step']} steps, {ended['wall_time_seconds']:.0f} s: {run.folder / 'model'}")


if __name__ == "__main__":
    main()
