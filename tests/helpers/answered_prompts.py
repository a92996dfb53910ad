"""Prompts with known answers, for random models and for the hand-built GPT-2, and heads of chosen kinds."""

from dataclasses import fields

import numpy as np
import pandas as pd
from small_models import HEADS, LAYERS, VOCABULARY

from anchorlab import tasks
from anchorlab.analysis import HeadScores
from anchorlab.pretrained_probe.prompts import Prompt

IDENTITY = tasks.create("identity", numbers=(4, 11), noise=(4, 11))
MANY = 24
"""Heads in a layer of the hand-built model: more than 19 others can stand in for one."""
WORKING = {"shift 1": (1, 3), "broadcast": (2, 2)}
"""The heads that work in `identity_gpt2(IDENTITY, heads=MANY, working=(2, 1))`, numbered from 1."""


def prompt(tokens, answer, **places):
    return Prompt(np.array(tokens), tuple(map(str, tokens)), places, answer)


def random_prompts(lengths=(9, 5, 7, 9, 5, 9), **places):
    random = np.random.Generator(np.random.Philox(key=0))
    return [
        prompt(random.integers(VOCABULARY, size=length), int(random.integers(VOCABULARY)), **places)
        for length in lengths
    ]


def identity_prompts(rows=20):
    """Rows of the task that end somewhere behind the key."""
    found = IDENTITY.sample("test", 3 * rows, 0)
    random = np.random.Generator(np.random.Philox(key=0))
    inside = [(row, int(key)) for row, key in enumerate(found.key_position) if key < 8]
    ends = random.integers([max(key + 2, 5) for _, key in inside], 10)
    return [
        prompt(found.tokens[row][:end], int(found.label[row]), key=key)
        for (row, key), end in list(zip(inside, ends, strict=True))[:rows]
    ]


def scores(kinds=None, layers=LAYERS, heads=HEADS):
    """All heads; `kinds` has the heads that are of some kind."""
    named = {head: kind for kind, head in (kinds or {}).items()}
    table = pd.DataFrame(
        [
            (layer, head, named.get((layer, head), "none"), 0.9 if (layer, head) in named else np.nan)
            for layer in range(1, layers + 1)
            for head in range(1, heads + 1)
        ],
        columns=["layer", "head", "kind", "strength"],
    )
    return HeadScores(**{part.name: table if part.name == "kinds" else pd.DataFrame() for part in fields(HeadScores)})
