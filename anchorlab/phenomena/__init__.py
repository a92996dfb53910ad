"""Deep-learning phenomena of fully connected nets: populations of function fits, and what is measured of them."""

from anchorlab.engine.functions import Points
from anchorlab.models.mlp import MLP, gaussian_frequencies, load_mlp, octaves
from anchorlab.models.mlp_initialization import Initialization

from .fitting import Fit, train_fits
from .pictures import column_splits, pixels

__all__ = [
    "MLP",
    "Fit",
    "Initialization",
    "Points",
    "column_splits",
    "gaussian_frequencies",
    "load_mlp",
    "octaves",
    "pixels",
    "train_fits",
]
