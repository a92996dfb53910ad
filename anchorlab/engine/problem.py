"""What the engine trains: the Problem interface, and nothing about anchor tasks or differential equations."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Parameters = Mapping[str, Tensor]
"""Named parameters; in a population every tensor has a leading member axis."""


Batch = tuple[Tensor, ...]
"""What one optimizer step reads: tensors with a leading member axis, of the same shapes in every step."""


class Measurement(NamedTuple):
    """One measured number of one member; `split` and `group` are empty where they do not apply."""

    member: int
    split: str
    group: str
    metric: str
    value: float


class Problem(Protocol):
    """A family of training problems of one shape, one per member.

    Members are numbered 0..members-1 for the whole life of the problem; the engine passes the numbers of those that it
    still trains. Batches are a function of (member, step) alone, so that training can stop and resume anywhere.
    """

    members: int
    steps_per_epoch: int

    def initialize(self, member: int) -> dict[str, Tensor]:
        """Fresh parameters of one member, without the member axis."""
        ...

    def batch(self, members: Sequence[int], step: int) -> Batch:
        """The training batch of optimizer step `step`, stacked over `members`."""
        ...

    def loss(self, parameters: Parameters, batch: Any) -> Float[Tensor, " member"]:
        """The loss of every member; each depends on that member's parameters only."""
        ...

    def evaluate(self, parameters: Parameters, members: Sequence[int]) -> list[Measurement]:
        """Measure every member on its evaluation data."""
        ...

    def save(self, member: int, parameters: Parameters, folder: Path) -> None:
        """Write one member's trained model (parameters without the member axis) to `folder`.

        Several threads do so at once, for different members.
        """
        ...


WriteGradients = Callable[[Parameters, Any, Mapping[str, Tensor]], Tensor | None]
"""From parameters, a batch and places of gradients to the losses, see `WritesGradients`."""


@runtime_checkable
class WritesGradients(Protocol):
    """A problem that knows a faster way to its gradients than autograd."""

    def write_gradients(
        self, parameters: Parameters, batch: Any, places: Mapping[str, Tensor]
    ) -> Float[Tensor, " member"] | None:
        """The loss of every member, its gradients written to `places`; None where autograd has to do it."""
        ...
