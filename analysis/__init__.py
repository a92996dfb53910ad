"""Explanations of trained networks: what they answer, and how attention, embeddings and weights produce it."""

from .accuracy import PairMatrix
from .answers import CLASSES
from .attention import attention_maps, record_attention, visible_sources
from .attention_hooks import AttentionHook, NoAttentionError, hooked_attention
from .condensation import (
    Condensation,
    CondensationSurvey,
    condensation_along_training,
    condensation_table,
    measure_condensation,
    survey_condensation,
)
from .edits import AttentionEdit, EditRecord, NeverFired, edited_attention, outputs, select_edges
from .embedding import EmbeddingGeometry, EmbeddingPCA, embedding_geometry, embedding_pca
from .evaluation import Evaluation, evaluate
from .example import Example, worked_example
from .explain import analyses, explain
from .explanation import Attention, Explanation
from .head_kinds import HeadScores, join_scores
from .heads import HeadBatch, causal, score_heads, sliding
from .interventions import COMPONENTS, Counterparts, Effects, ablate_heads, ablate_neurons, counterparts, patch
from .learning_speed import LearningSpeed, learning_speed
from .lens_bridge import lens
from .neurons import neuron_weights, query_weights
from .output_geometry import KeyMasked, SecondAnchorMasked, mask_key, mask_second_anchor
from .output_space import PairClusters, SingleAnchorSimilarity, pair_clusters, single_anchor_similarity
from .path import PathGraph, path_graph
from .phase_grid import Panel, PhaseGrid, phase_grid
from .phases import Phase, phase
from .places import find_places, move_rows
from .projection import Projection, project
from .readout import Readout, read_out
from .run_collection import RunCollection, Thresholds, collect_runs
from .run_table import run_table
from .subject import TrainedRun, fresh_row_seed

__all__ = [
    "CLASSES",
    "COMPONENTS",
    "Attention",
    "AttentionEdit",
    "AttentionHook",
    "Condensation",
    "CondensationSurvey",
    "Counterparts",
    "EditRecord",
    "Effects",
    "EmbeddingGeometry",
    "EmbeddingPCA",
    "Evaluation",
    "Example",
    "Explanation",
    "HeadBatch",
    "HeadScores",
    "KeyMasked",
    "LearningSpeed",
    "NeverFired",
    "NoAttentionError",
    "PairClusters",
    "PairMatrix",
    "Panel",
    "PathGraph",
    "Phase",
    "PhaseGrid",
    "Projection",
    "Readout",
    "RunCollection",
    "SecondAnchorMasked",
    "SingleAnchorSimilarity",
    "Thresholds",
    "TrainedRun",
    "ablate_heads",
    "ablate_neurons",
    "analyses",
    "attention_maps",
    "causal",
    "collect_runs",
    "condensation_along_training",
    "condensation_table",
    "counterparts",
    "edited_attention",
    "embedding_geometry",
    "embedding_pca",
    "evaluate",
    "explain",
    "find_places",
    "fresh_row_seed",
    "hooked_attention",
    "join_scores",
    "learning_speed",
    "lens",
    "mask_key",
    "mask_second_anchor",
    "measure_condensation",
    "move_rows",
    "neuron_weights",
    "outputs",
    "pair_clusters",
    "patch",
    "path_graph",
    "phase",
    "phase_grid",
    "project",
    "query_weights",
    "read_out",
    "record_attention",
    "run_table",
    "score_heads",
    "select_edges",
    "single_anchor_similarity",
    "sliding",
    "survey_condensation",
    "visible_sources",
    "worked_example",
]
