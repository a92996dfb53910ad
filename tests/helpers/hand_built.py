"""Transformers whose weights are set by hand: they answer identity learning, and how they do it is known."""

from typing import cast

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel
from transformers.models.gpt2.modeling_gpt2 import GPT2Attention

from anchorlab import models, tasks
from anchorlab.models.simplified import SimplifiedForCausalLM

SCORE = 20.0
"""How far the score of an attended position is above all others: they share less than length · e^-20."""
LOGIT = 10.0
"""The logit of the answer; the others are near 0."""


@torch.no_grad()
def identity_gpt2(task: tasks.Task, *, heads: int = 2, working: tuple[int, int] = (0, 0)) -> GPT2LMHeadModel:
    """GPT-2 with two layers that answer ``3x → x`` by a shift and a broadcast (section 12.7.1).

    The residual stream has four parts: the token and the position (one-hot, from the embeddings), the previous token
    and the answer (written by attention).

    - Layer 0 shifts: the query of position i is the one-hot of i - 1, so that i attends to i - 1 (position 0 to
      itself); the head writes the token from there into "previous token".
    - Layer 1 broadcasts: all queries are the same, and a key is large where the previous token is the anchor and the
      token itself is not (position 0 counts as its own previous token). Positions from the key item on attend to it,
      and the head writes its token into "answer". Positions before the key item attend evenly to those that they see
      except the anchor's (position 0 sees only itself).
    - The output head reads "answer". The feed-forward nets are zero.

    The other heads attend evenly to all that they see and write nothing. Layer norms do nothing: a row of n ones among
    d numbers has mean n/d and mean square n/d, and gain and bias undo the scaling for the n at that place.

    Args:
        task: identity with its default operation and offset.
        heads: attention heads of each layer.
        working: the head that works in layer 0 and the one in layer 1.
    """
    size, length = task.vocabulary.size, task.length
    (anchor,) = task.vocabulary.anchors.values()
    token, position = slice(0, size), slice(size, size + length)
    previous, answer = slice(size + length, 2 * size + length), slice(2 * size + length, 3 * size + length)
    head_width = max(size, -(-answer.stop // heads))
    width, attended = heads * head_width, SCORE * head_width**0.5
    options = {"layers": 2, "heads": heads, "width": width, "feed_forward_width": 1}
    model = cast(GPT2LMHeadModel, models.build("gpt2", size, length, **options))
    for parameter in model.parameters():
        parameter.zero_()
    body, one_hot = model.transformer, torch.eye(size)
    body.wte.weight[:, token] = one_hot
    body.wpe.weight[:, position] = torch.eye(length)

    query, key, value, output = _head(body.h[0].attn, working[0], heads)
    query[position, :length] = attended * torch.eye(length)[[max(i - 1, 0) for i in range(length)]]
    key[position, :length] = torch.eye(length)
    value[token, :size] = output[:size, previous] = one_hot

    query, key, value, output = _head(body.h[1].attn, working[1], heads)
    query[position, 0] = attended
    key[previous, 0], key[token, 0] = one_hot[anchor], -one_hot[anchor]
    value[token, :size] = output[:size, answer] = one_hot

    model.lm_head.weight[:, answer] = LOGIT * one_hot
    for norm, ones in ((body.h[0].ln_1, 2), (body.h[1].ln_1, 3), (body.ln_f, 4)):
        mean = ones / width
        norm.weight.fill_((mean - mean**2 + norm.eps) ** 0.5)
        norm.bias.fill_(mean)
    return model


def _head(attention: GPT2Attention, head: int, heads: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Views of one head's weights: query, key, value [width, head_width] and output [head_width, width]."""
    query, key, value = (part.chunk(heads, dim=1)[head] for part in attention.c_attn.weight.chunk(3, dim=1))
    return query, key, value, attention.c_proj.weight.chunk(heads)[head]


@torch.no_grad()
def identity_simplified(task: tasks.Task) -> SimplifiedForCausalLM:
    """The simplified model as section 12.7.2 and figure 12.16 explain it; its width d is the vocabulary size.

    The embedding of a token is its one-hot, that of a position the one-hot of an id which no row and no label uses.

    - Layer 1: all positions attend to the anchor, but the anchor's own to the next one, where the key item is. The
      scores of position i are 2s at the anchor (0 if the anchor is at i) and s at i + 1, with s = `SCORE`. W_V1 drops
      the position, so that the anchor's row now holds the key item and all other rows the anchor.
    - Layer 2: all positions attend to the row that holds a number, which is the anchor's. W_V2 scales to the logits.

    Args:
        task: identity with its default operation and offset, and at least `length` unused ids.
    """
    words, size, length = task.vocabulary, task.vocabulary.size, task.length
    (anchor,) = words.anchors.values()
    numbers = slice(words.low, words.high + 1)
    places = [token for token in range(size) if words.token_name(token).startswith("<")][:length]
    model = cast(SimplifiedForCausalLM, models.build("simplified", size, length))
    one_hot = torch.eye(size)
    first, second = torch.zeros(2, size, size)
    first[places, anchor] = 2 * SCORE
    first[anchor, anchor] = -2 * SCORE
    first[places[:-1], places[1:]] = SCORE
    second[:, numbers] = SCORE

    model.embed_tokens.weight.copy_(one_hot)
    model.embed_positions.weight.copy_(one_hot[places])
    for layer, scores in zip(model.layers, (first, second), strict=True):
        layer.q_proj.weight.copy_(scores.T * size**0.5)
        layer.k_proj.weight.copy_(one_hot)
    model.layers[0].v_proj.weight.copy_(one_hot).index_fill_(0, torch.tensor(places), 0)
    model.layers[1].v_proj.weight.copy_(LOGIT * one_hot)
    return model
