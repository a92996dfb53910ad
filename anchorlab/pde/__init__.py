"""Differential equations: a problem in a few lines, solved by networks, random features or finite differences."""

from anchorlab.models.mlp import MLP
from anchorlab.models.mlp_initialization import Initialization

from .classical import Hybrid
from .collocation import Collocation
from .conditions import Condition, Data, Dirichlet, Initial, Neumann, Periodic, Robin
from .differences import FiniteDifferences, Jacobi
from .domains import Box, Difference, Disk, Domain, Interval
from .equation import PDE
from .features import RandomFeatures
from .networks import NetworkMethod
from .problem import ResidualProblem
from .problems import PROBLEMS, problem
from .solution import Solution
from .solving import METHODS, check, load, method, solve, solve_seeds
from .unknown import At, Coefficients, Unknown

__all__ = [
    "METHODS",
    "MLP",
    "PDE",
    "PROBLEMS",
    "At",
    "Box",
    "Coefficients",
    "Collocation",
    "Condition",
    "Data",
    "Difference",
    "Dirichlet",
    "Disk",
    "Domain",
    "FiniteDifferences",
    "Hybrid",
    "Initial",
    "Initialization",
    "Interval",
    "Jacobi",
    "NetworkMethod",
    "Neumann",
    "Periodic",
    "RandomFeatures",
    "ResidualProblem",
    "Robin",
    "Solution",
    "Unknown",
    "check",
    "load",
    "method",
    "problem",
    "solve",
    "solve_seeds",
]
