"""Hugging Face's progress bars, which are noise for models that load in milliseconds."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quietly() -> Iterator[None]:
    """Hide progress bars and warnings inside the block, where errors say what matters."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with without_progress_bars():
            yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Hide the bars inside the block and leave the setting as it was."""
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
