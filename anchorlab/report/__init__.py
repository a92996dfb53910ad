"""Reports: figures of result tables, and one self-contained HTML page about one or several runs."""

from .page import render, write

__all__ = ["render", "write"]
