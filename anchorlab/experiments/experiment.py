"""The settings of one training, checked before any work."""

from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from anchorlab import models, tasks
from anchorlab.engine import Fitted, OptimizerSettings, Plateau, Schedule, StoppingRule, TargetAccuracy
from anchorlab.errors import InputError
from anchorlab.setting_types import Finite, NonNegative, Positive, PositiveWhole, Seed, Share
from anchorlab.validation import check_known, checked

_DEFAULT_BATCH = 256
_DEFAULT_RATE = 0.5


@checked
@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The settings of one training.

    Data:
        task, preset, task_fields: an anchor task (see `anchorlab.tasks.create`), of which `train_rows`, `test_rows` and
            `ood_rows` rows are drawn from `data_seed`. The same seed orders the batches.
        data: instead of a task, a folder (of SPLIT.parquet or SPLIT.jsonl) or a Parquet or JSON-lines file. Columns:
            `input_ids`, optionally `group`, and either `label`, the token behind the row, or `labels`: as many entries
            as `input_ids`, the token itself where it is to be predicted from those before it, else -100; rows may then
            differ in length. Without a test split, a tenth of the rows (at most `test_rows`) is held out. A
            `tokenizer.json` in the folder says how many token ids there are, else the largest in the rows does.

    Network:
        model, layers, heads, width (d_model), head_width (d_k), feed_forward_width (d_ff), model_options: see
            `anchorlab.models.build`; None stands for the model's default. With model `factory` a function of your own
            makes the network: `model_options={"factory": "my_net.py:make"}` (see `anchorlab.models.factory`).
            With model `pretrained` training goes on from a saved one: `model_options={"folder": "my_model"}`.
        initialization_rate: γ: weights have standard deviation d_in^-γ, so larger γ means smaller weights. None stands
            for 0.5, or for nothing if the rule takes no rate. For `initialization_rule`, `component_rates` and
            `initialization_distribution` see `anchorlab.models.initialize`; `own` keeps what a factory draws, and the
            weights of a saved model, for which it is the default.
        seed: of the initialization alone.

    Optimization:
        optimizer: `adamw` (decoupled decay), `adam` (L2), `sgd`, or `gd` (every batch is the whole training set).
        learning_rate: the peak. With `warmup_cosine` the rate rises linearly from `initial_learning_rate` over `warmup`
            and falls as a cosine to `final_learning_rate` at the end of training (defaults: a tenth of the peak, 5 % of
            the training, a tenth of the peak). `schedule_unit`: the schedule moves with every step or once per epoch;
            `warmup` counts these units.
        weight_decay: λ; `decay_scope`: `all` parameters, as in the papers, or `matrices` only. `weight_decay_window`:
            the part of training with decay, such as (0.25, 0.5) for the second quarter; None: all of it.
        clip_norm: bound on the gradient norm; None: no clipping.
        batch_size: rows a step, or `all`; None stands for 256, and for all rows with `gd`.
        steps, epochs: how long; give one of them.
        precision: `bfloat16` is autocast over float32 parameters; `tf32` needs a GPU.
        compile: translate the loss with torch.compile, which pays for itself after some thousand steps.
        stop_fitted, stop_accuracy, stop_plateau: end before the last step when, at an evaluation, all evaluated
            training rows are answered; the accuracy of every split in {split: accuracy} is reached; or the training
            loss has not fallen by 1 % in that many evaluations.

    Looking and saving:
        evaluate_every, checkpoint_every: in steps (defaults: 20 evaluations and 5 checkpoints in all).
        evaluation_rows: how many training rows an evaluation uses; rows of other splits are all used.
        keep_checkpoints: keep the parameters of step 0 and of every checkpoint, not of the last alone.

    Raises InputError for a value that is not allowed, naming the field.
    """

    task: str = "composite"
    preset: str | None = None
    task_fields: dict[str, Any] = field(default_factory=dict)
    data: str | None = None
    train_rows: PositiveWhole = 60_000
    test_rows: PositiveWhole = 2_000
    ood_rows: PositiveWhole = 2_000
    data_seed: Seed = 0

    model: str = "gpt2"
    layers: PositiveWhole | None = None
    heads: PositiveWhole | None = None
    width: PositiveWhole | None = None
    head_width: PositiveWhole | None = None
    feed_forward_width: PositiveWhole | None = None
    model_options: dict[str, Any] = field(default_factory=dict)
    initialization_rate: NonNegative | None = None
    initialization_rule: str = ""
    initialization_distribution: Literal["normal", "uniform"] = "normal"
    component_rates: dict[str, Finite] = field(default_factory=dict)
    seed: Seed = 0

    optimizer: Literal["adamw", "adam", "sgd", "gd"] = "adamw"
    learning_rate: Positive = 1e-3
    initial_learning_rate: NonNegative | None = None
    final_learning_rate: NonNegative | None = None
    schedule: Literal["warmup_cosine", "constant"] = "warmup_cosine"
    schedule_unit: Literal["step", "epoch"] = "step"
    warmup: NonNegative | None = None
    weight_decay: NonNegative = 0.01
    decay_scope: Literal["all", "matrices"] = "all"
    weight_decay_window: tuple[Share, Share] | None = None
    betas: tuple[Finite, Finite] = (0.9, 0.999)
    momentum: NonNegative = 0.0
    clip_norm: Positive | None = 1.0
    batch_size: PositiveWhole | Literal["all"] | None = None
    steps: PositiveWhole | None = None
    epochs: PositiveWhole | None = None
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    compile: bool = False
    stop_fitted: bool = False
    stop_accuracy: dict[str, Annotated[Positive, Field(le=1)]] = field(default_factory=dict)
    stop_plateau: PositiveWhole | None = None

    evaluate_every: PositiveWhole | None = None
    evaluation_rows: PositiveWhole = 2_000
    checkpoint_every: PositiveWhole | None = None
    keep_checkpoints: bool = False
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def __post_init__(self) -> None:
        check_known("model", self.model, models.kinds())
        if not self.initialization_rule:
            rule = models.OWN if self.model == "pretrained" else "arxiv-2405.05409"
            object.__setattr__(self, "initialization_rule", rule)
        check_known("initialization_rule", self.initialization_rule, (*models.rules(), models.OWN))
        if clash := self.model_options.keys() & self.__dataclass_fields__.keys():
            name = min(clash)
            raise InputError(f"model_options: {name!r} is a setting of its own; give {name}=… instead")
        models.check_options(self.model, self.model_options)
        object.__setattr__(self, "model_options", models.settled_options(self.model, self.model_options))
        if not models.takes_rate(self.initialization_rule):
            self._refuse_unread("initialization_rule", ["initialization_rate", "initialization_distribution"])
        self._check_data()
        self._check_optimization()

    def _check_data(self) -> None:
        if self.data is None:
            tasks.create(self.task, self.preset, **self.task_fields)
            return
        if not Path(self.data).exists():
            raise InputError(f"data={self.data!r}: no such file or folder")
        if self.preset is not None or self.task_fields:
            raise InputError(f"data={self.data!r}: preset and task_fields belong to tasks; leave them out")

    def _check_optimization(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise InputError(f"steps={self.steps} and epochs={self.epochs}: give only one of them")
        if self.optimizer == "gd" and self.batch_size not in (None, "all"):
            raise InputError(f"batch_size={self.batch_size}: optimizer 'gd' uses all rows; leave batch_size out")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"betas={self.betas}: both must be at least 0 and less than 1")
        if (window := self.weight_decay_window) and window[0] >= window[1]:
            raise InputError(f"weight_decay_window={window}: must start before it ends, such as (0.25, 0.5)")
        unread = {"adamw": ["momentum"], "adam": ["momentum"], "sgd": ["betas"], "gd": ["betas", "momentum"]}
        self._refuse_unread("optimizer", unread[self.optimizer])
        if self.schedule == "constant":
            self._refuse_unread("schedule", ["warmup", "initial_learning_rate", "final_learning_rate"])
        for split in self.stop_accuracy:
            check_known("stop_accuracy", split, ("train", "test", "ood"))

    def _refuse_unread(self, by: str, names: list[str]) -> None:
        for name in names:
            if getattr(self, name) != self.__dataclass_fields__[name].default:
                raise InputError(
                    f"{name}={getattr(self, name)}: {by} {getattr(self, by)!r} does not use it; leave it out"
                )

    @property
    def rate(self) -> float | None:
        """γ; None if the initialization rule takes no rate."""
        if not models.takes_rate(self.initialization_rule):
            return None
        return _DEFAULT_RATE if self.initialization_rate is None else self.initialization_rate

    @property
    def rows_per_step(self) -> int | None:
        """Rows in a batch; None for all."""
        if self.batch_size == "all" or self.optimizer == "gd":
            return None
        return self.batch_size or _DEFAULT_BATCH

    def optimizer_settings(self, units: int) -> OptimizerSettings:
        """The optimizer of this experiment for a training of `units` steps or epochs (as `schedule_unit` says).

        Raises InputError for a warm-up as long as training and, if units are steps, a window without any.
        """
        share = self.weight_decay_window
        window = share and (share[0] * units, share[1] * units)
        settings = OptimizerSettings(
            name=self.optimizer,
            schedule=self._schedule(units),
            weight_decay=self.weight_decay,
            decay_scope=self.decay_scope,
            decay_window=window,
            betas=self.betas,
            momentum=self.momentum,
            clip_norm=self.clip_norm,
        )
        if window and self.schedule_unit == "step":  # how many steps an epoch has is not known here
            settings.decay_steps(window, 1)
        return settings

    def stopping_rules(self) -> list[StoppingRule]:
        """When training may end before its last step."""
        return [
            *([Fitted()] if self.stop_fitted else []),
            *([TargetAccuracy(self.stop_accuracy)] if self.stop_accuracy else []),
            *([Plateau(self.stop_plateau)] if self.stop_plateau else []),
        ]

    def _schedule(self, units: int) -> Schedule:
        peak = self.learning_rate
        if self.schedule == "constant":
            return Schedule.constant(peak, self.schedule_unit)
        initial = peak / 10 if self.initial_learning_rate is None else self.initial_learning_rate
        final = peak / 10 if self.final_learning_rate is None else self.final_learning_rate
        warmup = units / 20 if self.warmup is None else self.warmup
        if warmup >= units:
            raise InputError(f"warmup={self.warmup}: must be less than the {units} {self.schedule_unit}s of training")
        return Schedule(initial, peak, final, warmup, units, self.schedule_unit)

    def record(self) -> dict[str, Any]:
        """What config.json says: every field, the task as its full list of parameters."""
        settings = asdict(self)
        del settings["preset"], settings["task_fields"]
        settings["initialization_rate"] = self.rate
        settings["batch_size"] = self.rows_per_step or "all"
        if self.data is None:
            settings["task"] = tasks.create(self.task, self.preset, **self.task_fields).config()
        else:
            settings |= {"task": None, "data": str(Path(self.data).resolve())}
        return settings

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Experiment":
        """The experiment that `record` describes; keys that are no fields, such as measured sizes, are left out."""
        settings = {name: record[name] for name in cls.__dataclass_fields__ if name in record and name != "task"}
        if record["task"]:
            settings |= {"task": record["task"]["name"], "task_fields": record["task"]["fields"]}
        return cls(**settings)
