"""Experiments that train, and explanations that are made, in a moment."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image
from sklearn.manifold import TSNE

from anchorlab import Experiment
from anchorlab.analysis import embedding, output_space, projection
from anchorlab.engine import Monitor
from anchorlab.experiments import phase, sweeps

SMALL: dict[str, Any] = {
    "model": "post_ln",
    "layers": 2,
    "heads": 1,
    "width": 16,
    "train_rows": 600,
    "test_rows": 50,
    "ood_rows": 40,
    "batch_size": 32,
    "steps": 10,
    "device": "cpu",
}


def small(**settings: Any) -> Experiment:
    """An experiment of ten steps, with some other settings."""
    return Experiment(**(SMALL | settings))


@contextmanager
def brief_geometry() -> Iterator[None]:
    """Few steps of t-SNE and few shuffles, which take most of an explanation's time, where nothing depends on them."""
    with pytest.MonkeyPatch.context() as patch:
        # Any gradient is small enough to stop at the first check, after 50 steps.
        patch.setattr(projection, "TSNE", partial(TSNE, max_iter=250, min_grad_norm=1e9))
        for module in (embedding, output_space):
            patch.setattr(module, "_SHUFFLES", 20)
        yield


@contextmanager
def brief_figures() -> Iterator[None]:
    """Figures whose parts have no places of their own, the search for which takes as long as all else of a page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
        yield


@contextmanager
def undrawn_figures() -> Iterator[None]:
    """Figures that are made and kept as one pixel, where nothing looks at them."""

    def save(figure: Figure, file: Any, **options: Any) -> None:
        if options["format"] == "svg":
            file.write("<svg/>")
        else:
            Image.new("RGB", (1, 1)).save(file, format="png")

    with brief_figures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        yield


@contextmanager
def pools_in_this_process() -> Iterator[None]:
    """What sweeps and phase diagrams do in a pool is done here, without the start of the pool, which takes seconds."""

    def launch(
        work: Callable[[Any, Monitor], None], items: Sequence[Any], *, monitor: Monitor | None = None, **_: Any
    ) -> None:
        for item in items:
            work(item, monitor or Monitor())

    with pytest.MonkeyPatch.context() as patch:
        for module in (sweeps, phase):
            patch.setattr(module, "train_in_processes", launch)
        yield
