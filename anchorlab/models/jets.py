"""Values with their derivatives in the inputs, carried forward through a network in one pass (Taylor mode)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .mlp_activations import Activation

Index = tuple[int, ...]
"""Which inputs to differentiate in: () is the value, (0,) the first derivative in input 0, (0, 1) a mixed second."""


def closure(wanted: Iterable[Index]) -> tuple[Index, ...]:
    """The wanted derivatives, sorted, with all that the chain rule needs for them: the value and first derivatives."""
    found: set[Index] = {()}
    for index in wanted:
        found |= {tuple(sorted(index)), *((one,) for one in index)}
    return tuple(sorted(found, key=lambda index: (len(index), index)))


class Jet(NamedTuple):
    """Derivatives up to second order at every point; `indices` (a `closure`) names those along the second axis."""

    parts: Float[Tensor, "member derivative n width"]
    indices: tuple[Index, ...]

    @classmethod
    def of_points(cls, points: Float[Tensor, "member n inputs"], indices: Sequence[Index]) -> "Jet":
        """The points themselves: derivative 1 in their own direction, 0 in all others."""
        directions = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device)
        zero = torch.zeros_like(points)
        parts = [
            points if not index else directions[index[0]].expand_as(points) if len(index) == 1 else zero
            for index in indices
        ]
        return cls(torch.stack(parts, 1), tuple(indices))

    @property
    def order(self) -> int:
        """The highest order of derivatives."""
        return len(self.indices[-1])

    def affine(
        self, weight: Float[Tensor, "member width outputs"], bias: Float[Tensor, "member outputs"] | None
    ) -> "Jet":
        """Every member's W x + b: the bias has no derivative."""
        members, count, rows, width = self.parts.shape
        outputs = weight.shape[-1]
        if count == 1 and bias is not None:
            flat = torch.baddbmm(bias[:, None], self.parts.view(members, rows, width), weight)
            return Jet(flat.view(members, 1, rows, outputs), self.indices)
        product = torch.bmm(self.parts.reshape(members, count * rows, width), weight)
        parts = product.view(members, count, rows, outputs)
        if bias is None:
            return Jet(parts, self.indices)
        value, others = parts.split([1, count - 1], dim=1)
        return Jet(torch.cat((value + bias[:, None, None], others), 1), self.indices)

    def through(self, activation: Activation) -> "Jet":
        """σ of every value, by the chain rule."""
        if self.order == 0:
            return Jet(activation(self.parts, 0)[0], self.indices)
        z = dict(zip(self.indices, self.parts.unbind(1), strict=True))
        value, slope, *curvature = activation(z[()], self.order)

        def part(index: Index) -> Tensor:
            if len(index) == 2:
                first, second = index
                square = z[(first,)].square() if first == second else z[(first,)] * z[(second,)]
                return torch.addcmul(slope * z[index], curvature[0], square)
            return slope * z[index] if index else value

        return Jet(torch.stack([part(index) for index in self.indices], 1), self.indices)

    def named(self) -> Mapping[Index, Float[Tensor, "member n width"]]:
        """Each derivative by its index."""
        return dict(zip(self.indices, self.parts.unbind(1), strict=True))
