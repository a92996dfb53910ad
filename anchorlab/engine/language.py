"""Language problems: rows of tokens that are predicted inside the row, each from those before it."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from anchorlab.errors import InputError
from anchorlab.models import all_position_logits

from .problem import Parameters
from .rows import DataSets, Found, RowProblem, SequenceBatch, SequenceMember

NOT_COUNTED = -100
"""The label of a token that is not to be predicted: prompt and padding (Hugging Face's convention)."""

_EVALUATION_LOGITS = 2**25  # of all members together, unless a training batch has more


class LanguageProblem(RowProblem):
    """Cross entropy of the tokens that count, each predicted from those before it.

    `labels[t]` of a row is its token t if that counts, else `NOT_COUNTED`; the first token, which nothing precedes,
    never counts. The loss is the mean over all counted tokens of the batch. Reported of every split and group are
    `loss` and `token_accuracy`, means over counted tokens, and `accuracy`, the share of rows whose counted tokens are
    all the most likely ones: those that greedy decoding answers without a mistake.

    Batches and errors are those of `RowProblem`; also raises InputError for a model that answers once a row
    (fnn) or sees later tokens (simplified).
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
        _check_causal(model, max(rows.tokens.shape[1] for rows in members[0].splits.values()))
        super().__init__(model, members, batch_size=batch_size, evaluation_rows=evaluation_rows, device=device)
        self._forward = all_position_logits(model.config) or partial(self._full_logits, positions=slice(None))

    def loss(self, parameters: Parameters, batch: SequenceBatch) -> Float[Tensor, " member"]:
        """Mean cross entropy of every member, in float32 under autocast too."""
        labels = batch.labels[..., 1:]
        losses = _cross_entropy(self._forward(parameters, batch.tokens[..., :-1]), labels)
        return losses.sum((1, 2)) / (labels != NOT_COUNTED).sum((1, 2))

    def _evaluate_split(
        self, parameters: Parameters, sets: DataSets, data: Int[Tensor, " member"]
    ) -> list[list[Found]]:
        row_logits = len(data) * sets.tokens.shape[-1] * self._model.config.vocab_size
        size = max(self.batch_size, _EVALUATION_LOGITS // row_logits)
        losses, hits, solved = [], [], []
        for start in range(0, sets.rows, size):
            part = slice(start, start + size)
            logits = self._forward(parameters, sets.tokens[data, part, :-1].long())
            labels = sets.labels[data, part, 1:].long()
            right = logits.argmax(-1) == labels
            losses.append(_cross_entropy(logits, labels).double().sum(-1))
            hits.append(right.sum(-1))
            solved.append((right | (labels == NOT_COUNTED)).all(-1))
        counts = (sets.labels[data, :, 1:] != NOT_COUNTED).sum(-1)
        means = {
            "loss": sets.means(torch.cat(losses, 1), data, counts),
            "token_accuracy": sets.means(torch.cat(hits, 1), data, counts),
            "accuracy": sets.means(torch.cat(solved, 1), data),
        }
        return sets.named(means)


@torch.no_grad()
def _check_causal(model: PreTrainedModel, length: int) -> None:
    rows = torch.zeros(2, length, dtype=torch.long)
    rows[1, -1] = model.config.vocab_size - 1
    one, other = model(rows).logits[:, :-1]
    if len(one) != length - 1 or (one - other).abs().max() > 1e-5 * one.abs().max():
        raise InputError(
            f"model: {type(model).__name__} does not predict every token from those before it, so it cannot learn "
            "'labels'; take another one, such as gpt2"
        )


def _cross_entropy(
    logits: Float[Tensor, "member batch length vocabulary"], labels: Int[Tensor, "member batch length"]
) -> Float[Tensor, "member batch length"]:
    """The cross entropy of every counted token, 0 for the others."""
    flat = F.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), ignore_index=NOT_COUNTED, reduction="none")
    return flat.view(labels.shape)
