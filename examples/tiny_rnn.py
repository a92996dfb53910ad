"""A network of one's own for `anchorlab benchmark examples/tiny_rnn.py:make`: a recurrent net that reads the row once.

A factory takes the number of token ids and the length of the rows and returns a module: token ids [batch, length] in,
logits [batch, length, vocabulary] out.
"""

from torch import Tensor, nn


class TinyRNN(nn.Module):
    """Embedding, one layer of gated recurrent units, linear head."""

    def __init__(self, vocabulary_size: int, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.recurrent = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, vocabulary_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits behind every token."""
        states, _ = self.recurrent(self.embedding(tokens))
        logits: Tensor = self.head(states)
        return logits


def make(vocabulary_size: int, max_length: int) -> nn.Module:
    """The network for a task's vocabulary; a recurrent net needs no row length."""
    return TinyRNN(vocabulary_size)
