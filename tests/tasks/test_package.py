"""The package as a whole: light imports, checked shapes, pages that match the code."""

import importlib.util
import subprocess
import sys
from pathlib import Path

from anchorlab import tasks

ROOT = Path(__file__).parents[2]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_and_sampling_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'datasets', 'pyarrow', 'pandas', 'transformers', 'sklearn', 'matplotlib'}"
    code = (
        f"import sys, anchorlab.tasks as t; t.create('composite').sample('train', 5); print({heavy} & set(sys.modules))"
    )
    assert run(code) == "set()"


def test_shapes_are_what_the_annotations_say() -> None:
    code = """
from jaxtyping import install_import_hook
with install_import_hook("anchorlab.tasks", "beartype.beartype"):
    from anchorlab import tasks
for name in tasks.names():
    task = tasks.create(name)
    for split in task.splits:
        sample = task.sample(split, 30)
        task.solve(sample.tokens)
        task.locate(sample.tokens)
        if name != "statistical":
            task.sample(split, 5, unique=True)
    task.leak_report()
tasks.create("identity", offsets=(-1, 1), operation="sum").sample("train", 5)
several = tasks.create("composite", offsets=(-1, 2), overrides={"a,b": "sum"})
several.solve(several.sample("train", 50).tokens)
own = tasks.create("multi_anchor", anchor_offsets={"1": (-1,)}, split="mod_remainder")
own.solve(own.sample("train", 50).tokens)
print("fine")
"""
    assert run(code) == "fine"


def test_pages_match_the_code() -> None:
    path = ROOT / "docs" / "generate_task_pages.py"
    spec = importlib.util.spec_from_file_location("generate_task_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = {page.name: page.read_text(encoding="utf-8") for page in module.FOLDER.glob("*.md")}
    assert written == module.pages(), "run: python docs/generate_task_pages.py"


def test_every_parameter_is_described() -> None:
    for name in tasks.names():
        for one in tasks.parameters(name):
            assert one.description, (name, one.name)


def test_an_example_marks_key_anchors_and_label() -> None:
    task = tasks.create("composite")
    tokens, marks, group = tasks.worked_example(task, "ood").splitlines()
    shown = tasks.example_row(task, "ood")
    key = tokens[marks.index("key") :].split()[0]
    first, second = (tokens[marks.index(mark) :].split()[0] for mark in ("anchor 1", "anchor 2"))
    label = tokens[marks.index("label") :].split()[0]
    assert group == f"group: {first},{second}"
    ids = [task.vocabulary.token_id(name) for name in shown["tokens"]]
    assert ids == shown["input_ids"]
    offsets = {"a": 5, "b": 1, "c": -2, "d": -8}
    assert int(label) == int(key) + offsets[first] + offsets[second]


def test_a_task_of_ones_own() -> None:
    from typing import ClassVar

    from pydantic.dataclasses import dataclass

    kind = tasks.task_class("identity")

    @tasks.register_task
    @dataclass(frozen=True, kw_only=True, config={"extra": "forbid"})
    class Doubled(kind):
        """Identity under another name."""

        name: ClassVar[str] = "own_for_test"

    try:
        assert tasks.create("own_for_test").sample("train", 5).tokens.shape == (5, 9)
        assert tasks.create("own_for_test").hash != tasks.create("identity").hash
    finally:
        from anchorlab.tasks import registry

        del registry._TASKS["own_for_test"]
