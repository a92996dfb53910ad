"""Settings written as NAME=VALUE."""

import json
from collections.abc import Iterable
from typing import Any

from anchorlab.errors import InputError


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Return the settings as a mapping; a value is read as JSON and, if it is none, as a string.

    Raises `InputError` for a setting without a name or "=", and for a name that is given twice.
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InputError(f"--set: {setting!r} is not a setting; allowed: NAME=VALUE, for example modulus=8")
        if name in parsed:
            raise InputError(f"--set: {name!r} is given twice; give it once")
        try:
            parsed[name] = json.loads(text)
        except json.JSONDecodeError:
            parsed[name] = text
    return parsed
