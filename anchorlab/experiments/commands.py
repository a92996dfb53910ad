"""The command line that repeats what a function did."""

from collections.abc import Mapping
from typing import Any


def options(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """The options for `settings`, without those that are off or as in `defaults`; False is written as `--no-…`.

    A switch is on or off by default; one that `defaults` does not have is off.
    """
    words = []
    for name, value in settings.items():
        if value is None or value == defaults.get(name, False if isinstance(value, bool) else None):
            continue
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        else:
            words += [f"--{option}", str(value)]
    return words
