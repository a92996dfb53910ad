"""Sequence problems: rows of tokens, one label each, read at the last position."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from anchorlab.models import last_position_logits

from .problem import Parameters
from .rows import DataSets, Found, RowProblem, SequenceBatch, SequenceMember

_EVALUATION_ROWS = 4096  # of all members together, unless a training batch has more


class SequenceProblem(RowProblem):
    """Cross entropy of the label at the last position (section 12.8.2), for members of one architecture.

    Batches and errors are those of `RowProblem`. Reported are `loss` and `accuracy` of every split and group, and
    `commutativity` where rows can be exchanged.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        members: Sequence[SequenceMember],
        *,
        batch_size: int | None,
        evaluation_rows: int | None = None,
        device: torch.device | str = "cpu",
    ):
        super().__init__(model, members, batch_size=batch_size, evaluation_rows=evaluation_rows, device=device)
        self._forward = last_position_logits(model.config) or self._full_forward

    def loss(self, parameters: Parameters, batch: SequenceBatch) -> Float[Tensor, " member"]:
        """Mean cross entropy of every member, in float32 under autocast too."""
        logits = self._forward(parameters, batch.tokens)
        return _cross_entropy(logits, batch.labels).mean(dim=1)

    def _full_forward(
        self, parameters: Parameters, tokens: Int[Tensor, "member batch length"]
    ) -> Float[Tensor, "member batch vocabulary"]:
        return self._full_logits(parameters, tokens, -1)

    def _evaluate_split(
        self, parameters: Parameters, sets: DataSets, data: Int[Tensor, " member"]
    ) -> list[list[Found]]:
        size = max(self.batch_size, _EVALUATION_ROWS // len(data))
        losses, hits, alike = [], [], []
        for start in range(0, sets.rows, size):
            part = slice(start, start + size)
            logits = self._forward(parameters, sets.tokens[data, part].long())
            labels, answers = sets.labels[data, part].long(), logits.argmax(-1)
            losses.append(_cross_entropy(logits, labels))
            hits.append(answers == labels)
            if sets.exchanged is not None:
                alike.append(self._forward(parameters, sets.exchanged[data, part].long()).argmax(-1) == answers)
        means = {"loss": sets.means(torch.cat(losses, 1), data), "accuracy": sets.means(torch.cat(hits, 1), data)}
        if alike:
            shares = torch.cat(alike, 1).double().mean(1)
            means["commutativity"] = torch.where(sets.exchangeable[data], shares, math.nan)[:, None]
        return sets.named(means)


def _cross_entropy(
    logits: Float[Tensor, "member batch vocabulary"], labels: Int[Tensor, "member batch"]
) -> Float[Tensor, "member batch"]:
    flat = F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), reduction="none")
    return flat.view(labels.shape)
