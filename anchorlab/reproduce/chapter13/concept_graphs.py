"""Figure 13.13: which shape a conditional diffusion model draws for tuples of concepts that it has not seen."""

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from anchorlab.corpora.concept_shapes import (
    CONCEPT_WIDTHS,
    SHAPES,
    TRAINED,
    TUPLES,
    concepts_of,
    describe,
    draw,
    recognize,
)
from anchorlab.engine import (
    MemberRecord,
    Monitor,
    OptimizerSettings,
    Population,
    Run,
    Schedule,
    TrainingPlan,
    train_in_processes,
    train_population,
)
from anchorlab.engine.diffusion import DiffusionMember, DiffusionProblem, NoiseSchedule, Pictures
from anchorlab.engine.progress import progress_bars
from anchorlab.errors import InputError
from anchorlab.models.denoiser import Denoiser, build_denoiser, draw_uniform, load_denoiser
from anchorlab.report.panels import banded_lines
from anchorlab.report.style import BLACK, BLUE, GREY, PURPLE, SMALL, TEXT, VERMILLION, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study

_UNSEEN = ("010", "011")  # the two of the figure; both are circles
_DRAWN = (*_UNSEEN, *TRAINED)
_DEFAULT = 0.5  # γ of the earlier work
_LEARNED = 0.8  # of the pictures of trained tuples show the shape that was asked for


@dataclass(frozen=True)
class _Training:
    """One network: its settings, its γ and its seed, and the folder of its run."""

    settings: Mapping[str, Any]
    rate: float
    seed: int
    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        """What the run folder says."""
        names = ("pixels", "pictures", "channels", "depth", "noise_steps", "noise", "target", "training")
        known = {name: self.settings[name] for name in names}
        return known | {"initialization_rate": self.rate, "seed": self.seed, "total_steps": known["training"]["steps"]}

    @property
    def schedule(self) -> NoiseSchedule:
        """How pictures turn into noise."""
        return NoiseSchedule(self.settings["noise_steps"], *self.settings["noise"])


def _measure(study: Study) -> Measured:
    if _DEFAULT not in study.settings["rates"]:
        raise InputError(f"rates={study.settings['rates']}: must contain {_DEFAULT:g}, the default of the source")
    trainings = [
        _Training(study.settings, rate, seed, study.folder / f"gamma{rate:g}-seed{seed}")
        for rate, seed in product(study.settings["rates"], study.seeds)
    ]
    began = time.perf_counter()
    with progress_bars(enabled=study.progress) as monitor:
        train_in_processes(_train, trainings, monitor=monitor)
    study.training_seconds += time.perf_counter() - began
    study.trained.extend(Run.open(one.folder) for one in trainings)
    with study.working("drawing pictures"):
        tables = [_draw_and_recognize(one) for one in trainings]
    pictures = pd.concat(tables, ignore_index=True)
    shapes = shape_shares(pictures)
    shown = pictures[(pictures.seed == 0) & (pictures.number < study.settings["shown"])]
    return Measured(values=values_of(shapes), tables={"shapes": shapes, "pictures": shown})


def _train(training: _Training, monitor: Monitor) -> None:
    shape, settings = training.settings, training.settings["training"]
    splits = {
        "train": _pictures(TRAINED, training.settings, seed=training.seed),
        "unseen": _pictures(_UNSEEN, training.settings, seed=training.seed),
    }

    def initialize(denoiser: Denoiser) -> None:
        draw_uniform(denoiser, training.rate, torch.Generator().manual_seed(training.seed))

    device = "cuda" if torch.cuda.is_available() else "cpu"
    problem = DiffusionProblem(
        build_denoiser(shape["pixels"], shape["channels"], shape["depth"], CONCEPT_WIDTHS),
        [DiffusionMember(splits, initialize, noise_seed=training.seed)],
        schedule=training.schedule,
        target=shape["target"],
        batch_size=settings["batch_size"],
        device=device,
    )
    peak, steps = settings["learning_rate"], settings["steps"]
    optimizer = OptimizerSettings("adam", Schedule(0.0, peak, 0.0, settings["warmup"], steps))
    train_population(
        Population(problem, [optimizer], device=device),
        [MemberRecord(training.folder, training.config)],
        TrainingPlan(steps=steps, evaluate_every=settings["evaluate_every"], checkpoint_every=steps),
        monitor=monitor,
    )


def _pictures(tuples: Sequence[str], settings: Mapping[str, Any], *, seed: int) -> Pictures:
    names = [name for _ in range(settings["pictures"]) for name in tuples]
    drawings = draw(names, settings["pixels"], np.random.Generator(np.random.Philox(seed)))
    return Pictures(torch.from_numpy(drawings.images), torch.from_numpy(drawings.concepts))


def _draw_and_recognize(training: _Training) -> pd.DataFrame:
    """One row for every picture that the network draws: what was asked for and what it shows."""
    count, pixels = training.settings["drawn"], training.settings["pixels"]
    names = [name for name in _DRAWN for _ in range(count)]
    denoiser = load_denoiser(training.folder / "model")
    with torch.no_grad():
        images = training.schedule.sample(
            denoiser,
            training.settings["target"],
            torch.from_numpy(concepts_of(names)),
            (3, pixels, pixels),
            torch.Generator().manual_seed(training.seed),
        ).numpy()
    found = recognize(images)
    return pd.DataFrame(
        {
            "rate": training.rate,
            "seed": training.seed,
            "asked": [describe(name) for name in names],
            "number": [number for _ in _DRAWN for number in range(count)],
            "shape": np.where(found.clear, np.array(SHAPES)[found.shapes], "neither"),
            "size": found.sizes.round(2),
            "rgb": [encoded(image) for image in images],
        }
    )


def shape_shares(pictures: pd.DataFrame) -> pd.DataFrame:
    """The share of circles and of triangles among the pictures of each tuple, for every γ and seed."""
    shown = pictures.assign(**{shape: pictures["shape"] == shape for shape in SHAPES})
    return shown.groupby(["rate", "seed", "asked"], sort=False, as_index=False)[list(SHAPES)].mean()


def values_of(shapes: pd.DataFrame) -> list[Value]:
    """The shares of triangles at γ = 0.5 and of circles at the largest γ above it, over unseen tuples, for every seed.

    Only networks count that draw the shapes of the tuples that they were trained on; NaN where there is none.
    """
    found = []
    for seed in shapes.seed.unique().tolist():
        networks = shapes[shapes.seed == seed].set_index("asked")
        drawn = {rate: networks[networks.rate == rate] for rate in networks.rate.unique().tolist()}
        learned = {rate: rows for rate, rows in drawn.items() if _trained_share(rows) >= _LEARNED}
        places = {"triangle": _DEFAULT, "circle": max((rate for rate in learned if rate > _DEFAULT), default=None)}
        for shape, rate in places.items():
            unseen = [describe(name) for name in _UNSEEN]
            share = learned[rate].loc[unseen, shape].mean() if rate in learned else np.nan
            found.append(Value(seed, shape, float(share)))
    return found


def _trained_share(rows: pd.DataFrame) -> float:
    """Of one network's pictures of the trained tuples, the share that shows the right shape."""
    return float(np.mean([rows.loc[describe(name), SHAPES[int(name[0])]] for name in TRAINED]))


def encoded(image: Float[np.ndarray, "3 pixels pixels"]) -> str:
    """RGB from 0 to 1 as text: one byte a number, in base64."""
    return base64.b64encode((image.clip(0, 1) * 255).round().astype(np.uint8).tobytes()).decode()


def _decoded(text: str) -> UInt8[np.ndarray, "pixels pixels 3"]:
    values = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    side = round((len(values) / 3) ** 0.5)
    return values.reshape(3, side, side).transpose(1, 2, 0)


def _figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    shapes = tables["shapes"]
    rates = sorted(shapes.rate.unique().tolist())
    figure = new_figure(3.9 + 1.75 * len(rates), 6.4)
    grid = figure.add_gridspec(1, 2, width_ratios=(3.6, 1.75 * len(rates)))
    left = grid[0].subgridspec(2, 1)
    _draw_cube(figure.add_subplot(left[0]))
    _draw_shares(figure.add_subplot(left[1]), shapes)
    _draw_pictures(figure.add_subplot(grid[1]), tables["pictures"], rates)
    return figure


def _draw_cube(axes: Axes) -> None:
    """The concept graph: one corner for every tuple, those trained on in black."""
    corners = {name: np.array([int(digit) for digit in name]) for name in TUPLES}
    places = {name: (x + 0.45 * z, y + 0.35 * z) for name, (x, y, z) in corners.items()}
    for a, b in product(corners, corners):
        if a < b and abs(corners[a] - corners[b]).sum() == 1:
            axes.plot(*zip(places[a], places[b], strict=True), color=GREY, linewidth=1, zorder=1)
    for name, (x, y) in places.items():
        trained = name in TRAINED
        axes.scatter(x, y, s=620, color=BLACK if trained else "white", edgecolors=BLACK, zorder=2)
        axes.text(x, y, name, color="white" if trained else BLACK, ha="center", va="center", fontsize=SMALL)
    axes.set_title("A  Concept graph; trained tuples in black", fontsize=TEXT, loc="left")
    axes.text(0.5, -0.22, "circle → triangle", ha="center", va="top", fontsize=SMALL)
    axes.text(-0.2, 0.5, "large → small", ha="right", va="center", rotation=90, fontsize=SMALL)
    axes.text(1.37, 0.0, "red → blue", ha="center", va="center", rotation=38, fontsize=SMALL)
    axes.set_aspect("equal")
    axes.margins(0.17)
    axes.axis("off")


def _draw_shares(axes: Axes, shapes: pd.DataFrame) -> None:
    """Circles and triangles among the pictures of the unseen tuples."""
    unseen = shapes[shapes.asked.isin([describe(name) for name in _UNSEEN])]
    means = unseen.groupby(["rate", "seed"], as_index=False)[list(SHAPES)].mean()
    long = means.melt(id_vars=["rate", "seed"], var_name="shape", value_name="share")
    colours = {"circle": BLUE, "triangle": VERMILLION}
    banded_lines(axes, long, x="rate", y="share", by="shape", colours=colours)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xticks(sorted(shapes.rate.unique()))
    axes.legend(fontsize=SMALL, frameon=False)
    finish(axes, x="initialization rate γ", y="share of pictures")
    axes.set_title("C  Shapes drawn for 010 and 011", fontsize=TEXT, loc="left")


def _draw_pictures(axes: Axes, pictures: pd.DataFrame, rates: Sequence[float]) -> None:
    """What one network for every γ draws: tuples downwards, unseen ones first."""
    count = int(pictures.number.max()) + 1
    for row, column in product(range(len(_DRAWN)), range(len(rates))):
        chosen = pictures[(pictures.asked == describe(_DRAWN[row])) & (pictures.rate == rates[column])]
        for number, text in zip(chosen.number, chosen.rgb, strict=True):
            x = column * (count + 0.4) + number
            axes.imshow(_decoded(text), extent=(x + 0.04, x + 0.96, row + 0.96, row + 0.04), interpolation="nearest")
    start = rates.index(_DEFAULT) * (count + 0.4)
    axes.add_patch(
        Rectangle((start - 0.12, -0.08), count + 0.24, len(_DRAWN) + 0.16, fill=False, edgecolor=PURPLE, linewidth=2.5)
    )
    axes.axhline(len(_UNSEEN), color=BLACK, linewidth=1, linestyle="--")
    axes.set_xlim(-0.25, len(rates) * (count + 0.4))
    axes.set_ylim(len(_DRAWN) + 0.2, -0.2)
    axes.set_xticks(
        [column * (count + 0.4) + count / 2 for column in range(len(rates))],
        [f"γ = {rate:g}" + ("\n(default)" if rate == _DEFAULT else "") for rate in rates],
        fontsize=SMALL,
    )
    axes.set_yticks(
        [row + 0.5 for row in range(len(_DRAWN))],
        [describe(name).replace(" ", "\n", 1) for name in _DRAWN],
        fontsize=SMALL,
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("B  Pictures of one network for each γ", fontsize=TEXT, loc="left")


_LAPTOP: dict[str, Any] = {
    "seeds": 3,
    "rates": [0.3, 0.5, 0.7, 0.9],
    "pixels": 16,
    "pictures": 500,
    "channels": 16,
    "depth": 1,
    "noise_steps": 50,
    "noise": [5e-3, 0.2],
    "target": "image",
    "training": {"steps": 1_000, "batch_size": 32, "learning_rate": 3e-3, "warmup": 50, "evaluate_every": 250},
    "drawn": 32,
    "shown": 3,
}
_SMOKE = _LAPTOP | {
    "seeds": 1,
    "rates": [0.5, 0.9],
    "pictures": 8,
    "channels": 8,
    "noise_steps": 10,
    "noise": [5e-3, 0.6],
    "training": {"steps": 10, "batch_size": 8, "learning_rate": 3e-3, "warmup": 2, "evaluate_every": 10},
    "drawn": 4,
}
_PAPER = _LAPTOP | {
    "rates": [0.5, 0.6, 0.7, 0.8, 0.9],
    "pixels": 28,
    "pictures": 1_250,
    "channels": 256,
    "depth": 2,
    "noise_steps": 500,
    "noise": [1e-4, 0.02],
    "target": "noise",
    "training": {"steps": 7_800, "batch_size": 64, "learning_rate": 1e-4, "warmup": 0, "evaluate_every": 780},
    "drawn": 64,
}

REPRODUCTIONS = (
    Reproduction(
        id="fig13.13",
        title="Small initialization lets a diffusion model draw a circle where it drew a triangle",
        source="section 13.6, figure 13.13; Okawa et al. 2024, arXiv 2310.09336",
        claim=Claim(
            text=(
                "Trained on 000, 100, 001 and 111, a conditional diffusion model draws triangles for the small circles "
                "010 and 011 at the default γ = 0.5, and circles at a larger γ."
            ),
            conditions=(
                Condition(
                    quantity="triangle",
                    text="share of triangles among the pictures of 010 and 011 at γ = 0.5",
                    at_least=0.5,
                    source="triangles",
                ),
                Condition(
                    quantity="circle",
                    text="share of circles among the pictures of 010 and 011 at the largest γ above 0.5 whose network "
                    "learned the trained tuples",
                    at_least=0.5,
                    source="circles",
                ),
            ),
        ),
        scales={"smoke": _SMOKE, "laptop": _LAPTOP, "paper": _PAPER},
        measure=_measure,
        figure=_figure,
        notes=(
            "The section gives neither the network nor its training; the paper scale follows the published code of "
            "Okawa et al. (U-Net of 256 channels, 28 x 28 pixels, 500 noise steps, Adam at 1e-4, 7800 steps of 64), "
            "with a cosine in place of their linear decay, pictures drawn by this project's renderer, and norms over "
            "one image in place of batch norms. Laptop: 16 channels, one convolution in a block, 16 x 16 pixels, 50 "
            "noise steps, 1000 steps of 32, and a denoiser that predicts the image: with the noise as target, networks "
            "of 8 channels drew no recognizable shape within 600 steps, with the image all large ones within 500. "
            "Shapes are found by template matching, which takes none of 4000 rendered pictures for the wrong shape "
            "(1 with noise of 0.1 in every channel). A network counts if at least 80 % of its pictures of the trained "
            "tuples show the right shape; of those above γ = 0.5, the one of the largest γ is asked for circles. No "
            "network of any γ draws triangles for 010 or 011 (at most 3 % of a tuple's pictures): these are circles, "
            "also at γ = 0.3, or of no recognizable shape. A size that draws triangles was not found."
        ),
    ),
)
