"""How unlikely an attention pattern is by chance: under attention that prefers no source, whatever its law.

All evidence is in nats: chance reaches evidence e with probability at most exp(−e).
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .head_scores import Sight, column_means, shift_queries

_TILTS = (1.0, 3.0, 9.0, 27.0, 81.0)


class MeanAttention:
    """Mean attention of all sequences, and the evidence of patterns of places in it.

    By chance the sources of each query could as well be exchanged. With one place picked at random for each query, the
    summed weight S of the picked places has P(S ≥ s) ≤ exp(−(t·s − Σ log mean_j exp(t·w_ij))) for every t > 0
    (Chernoff); evidence is the largest exponent over a few t. Sequences are averaged, not counted, so that a head that
    reads the same places in all of them is judged like one sequence: by the number of its queries.
    """

    def __init__(self, sight: Sight):
        self.sight, self.rows = sight, 0
        self.mean: Float[Tensor, "*map"] = torch.zeros(())

    def add(self, weights: Float[Tensor, "rows layers heads query source"]) -> None:
        """Count the sequences of one batch."""
        self.sight, self.rows = self.sight.to(weights.device), self.rows + len(weights)
        if len(weights):
            self.mean = torch.lerp(self.mean.to(weights), weights.mean(0), len(weights) / self.rows)

    def columns(self) -> Float[Tensor, "layers heads source"]:
        """Evidence that the readers of each column prefer it."""
        readers = self.sight.readers.to(self.mean.dtype)
        read = column_means(self.mean[None], self.sight)[0] * self.sight.reader_counts[:, None]
        best = torch.zeros_like(read)
        for tilt, expected in self._cumulants(self.sight.pairs[:, None]):
            best = torch.maximum(best, tilt * read - expected @ readers)
        return best.cpu().double()

    def shifts(
        self, offsets: Sequence[int], sinks: Bool[Tensor, "layers heads source"]
    ) -> dict[int, Float[Tensor, "layers heads"]]:
        """Evidence of every offset, among the sources that are no sinks of the head."""
        sinks = sinks.to(self.mean.device)
        found = {offset: torch.zeros_like(self.mean[..., 0, 0]) for offset in offsets}
        for tilt, expected in self._cumulants(self.sight.pairs[:, None] & ~sinks[:, :, None]):
            for offset, best in found.items():
                usable, queries = shift_queries(self.sight, sinks, offset)
                read = tilt * self.mean.diagonal(-offset, -2, -1) - expected[..., queries]
                found[offset] = torch.maximum(best, torch.where(usable, read, 0).sum(-1))
        return {offset: evidence.cpu().double() for offset, evidence in found.items()}

    def _cumulants(
        self, sources: Bool[Tensor, "#layers #heads query source"]
    ) -> Iterator[tuple[float, Float[Tensor, "layers heads query"]]]:
        """log mean_j exp(t·w_ij) over each query's sources, for every t; 0 for a query without any."""
        counts = sources.sum(-1)
        for tilt in _TILTS:
            total = (tilt * self.mean).masked_fill_(~sources, -torch.inf).logsumexp(-1)
            yield tilt, torch.where(counts > 0, total - counts.log(), 0)


def weight_evidence(
    weight: Float[Tensor, "*shape"], uniform: Float[Tensor, "*#shape"], queries: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*shape"]:
    """Evidence for a mean weight above the uniform one, over independent queries: n·KL(weight ‖ uniform).

    The divergence is that of two Bernoulli laws (Hoeffding 1963, theorem 1). One-hot attention is the worst case. 0
    where no query is.
    """
    weight = weight.clamp(max=1)
    divergence = weight.xlogy(weight / uniform) + (1 - weight).xlogy((1 - weight) / (1 - uniform))
    return torch.where(weight > uniform, queries * divergence, 0.0)


def largest_evidence(
    total: Float[Tensor, "*shape"], choices: Float[Tensor, "*#shape"], sequences: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*shape"]:
    """Evidence of a sum over independent sequences, in each of which the best of `choices` sources was picked.

    The evidence of one pick is above log(choices) + x with probability at most exp(−x), so the sum of all is at most
    n·log(choices) plus a gamma variable of shape n.
    """
    beyond = (total - sequences * choices.clamp(min=1).log()).clamp(min=0)
    tail: Tensor = torch.special.gammaincc(sequences.clamp(min=1), beyond)
    return 0.0 - tail.log()
