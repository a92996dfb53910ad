"""A key beside k anchors in a row, each acting on the result of the one before (eqs. 12.4, 12.5, 13.1)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Int
from pydantic import Field
from pydantic.dataclasses import dataclass

from anchorlab.errors import InputError

from .base import LARGEST_LENGTH, STRICT, Located, Range, Task, check_rows, check_tokens, find_anchors, is_number
from .cells import Cells, Variant
from .operations import Operation
from .randomness import Stream
from .registry import register_task
from .rules import Names, Rules, check_tuple, solve_rows
from .splits import HeldOutPairs
from .vocabulary import LARGEST_SIZE, AnchorName, place_anchors

LARGEST_NUMBER_OF_TUPLES = LARGEST_SIZE - 1  # groups are numbered in int16


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ChainTask(Task):
    """What `chain`, `composite` and `synonym` share.

    With several `offsets`, the anchor that acts first and every override (a general g_A of eq. 12.4) read the key
    items, an operation that takes one item only the first of them; later anchors act on the one value that comes out.
    """

    length: int = Field(default=9, ge=3, le=LARGEST_LENGTH, description="number of tokens in a row")
    operations: dict[AnchorName, str] = Field(
        default={"a": "add:5", "b": "add:1", "c": "add:-2", "d": "add:-8"},
        min_length=1,
        description="operation of each anchor, by anchor name",
    )
    anchor_ids: dict[AnchorName, int] | None = Field(
        default=None, description="token id of each anchor; none: the ids after the largest number and label"
    )
    held_out: tuple[tuple[AnchorName, ...], ...] = Field(
        default=(), description="tuples of anchors that only the ood split has"
    )
    overrides: dict[str, str] = Field(
        default={}, description='operations of tuples that break the rule, such as {"c,d": "add:-6"} (eq. 12.4)'
    )
    key_side: Literal["before", "after"] = Field(
        default="before", description="whether the key stands before or after its anchors"
    )
    order: Literal["left_to_right", "right_to_left"] = Field(
        default="left_to_right", description="which anchor acts first: g(g(x;a1);a2) or g_a1(g_a2(x))"
    )
    key_positions: Range | None = Field(
        default=None, description="range of positions of the key; none: wherever the anchors fit beside it"
    )
    offsets: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        description="where the key items are, relative to the first anchor (I_A of eq. 12.4); the first is the key "
        "that splits are about; none: one item, beside the anchors",
    )
    ood_keys: Literal["all", "test"] = Field(
        default="all", description="keys of the ood split: all, or only those that would be test keys"
    )

    @property
    @abstractmethod
    def _links(self) -> int:
        """Anchors in a row."""

    @property
    def _all_operations(self) -> Mapping[str, str]:
        return self.operations

    @cached_property
    def _tuples(self) -> Sequence[Names]:
        """Every tuple of anchors that can occur."""
        if len(self.operations) ** self._links > LARGEST_NUMBER_OF_TUPLES:
            field = "links" if hasattr(self, "links") else "operations"
            raise InputError(
                f"{field}: {len(self.operations)} anchors in {self._links} places make too many tuples; "
                f"allowed: up to {LARGEST_NUMBER_OF_TUPLES}"
            )
        return list(product(self.operations, repeat=self._links))

    @cached_property
    def _rules(self) -> Rules:
        return Rules.parse(
            self._all_operations,
            self.overrides,
            self.numbers,
            links=self._links,
            items=len(self._offsets),
            first_is_innermost=self.order == "left_to_right",
        )

    def _check(self) -> None:
        for names in self.held_out:
            check_tuple("held_out", names, self._all_operations, self._links)
        for name in self._all_operations:
            if "," in name or not name:
                raise InputError(f"operations: the anchor name {name!r} is not allowed; allowed: names without commas")
        if self._links >= self.length:
            raise InputError(f"length: {self.length} has no room for a key and {self._links} anchors")
        self._check_offsets()
        self._rules.check_places(self._tuples)
        first, last = self._widest_positions
        if self.key_positions and not first <= self.key_positions[0] <= self.key_positions[1] <= last:
            raise InputError(f"key_positions: {self.key_positions} is not allowed; allowed: ranges in {first}..{last}")

    def _check_offsets(self) -> None:
        if self.offsets is None:
            return
        if self.key_side != "before":
            raise InputError(
                f"key_side: {self.key_side!r} has no effect beside offsets {self.offsets}; give one of them"
            )
        if len(set(self.offsets)) < len(self.offsets) or set(self.offsets) & set(range(self._links)):
            raise InputError(
                f"offsets: {self.offsets} is not allowed; offsets are different from each other and from those of the "
                f"anchors, 0..{self._links - 1}"
            )
        first, last = self._widest_positions
        if first > last:
            raise InputError(f"offsets: {self.offsets} do not fit into a row of length {self.length}")

    @cached_property
    def _offsets(self) -> tuple[int, ...]:
        return self.offsets or ((-1,) if self.key_side == "before" else (self._links,))

    @property
    def _widest_positions(self) -> Range:
        """The positions of the key where all key items and anchors are inside the row."""
        first = max(0, -min(self._offsets)) + self._offsets[0]
        last = self.length - 1 - max(self._links - 1, *self._offsets) + self._offsets[0]
        return first, last

    @cached_property
    def _key_positions(self) -> Sequence[int]:
        low, high = self.key_positions or self._widest_positions
        return range(low, high + 1)

    @cached_property
    def _label_table(self) -> Int[np.ndarray, "variants keys"]:
        return self._rules.table(self._tuples, self.numbers)

    @cached_property
    def _label_values(self) -> Int[np.ndarray, " values"]:
        if len(self._offsets) == 1:
            return np.unique(self._label_table)
        return self._rules.reachable(self._tuples, self.numbers, len(self._offsets))

    @cached_property
    def _anchors(self) -> Mapping[str, int]:
        return place_anchors(
            self._all_operations,
            self.anchor_ids,
            highest_number=max(self.numbers[1], self.noise[1]),
            highest_label=int(self._label_values.max()),
        )

    @cached_property
    def _variants(self) -> Sequence[Variant]:
        return [
            Variant(tuple(self._anchors[name] for name in names), group) for group, names in enumerate(self._tuples)
        ]

    @property
    def group_names(self) -> tuple[str, ...]:
        """One group per tuple of anchors, such as ``a,b``."""
        return tuple(",".join(names) for names in self._tuples)

    @property
    def _held_out(self) -> HeldOutPairs | None:
        if not self.held_out:
            return None
        return HeldOutPairs(tuple(tuple(self._anchors[name] for name in names) for names in self.held_out))

    @property
    def _completions(self) -> int | None:
        others = len(self._offsets) - 1
        span, keys = (high - low + 1 for low, high in (self.noise, self.numbers))
        return int(span ** (self.length - 1 - self._links - others) * keys**others)

    @property
    def single_anchors(self) -> Mapping[int, Operation]:
        """g(·; a) of eq. 13.2 by the id of the anchor a; empty if rows have several key items."""
        return self._rules.on_one_item(self._anchors) if len(self._offsets) == 1 else {}

    @property
    def acts_left_to_right(self) -> bool:
        """Whether the first anchor acts first."""
        return self.order == "left_to_right"

    @property
    def _ood_keys(self) -> Literal["all", "test"]:
        return self.ood_keys

    def _fill(
        self, cells: Cells, chosen: Int[np.ndarray, " n"], stream: Stream
    ) -> tuple[Int[np.ndarray, "n length"], Int[np.ndarray, " n"]]:
        count = len(chosen)
        tokens = stream.numbers(*self.noise, count, self.length)
        key, anchors = cells.key[chosen], cells.anchors[chosen]
        flat, key_at = tokens.reshape(-1), np.arange(count) * self.length + cells.key_position[chosen]
        flat[key_at] = key
        first = -self._offsets[0]
        for link in range(self._links):
            flat[key_at + (first + link)] = anchors[:, link]
        if len(self._offsets) == 1:
            return tokens, self._label_table[cells.variant[chosen], key - self.numbers[0]]
        others = stream.numbers(*self.numbers, count, len(self._offsets) - 1)
        for column, offset in enumerate(self._offsets[1:]):
            flat[key_at + (first + offset)] = others[:, column]
        return tokens, self._labels_of(cells.variant[chosen], np.column_stack([key, others]))

    def _labels_of(self, variant: Int[np.ndarray, " n"], items: Int[np.ndarray, "n items"]) -> Int[np.ndarray, " n"]:
        labels = np.empty(len(items), np.int64)
        for one in np.unique(variant):
            mine = variant == one
            labels[mine] = self._rules.apply(self._tuples[one], items[mine])
        return labels

    def locate(self, tokens: Int[np.ndarray, "n length"]) -> Located:
        """Find the row of anchors by their ids and the key at its offset. Raises `InputError` for malformed rows."""
        return self._read(tokens)[0]

    def _read(self, tokens: Int[np.ndarray, "n length"]) -> tuple[Located, Int[np.ndarray, "n items"]]:
        tokens = check_tokens(self, tokens)
        anchors, positions = find_anchors(tokens, list(self._anchors.values()), self._links)
        check_rows((np.diff(positions, axis=1) == 1).all(axis=1), "has anchors that are not in a row")
        places = positions[:, :1] + np.array(self._offsets)
        for offset, place in zip(self._offsets, places.T, strict=True):
            check_rows(
                (place >= 0) & (place < self.length), f"has no key item at offset {offset} from its first anchor"
            )
        items = np.take_along_axis(tokens, places, axis=1)
        for offset, item in zip(self._offsets, items.T, strict=True):
            check_rows(is_number(self, item), f"has no number at offset {offset} from its anchors")
        return Located(items[:, 0], places[:, 0], anchors, positions), items

    def solve(self, tokens: Int[np.ndarray, "n length"]) -> Int[np.ndarray, " n"]:
        """Apply the operations of the anchors found in each row to the key items found at their offsets."""
        found, items = self._read(tokens)
        names = {anchor: name for name, anchor in self._anchors.items()}
        return solve_rows(self._rules, names, found.anchors, items)


@register_task
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Chain(ChainTask):
    """A key and `links` anchors in a row; the label is the key after all of their operations in turn.

    With two links and the same operations this is `composite`. Offsets stay small by default, so that three or four
    links keep the labels positive; permutations (``permute:1``) keep the labels within the numbers for any number of
    links, and make the order of the anchors matter.
    """

    name: ClassVar[str] = "chain"
    source: ClassVar[str] = "eq. 12.5 repeated; not an experiment of the book"
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    links: int = Field(default=3, ge=2, le=64, description="number of anchors in a row")
    operations: dict[AnchorName, str] = Field(
        default={"a": "add:5", "b": "add:1", "c": "add:-2", "d": "add:-4"},
        min_length=1,
        description="operation of each anchor, by anchor name",
    )

    @property
    def _links(self) -> int:
        return self.links
