"""The unknown function of an equation, with the derivatives that the equation asks for, and the points it is at."""

from collections.abc import Iterator, Mapping, Sequence
from zlib import crc32

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from anchorlab.errors import InputError
from anchorlab.validation import check_known

Key = tuple[int, ...] | str
"""Which derivative: () the value, (0,) the first in axis 0, (0, 1) a mixed second, LAPLACIAN their sum in space."""
LAPLACIAN = "laplacian"


class At:
    """Points: `at.x`, `at["t"]` are coordinates of all of them, `at.points` is everything (last axis: coordinates)."""

    def __init__(self, points: Float[Tensor, "*batch n axes"], names: Sequence[str]):
        self.points = points
        self._names = tuple(names)

    def __getitem__(self, name: str) -> Float[Tensor, "*batch n"]:
        check_known("coordinate", name, self._names)
        return self.points[..., self._names.index(name)]

    def __getattr__(self, name: str) -> Float[Tensor, "*batch n"]:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]


class Unknown:
    """u at points: `u.value`, `u.d("x")`, `u.d("x", "x")`, `u.laplacian()` (over space), each of the points' shape.

    A net with several outputs is several functions: `u[0]`, `u[1]`.
    """

    def __init__(
        self,
        parts: Mapping[Key, Float[Tensor, "*batch n outputs"]],
        names: Sequence[str],
        space: Sequence[int],
        output: int = 0,
    ):
        self._parts = parts
        self._names = tuple(names)
        self._space = tuple(space)
        self._output = output

    @property
    def space(self) -> tuple[int, ...]:
        """The axes of space."""
        return self._space

    @property
    def time(self) -> str:
        """The name of time; raises InputError if there is none."""
        others = [name for axis, name in enumerate(self._names) if axis not in self._space]
        if not others:
            raise InputError("time: the domain has none; name its axis, as in Box(..., time='t')")
        return others[0]

    def __getitem__(self, output: int) -> "Unknown":
        return type(self)(self._parts, self._names, self._space, output)

    @property
    def value(self) -> Float[Tensor, "*batch n"]:
        """The function itself."""
        return self._part(())

    def d(self, *names: str) -> Float[Tensor, "*batch n"]:
        """The derivative in the named coordinates, one after the other; raises InputError for an unknown one."""
        for name in names:
            check_known("coordinate", name, self._names)
        return self._part(tuple(sorted(self._names.index(name) for name in names)))

    def laplacian(self) -> Float[Tensor, "*batch n"]:
        """The sum of the second derivatives in all coordinates of space."""
        return self._part(self._space * 2 if len(self._space) == 1 else LAPLACIAN)

    def gradient(self) -> list[Float[Tensor, "*batch n"]]:
        """The first derivatives in all coordinates of space."""
        return [self._part((axis,)) for axis in self._space]

    def gradient_squared(self) -> Float[Tensor, "*batch n"]:
        """The sum of their squares, for energies."""
        first, *others = (slope * slope for slope in self.gradient())
        return sum(others, start=first)

    def _part(self, key: Key) -> Tensor:
        return self._parts[key][..., self._output]


class Coefficients(Mapping[str, Tensor]):
    """Unknown numbers of an equation by name: `c.a`, one for every member."""

    def __init__(self, values: Float[Tensor, "*member coefficient"], names: Sequence[str]):
        self._values = values
        self._names = tuple(names)

    def __getitem__(self, name: str) -> Float[Tensor, "*member 1"]:
        check_known("coefficient", name, self._names)
        place = self._names.index(name)
        return self._values[..., place : place + 1]

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class Tracing(dict[Key, Tensor]):
    """Parts that note which derivatives are asked for, and answer with smooth made-up numbers."""

    def __init__(self, points: Float[Tensor, "*batch n axes"], outputs: int):
        super().__init__()
        self._points = points
        self._outputs = outputs

    def __missing__(self, key: Key) -> Tensor:
        number = len(self) + 1.0
        made = torch.sin(number + self._points.sum(-1, keepdim=True)) + 1.5
        self[key] = made.expand(*made.shape[:-1], self._outputs)
        return self[key]


class Probing(dict[Key, Tensor]):
    """Parts of random numbers of many sizes: every derivative, output and point has its own, always the same."""

    def __init__(self, points: Float[Tensor, "*batch n axes"], outputs: int):
        super().__init__()
        self._shape = (*points.shape[:-1], outputs)

    def __missing__(self, key: Key) -> Tensor:
        random = np.random.Generator(np.random.Philox(np.random.SeedSequence([crc32(repr(key).encode())])))
        sizes = 10 ** random.uniform(-2, 2, (*self._shape[:-1], 1))
        self[key] = torch.tensor(sizes * random.normal(size=self._shape))
        return self[key]


def indices(keys: Sequence[Key], space: Sequence[int]) -> list[tuple[int, ...]]:
    """The keys as plain derivatives: a Laplacian is its terms."""
    found: list[tuple[int, ...]] = []
    for key in keys:
        if isinstance(key, str):
            if key != LAPLACIAN:
                raise InputError(f"derivative: unknown {key!r}")
            found += [(axis, axis) for axis in space]
        else:
            found.append(key)
    return list(dict.fromkeys(found))
