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
from .phases import Phase, phase

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
    "Phase",
    "TrainedRun",
    "attention_maps",
    "embedding_pca",
    "evaluate",
    "explain",
    "fresh_row_seed",
    "measure_condensation",
    "phase",
    "query_weights",
    "worked_example",
]
