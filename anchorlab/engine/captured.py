"""A training step recorded once as a CUDA graph and replayed: one launch where there were hundreds."""

from collections.abc import Callable

import torch
from torch import Tensor

from .problem import Batch

_WARM_UP = 3


class CapturedStep:
    """Calls `step(batch, factors)`, from the fourth call on as a CUDA graph.

    The step must work on tensors that stay where they are and return nothing. The values of a batch are copied into the
    tensors that the graph was captured with.
    """

    def __init__(self, step: Callable[[Batch, Tensor], None], device: torch.device):
        self._step = step
        self._calls = 0
        self._stream = torch.cuda.Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: list[Tensor] = []

    def __call__(self, batch: Batch, factors: Tensor) -> None:
        """One step; the first ones run as they are, on the stream that the graph is captured on."""
        inputs = [*batch, factors]
        if self._graph is not None:
            for place, value in zip(self._inputs, inputs, strict=True):
                place.copy_(value)
            self._graph.replay()
            return
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            self._step(batch, factors)
        torch.cuda.current_stream().wait_stream(self._stream)
        self._calls += 1
        if self._calls == _WARM_UP:
            self._capture(batch, factors)

    def _capture(self, batch: Batch, factors: Tensor) -> None:
        # Recording runs nothing. The places are copies: a batch may be a view of the problem's own data.
        *places, row = [tensor.clone() for tensor in (*batch, factors)]
        rebuilt = batch._make(places) if hasattr(batch, "_make") else tuple(places)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            self._step(rebuilt, row)
        self._graph, self._inputs = graph, [*places, row]
