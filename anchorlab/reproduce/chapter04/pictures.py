"""Pictures as functions of the pixel's place (sections 4.1.1 and 4.2.1, figures 4.4 and 4.11)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError
from sklearn.datasets import load_sample_image
from torch import Tensor

from anchorlab.engine import Run
from anchorlab.errors import InputError
from anchorlab.phenomena import MLP, Fit, column_splits, pixels
from anchorlab.phenomena.curves import lateness, settled_at
from anchorlab.phenomena.observers import OutputOnGrid
from anchorlab.report.style import BLUE, GREY, SMALL, VERMILLION, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study
from .curves import initialization, looks, outputs_after, unexplained

Picture = Float[Tensor, "side side"]
BANDS = {"low": (0.5, 2.5), "middle": (2.5, 6.0), "high": (6.0, math.inf)}
"""Spatial frequencies, in waves along the picture's side."""
_BUNDLED = "china.jpg"
_REAL = "picture"
_LEARNED = 0.3  # relative error of a band that is learned


def open_picture(path: str | None, side: int) -> Picture:
    """The middle square of a picture, in grey from -1 to 1, as `side` × `side` pixels.

    Without a path it is scikit-learn's picture of a Chinese temple. Raises InputError for a file that is no picture.
    """
    if side < 4 or side % 2:
        raise InputError(f"side={side}: must be an even number of pixels, at least 4")
    try:
        found = Image.fromarray(load_sample_image(_BUNDLED)) if path is None else Image.open(Path(path))
        grey = found.convert("L")
    except (OSError, UnidentifiedImageError):
        raise InputError(f"picture={path!r}: cannot be read; must be the path of a picture") from None
    edge = min(grey.size)
    left, top = ((size - edge) // 2 for size in grey.size)
    small = grey.crop((left, top, left + edge, top + edge)).resize((side, side), Image.Resampling.BOX)
    return torch.tensor(np.asarray(small) / 127.5 - 1, dtype=torch.float64)


class _Fits(NamedTuple):
    picture: Picture
    shown: Sequence[int]
    seen: Sequence[int]
    runs: dict[int, Run]

    def outputs(self, seed: int) -> dict[int, Picture]:
        """The output of a seed's net at all pixels, by step."""
        found = outputs_after(self.runs[seed], self.seen, pixels(self.picture).targets)
        return {step: at.view(self.picture.shape) for step, at in found.items()}


def _fits(study: Study) -> _Fits:
    settings, training = study.settings, study.settings["training"]
    picture = open_picture(settings["picture"], settings["side"])
    splits, steps = column_splits(picture), training["steps"]
    shown = sorted({steps, *(step for step in settings["shown"] if step <= steps)})
    seen = tuple(sorted({*looks(steps, per_decade=8), *shown}))
    fits = {
        seed: Fit(
            network=MLP(inputs=2, widths=tuple(training["widths"]), activation=training["activation"]),
            initialization=initialization(training["initialization"]),
            data=splits,
            seed=seed,
            learning_rate=training["learning_rate"],
            steps=steps,
            evaluate_every=steps,
            evaluate_at=seen,
            observers=(OutputOnGrid(pixels(picture).inputs, seen),),
        )
        for seed in study.seeds
    }
    return _Fits(picture, shown, seen, study.fit(fits))


def _measure_detail(study: Study) -> Measured:
    fits = _fits(study)
    picture, values, errors = fits.picture, [], []
    for seed in fits.runs:
        outputs = fits.outputs(seed)
        table = pd.concat([band_errors(picture[:, ::2], at[:, ::2]).assign(step=step) for step, at in outputs.items()])
        errors.append(table.assign(seed=seed))
        values += detail_values(seed, table, study.settings["learned"])
        values += column_values(seed, picture, outputs[max(outputs)])
    outputs = fits.outputs(0)
    drawn = [_pixel_table(outputs[step], f"step {step}") for step in fits.shown]
    tables = {
        "pictures": pd.concat([*drawn, _pixel_table(picture, _REAL)], ignore_index=True),
        "errors": pd.concat(errors, ignore_index=True),
    }
    return Measured(values=values, tables=tables)


def band_errors(picture: Float[Tensor, "row column"], output: Float[Tensor, "row column"]) -> pd.DataFrame:
    """The relative error of the output in each of `BANDS`: columns band, error."""
    down, along = (torch.fft.fftfreq(count, dtype=torch.float64) * count for count in picture.shape)
    size = torch.hypot(down[:, None], along[None])
    wanted, difference = (torch.fft.fft2(one, norm="forward").abs().square() for one in (picture, output - picture))
    within = {band: (size > low) & (size <= high) for band, (low, high) in BANDS.items()}
    errors = [float((difference[at].sum() / wanted[at].sum()).sqrt()) for at in within.values()]
    return pd.DataFrame({"band": list(BANDS), "error": errors})


def detail_values(seed: int, errors: pd.DataFrame, learned: float) -> list[Value]:
    """How many times as late each band is learned as the one below, and the error that the highest has at the end."""
    low, middle, high = (settled_at(errors[errors["band"] == band], learned) for band in BANDS)
    details = errors[errors["band"] == "high"].sort_values("step")["error"]
    return [
        Value(seed, "middle after low", lateness(low, middle)),
        Value(seed, "high after middle", lateness(middle, high)),
        Value(seed, "high at the end", float(details.iloc[-1])),
    ]


def column_values(seed: int, picture: Picture, output: Picture) -> list[Value]:
    """The errors on the columns of the training and on the others."""
    return [
        Value(seed, f"{name} columns", unexplained(*(one[:, at::2].reshape(-1, 1) for one in (output, picture))))
        for name, at in (("train", 0), ("test", 1))
    ]


def _pixel_table(picture: Picture, name: str) -> pd.DataFrame:
    rows, columns = (part.reshape(-1) for part in np.indices(picture.shape))
    return pd.DataFrame({"picture": name, "row": rows, "column": columns, "grey": picture.reshape(-1).numpy()})


def _measure_large(study: Study) -> Measured:
    fits = _fits(study)
    picture, last = fits.picture, {seed: fits.outputs(seed)[fits.shown[-1]] for seed in fits.runs}
    values = []
    for seed, output in last.items():
        values += column_values(seed, picture, output)
        values.append(Value(seed, "high along x", _high_along_x(output) / _high_along_x(picture)))
    tables = [_pixel_table(last[0], "output"), _pixel_table(picture, _REAL)]
    return Measured(values=values, tables={"pictures": pd.concat(tables, ignore_index=True)})


def _high_along_x(picture: Picture) -> float:
    """The amplitude, along rows, of the upper half of all frequencies."""
    found = torch.fft.rfft(picture, dim=1, norm="forward").abs().square().mean(0)
    return float(found[len(picture) // 4 + 1 :].sum().sqrt())


def _images(figure: Figure, pictures: pd.DataFrame, extra: int) -> list[Any]:
    """Draw every picture of a table; the `extra` panels that are left."""
    names = list(dict.fromkeys(pictures["picture"]))
    panels = figure.subplots(1, len(names) + extra, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=False):
        square = pictures[pictures["picture"] == name].pivot(index="row", columns="column", values="grey")
        axes.imshow(square.to_numpy(), cmap="gray", vmin=-1, vmax=1)
        axes.set_axis_off()
        axes.set_title(name, fontsize=SMALL)
    return list(panels[len(names) :])


def _draw_detail(result: Mapping[str, pd.DataFrame]) -> Figure:
    pictures = result["pictures"]
    figure = new_figure(2.2 * (pictures["picture"].nunique() + 1.6), 2.6)
    (axes,) = _images(figure, pictures, 1)
    errors = result["errors"][(result["errors"]["seed"] == 0) & (result["errors"]["step"] > 0)]
    for band, colour in zip(BANDS, (BLUE, GREY, VERMILLION), strict=True):
        rows = errors[errors["band"] == band]
        axes.plot(rows["step"], rows["error"], color=colour, label=f"{band} frequencies")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.6)
    axes.legend(fontsize=SMALL, frameon=False, loc="upper right")
    finish(axes, x="steps", y="relative error")
    return figure


def _draw_large(result: Mapping[str, pd.DataFrame]) -> Figure:
    pictures = result["pictures"]
    figure = new_figure(9.6, 2.8)
    (axes,) = _images(figure, pictures, 1)
    middle = pictures["row"].max() // 2
    for name, colour in ((_REAL, BLUE), ("output", VERMILLION)):
        row = pictures[(pictures["picture"] == name) & (pictures["row"] == middle)]
        axes.plot(row["column"], row["grey"], color=colour, marker="o", markersize=2, label=name)
    axes.legend(fontsize=SMALL, frameon=False)
    finish(axes, x="column", y="grey", title=f"row {middle}")
    return figure


def _scale(
    side: int, training: Mapping[str, Any], start: str | tuple[float, ...], shown: tuple[int, ...] = (), seeds: int = 3
) -> dict[str, Any]:
    fixed = {"activation": "tanh", "initialization": start, "learning_rate": 1e-3}
    return {
        "seeds": seeds,
        "picture": None,
        "side": side,
        "learned": _LEARNED,
        "shown": shown,
        "training": {**fixed, **training},
    }


def _later(high: str, low: str) -> Condition:
    return Condition(
        quantity=f"{high} after {low}",
        text=f"steps until the error of {high} frequencies is at most 0.3, over those of {low} ones",
        at_least=2,
        source="first a blurred whole, then details",
    )


_SMALL: dict[str, Any] = {"widths": (20, 20), "steps": 30}
_DEEP = (200, 200, 200)
_LARGE = (1.0, 1.0, 1.0, 1.0)

REPRODUCTIONS = (
    Reproduction(
        id="fig4.4",
        title="A picture is learned from the blurred whole to the details",
        source="section 4.1.1, figure 4.4",
        claim=Claim(
            text="A net that learns the odd columns of a picture first has its coarse forms and last its details, on "
            "the even columns too.",
            conditions=(
                _later("middle", "low"),
                _later("high", "middle"),
                Condition(
                    quantity="high at the end",
                    text="relative error of high frequencies on the columns of the training at the last step",
                    at_most=_LEARNED,
                    source="the net captures details such as the fur",
                ),
                Condition(
                    quantity="train columns",
                    text="mean squared error on the columns of the training, over the variance",
                    at_most=0.05,
                    source="a rather complete picture",
                ),
                Condition(
                    quantity="test columns",
                    text="the same on the other columns",
                    at_most=0.1,
                    source="a rather complete picture",
                ),
            ),
        ),
        scales={
            "smoke": _scale(16, _SMALL, "xavier", (10,), seeds=1),
            "laptop": _scale(40, {"widths": _DEEP, "steps": 5000}, "xavier", (100, 500)),
            "paper": _scale(
                256, {"widths": _DEEP, "steps": 1_000_000, "learning_rate": 1e-4}, "xavier", (20_000, 50_000)
            ),
        },
        measure=_measure_detail,
        figure=_draw_detail,
        notes="scikit-learn's picture of a temple in 40 × 40 pixels in place of the cat (`--set picture=PATH` takes "
        "another); 5000 steps of Adam 1e-3 in place of 1,000,000, tanh, widths 200-200-200. The errors by "
        "frequency are those on the columns of the training: at the high ones, straight lines from column to column "
        "leave an error of 0.32 on all. They were those on all columns before it was asked for, after the first "
        "measurement, that the details are learned in the end; none of three nets learned them there (0.39).",
    ),
    Reproduction(
        id="fig4.11",
        title="With large initial weights a picture's other columns are lost in high frequencies",
        source="section 4.2.1, figure 4.11",
        claim=Claim(
            text="A net that starts from large weights fits the odd columns of a picture; on the even ones it is far "
            "off, and along x its output oscillates.",
            conditions=(
                Condition(
                    quantity="train columns",
                    text="mean squared error on the columns of the training, over the variance",
                    at_most=0.05,
                    source="fits these pixels well",
                ),
                Condition(
                    quantity="test columns",
                    text="the same on the other columns; 1 is that of a grey picture",
                    at_least=0.5,
                    source="unrecognisable",
                ),
                Condition(
                    quantity="high along x",
                    text="amplitude of the upper half of all frequencies along x, over that of the picture",
                    at_least=2,
                    source="many oscillations of high frequency",
                ),
            ),
        ),
        scales={
            "smoke": _scale(16, _SMALL, (1.0, 1.0, 1.0), seeds=1),
            "laptop": _scale(40, {"widths": _DEEP, "steps": 1500}, _LARGE),
            "paper": _scale(256, {"widths": _DEEP, "steps": 100_000, "learning_rate": 1e-4}, _LARGE),
        },
        measure=_measure_large,
        figure=_draw_large,
        notes="Picture as in figure 4.4. All weights and biases have the standard deviation 1 (the usual start of the "
        "width 200: 0.07), tanh, widths 200-200-200, Adam 1e-3.",
    ),
)
