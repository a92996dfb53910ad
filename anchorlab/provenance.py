"""Which code made a number: hashes of the source of the packages it comes from."""

from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

TRAINING = tuple(f"anchorlab.{part}" for part in ("tasks", "corpora", "models", "engine", "experiments"))
"""The packages that decide what a training gives."""


@cache
def code_version(packages: tuple[str, ...] = TRAINING) -> str:
    """A hash of all Python source of these packages or modules, in the order of their names."""
    content = sha256()
    for package in sorted(packages):
        spec = find_spec(package)
        assert spec is not None, package
        places = spec.submodule_search_locations
        files = (
            [Path(spec.origin or "")]
            if places is None
            else [path for one in places for path in Path(one).rglob("*.py")]
        )
        for path in sorted(files):
            content.update(path.name.encode() + path.read_bytes())
    return content.hexdigest()[:12]
