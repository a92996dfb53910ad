from pathlib import Path

import pytest

from anchorlab.errors import InputError, Interrupted
from anchorlab.experiments import Experiment, grid, read_sweep


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_toml_is_what_grid_makes_of_its_parts(tmp_path: Path) -> None:
    text = """
        seeds = 2
        [settings]
        task = "composite"
        steps = 30
        [settings.task_fields]
        length = 12
        [settings.model_options]
        activation = "relu"
        [vary]
        initialization_rate = "0.3:0.9:0.05"
        weight_decay = [0, 0.01, 0.1, 1]
        model = "gpt2"
        "task.modulus" = [7, 9]
    """
    found = read_sweep(written(tmp_path, "sweep.toml", text))
    shared = {
        **{"task": "composite", "steps": 30},
        **{"task_fields": {"length": 12}, "model_options": {"activation": "relu"}},
    }
    rates = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9]
    vary = {"initialization_rate": rates, "weight_decay": [0, 0.01, 0.1, 1], "model": ["gpt2"], "task.modulus": [7, 9]}
    assert list(found.items()) == list(grid(shared, vary, seeds=2).items())
    assert len(found) == 13 * 4 * 2 * 2
    assert all(experiment.task_fields["length"] == 12 for experiment in found.values())


def test_toml_without_sections_is_one_member(tmp_path: Path) -> None:
    assert list(read_sweep(written(tmp_path, "one.toml", "[settings]\nsteps = 3"))) == ["seed0"]


def test_python_mapping_keeps_names_and_order(tmp_path: Path) -> None:
    text = """
        from anchorlab import Experiment
        experiments = {
            "small_init": Experiment(steps=3, initialization_rate=0.8),
            "large_init": Experiment(steps=3, initialization_rate=0.3),
        }
    """
    found = read_sweep(written(tmp_path, "sweep.py", _dedented(text)))
    assert [(name, e.initialization_rate) for name, e in found.items()] == [("small_init", 0.8), ("large_init", 0.3)]


def test_python_sequence_is_named_by_what_differs(tmp_path: Path) -> None:
    text = """
        from anchorlab import Experiment
        experiments = [
            Experiment(steps=3, initialization_rate=rate, task_fields={"modulus": modulus}, seed=seed, data_seed=seed)
            for rate in (0.3, 0.8) for modulus in (7, 9) for seed in (0, 4)
        ]
    """
    found = read_sweep(written(tmp_path, "sweep.py", _dedented(text)))
    assert len(found) == 8
    assert found["gamma0.8-task.modulus9-seed4"] == Experiment(
        steps=3, initialization_rate=0.8, task_fields={"modulus": 9}, seed=4, data_seed=4
    )
    alone = written(
        tmp_path, "alone.py", "from anchorlab import Experiment\nexperiments = [Experiment(steps=3, seed=6)]"
    )
    assert list(read_sweep(alone)) == ["seed6"]


def test_python_function_may_use_its_file_and_modules_beside_it(tmp_path: Path) -> None:
    written(tmp_path, "beside_this_sweep.py", "DECAYS = (0.0, 0.5)")
    text = """
        from anchorlab import Experiment
        from beside_this_sweep import DECAYS
        STEPS = 7
        def experiments():
            return [Experiment(steps=STEPS, weight_decay=decay) for decay in DECAYS]
    """
    found = read_sweep(str(written(tmp_path, "sweep.py", _dedented(text))))
    assert {name: e.steps for name, e in found.items()} == {"decay0": 7, "decay0.5": 7}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("sweep.toml", "[settings]\nsteps = = 3", r"sweep.toml': is not valid TOML: .*line 2"),
        (
            "sweep.toml",
            "[setings]\nsteps = 3",
            "sweep.toml': section: unknown value 'setings'; did you mean 'settings'",
        ),
        ("sweep.toml", "vary = 3", r"sweep.toml': vary=3: must be a table, \[vary\]"),
        ("sweep.toml", "settings = [1]", r"sweep.toml': settings=\[1\]: must be a table"),
        ("sweep.toml", "[settings]\nstep = 3", "sweep.toml': setting: unknown value 'step'; did you mean 'steps'"),
        ("sweep.toml", "[settings]\nsteps=3\n[vary]\nlayer=[1]", "vary: unknown value 'layer'; did you mean 'layers'"),
        ("sweep.toml", "seeds=0\n[settings]\nsteps=3", "sweep.toml': seeds=0: must be at least 1"),
        ("sweep.toml", "seeds='2'\n[settings]\nsteps=3", "sweep.toml': seeds='2': must be a number of trials"),
        ("sweep.toml", "[settings]\nsteps=3\n[vary]\nweight_decay=[]", "weight_decay: the list of values is empty"),
        ("sweep.toml", "[settings]\nsteps=3\n[vary]\nweight_decay=[-1]", "weight_decay=-1: input should be greater"),
        ("sweep.toml", "[settings]\nsteps=3\n[vary]\ninitialization_rate=[nan]", "initialization_rate=nan: input"),
        ("sweep.toml", "[settings]\nsteps=3\n[vary]\nweight_decay=0.1", "weight_decay=0.1: must be a list of values"),
        ("sweep.toml", "", "sweep.toml': steps: give steps or epochs"),
        ("sweep.py", "x = 1\nexperiments = x / 0", "sweep.py': line 2: ZeroDivisionError: division by zero"),
        ("sweep.py", "x = 1\n\nif x\n", "sweep.py': line 3: SyntaxError"),
        ("sweep.py", "import no_such_module_anywhere", "sweep.py': line 1: ModuleNotFoundError: No module named"),
        ("sweep.py", "raise SystemExit('stop')", "sweep.py': line 1: SystemExit: stop"),
        ("sweep.py", "def experiments():\n    return {}['a']", "sweep.py': line 2: KeyError: 'a'"),
        ("sweep.py", "def experiments(n):\n    return n", r"sweep.py': TypeError: experiments\(\) missing 1"),
        ("sweep.py", "experiment = []", "sweep.py': has no `experiments`"),
        ("sweep.py", "experiments = 3", "sweep.py': experiments is a int; must be a mapping or a sequence"),
        ("sweep.py", "experiments = 'abc'", "sweep.py': experiments is a str; must be"),
        ("sweep.py", "experiments = []", "sweep.py': experiments is empty"),
        ("sweep.py", "def experiments():\n    return {}", "sweep.py': experiments is empty"),
        ("sweep.py", "experiments = [3]", "sweep.py': experiments: number 0 is a int; must be an Experiment"),
        ("sweep.py", "experiments = {'a': None}", "sweep.py': experiments: 'a' is a NoneType; must be an Experiment"),
        (
            "sweep.py",
            "from anchorlab import Experiment\nexperiments = [Experiment(steps=0)]",
            "sweep.py': line 2: steps=0: input should be greater than 0",
        ),
        (
            "sweep.py",
            "from anchorlab import Experiment\nexperiments = {'a': Experiment()}",
            "sweep.py': experiments: 'a': steps: give steps or epochs",
        ),
        (
            "sweep.py",
            "from anchorlab import Experiment\nexperiments = [Experiment(steps=1, layers=n) for n in (1, 2, 1)]",
            "sweep.py': experiments: number 0 and number 2 are the same",
        ),
        ("sweep.yaml", "", "sweep.yaml': must be a file ending in .toml or .py"),
    ],
)
def test_wrong_files_are_named_with_the_place(name: str, text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as raised:
        read_sweep(written(tmp_path, name, text))
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "-option", "a b", "x" * 201, "sweep.json", "ä", 3])
def test_names_that_are_no_safe_folder_names_are_refused(name: object, tmp_path: Path) -> None:
    text = f"from anchorlab import Experiment\nexperiments = {{{name!r}: Experiment(steps=1)}}"
    with pytest.raises(InputError, match="must be letters, digits and"):
        read_sweep(written(tmp_path, "sweep.py", text))


def test_names_that_differ_in_capitals_only_are_refused(tmp_path: Path) -> None:
    text = "from anchorlab import Experiment\nexperiments = {name: Experiment(steps=1) for name in ('run', 'Run')}"
    with pytest.raises(InputError, match="the names 'run' and 'Run' differ in capitals only"):
        read_sweep(written(tmp_path, "sweep.py", text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sweep='nowhere.toml': no such file"):
        read_sweep("nowhere.toml")
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(InputError, match="no such file"):
        read_sweep(tmp_path / "folder.py")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# \xe4")
    with pytest.raises(InputError, match="is not text in UTF-8"):
        read_sweep(latin)


def test_an_interrupt_is_no_error_of_the_file(tmp_path: Path) -> None:
    text = "from anchorlab.errors import Interrupted\nraise Interrupted('stopped')"
    with pytest.raises(Interrupted):
        read_sweep(written(tmp_path, "sweep.py", text))


def _dedented(text: str) -> str:
    return "\n".join(line.removeprefix(" " * 8) for line in text.splitlines())
