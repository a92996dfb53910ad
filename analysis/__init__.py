"""Explanations of trained networks: what they answer, and how attention, embeddings and weights produce it."""

from .accuracy import PairMatrix
from .answers import CLASSES
from .attention import NoAttentionError, attention_maps
from .condensation import Condensation, measure_condensation, query_weights
from .embedding import EmbeddingPCA, embedding_pca
from .evaluation import Evaluation, evaluate
from .example import Example, worked_example
from .explain import TrainedRun, explain, fresh_row_seed
from .explanation import Attention, Explanation
from .phase_grid import Panel, PhaseGrid, phase_grid
from .phases import Phase, phase
from .run_collection import RunCollection, Thresholds, collect_runs
from .run_table import run_table

__all__ = [
    "CLASSES",
    "Attention",
    "Condensation",
    "EmbeddingPCA",
    "Evaluation",
    "Example",
    "Explanation",
    "NoAttentionError",
    "PairMatrix",
    "Panel",
    "Phase",
    "PhaseGrid",
    "RunCollection",
    "Thresholds",
    "TrainedRun",
    "attention_maps",
    "collect_runs",
    "embedding_pca",
    "evaluate",
    "explain",
    "fresh_row_seed",
    "measure_condensation",
    "phase",
    "phase_grid",
    "query_weights",
    "run_table",
    "worked_example",
]
