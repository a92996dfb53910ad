import json
import math
from typing import Any

import numpy as np
import pytest

from anchorlab import Experiment, tasks
from anchorlab.errors import InputError


def test_record_is_json_and_makes_the_same_experiment() -> None:
    experiment = Experiment(
        preset="arxiv-2405.05409", task_fields={"modulus": 8}, betas=(0.9, 0.98), component_rates={"qk": 0.7}, steps=3
    )
    record = json.loads(json.dumps(experiment.record()))
    assert record["task"] == tasks.create("composite", "arxiv-2405.05409", modulus=8).config()
    again = Experiment.from_record(record | {"parameters": 17})
    assert again.record() == experiment.record()
    assert tasks.create(again.task, **again.task_fields).hash == tasks.from_config(record["task"]).hash


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rat": 1}, "'learning_rat'; did you mean 'learning_rate'"),
        ({"learning_rate": 0}, "learning_rate=0: input should be greater than 0"),
        ({"learning_rate": "fast"}, "learning_rate='fast': input should be a valid number"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1: input should be greater than or equal to 0"),
        ({"initialization_rate": math.nan}, "initialization_rate=nan: input should be a finite number"),
        ({"optimizer": "adamv"}, "optimizer='adamv': input should be 'adamw', 'adam', 'sgd' or 'gd'"),
        ({"precision": "bfloat61"}, "precision='bfloat61': input should be 'float32', 'tf32' or 'bfloat16'"),
        ({"model": "gpt3"}, "model: unknown value 'gpt3'; did you mean 'gpt2'"),
        ({"initialization_rule": "book"}, "initialization_rule: unknown value 'book'; known: arxiv-2405.05409"),
        ({"task": "composit"}, "unknown value 'composit'; did you mean 'composite'"),
        ({"task_fields": {"modulos": 9}}, "'modulos'; did you mean 'modulus'"),
        ({"steps": 10, "epochs": 2}, "steps=10 and epochs=2: give only one"),
        ({"optimizer": "gd", "batch_size": 64}, "batch_size=64: optimizer 'gd' uses all rows"),
        ({"optimizer": "sgd", "betas": (0.5, 0.9)}, r"betas=\(0.5, 0.9\): optimizer 'sgd' does not use it"),
        ({"momentum": 0.9}, "momentum=0.9: optimizer 'adamw' does not use it"),
        ({"schedule": "constant", "warmup": 3}, "warmup=3.0: schedule 'constant' does not use it"),
        ({"seed": 2**64}, "seed=18446744073709551616: input should be less than"),
        ({"weight_decay": math.inf}, "weight_decay=inf: input should be a finite number"),
        (
            {"initialization_rule": "pytorch", "initialization_rate": 0.8},
            "initialization_rate=0.8: initialization_rule 'pytorch' does not use it",
        ),
        ({"model_options": {"width": 3}}, "'width' is a setting of its own; give width=…"),
        ({"model_options": {"activatoin": 3}}, "'activatoin'; did you mean 'activation'"),
        ({"data": __file__, "preset": "book"}, "preset and task_fields belong to tasks"),
        ({"betas": (0.9, 1.0)}, r"betas=\(0.9, 1.0\): both must be"),
        ({"data": "no/such/file.parquet"}, "data='no/such/file.parquet': no such file or folder"),
        ({"batch_size": 0}, "^batch_size=0: input should be greater than 0, or input should be 'all'$"),
        ({"initialization_rate": True}, "^initialization_rate=True: must be a number, not true or false$"),
        ({"layers": np.bool_(True)}, r"^layers=np.True_: must be a number, not true or false$"),
        ({"layers": True}, "^layers=True: must be a number, not true or false$"),
        ({"batch_size": True}, "^batch_size=True: must be a number, not true or false"),
        ({"betas": [0.9, True]}, r"^betas\.1=True: must be a number, not true or false$"),
        ({"stop_accuracy": {"test": True}}, r"^stop_accuracy\.test=True: must be a number, not true or false$"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Experiment(**settings)


def test_numbers_of_numpy_are_plain_ones() -> None:
    one = Experiment(steps=np.int64(3), learning_rate=np.float32(0.5), seed=np.int64(2**53 + 1))
    assert one == Experiment(steps=3, learning_rate=0.5, seed=2**53 + 1)
    assert [type(value) for value in (one.steps, one.learning_rate, one.seed)] == [int, float, int]


def test_schedule_defaults_and_published_numbers() -> None:
    schedule = Experiment(learning_rate=1e-3).optimizer_settings(1000).schedule
    assert schedule.rate(0, 1) == pytest.approx(1e-4)
    assert schedule.rate(50, 1) == pytest.approx(1e-3)
    assert schedule.rate(1000, 1) == pytest.approx(1e-4)
    book = Experiment(
        learning_rate=2e-4,
        initial_learning_rate=2e-5,
        final_learning_rate=2e-5,
        warmup=400,
        schedule_unit="epoch",
        epochs=4000,
    )
    assert book.optimizer_settings(4000).schedule.rate(10 * 400, 10) == pytest.approx(2e-4)
    with pytest.raises(InputError, match=r"warmup=400.0: must be less than the 300 epochs"):
        book.optimizer_settings(300)
    assert Experiment(schedule="constant", learning_rate=0.5).optimizer_settings(10).schedule.rate(9, 1) == 0.5
