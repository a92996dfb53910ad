"""How unlikely an attention pattern is by chance: under attention that prefers no source, whatever its law.

All evidence is in nats: chance reaches evidence e with probability at most exp(−e).
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .attention_sums import TILTS, AttentionSums
from .head_scores import padded, shift_queries

_ROUNDING = 1e-4  # of exp(w), for logits of any size


class ColumnEvidence:
    """Evidence that the readers of a column prefer it, whichever token stands there.

    By chance the sources of each query could as well be exchanged. With one place picked at random for each query of a
    sequence, the summed weight S of the picked places has P(S ≥ s) ≤ exp(−(t·s − Σ log mean_j exp(t·w_ij))) for every
    t > 0 (Chernoff). Of several sequences the exponents are averaged, not added: that bounds the probability however
    much the sequences have in common (Hölder), so that a head that reads the same places in all of them is judged like
    one sequence, by the number of its queries. Evidence is the largest exponent over a few t.
    """

    def __init__(self, length: int):
        self.length, self.rows = length, 0
        self._exponents: Float[Tensor, "tilt layers heads source"] = torch.zeros(())

    def add(self, sums: AttentionSums) -> None:
        """Count the sequences of one batch."""
        self.rows += len(sums.columns)
        expected = sums.growth / sums.sight.sources[:, None, None]
        found = [
            (tilt * sums.columns - sums.sight.over_readers(expected[..., number, :].log1p())).double().sum(0)
            for number, tilt in enumerate(TILTS)
        ]
        self._exponents = self._exponents + padded(torch.stack(found), self.length).cpu()

    def found(self) -> Float[Tensor, "layers heads source"]:
        """Evidence of all sequences so far."""
        return (self._exponents / self.rows).amax(0).clamp(min=0)


class ShiftEvidence:
    """The same for reading so many positions back, among the sources that are no sinks of the head."""

    def __init__(self, sinks: Bool[Tensor, "layers heads source"]):
        self.rows, self._columns = 0, _listed(sinks)
        self._offsets: tuple[int, ...] = ()
        self._exponents: Float[Tensor, "offset tilt layers heads"] = torch.zeros(())

    def add(self, sums: AttentionSums, sinks: Bool[Tensor, "layers heads source"]) -> None:
        """Count the sequences of one batch; `sinks` are those at its positions."""
        self.rows, self._offsets = self.rows + len(sums.columns), sums.offsets
        expected = self._expected(sums)
        exponents = []
        for offset in sums.offsets:
            usable = shift_queries(sums.sight, sinks, offset)
            back = sums.back[..., sums.offsets.index(offset), :]
            for number, tilt in enumerate(TILTS):
                gained = (tilt * back - expected[..., number, :]) * usable
                exponents.append(gained.double().sum(-1).sum(0))
        self._exponents = self._exponents + torch.stack(exponents).unflatten(0, (len(sums.offsets), -1)).cpu()

    def _expected(self, sums: AttentionSums) -> Float[Tensor, "rows layers heads tilt query"]:
        """log mean_j exp(t·w_ij) over the sources that are no sinks."""
        columns = self._columns.to(sums.columns.device)
        first, last = (at[:, None, None] for at in (sums.sight.first, sums.sight.last))
        seen = (first <= columns[..., None]) & (columns[..., None] <= last)
        growth, sources = sums.growth, sums.sight.sources[:, None] - seen.sum(-2)
        if columns.numel():
            weights = sums.read(columns.clamp(max=sums.sight.length - 1)).masked_fill(~seen, 0)
            of_sinks = torch.stack([(tilt * weights).expm1().sum(-2) for tilt in TILTS], dim=-2)
            # Where the sinks make nearly all of it, little but rounding is left: rather too much than too little.
            rounding = _ROUNDING * torch.tensor(TILTS, device=columns.device)[:, None]
            growth = growth - of_sinks + rounding * of_sinks
        return (growth / sources.clamp(min=1)[..., None, :]).clamp(min=0).log1p()

    def found(self) -> dict[int, Float[Tensor, "layers heads"]]:
        """Evidence of every offset, of all sequences so far."""
        evidence = (self._exponents / self.rows).amax(1).clamp(min=0)
        return dict(zip(self._offsets, evidence, strict=True))


def _listed(sinks: Bool[Tensor, "layers heads source"]) -> Int[Tensor, "layers heads column"]:
    """The positions of each head's sinks, filled up with the length of the mask."""
    most = int(sinks.sum(-1).max())
    positions = torch.where(sinks, torch.arange(sinks.shape[-1], device=sinks.device), sinks.shape[-1])
    return positions.sort(-1).values[..., :most]


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


def largest_evidence(beyond: Float[Tensor, "*shape"], sequences: Float[Tensor, "*#shape"]) -> Float[Tensor, "*shape"]:
    """Evidence of a sum over independent sequences, in each of which the best of several sources was picked.

    `beyond` sums each pick's evidence without the logarithm of the number of sources. A pick is above that with x more
    with probability at most exp(−x), so that the sum is at most a gamma variable of shape n.
    """
    tail: Tensor = torch.special.gammaincc(sequences.clamp(min=1), beyond.clamp(min=0))
    return 0.0 - tail.log()
