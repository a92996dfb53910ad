"""The benchmark card: any causal network on the nine anchor tasks by one protocol, beside GPT-2, LSTM and FNN."""

from .card import Card, Spread, TaskScore, read_card
from .comparison import Comparison
from .protocol import LEARNED, PROTOCOLS, TASKS, Protocol
from .running import benchmark, shipped_cards

__all__ = [
    "LEARNED",
    "PROTOCOLS",
    "TASKS",
    "Card",
    "Comparison",
    "Protocol",
    "Spread",
    "TaskScore",
    "benchmark",
    "read_card",
    "shipped_cards",
]
