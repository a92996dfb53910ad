"""Two composed anchors (sections 12.6.4 and 13.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from .base import STRICT
from .chain import ChainTask
from .registry import register_task
from .vocabulary import AnchorName

NUMBERED = {"1": "add:5", "2": "add:1", "3": "add:-2", "4": "add:-8"}


@register_task
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Composite(ChainTask):
    """A key followed by two anchors: the label is g(g(x; a1); a2). Pairs of anchors are held out for the ood split.

    The default is the set of chapter 13: a: +5, b: +1, c: −2, d: −8, with (c,d) and (d,c) unseen. Its offsets commute,
    so the 16 pairs are 10 different maps; use ``permute:…`` operations where the order has to matter.

    Presets. ``book-chapter-12``: four anchors, g_a(g_b(x)), one unseen pair; the text gives neither the offsets nor the
    pair, so chapter 13's offsets and (3,4) are used. ``arxiv-2401.08309``: the same with the key after the pair.
    ``arxiv-2405.05409``: (4,3) is unseen and (3,4) is trained to x − 6 instead of x − 10, so that the composed and the
    symmetric answer to (4,3) differ. ``arxiv-2501.08537``: (3,4) and (4,3) unseen. The first two papers have a
    vocabulary of 201, which is kept; anchors named 1 to 4 do not get these ids here, since 4 is also a label, but the
    ids after the largest label.

    Where the sources are silent or disagree, the presets keep the defaults. Modulus: 9, the row length, in the book
    and in one code base, 8 in another, n − 2 = 7 in one paper's text. Noise: up to 99 or up to 100. Which keys the ood
    split has (`ood_keys`) is not said. arXiv 2405.05409 counts 5,625 test rows among 56,250 of a pair, a tenth, which
    none of these moduli gives; the sizes of the splits are for the caller to choose.

    Several key items: ``offsets=(-1, 2), overrides={"a,b": "sum"}`` makes (a,b) add the items before and after it.
    """

    name: ClassVar[str] = "composite"
    source: ClassVar[str] = "sections 12.6.4 and 13.2, eqs. 12.5, 13.1, 13.2; arXiv 2405.05409, 2501.08537"
    preset_fields: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "book": {},
        "book-chapter-12": {"operations": NUMBERED, "held_out": (("3", "4"),), "order": "right_to_left"},
        "arxiv-2401.08309": {
            "operations": NUMBERED,
            "held_out": (("3", "4"),),
            "order": "right_to_left",
            "key_side": "after",
            "vocabulary_size": 201,
        },
        "arxiv-2405.05409": {
            "operations": NUMBERED,
            "held_out": (("4", "3"),),
            "overrides": {"3,4": "add:-6"},
            "vocabulary_size": 201,
        },
        "arxiv-2501.08537": {
            "operations": NUMBERED,
            "held_out": (("3", "4"), ("4", "3")),
        },
    }

    held_out: tuple[tuple[AnchorName, ...], ...] = Field(
        default=(("c", "d"), ("d", "c")), description="pairs of anchors that only the ood split has"
    )

    @property
    def _links(self) -> int:
        return 2
