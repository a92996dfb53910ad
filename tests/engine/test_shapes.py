"""The shapes in the annotations are those of the arrays: the engine runs with every annotation checked."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch
from jaxtyping import TypeCheckError, install_import_hook

from anchorlab import engine, models

TOKENS = torch.arange(40).reshape(10, 4) % 7
NO_GROUPS = torch.zeros(10, dtype=torch.long)


@contextmanager
def annotations_checked(part: str) -> Iterator[ModuleType]:
    """A second copy of a module of the engine, for these tests alone."""
    name = f"anchorlab.engine.{part}"
    with pytest.MonkeyPatch.context() as patch, install_import_hook(name, "beartype.beartype"):
        patch.delitem(sys.modules, name)
        patch.setattr(engine, part, getattr(engine, part))
        yield importlib.import_module(name)


@pytest.fixture(scope="module")
def checked() -> Iterator[ModuleType]:
    with annotations_checked("sequences") as module:
        yield module


@pytest.mark.parametrize("name", ["post_ln", "lstm"])
def test_annotated_shapes_hold(checked: ModuleType, name: str) -> None:
    rows = engine.Rows(TOKENS, TOKENS[:, 1], NO_GROUPS, ("only",))
    model = models.build(name, 7, 4, layers=1, heads=1, width=8)
    members = [engine.SequenceMember({"train": rows}, lambda module: None, seed) for seed in (0, 1)]
    problem = checked.SequenceProblem(model, members, batch_size=3)
    parameters = [problem.initialize(0), problem.initialize(1)]
    stacked = {key: torch.stack([one[key] for one in parameters]) for key in parameters[0]}
    problem.loss(stacked, problem.batch([0, 1], 0))
    problem.evaluate(stacked, [0, 1])


def test_wrong_shapes_are_noticed(checked: ModuleType) -> None:
    with pytest.raises(TypeCheckError):
        checked._cross_entropy(torch.zeros(2, 3, 7), torch.zeros(3, 2, dtype=torch.long))


def test_rows_with_too_few_labels_are_noticed() -> None:
    with annotations_checked("rows") as checked, pytest.raises(TypeCheckError):
        checked.Rows(TOKENS, TOKENS[:9, 1], NO_GROUPS, ())
