"""The options of a model: one table per architecture, read by `build` and by the command line."""

from dataclasses import dataclass
from typing import Any

from anchorlab.validation import check_known


@dataclass(frozen=True)
class Option:
    """One option of a model: its default (None: derived from others, see `meaning`) and what it means."""

    default: Any
    meaning: str


def resolve(model: str, options: dict[str, Option], given: dict[str, Any]) -> dict[str, Any]:
    """All options of a model with the given values (None: not given) over the defaults.

    Raises:
        InputError: an option that the model does not have; the message names the ones it has.
    """
    values = {name: value for name, value in given.items() if value is not None}
    for name in values:
        check_known(f"option of model {model}", name, options)
    return {name: values.get(name, option.default) for name, option in options.items()}
