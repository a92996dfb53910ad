"""Experiments that train, and explanations that are made, in a moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from matplotlib.layout_engine import ConstrainedLayoutEngine
from sklearn.manifold import TSNE

from anchorlab import Experiment
from anchorlab.analysis import embedding, projection

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
        patch.setattr(projection, "TSNE", partial(TSNE, max_iter=250))
        patch.setattr(embedding, "_SHUFFLES", 20)
        yield


@contextmanager
def brief_figures() -> Iterator[None]:
    """Figures whose parts have no places of their own, the search for which takes as long as all else of a page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
        yield
