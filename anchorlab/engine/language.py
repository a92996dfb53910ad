"""Language problems: rows of tokens that are predicted inside the row, each from those before it."""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call
from transformers import PreTrainedModel

from anchorlab.errors import InputError
from anchorlab.models import all_position_logits
from anchorlab.models.factory import perturbed

from .memory import is_out_of_memory
from .problem import Parameters
from .rows import DataSets, Found, RowProblem, SequenceBatch, SequenceMember

NOT_COUNTED = -100
"""The label of a token that is not to be predicted: prompt and padding (Hugging Face's convention)."""

_EVALUATION_LOGITS, _EVALUATION_ROWS = 2**25, 4096  # of all members together, unless a training batch has more


class LanguageProblem(RowProblem):
    """Cross entropy of the tokens that count, each predicted from those before it.

    `labels[t]` of a row is its token t if that counts, else `NOT_COUNTED`; the first token, which nothing precedes,
    never counts. The loss is the mean over all counted tokens of the batch. Reported of every split and group are
    `loss` and `token_accuracy`, means over counted tokens, and `accuracy`, the share of rows whose counted tokens are
    all the most likely ones: those that greedy decoding answers without a mistake.

    Batches and errors are those of `RowProblem`; also raises InputError for a model that answers once a row
    (fnn), sees later tokens (simplified) or cannot read rows without their last token, which training gives it.
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
        lengths = {rows.tokens.shape[1] for rows in members[0].splits.values()}
        _check_causal(model, {max(lengths), *(length - 1 for length in lengths)})
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
        size = max(self.batch_size, min(_EVALUATION_LOGITS // row_logits, _EVALUATION_ROWS // len(data)))
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


def _check_causal(model: PreTrainedModel, lengths: Iterable[int]) -> None:
    """Change single tokens of random rows, at weights of which none is zero: no logits before them may move."""
    weights, random = perturbed(model), torch.Generator().manual_seed(0)
    for length in sorted(lengths, reverse=True):
        row = torch.randint(model.config.vocab_size, (1, length), generator=random)
        before = _logits(model, weights, row)
        for place in {1, 2, length // 2, length // 2 + 1, length - 2, length - 1} & set(range(1, length)):
            changed = row.clone()
            changed[:, place] = (row[:, place] + 1) % model.config.vocab_size
            moved = (_logits(model, weights, changed) - before)[:, :place].abs().max()
            if before.shape[1] != length or moved > 1e-5 * before.abs().max():
                raise InputError(
                    f"model: {type(model).__name__} does not predict every token from those before it, so it cannot "
                    "learn 'labels'; take another one, such as gpt2"
                )


@torch.no_grad()
def _logits(
    model: PreTrainedModel, weights: dict[str, Tensor], row: Int[Tensor, "1 length"]
) -> Float[Tensor, "1 _ vocabulary"]:
    try:
        logits: Tensor = functional_call(model, weights, (row,)).logits
    except Exception as error:  # a network of the user's own may raise anything
        if isinstance(error, InputError) or is_out_of_memory(error):
            raise
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"model: {type(model).__name__} cannot read rows of {row.shape[1]} tokens, which learning 'labels' needs "
            f"({type(error).__name__}: {first})"
        ) from None
    return logits


def _cross_entropy(
    logits: Float[Tensor, "member batch length vocabulary"], labels: Int[Tensor, "member batch length"]
) -> Float[Tensor, "member batch length"]:
    """The cross entropy of every counted token, 0 for the others."""
    flat = F.cross_entropy(logits.float().flatten(0, -2), labels.flatten(), ignore_index=NOT_COUNTED, reduction="none")
    return flat.view(labels.shape)
