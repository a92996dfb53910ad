"""Which groups of rows a network learns slowly: a search for rows that break a rule (section 13.7, figure 13.19)."""

import errno
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from anchorlab.analysis.learning_speed import Detection, LearningSpeed, detection, learning_speed
from anchorlab.engine import Rows, Run
from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.report.speed_figures import about_speed, speed_by_group
from anchorlab.report.style import png
from anchorlab.validation import check_known, unknown_name

from .data import load_data
from .experiment import Experiment
from .training import train

LEAST_GROUPS = 3  # of fewer, none can be told to be slower than the others usually are
_EVALUATIONS = 150

_TRAINING: Mapping[str, Any] = {
    "model": "post_ln",
    "layers": 2,
    "heads": 1,
    "width": 64,
    "feed_forward_width": 192,
    "initialization_rate": 0.8,
    "learning_rate": 1e-3,
    "steps": 6_000,
    "stop_fitted": True,
    "evaluation_rows": 20_000,
}


@dataclass(frozen=True)
class SlowGroups:
    """The groups of a run's rows by learning speed, compared with known noise if there is some.

    `folder` holds `slow_groups.csv` (`table`) and `slow_groups.png`.
    """

    run: Run
    speed: LearningSpeed
    detection: Detection | None
    folder: Path

    @property
    def table(self) -> pd.DataFrame:
        """One row a group, the slowest first: the columns of `LearningSpeed.table` and the `ratio` to the median step.

        The ratio of a group that never got there is a lower bound, from the last recorded step.
        """
        ranked = self.speed.table[::-1].reset_index(drop=True)
        ratio = ranked["step"].fillna(self.speed.last_step).astype(float) / self.speed.median_step
        ranked.insert(3, "ratio", ratio)
        return ranked

    def text(self) -> str:
        """What is slow, and how well that agrees with the known noise."""
        lines = [about_speed(self.speed)]
        if self.detection is not None:
            of = self.detection
            precision = "none, no group is slow" if math.isnan(of.precision) else f"{of.precision:.2f}"
            lines.append(f"{len(of.noisy)} known noisy groups: precision {precision}; recall {of.recall:.2f}")
        return "\n".join(lines)


def slow_groups(
    source: Path | str,
    *,
    noise: Sequence[str] = (),
    out: Path | str | None = None,
    split: str = "train",
    threshold: float = 0.6,
    settings: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> SlowGroups:
    """Rank groups of rows by the step at which their accuracy reached `threshold`, and flag those that were slow.

    A network that starts small looks for a rule first, so rows that break the rule of the others are learned late, and
    so are rows whose rule can no longer be read off the others: what is flagged is a candidate, no proof.

    `source` is the folder of a run that recorded accuracy by group, or rows as `Experiment(data=…)` takes them, with a
    column `group`: a file, or a folder. On rows a network is trained first, with small weights (γ = 0.8) and
    evaluations close together; `settings` replaces settings of that `Experiment`. `out` is the folder for table and
    figure (default: `RUN/analysis`), of rows the run's own (default: a name made of the file's, under `runs/`).
    `noise` names groups that are known to be noisy, from which precision and recall follow; a name that is no group is
    read as several, with commas between. `progress` is that of `train`.

    Raises InputError for a source that is neither, without groups or with fewer than three; an unknown group or split;
    rows with a group that is not evaluated; settings for a run that is trained already; and a training that ended too
    early to tell. Interrupted when stopped.
    """
    path = Path(source)
    if (path / "config.json").is_file():
        if settings:
            raise InputError(f"settings: {str(source)!r} is trained already; leave {', '.join(settings)} out")
        run = Run.open(path)
        folder = Path(out) if out is not None else path / "analysis"
    else:
        experiment = _experiment(path, settings or {}, noise, split)
        run = train(experiment, out or Path("runs") / f"{path.stem}-slow-groups", progress=progress)
        folder = run.folder / "analysis"
    speed = _speed(run, split, threshold)
    noisy = _known_groups(noise, speed.table["group"].tolist())
    found = SlowGroups(run, speed, detection(speed.slow, noisy) if noisy else None, folder)
    _write(found)
    return found


def _experiment(path: Path, settings: Mapping[str, Any], noise: Sequence[str], split: str) -> Experiment:
    """The training on the user's rows; all that can be wrong with them is found before it begins."""
    if not path.exists():
        raise InputError(f"source={str(path)!r}: no such run, file or folder")
    chosen = {**_TRAINING, **settings}
    if "epochs" in settings:
        del chosen["steps"]
    experiment = Experiment(data=str(path), **chosen)
    splits = load_data(experiment).splits
    check_known("split", split, splits)
    _check_groups(path, split, splits[split], experiment.evaluation_rows if split == "train" else None)
    _known_groups(noise, splits[split].group_names)
    count = len(splits["train"].labels)
    batch = min(experiment.rows_per_step or count, count)
    steps = experiment.steps or (experiment.epochs or 1) * (count // batch)
    close = {
        "batch_size": experiment.batch_size or batch,
        "evaluate_every": max(1, steps // _EVALUATIONS),
    }
    return Experiment(data=str(path), **{**close, **chosen})


def _check_groups(path: Path, split: str, rows: Rows, evaluated: int | None) -> None:
    """Raise InputError for too few groups, or one without a row among the first `evaluated` (None: all) rows."""
    where = f"data={str(path)!r}"
    if len(rows.group_names) < LEAST_GROUPS:
        found = f"{len(rows.group_names)} groups" if rows.group_names else "no column 'group'"
        raise InputError(f"{where}: {found}; at least {LEAST_GROUPS} groups are compared")
    groups = rows.groups[:evaluated]
    seen = set(groups.tolist())
    if missing := [name for number, name in enumerate(rows.group_names) if number not in seen]:
        some = len(groups) < len(rows.groups)
        raise InputError(
            f"{where}: {'the first' if some else 'all'} {len(groups):,} rows of split {split!r}, which are evaluated, "
            f"have none of group {missing[0]!r}; "
            + ("shuffle the rows or raise evaluation_rows" if some else "every group needs some")
        )


def _known_groups(noise: Sequence[str], known: Collection[str]) -> list[str]:
    """The groups that are meant: a name that is none is several, with commas between."""
    names: list[str] = []
    for name in noise:
        parts = [name] if name in known else [part.strip() for part in name.split(",")]
        if not set(parts) <= set(known):
            raise unknown_name("noise", name, known)
        names += parts
    return list(dict.fromkeys(names))


def _speed(run: Run, split: str, threshold: float) -> LearningSpeed:
    where = f"run={str(run.folder)!r}"
    try:
        metrics, status = run.metrics(), run.status
    except (OSError, ValueError, KeyError) as error:
        first_line = str(error).partition("\n")[0]
        raise InputError(f"{where}: a file is missing or cannot be read ({first_line})") from None
    speed = learning_speed(metrics, split=split, threshold=threshold)
    if len(speed.table) < LEAST_GROUPS:
        raise InputError(f"{where}: {len(speed.table)} groups; at least {LEAST_GROUPS} are compared")
    if speed.undecided:
        longer = f"until step {math.ceil(speed.slow_after):,}" if math.isfinite(speed.slow_after) else "longer"
        raise InputError(
            f"{where}: {status} too early to tell what is slow: at step {speed.last_step:,}, {len(speed.undecided)} of "
            f"{len(speed.table)} groups had not reached {threshold:.0%} accuracy; train {longer}"
        )
    return speed


def _write(found: SlowGroups) -> None:
    try:
        found.folder.mkdir(parents=True, exist_ok=True)
        with replacing(found.folder / "slow_groups.csv") as temporary:
            found.table.to_csv(temporary, index=False, float_format="%.6g")
        with replacing(found.folder / "slow_groups.png") as temporary:
            temporary.write_bytes(png(speed_by_group(found.speed)))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise InputError(f"out={str(found.folder)!r}: cannot be written to ({error.strerror})") from None
