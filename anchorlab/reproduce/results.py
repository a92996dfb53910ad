"""The result of a reproduction: verdict, values and how they came about, as one JSON file that needs no anchorlab."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.validation import from_validation_error

from .claims import Claim, Decision, Value, decide

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a reproduction found at one scale.

    - `key`: a hash of settings and code, by which results are kept;
    - `values`: the measured numbers; `decision`: the verdict they give;
    - `training_code`: how many trainings were made by which version of the training code;
    - `core_seconds`: computing time, of all trainings and of measuring, on one core (or GPU);
    - `machine`: processor, cores and versions; `command`: what repeats it;
    - `diverged`: how many of the trainings ended because a number in them was no longer finite.
    """

    id: str
    title: str
    source: str
    scale: str
    settings: Mapping[str, Any]
    key: str
    claim: Claim
    values: tuple[Value, ...]
    training_code: Mapping[str, int]
    core_seconds: float
    machine: Mapping[str, Any]
    command: str
    diverged: int = 0

    @property
    def decision(self) -> Decision:
        """The verdict on the claim and on each of its conditions."""
        return decide(self.claim, self.values)

    @property
    def diverged_text(self) -> str:
        """How many trainings diverged, in words."""
        return f"{self.diverged} of {sum(self.training_code.values())} trainings diverged"

    def text(self) -> str:
        """The verdict with every condition, in lines."""
        found = self.decision
        lines = [
            f"{self.id} at {self.scale} scale: {found.verdict} ({self.core_seconds / 60:.1f} core minutes)",
            f"  {self.claim.text}",
        ]
        for one in found.conditions:
            source = f"; source: {one.condition.source}" if one.condition.source else ""
            lines.append(f"  {one.verdict:<9} {one.text()}{source}")
        return "\n".join([*lines, f"  {self.diverged_text}"] if self.diverged else lines)

    def record(self) -> dict[str, Any]:
        """Everything as JSON; infinite values and those that could not be measured are the texts inf and nan."""
        content = {name: value for name, value in vars(self).items() if name not in ("claim", "values")}
        return {
            "schema_version": SCHEMA_VERSION,
            **content,
            "verdict": self.decision.verdict,
            "claim": asdict(self.claim),
            "values": [[seed, quantity, _as_json(value)] for seed, quantity, value in self.values],
        }


_RESULT = TypeAdapter(Result)


def write_result(result: Result, path: Path) -> None:
    """Write one result as JSON."""
    with replacing(path) as temporary:
        content = json.dumps(result.record(), indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(f"{content}\n", encoding="utf-8")


def read_result(path: Path) -> Result:
    """The result in a file; raises InputError for a file of another schema version, or one that is no result."""
    where = f"result={str(path)!r}"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content.pop("schema_version")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{where}: is no result of a reproduction ({type(error).__name__}: {error})") from None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"{where}: has schema version {version}, this anchorlab reads {SCHEMA_VERSION}; give another folder, "
            "or delete the file to measure again"
        )
    try:
        result = _RESULT.validate_python(content)
        decide(result.claim, result.values)
    except (InputError, ValidationError) as error:
        reason = from_validation_error(error) if isinstance(error, ValidationError) else error
        raise InputError(f"{where}: is no whole result of a reproduction ({reason})") from None
    return result


def _as_json(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))
