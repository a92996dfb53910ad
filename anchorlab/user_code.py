"""Running a user's own Python: where it may import from, and its errors in one line."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anchorlab.errors import InputError, Interrupted


@contextmanager
def errors_with_line(file: Path) -> Iterator[None]:
    """Turn every error of the code in `file` into an `InputError` of one line that names the line it comes from."""
    try:
        yield
    except Interrupted:
        raise
    except SyntaxError as error:
        place = "" if error.filename == str(file) else f"{error.filename}, "
        raise InputError(f"{place}line {error.lineno}: SyntaxError: {error.msg}") from None
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
        where = f"line {lines[-1]}: " if lines else ""
        what = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        first = (str(error).splitlines() or [""])[0]
        raise InputError(f"{where}{what}{first}") from None


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """Let imports inside the block find modules in `folder` first."""
    before = sys.path[:]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before
