import itertools
import json
import math
import re
from collections import Counter
from copy import copy
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorlab.errors import InputError
from anchorlab.experiments import Experiment, grid, parse_values
from anchorlab.experiments.axes import names, varied
from anchorlab.experiments.grids import even_order
from anchorlab.experiments.plane import plane

SHARED = {"steps": 3}


def test_every_combination_once_with_independent_trials() -> None:
    made = grid(
        SHARED, {"initialization_rate": [0.3, 0.5], "weight_decay": [0, 0.01, 1], "task.modulus": [7, 9]}, seeds=3
    )
    wanted = itertools.product([0.3, 0.5], [0, 0.01, 1], [7, 9], [0, 1, 2])
    found = [(e.initialization_rate, e.weight_decay, e.task_fields["modulus"], e.seed) for e in made.values()]
    assert sorted(found) == sorted(wanted)
    assert all(e.seed == e.data_seed and e.steps == 3 for e in made.values())
    named = made["gamma0.3-decay0.01-task.modulus9-seed2"]
    assert (named.initialization_rate, named.weight_decay, named.task_fields, named.seed) == (
        0.3,
        0.01,
        {"modulus": 9},
        2,
    )


def test_values_of_the_task_and_the_model_are_added_to_those_that_are_set() -> None:
    shared = SHARED | {"task_fields": {"modulus": 8}, "model_options": {"activation": "relu"}}
    made = grid(shared, {"task.key_positions": [[0, 3], [0, 4]], "layers": [2]})
    assert list(made) == ["task.key_positions0_3-layers2-seed0", "task.key_positions0_4-layers2-seed0"]
    assert [e.task_fields for e in made.values()] == [
        {"modulus": 8, "key_positions": [0, 3]},
        {"modulus": 8, "key_positions": [0, 4]},
    ]
    assert all(e.model_options == {"activation": "relu"} for e in made.values())
    (only,) = grid(shared | {"model_options": {}}, {"model.activation": ["relu"]})
    assert only == "model.activationrelu-seed0"


@pytest.mark.parametrize(
    ("shared", "vary", "seeds", "wanted"),
    [
        ({}, {}, 2, {"seed0": (0, 0), "seed1": (1, 1)}),
        ({}, {}, [4, 7], {"seed4": (4, 4), "seed7": (7, 7)}),
        ({"data_seed": 9}, {}, 2, {"seed0": (0, 9), "seed1": (1, 9)}),
        ({"seed": 9}, {}, 2, {"data_seed0": (9, 0), "data_seed1": (9, 1)}),
        ({}, {"seed": [5, 6]}, 1, {"seed5": (5, 0), "seed6": (6, 0)}),
        ({}, {"seed": [5]}, 2, {"seed5-data_seed0": (5, 0), "seed5-data_seed1": (5, 1)}),
        ({}, {"data_seed": [5]}, 2, {"seed0-data_seed5": (0, 5), "seed1-data_seed5": (1, 5)}),
        ({"seed": 8, "data_seed": 9}, {}, 1, {"seed8": (8, 9)}),
    ],
)
def test_seeds_that_are_given_stay(shared: dict[str, Any], vary: dict[str, Any], seeds: Any, wanted: Any) -> None:
    made = grid(SHARED | shared, vary, seeds=seeds)
    assert {name: (e.seed, e.data_seed) for name, e in made.items()} == wanted


def test_ranges_arrays_and_texts_vary_too() -> None:
    made = grid(SHARED, {"initialization_rate": "0.3:0.9:0.05", "layers": np.arange(2, 4), "width": np.array([8, 16])})
    assert len(made) == 13 * 2 * 2
    assert {e.initialization_rate for e in made.values()} == {round(0.3 + 0.05 * k, 2) for k in range(13)}
    assert {type(e.layers) for e in made.values()} == {int}
    rates = np.linspace(0.3, 0.9, 7)
    spaced = grid(SHARED, {"initialization_rate": rates})
    assert {e.initialization_rate for e in spaced.values()} == set(rates)
    assert sorted(spaced) == [f"gamma0.{digit}-seed0" for digit in range(3, 10)]
    close = grid(SHARED, {"initialization_rate": [0.6, 0.6000000000000001]})
    assert len(set(close)) == 2


def test_all_cells_of_a_trial_come_before_the_next() -> None:
    made = list(grid(SHARED, {"weight_decay": "0:1:0.25", "seed": [3, 1], "layers": [1, 2]}).values())
    assert [e.seed for e in made] == [3] * 10 + [1] * 10
    trials = [e.seed for e in grid(SHARED, {"weight_decay": "0:1:0.25"}, seeds=3).values()]
    assert trials == [0] * 5 + [1] * 5 + [2] * 5


@given(st.lists(st.integers(1, 9), max_size=3))
def test_any_prefix_of_the_order_uses_the_values_of_an_axis_equally_often(sizes: list[int]) -> None:
    order = even_order(sizes)
    assert sorted(order) == list(itertools.product(*map(range, sizes)))
    for axis, size in enumerate(sizes):
        uses = [0] * size
        for place in order:
            uses[place[axis]] += 1
            assert max(uses) - min(uses) <= 1


@pytest.mark.parametrize("sizes", [(7, 4), (13, 4), (16, 4), (8, 8), (9, 7), (14, 9), (16, 12)])
def test_early_results_leave_no_large_hole(sizes: tuple[int, int]) -> None:
    order = even_order(sizes)

    def hole(part: int) -> int:
        """How far the loneliest cell is from one of the first, in columns or rows."""
        early = order[: len(order) // part]
        return max(min(max(abs(a - c), abs(b - d)) for c, d in early) for a, b in order)

    assert hole(4) <= 3
    assert hole(2) <= 2


_plain = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-(10**20), 10**20),
    st.text(max_size=60),
    st.booleans(),
)
_odd = st.one_of(
    _plain, st.none(), st.lists(_plain, max_size=4), st.dictionaries(st.text(max_size=5), _plain, max_size=3)
)


@given(st.lists(_odd, min_size=1, max_size=6), st.lists(_odd, min_size=1, max_size=6))
@settings(deadline=None)
def test_names_are_unique_and_safe_for_any_values(first: list[Any], second: list[Any]) -> None:
    plain = Experiment(steps=1)

    def member(one: Any, two: Any) -> Experiment:
        made = copy(plain)  # valid, then given values that no field would take
        vars(made).update(component_rates=one, betas=two)
        return made

    def same(value: Any) -> str:
        """JSON with every number as its exact value, by which true, 1 and "1" differ and 1 and 1.0 do not."""
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return f"number {Decimal(value).normalize() + 0:f}"
        return json.dumps(value, sort_keys=True)

    unique_first = list({same(value): value for value in first}.values())
    unique_second = list({same(value): value for value in second}.values())
    members = [member(one, two) for one in unique_first for two in unique_second]
    made = names(members, ["component_rates", "betas"])
    assert len({name.casefold() for name in made}) == len(members)
    assert all(re.fullmatch(r"[a-z][A-Za-z0-9._+-]*", name) and len(name) <= 200 for name in made)


def test_varied_fields_and_the_plane() -> None:
    made = grid(SHARED, {"layers": [3, 1, 2], "weight_decay": [1, 0], "model": ["post_ln", "gpt2"]}, seeds=2)
    assert varied(list(made.values())) == {
        "model": ["post_ln", "gpt2"],
        "layers": [1, 2, 3],
        "weight_decay": [0, 1],
        "seed": [0, 1],
    }
    drawn = plane(made)
    assert drawn is not None
    assert (drawn.columns, drawn.rows, drawn.column_texts) == ("layers", "model", ("1", "2", "3"))
    assert sorted(drawn.members[0, 2]) == sorted(n for n, e in made.items() if e.layers == 3 and e.model == "post_ln")
    assert Counter(len(cell) for cell in drawn.members.values()) == {4: 6}
    both = plane(grid(SHARED, {"layers": [1, 2, 3], "weight_decay": [1, 0], "initialization_rate": [0.4, 0.5]}))
    assert both is not None
    assert both.title == "γ across, λ down"
    seeds = plane(grid(SHARED, {"weight_decay": [1, 0]}, seeds=5))
    assert seeds is not None
    assert (seeds.columns, seeds.rows) == ("weight_decay", "seed")
    assert plane(grid(SHARED, {"weight_decay": [1, 0]})) is None


@pytest.mark.parametrize(
    ("shared", "vary", "seeds", "message"),
    [
        ({}, {"layer": [1]}, 1, "vary: unknown value 'layer'; did you mean 'layers'"),
        ({}, {"task.modulos": [7]}, 1, "'modulos'; did you mean 'modulus'"),
        ({}, {"task.": [7]}, 1, "vary: unknown value 'task.'"),
        ({"layer": 1}, {}, 1, "setting: unknown value 'layer'; did you mean 'layers'"),
        ({}, {"task_fields": [{}]}, 1, "vary: 'task_fields' cannot vary as a whole"),
        ({}, {"weight_decay": []}, 1, "weight_decay: the list of values is empty"),
        ({}, {"weight_decay": "[]"}, 1, "weight_decay: the list of values is empty"),
        ({}, {"weight_decay": 0.1}, 1, "weight_decay=0.1: must be a list of values"),
        ({}, {"weight_decay": {0.1: 1}}, 1, "weight_decay={0.1: 1}: must be a list of values"),
        ({}, {"weight_decay": "0.3,0.30"}, 1, "weight_decay=0.3: is given twice"),
        ({}, {"layers": [1, 2, 1.0]}, 1, "layers=1.0: is given twice"),
        ({}, {"weight_decay": [0.3, "0.3"]}, 1, "weight_decay has two values that mean the same"),
        ({}, {"initialization_rate": [0.5, math.nan]}, 1, "initialization_rate=nan: input should be a finite number"),
        ({}, {"initialization_rate": "0.5,inf"}, 1, "initialization_rate='inf': input should be a finite number"),
        ({}, {"weight_decay": [0.5, -1]}, 1, "weight_decay=-1: input should be greater than or equal to 0"),
        ({}, {"momentum": [0.0, 0.9]}, 1, "momentum=0.9: optimizer 'adamw' does not use it"),
        ({}, {"steps": [1, 2]}, 1, "steps: is both set and varied"),
        ({"task_fields": {"modulus": 7}}, {"task.modulus": [7, 8]}, 1, "task.modulus: is both set and varied"),
        ({"task_fields": 3}, {"task.modulus": [7, 8]}, 1, "task_fields=3: must map names to values"),
        ({"steps": None}, {"weight_decay": [0.5]}, 1, "steps: give steps or epochs"),
        ({}, {}, 0, "seeds=0: must be at least 1"),
        ({}, {}, -3, "seeds=-3: must be at least 1"),
        ({}, {}, 10**12, "seeds=1000000000000: at most 100,000"),
        ({}, {}, 1.5, "seeds=1.5: must be a number of trials or a list of their seeds"),
        ({}, {}, True, "seeds=True: must be a number"),
        ({}, {}, "3", "seeds='3': must be a number"),
        ({}, {}, [], "seeds=.*: must be a number"),
        ({}, {}, [1, "2"], "seeds=.*: must be a number"),
        ({}, {}, [1, 2, 1], "seeds=1: is given twice"),
        ({}, {}, [-1], "seed=-1: input should be greater than or equal to 0"),
        ({"seed": 1, "data_seed": 2}, {}, 2, "seeds=2: seed and data_seed are both given"),
        ({}, {"weight_decay": "0:1:0.001", "learning_rate": "0.001:0.1:0.001"}, 2, "vary: gives 200,200 members"),
    ],
)
def test_wrong_grids_are_named(shared: dict[str, Any], vary: Any, seeds: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        grid(SHARED | shared, vary, seeds=seeds)


@pytest.mark.parametrize(
    ("field", "text", "wanted"),
    [
        ("weight_decay", "0,0.01,0.1,1", [0, 0.01, 0.1, 1]),
        ("weight_decay", " 1e-5 ", [1e-5]),
        ("weight_decay", "0, 0.1:0.3:0.1", [0, 0.1, 0.2, 0.3]),
        ("weight_decay", "0.9:0.3:-0.3", [0.9, 0.6, 0.3]),
        ("weight_decay", "0.3:0.9:0.25", [0.3, 0.55, 0.8]),
        ("weight_decay", "2:2:1", [2]),
        ("layers", "2:6:2", [2, 4, 6]),
        ("model", "gpt2,post_ln", ["gpt2", "post_ln"]),
        ("preset", "book", ["book"]),
        ("preset", '["book", null]', ["book", None]),
        ("data", "rows:1.parquet", ["rows:1.parquet"]),
        ("optimizer", "adamw,sgd", ["adamw", "sgd"]),
        ("batch_size", "64,all", [64, "all"]),
        ("betas", "[[0.9, 0.98], [0.9, 0.999]]", [[0.9, 0.98], [0.9, 0.999]]),
        ("betas", "[0.9, 0.98],[0.9, 0.999]", [[0.9, 0.98], [0.9, 0.999]]),
        ("keep_checkpoints", "true,false", [True, False]),
        ("clip_norm", "null,1", [None, 1]),
        ("task.modulus", "7:9:1", [7, 8, 9]),
        ("task.order", "left,right", ["left", "right"]),
        ("task.operation", "add:1,add:2", ["add:1", "add:2"]),
        ("model.activation", "relu", ["relu"]),
    ],
)
def test_values_are_read_as_written(field: str, text: str, wanted: list[Any]) -> None:
    found = parse_values(field, text)
    assert found == wanted
    assert [type(value) for value in found] == [type(value) for value in wanted] or field == "weight_decay"


@given(
    st.decimals(-50, 50, places=3),
    st.decimals(min_value="0.001", max_value=5, places=3),
    st.integers(0, 40),
    st.booleans(),
)
def test_ranges_are_exact_decimals_with_the_stop(start: Decimal, step: Decimal, count: int, down: bool) -> None:
    step = -step if down else step
    wanted = [float(start + k * step) for k in range(count + 1)]
    found = parse_values("initialization_rate", f"{start}:{start + count * step}:{step}")
    assert found == wanted
    assert all(len(repr(value).rpartition(".")[2]) <= 3 for value in found)


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("weight_deca", "1", "vary: unknown value 'weight_deca'; did you mean 'weight_decay'"),
        ("weight_decay", "", "weight_decay='': a value is missing"),
        ("weight_decay", "1,,2", "weight_decay='1,,2': a value is missing"),
        ("weight_decay", "0:1", "weight_decay='0:1': is not a range; write start:stop:step"),
        ("weight_decay", "0:1:x", "weight_decay='0:1:x': is not a range"),
        ("weight_decay", "0:nan:1", "weight_decay='0:nan:1': is not a range"),
        ("weight_decay", "0:1:inf", "weight_decay='0:1:inf': is not a range"),
        ("weight_decay", "0:1e999:1", "weight_decay='0:1e999:1': is not a range"),
        ("weight_decay", "0:1:0", "the step of a range must not be 0"),
        ("weight_decay", "0:1:-0.1", "weight_decay='0:1:-0.1': this step leads away from the stop"),
        ("weight_decay", "1:0:0.1", "this step leads away from the stop"),
        ("weight_decay", "0:1:1e-5", "gives more than 100,000 values"),
        ("weight_decay", "0:1e300:1e-300", "gives more than 100,000 values"),
        ("weight_decay", "0:1:1e-999999", "gives more than 100,000 values"),
    ],
)
def test_wrong_values_are_named(field: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_values(field, text)


def test_the_longest_range_is_allowed() -> None:
    found = parse_values("weight_decay", "0:0.99999:1e-5")
    assert len(found) == 100_000
    assert found[-1] == 0.99999
