"""Identity learning and every other single-anchor function (eqs. 12.1-12.3, section 12.6.1)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from .base import STRICT
from .registry import register_task
from .single_anchor import SingleAnchorTask
from .vocabulary import LARGEST_SIZE


@register_task
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Identity(SingleAnchorTask):
    """``3x → x``: the label is the number after the anchor; with other settings, any function of eq. 12.3.

    `operation` is g_a and `offsets` is I_a: ``operation="add:1"`` gives ``3x → x+1``, ``offsets=(-1,)`` the previous
    item, ``offsets=(2,)`` the item two ahead, ``offsets=(-1, 1), operation="max"`` a function of two key items.
    """

    name: ClassVar[str] = "identity"
    source: ClassVar[str] = "section 12.6.1, eqs. 12.1-12.3; arXiv 2401.08309"
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "book": {},
        "arxiv-2401.08309": {"vocabulary_size": 201},
    }

    _operation_field: ClassVar[str] = "operation"
    _anchor_field: ClassVar[str] = "anchor_id"

    anchor_id: int = Field(default=3, ge=1, lt=LARGEST_SIZE, description="token id of the anchor")
    operation: str = Field(default="identity", description="g_a: what is done with the key items")

    @property
    def _operations(self) -> Mapping[str, str]:
        return {str(self.anchor_id): self.operation}

    @cached_property
    def _anchors(self) -> Mapping[str, int]:
        return {str(self.anchor_id): self.anchor_id}
