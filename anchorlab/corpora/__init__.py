"""Rows of tokens that are no anchor task: sequence-to-sequence problems and text, as files to train on.

A generator (one module each) makes `TokenRows` of its splits, `write` puts them into a folder, and
`Experiment(data=folder)` trains on it.
"""

from .rows import NOT_COUNTED, TokenRows, answered, write

__all__ = ["NOT_COUNTED", "TokenRows", "answered", "write"]
