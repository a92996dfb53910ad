"""The phase of a trained network (section 13.3, figures 13.5 and 13.6), decided from its ID and OOD accuracy."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Phase:
    """A phase with the numbers that decided it.

    1: poor on seen pairs (ID below `id_threshold`); 2: good on seen, poor on unseen pairs; 3: good on both.
    """

    number: Literal[1, 2, 3]
    id_accuracy: float
    ood_accuracy: float
    id_threshold: float
    ood_threshold: float


def phase(id_accuracy: float, ood_accuracy: float, *, id_threshold: float = 0.9, ood_threshold: float = 0.9) -> Phase:
    """Decide the phase; an accuracy equal to its threshold counts as good.

    Figure 13.6 gives 0.9 as the limit of good ID accuracy; the source states none for OOD, the same is used here.
    Raises `ValueError` for an accuracy outside 0..1 (NaN included).
    """
    for name, value in (("id_accuracy", id_accuracy), ("ood_accuracy", ood_accuracy)):
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} is {value}; an accuracy lies between 0 and 1")
    number: Literal[1, 2, 3] = 1 if id_accuracy < id_threshold else 2 if ood_accuracy < ood_threshold else 3
    return Phase(number, id_accuracy, ood_accuracy, id_threshold, ood_threshold)
