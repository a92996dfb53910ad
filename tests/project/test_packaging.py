"""The package as users get it: what the wheel holds, what it imports, how fast it starts."""

import ast
import json
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import anchorlab

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
LAYERS = (
    *("errors", "files", "provenance", "validation", "setting_types", "user_code", "tasks", "corpora", "models"),
    *("engine", "analysis", "pretrained_probe", "report", "experiments", "phenomena", "pde", "benchmark_card"),
    *("reproduce", "cli"),
)
"""From the bottom up; a module may import its own layer and those before it. (`tasks` may be used by all above.)"""
NOT_USED_BY = {"models": {"tasks"}, "engine": {"tasks", "analysis"}, "report": {"engine", "models", "tasks"}}
"""What a layer must not import although it stands above it: the engine knows no tasks, a report no training code."""


def installed() -> Path:
    assert anchorlab.__file__ is not None
    return Path(anchorlab.__file__).parent


def modules(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        yield ".".join(("anchorlab", *(part for part in parts if part != "__init__"))), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-P", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(out.glob("*.whl"))


@pytest.mark.slow
def test_wheel_installs_and_every_module_imports_and_leaves_the_random_state_alone(wheel: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-P", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(tmp_path), str(wheel)], check=True, capture_output=True)
    names = [name for name, _ in modules(tmp_path / "anchorlab") if not name.endswith("__main__")]
    assert len(names) > 40
    program = "import importlib, torch; before = torch.random.get_rng_state(); "
    program += f"found = [importlib.import_module(name).__file__ for name in {names!r}]; "
    program += f"assert all(file.startswith({str(tmp_path)!r}) for file in found); "
    program += "assert bool((before == torch.random.get_rng_state()).all()), 'drawn while importing'"
    subprocess.run([sys.executable, "-P", "-c", program], check=True, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})


def test_wheel_holds_every_source_file_and_nothing_else(wheel: Path) -> None:
    mapping = SETTINGS["tool"]["setuptools"]["package-dir"]
    expected = set()
    for package, folder in mapping.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts:
                expected.add(f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}")
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == expected


def test_declared_packages_are_those_of_the_tree() -> None:
    mapping = SETTINGS["tool"]["setuptools"]["package-dir"]
    found = set()
    for package, folder in mapping.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            below = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join((package, *below)))
    declared = SETTINGS["tool"]["setuptools"]["packages"]
    assert sorted(found) == sorted(declared)
    assert declared == sorted(declared)


def imported(name: str, path: Path) -> Iterator[str]:
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            if module in ("anchorlab", package):
                yield from (f"{module}.{alias.name}" for alias in node.names)


def test_imports_only_point_down() -> None:
    checked = 0
    for name, path in modules(installed()):
        layer = name.split(".")[1] if "." in name else None
        if layer in (None, "__main__"):
            continue
        assert layer in LAYERS, f"{name}: {layer} has no place in the table of layers"
        for target in imported(name, path):
            if target.startswith("anchorlab."):
                other = target.split(".")[1]
                if other in LAYERS:
                    checked += 1
                    assert LAYERS.index(other) <= LAYERS.index(layer), f"{name} imports {target}"
                    assert other not in NOT_USED_BY.get(layer, ()), f"{name} imports {target}"
    assert checked > 50


def fresh(program: str) -> str:
    result = subprocess.run([sys.executable, "-P", "-c", program], check=True, capture_output=True, text=True)
    return result.stdout


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("anchorlab", ["torch", "transformers", "datasets", "pandas", "numpy", "sklearn", "matplotlib", "pydantic"]),
        ("anchorlab.tasks", ["torch", "transformers", "datasets", "pyarrow", "pandas", "sklearn", "matplotlib"]),
        ("anchorlab.cli", ["torch", "transformers", "datasets", "numpy", "matplotlib"]),
    ],
)
def test_light_imports(module: str, heavy: list[str]) -> None:
    loaded = json.loads(fresh(f"import json, sys, {module}; print(json.dumps(list(sys.modules)))"))
    assert not set(heavy) & set(loaded)


def test_modules_stay_small() -> None:
    sizes = {name: len(path.read_text().splitlines()) for name, path in modules(installed())}
    assert {name: size for name, size in sizes.items() if size > 400} == {}


def test_extras_and_pins() -> None:
    project = SETTINGS["project"]
    assert project["requires-python"] == ">=3.11"
    assert {"ray", "docs", "test", "dev"} <= project["optional-dependencies"].keys()
    pins = dict(line.lower().split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert pins["torch"] == "2.13.0"
    names = [requirement.split(">=")[0] for requirement in project["dependencies"]]
    assert all(">=" in requirement for requirement in project["dependencies"])
    assert set(names) <= pins.keys()
