"""The `anchorlab` command: thin Typer commands, one module per command group."""

import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from anchorlab.errors import InputError, Interrupted

_BAD_INPUT, _INTERRUPTED = 2, 3


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; exit with 0 when done, 2 for bad input, 3 when interrupted (run the same to continue)."""
    signals: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        raise Interrupted("run the same again to continue")

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _run(list(sys.argv[1:] if arguments is None else arguments))
    except InputError as error:
        _exit(f"error: {error}", _BAD_INPUT)
    except Interrupted as error:
        _exit(f"interrupted: {error}", _INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone (`anchorlab tasks | head`); closing the stream must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if signals:  # while it is imported, a library may make an error of its own of what a signal raises
            _exit("interrupted: run the same again to continue", _INTERRUPTED)
        if not isinstance(error, OSError) or error.errno != errno.ENOSPC:
            raise
        _exit(f"interrupted: the disk is full ({error.filename}); free some space and run the same again", _INTERRUPTED)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: list[str]) -> None:
    from .app import app

    app(arguments, prog_name="anchorlab")


def _exit(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
