"""Sweeps written in a file: TOML with settings and what varies, or Python that exposes `experiments`."""

import re
import runpy
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from anchorlab.errors import InputError
from anchorlab.user_code import errors_with_line, importing_from
from anchorlab.validation import check_known

from .axes import LONGEST_NAME, identity, names, setting, varied
from .experiment import Experiment
from .grids import grid

_SECTIONS = ("seeds", "settings", "vary")
_SAFE_NAME = re.compile(r"(?!.*\.json$)[A-Za-z0-9][A-Za-z0-9._+=-]*")


def read_sweep(path: Path | str) -> dict[str, Experiment]:
    """The experiments of a sweep file, by name.

    A TOML file has the parts of `grid`: `seeds`, `[settings]` and `[vary]`. A Python file exposes `experiments`: a
    mapping from names to Experiments, a sequence of Experiments (named by what differs between them), or a function
    without arguments that returns one of these. It is run as a program in its own folder would be.

    Raises InputError, naming the file, for one that cannot be read and for experiments that are not valid.
    """
    file = Path(path)
    readers = {".toml": _read_toml, ".py": _read_python}
    if file.suffix not in readers:
        raise InputError(f"sweep={str(path)!r}: must be a file ending in .toml or .py")
    if not file.is_file():
        raise InputError(f"sweep={str(path)!r}: no such file")
    try:
        return readers[file.suffix](file)
    except OSError as error:
        raise InputError(f"sweep={str(path)!r}: cannot be read ({error.strerror})") from None
    except InputError as error:
        raise InputError(f"sweep={str(path)!r}: {error}") from None


def _read_toml(file: Path) -> dict[str, Experiment]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InputError("is not text in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"is not valid TOML: {error}") from None
    for section in content:
        check_known("section", section, _SECTIONS)
    settings, vary = content.get("settings", {}), content.get("vary", {})
    for section, given in (("settings", settings), ("vary", vary)):
        if not isinstance(given, dict):
            raise InputError(f"{section}={given!r}: must be a table, [{section}]")
    return grid(settings, vary, seeds=content.get("seeds", 1))


def _read_python(file: Path) -> dict[str, Experiment]:
    with errors_with_line(file), importing_from(file.parent):
        content = runpy.run_path(str(file))
        if "experiments" not in content:
            raise InputError("has no `experiments`: a mapping, a sequence, or a function that returns one of them")
        found = content["experiments"]
        if callable(found):
            found = found()
    if isinstance(found, str) or not isinstance(found, (Mapping, Sequence)):
        raise InputError(f"experiments is a {type(found).__name__}; must be a mapping or a sequence of Experiments")
    if not found:
        raise InputError("experiments is empty")
    if isinstance(found, Mapping):
        return {name: _checked(found[name], repr(name)) for name in _checked_names(found)}
    return _named([_checked(experiment, f"number {index}") for index, experiment in enumerate(found)])


def _checked(experiment: object, which: str) -> Experiment:
    if not isinstance(experiment, Experiment):
        raise InputError(f"experiments: {which} is a {type(experiment).__name__}; must be an Experiment")
    if experiment.steps is None and experiment.epochs is None:
        raise InputError(f"experiments: {which}: steps: give steps or epochs")
    return experiment


def _checked_names(experiments: Iterable[Any]) -> list[str]:
    known: dict[str, str] = {}
    for name in experiments:
        if not isinstance(name, str) or not _SAFE_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            raise InputError(
                f"experiments: name {name!r} must be letters, digits and . _ + = -, begin with a letter or digit, "
                f"not end in .json, and have at most {LONGEST_NAME} characters"
            )
        # File systems may not tell capitals apart.
        if name.casefold() in known:
            raise InputError(f"experiments: the names {known[name.casefold()]!r} and {name!r} differ in capitals only")
        known[name.casefold()] = name
    return list(known.values())


def _named(experiments: list[Experiment]) -> dict[str, Experiment]:
    fields = list(varied(experiments)) or ["seed"]
    places: dict[tuple[str, ...], int] = {}
    for index, experiment in enumerate(experiments):
        place = tuple(identity(setting(experiment, field)) for field in fields)
        if place in places:
            raise InputError(f"experiments: number {places[place]} and number {index} are the same")
        places[place] = index
    return dict(zip(names(experiments, fields), experiments, strict=True))
