"""From a problem and a method to a solution in a run folder."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from anchorlab.engine import Run
from anchorlab.engine.progress import progress_bars, working
from anchorlab.engine.store import check_folder
from anchorlab.errors import InputError
from anchorlab.files import replacing
from anchorlab.report.style import png
from anchorlab.setting_types import whole
from anchorlab.validation import check_known

from .checks import check_energy, check_value_known
from .classical import Hybrid, check_same_problem, load_classical, record, solve_classical
from .collocation import Collocation
from .differences import FiniteDifferences, Jacobi, System
from .equation import PDE
from .features import RandomFeatures, check_features
from .linear import check_linear
from .networks import NetworkMethod, load_network, train_networks
from .problem import check_network
from .solution import Solution
from .trial import Trial

Method = NetworkMethod | FiniteDifferences | RandomFeatures | Jacobi | Hybrid
METHODS = ("pinn", "ritz", "rfm", "fd", "jacobi", "hybrid")
_FIGURE = "solution.png"
_FEW = 6  # nodes along an axis that tell what differences cannot do


def method(name: str, **settings: Any) -> Method:
    """The method of a name with some settings replaced; raises InputError for unknown ones.

    `pinn` and `ritz` take those of `NetworkMethod`, and of `Collocation` where they do not clash; `rfm`, `fd`, `jacobi`
    those of `RandomFeatures`, `FiniteDifferences`, `Jacobi`; `hybrid` those of `NetworkMethod` and of `Jacobi`.
    """
    check_known("method", name, METHODS)
    if name in ("pinn", "ritz"):
        return _network(name, settings)
    if name == "hybrid":
        own = {one.name for one in fields(Jacobi)} - {"evaluate_every"}
        jacobi = Jacobi(**{key: value for key, value in settings.items() if key in own})
        rest = {key: value for key, value in settings.items() if key not in own}
        return Hybrid(network=_network("ritz", {"steps": 500, **rest}), jacobi=jacobi)
    classes: dict[str, Any] = {"rfm": RandomFeatures, "fd": FiniteDifferences, "jacobi": Jacobi}
    for key in settings:
        check_known("setting", key, [one.name for one in fields(classes[name])])
    made: Method = classes[name](**settings)
    return made


def _network(kind: str, settings: dict[str, Any]) -> NetworkMethod:
    placed = {one.name for one in fields(Collocation)} - {"seed"}
    known = {one.name for one in fields(NetworkMethod)} - {"kind"}
    for key in settings:
        check_known("setting", key, sorted(known | placed))
    points = {key: value for key, value in settings.items() if key in placed}
    rest = {key: value for key, value in settings.items() if key not in placed}
    whole_of = rest.pop("points", None)
    if not isinstance(whole_of, Collocation | Mapping | None):
        raise InputError(f"points={whole_of!r}: must be a Collocation; how many is interior=…")
    before = whole_of if isinstance(whole_of, Collocation) else Collocation(**(whole_of or {}))
    return NetworkMethod(kind=kind, points=replace(before, **points), **rest)  # type: ignore[arg-type]


def check(pde: PDE, how: Method) -> None:
    """Raise InputError if a method cannot solve this problem, without solving it."""
    if isinstance(how, Hybrid):
        check(pde, how.network)
        check(pde, how.jacobi)
    elif isinstance(how, NetworkMethod):
        shape = how.shape(pde)
        check_network(pde, shape, "energy" if how.kind == "ritz" else "residual")
        check_value_known(pde, how.kind)
        if how.kind == "ritz":
            check_energy(pde)
        keys = pde.keys(pde.energy) if how.kind == "ritz" and pde.energy is not None else pde.keys(pde.equation)
        Trial(shape, pde.domain, pde.conditions, keys)
    elif isinstance(how, RandomFeatures):
        check_features(pde, how)
        check_value_known(pde, "rfm")
    else:
        name = "jacobi" if isinstance(how, Jacobi) else "fd"
        FiniteDifferences(nodes=how.nodes).grid(pde)
        System(pde, FiniteDifferences(nodes=_FEW), name)
        if isinstance(how, Jacobi):
            check_linear(pde, name)


def solve(
    pde: PDE,
    how: str | Method = "pinn",
    *,
    out: Path | str,
    seed: int = 0,
    progress: bool | None = None,
    **settings: Any,
) -> Solution:
    """Solve a problem into the run folder `out`; the same call again shows what is there, or continues.

    `how` is a name in `METHODS` with `settings`, or a method. Raises InputError for settings that cannot be used, a
    folder that holds something else, and a training that diverges (its run is kept); Interrupted.
    """
    (found,) = solve_seeds(pde, how, out=out, seeds=[seed], progress=progress, folders=[Path(out)], **settings)
    if found.status == "diverged":
        raise InputError(
            f"learning_rate: the training diverged ({found.reason}); take a smaller one; its run is kept in "
            f"{found.folder}"
        )
    return found


def solve_seeds(
    pde: PDE,
    how: str | Method = "pinn",
    *,
    out: Path | str,
    seeds: Sequence[int],
    progress: bool | None = None,
    folders: Sequence[Path] | None = None,
    figures: bool = True,
    **settings: Any,
) -> list[Solution]:
    """Solve from every seed, networks stacked into one population, into `out/seed-K` (or these `folders`).

    `figures` are drawn into the run folders, as solution.png.

    Those that diverge are returned with this status. Raises InputError as `solve` does; Interrupted.
    """
    seeds = _checked_seeds(seeds)
    chosen = method(how, **settings) if isinstance(how, str) else how
    if settings and not isinstance(how, str):
        raise InputError(f"settings: {', '.join(settings)} are those of a named method; put them into the method")
    places = list(folders or [Path(out) / f"seed-{seed}" for seed in seeds])
    if len(places) != len(seeds):
        raise InputError(f"folders: {len(places)} for {len(seeds)} seeds; must be one for each")
    check(pde, chosen)
    if isinstance(chosen, NetworkMethod):
        with progress_bars(enabled=progress) as monitor:
            found = train_networks(pde, chosen, seeds, places, monitor)
    elif isinstance(chosen, Hybrid):
        found = _hybrid(pde, chosen, seeds, places, progress)
    else:
        with working(f"solving {pde.name}", enabled=progress):
            seeded = [replace(chosen, seed=s) if isinstance(chosen, RandomFeatures) else chosen for s in seeds]
            for classical, place in zip(seeded, places, strict=True):
                check_folder(place, record(pde, classical, place))
            found = [solve_classical(pde, one, place) for one, place in zip(seeded, places, strict=True)]
    for one in found if figures else ():
        _draw(one)
    return found


def _checked_seeds(seeds: Sequence[int]) -> list[int]:
    numbers = [whole("seed", seed) for seed in seeds]
    if not numbers:
        raise InputError("seeds: there must be at least one")
    twice = [seed for place, seed in enumerate(numbers) if seed in numbers[:place]]
    if twice:
        raise InputError(f"seeds: {twice[0]} is given twice; give it once")
    return numbers


def _hybrid(
    pde: PDE, chosen: Hybrid, seeds: Sequence[int], places: Sequence[Path], progress: bool | None
) -> list[Solution]:
    beside = [place.with_name(f"{place.name}-network") for place in places]
    for start_place, place in zip(beside, places, strict=True):
        check_folder(place, record(pde, chosen.jacobi, place, start_place, name="hybrid"))
    with progress_bars(enabled=progress) as monitor:
        starts = train_networks(pde, chosen.network, seeds, beside, monitor)
    found = []
    with working(f"Jacobi's iteration on {pde.name}", enabled=progress):
        for start, place in zip(starts, places, strict=True):
            if start.status == "diverged":
                found.append(start)
                continue
            found.append(solve_classical(pde, chosen.jacobi, place, start, name="hybrid"))
    return found


def _draw(one: Solution) -> None:
    """The figure beside the run's files, unless it is there."""
    if one.folder is not None and not (one.folder / _FIGURE).is_file():
        with replacing(one.folder / _FIGURE) as temporary:
            temporary.write_bytes(png(one.figure()))


def load(pde: PDE, folder: Path | str) -> Solution:
    """The solution in a run folder; the problem gives what no file can hold, its functions.

    Raises InputError for a folder of another problem, or one that holds no solution.
    """
    place = Path(folder)
    config = Run.open(place).config
    check_known("method", str(config.get("method")), METHODS)
    check_same_problem(pde, place)
    return (load_network if config["method"] in ("pinn", "ritz") else load_classical)(pde, place)
