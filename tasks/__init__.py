"""Anchor-function tasks: exact data, splits without leaks, and an oracle (chapters 12 and 13).

>>> from anchorlab import tasks
>>> task = tasks.create("composite")
>>> rows = task.sample("train", n=1000, seed=0)
>>> bool((task.solve(rows.tokens) == rows.label).all())
True
"""

from .base import GENERATOR_VERSION, Located, Sample, Task
from .cells import Cells
from .chain import Chain, ChainTask
from .classification import Classification
from .composite import Composite
from .example import example_row, worked_example
from .generate import generate
from .identity import Identity
from .leaks import LeakReport
from .multi_anchor import MultiAnchor
from .operations import Operation, additive, operations, permutations, register
from .reading_comprehension import ReadingComprehension
from .recitation import Recitation
from .registry import Parameter, create, from_config, names, parameters, presets, register_task, task_class
from .single_anchor import SingleAnchorTask
from .splits import AnchorRanges, HeldOutPairs, ModRemainder
from .statistical import Statistical
from .synonym import Synonym
from .vocabulary import Vocabulary
from .working_memory import WorkingMemory

__all__ = [
    "GENERATOR_VERSION",
    "AnchorRanges",
    "Cells",
    "Chain",
    "ChainTask",
    "Classification",
    "Composite",
    "HeldOutPairs",
    "Identity",
    "LeakReport",
    "Located",
    "ModRemainder",
    "MultiAnchor",
    "Operation",
    "Parameter",
    "ReadingComprehension",
    "Recitation",
    "Sample",
    "SingleAnchorTask",
    "Statistical",
    "Synonym",
    "Task",
    "Vocabulary",
    "WorkingMemory",
    "additive",
    "create",
    "example_row",
    "from_config",
    "generate",
    "names",
    "operations",
    "parameters",
    "permutations",
    "presets",
    "register",
    "register_task",
    "task_class",
    "worked_example",
]
