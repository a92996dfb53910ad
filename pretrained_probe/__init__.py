"""Probes of pretrained models: which heads shift, broadcast or sink, at which depth, and whether they matter."""

from .colouring import ColouredText, ModelColours, colours, token_probabilities
from .depth import DepthClaim, DepthTrend, claim, depth_trend
from .id_prompts import random_prompts, task_prompts
from .knockouts import Knockouts, knock_out
from .loading import Loading, Pretrained, load_pretrained
from .name_prompts import book_prompt, name_prompts
from .probe import Probe, ShownAttention
from .probing import choose_prompts, probe_model
from .prompts import Prompt, PromptSet, prompt_from_ids, prompt_from_text
from .scoring import score_prompts
from .text_prompts import text_prompts

__all__ = [
    "ColouredText",
    "DepthClaim",
    "DepthTrend",
    "Knockouts",
    "Loading",
    "ModelColours",
    "Pretrained",
    "Probe",
    "Prompt",
    "PromptSet",
    "ShownAttention",
    "book_prompt",
    "choose_prompts",
    "claim",
    "colours",
    "depth_trend",
    "knock_out",
    "load_pretrained",
    "name_prompts",
    "probe_model",
    "prompt_from_ids",
    "prompt_from_text",
    "random_prompts",
    "score_prompts",
    "task_prompts",
    "text_prompts",
    "token_probabilities",
]
