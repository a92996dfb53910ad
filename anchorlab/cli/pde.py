"""`anchorlab pde`: a named differential equation, solved by a network, random features or finite differences."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anchorlab.errors import InputError
from anchorlab.validation import check_known

from .settings import parse_settings
from .tables import aligned

if TYPE_CHECKING:
    from anchorlab.pde import PDE, Solution
    from anchorlab.pde.solving import Method

_ALL = "all"
_TRAINED, _WITHOUT_SEED = ("pinn", "ritz", "hybrid"), ("fd", "jacobi")


def pde(
    problem: Annotated[str, typer.Argument(help="a named problem; `list` shows all")],
    method: Annotated[
        str, typer.Option(help="pinn, ritz, rfm, fd, jacobi or hybrid; several as in fd,pinn; or all")
    ] = "pinn",
    steps: Annotated[int | None, typer.Option(help="optimizer steps (of a network)")] = None,
    width: Annotated[int | None, typer.Option(help="units of each hidden layer")] = None,
    depth: Annotated[int | None, typer.Option(help="hidden layers")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam, gd or lbfgs")] = None,
    lbfgs_steps: Annotated[int | None, typer.Option(help="steps of L-BFGS that follow")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", "--lr", help="learning rate")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64")] = None,
    points: Annotated[int | None, typer.Option(help="points inside (of fd and jacobi: nodes along every axis)")] = None,
    weight: Annotated[float | None, typer.Option(help="weight of the conditions in the loss")] = None,
    hard: Annotated[bool, typer.Option("--hard", help="conditions hold exactly: the net N becomes g + d N")] = False,
    seed: Annotated[int, typer.Option(help="first seed")] = 0,
    seeds: Annotated[int, typer.Option(help="how many seeds, trained together")] = 1,
    out: Annotated[Path | None, typer.Option(help="folder of the runs (default: runs/PROBLEM/METHOD)")] = None,
    settings: Annotated[
        list[str], typer.Option("--set", metavar="NAME=VALUE", help="any other setting of the method")
    ] = [],  # noqa: B006 - Typer reads the default, nothing changes it
) -> None:
    """Solve a named differential equation; the same command again continues or shows what is there."""
    from anchorlab import pde as package

    if problem == "list":
        for line in aligned(["problem", "equation"], [[n, _summary(n)] for n in package.PROBLEMS]):
            typer.echo(line)
        return
    if seeds < 1:
        raise InputError(f"seeds={seeds}: must be at least 1")
    if seed < 0:
        raise InputError(f"seed={seed}: must be at least 0")
    chosen = package.problem(problem, weight=weight, hard=hard)
    named = {
        **{"steps": steps, "optimizer": optimizer, "lbfgs_steps": lbfgs_steps, "learning_rate": learning_rate},
        **{"dtype": dtype, "widths": _widths(width, depth)},
    }
    given = {name: value for name, value in named.items() if value is not None}
    methods = _methods(chosen, method, given, points, parse_settings(settings))
    numbers = range(seed, seed + seeds)
    found: list[Solution] = []
    for name, one in methods.items():
        used = numbers[:1] if name in _WITHOUT_SEED else numbers
        if out is not None and len(methods) == seeds == 1:
            places = [out]  # one method of one seed is a run folder itself
        else:
            places = [(out or Path("runs") / problem) / _place(name, s, seeds) for s in used]
        found += package.solve_seeds(
            chosen, one, out=places[0].parent, seeds=used, folders=places, progress=sys.stderr.isatty()
        )
    _show(found)


def _place(name: str, seed: int, seeds: int) -> str:
    return name if name in _WITHOUT_SEED or (seeds == 1 and seed == 0) else f"{name}-seed-{seed}"


def _methods(
    problem: "PDE", text: str, given: dict[str, Any], points: int | None, settings: dict[str, Any]
) -> "dict[str, Method]":
    """The methods by name, each with the options that it has; all are known to fit the problem before any begins.

    Of `all` those that cannot solve the problem are left out, with a line on stderr.
    """
    from anchorlab import pde as package

    names = package.METHODS if text == _ALL else tuple(name.strip() for name in text.split(","))
    for place, name in enumerate(names):
        check_known("method", name, package.METHODS)
        if name in names[:place]:
            raise InputError(f"method: {name!r} is given twice; give it once")
    if given and not set(names) & set(_TRAINED):
        option = next(iter(given))
        raise InputError(f"{option}: method {names[0]!r} trains no network; leave it out, or use pinn, ritz or hybrid")
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    found: dict[str, Method] = {}
    for name in names:
        one = _method(name, given, points, plain)
        try:
            package.check(problem, one)
        except InputError as error:
            if text != _ALL:
                raise
            typer.echo(f"{name} is left out: {error}", err=True)
            continue
        found[name] = one
    if not found:
        raise InputError(f"method: no method can solve {problem.name} with these settings")
    return found


def _widths(width: int | None, depth: int | None) -> tuple[int, ...] | None:
    for name, value in (("width", width), ("depth", depth)):
        if value is not None and value < 1:
            raise InputError(f"{name}={value}: must be at least 1")
    return None if width is None and depth is None else (width or 50,) * (depth or 3)


def _method(name: str, given: dict[str, Any], points: int | None, settings: dict[str, Any]) -> "Method":
    """The method with those of the options that it has; `settings` must be its own."""
    from anchorlab import pde as package

    size = {"hybrid": "nodes", "rfm": "interior", "fd": "nodes", "jacobi": "nodes"}.get(name, "interior")
    return package.method(
        name,
        **((given if name in _TRAINED else {}) | ({} if points is None else {size: points}) | settings),
    )


def _summary(name: str) -> str:
    from anchorlab import pde as package

    return (package.PROBLEMS[name].__doc__ or "").splitlines()[0]


def _show(found: "list[Solution]") -> None:
    """One line for every solution, then where they are; the first that diverged ends the command with an error."""
    coefficients = list(found[0].pde.coefficients)
    header = ["method", "seed", "relative L2", "largest error", "best L2", "seconds", *coefficients]
    rows = [
        [
            one.method,
            "" if one.seed is None else str(one.seed),
            *(f"{one.final[name]:.2e}" for name in ("relative_l2", "max_error")),
            f"{one.best['relative_l2']:.2e}",
            f"{one.seconds:.1f}",
            *(f"{one.coefficients[name]:.5f}" for name in coefficients if name in one.coefficients),
        ]
        for one in found
        if one.status != "diverged"
    ]
    if rows:
        for line in aligned(header, rows):
            typer.echo(line)
    for one in found:
        if one.status == "diverged":
            raise InputError(
                f"learning_rate: the training diverged ({one.reason}); take a smaller one; its run is kept in "
                f"{one.folder}"
            )
    for one in found:
        typer.echo(f"run folder: {one.folder} (figure: solution.png)")
