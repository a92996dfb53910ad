"""Results of the literature, made again, each with a claim that measured numbers decide.

from anchorlab import reproduce

found = reproduce.run("fig12.13", scale="laptop")
print(found.result.text())
"""

from .claims import Claim, Condition, Decision, Value, Verdict, decide
from .registry import get, names
from .reproduction import SCALES, Measured, Reproduction
from .results import Result, read_result, write_result
from .results_page import results_page
from .running import Reproduced, chosen_settings, run
from .study import Study

__all__ = [
    "SCALES",
    "Claim",
    "Condition",
    "Decision",
    "Measured",
    "Reproduced",
    "Reproduction",
    "Result",
    "Study",
    "Value",
    "Verdict",
    "chosen_settings",
    "decide",
    "get",
    "names",
    "read_result",
    "results_page",
    "run",
    "write_result",
]
