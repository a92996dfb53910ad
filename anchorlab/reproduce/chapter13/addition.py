"""Addition with a square of pairs held out (figure 13.14C)."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure
from tokenizers import Tokenizer

from anchorlab import corpora
from anchorlab.corpora import TokenRows, addition
from anchorlab.engine import Run
from anchorlab.errors import InputError
from anchorlab.experiments.experiment import Experiment
from anchorlab.report.panels import banded_lines
from anchorlab.report.style import BLUE, ORANGE, SMALL, TEXT, finish, new_figure

from ..claims import Claim, Condition, Value
from ..reproduction import Measured, Reproduction
from ..study import Study

SMALL_COMPLEXITY, LARGE_COMPLEXITY = "small", "large"
_FINE_TUNED = "fine-tuned"
_GOOD = 0.9
"""Nine pairs of the square in ten: what the source calls good."""
_COLOURS = {SMALL_COMPLEXITY: BLUE, LARGE_COMPLEXITY: ORANGE}


class _Member(NamedTuple):
    """One training: what kind of network, at which of the two complexities, which trial."""

    network: str
    complexity: str
    seed: int


def _measure(study: Study) -> Measured:
    experiments = _from_scratch(study) | (_fine_tuned(study) if study.settings["pretrained"] else {})
    curves = curve_table(study.train(experiments))
    return Measured(values=accuracy_values(curves), tables={"curves": curves})


def _from_scratch(study: Study) -> dict[_Member, Experiment]:
    settings = study.settings
    folders = {seed: _write(study, f"numbers-{seed}", seed, None) for seed in study.seeds}
    return {
        _Member(network, complexity, seed): Experiment(
            **{**settings["training"], **options["network"], **options[complexity]},
            data=str(folders[seed]),
            seed=seed,
            data_seed=seed,
        )
        for (network, options), complexity, seed in product(settings["networks"].items(), _COLOURS, study.seeds)
    }


def _fine_tuned(study: Study) -> dict[_Member, Experiment]:
    """From the weights in the folder `pretrained`, on the text of the sums in its tokenizer's tokens."""
    settings, pretrained = study.settings["fine_tuning"], Path(study.settings["pretrained"])
    folders = {seed: _write(study, f"text-{seed}", seed, read_tokenizer(pretrained)) for seed in study.seeds}
    return {
        _Member(_FINE_TUNED, complexity, seed): Experiment(
            **settings["training"],
            model="pretrained",
            model_options={"folder": str(pretrained)},
            initialization_rule="own",
            weight_decay=settings["weight_decay"][complexity],
            data=str(folders[seed]),
            seed=seed,
            data_seed=seed,
        )
        for complexity, seed in product(_COLOURS, study.seeds)
    }


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer that is saved beside a model; raises InputError if there is none that can be read."""
    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises no narrower class
        raise InputError(f"pretrained={str(folder)!r}: its tokenizer.json cannot be read ({error})") from None


def _write(study: Study, name: str, seed: int, tokenizer: Tokenizer | None) -> Path:
    settings = study.settings
    square = addition.Square(*settings["square"])
    split = addition.split(square, train_rows=settings["train_rows"], test_rows=settings["test_rows"], seed=seed)

    def rows(pairs: addition.Pairs) -> TokenRows:
        if tokenizer is not None:
            return addition.text_rows(pairs, tokenizer)
        return addition.digit_rows(pairs) if settings["digits"] else addition.whole_number_rows(pairs, square.largest)

    return corpora.write(study.folder / name, {part: rows(pairs) for part, pairs in split.items()})


def curve_table(runs: Mapping[_Member, Run]) -> pd.DataFrame:
    """Accuracies over training; columns network, complexity, seed, step, train, test."""
    parts = []
    for member, run in runs.items():
        history = run.metrics()
        chosen = history[(history["metric"] == "accuracy") & (history["group"] == "")]
        wide = chosen.pivot(index="step", columns="split", values="value").reset_index()
        parts.append(wide[["step", "train", "test"]].assign(**member._asdict()))
    return pd.concat(parts, ignore_index=True)[[*_Member._fields, "step", "train", "test"]]


def accuracy_values(curves: pd.DataFrame) -> list[Value]:
    """The last accuracies of every network: `NETWORK COMPLEXITY SPLIT`."""
    last = curves.loc[curves.groupby(list(_Member._fields))["step"].idxmax()]
    return [
        Value(int(row["seed"]), f"{row['network']} {row['complexity']} {split}", float(row[split]))
        for row in last.to_dict("records")
        for split in ("train", "test")
    ]


def _figure(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Accuracy over training on the held-out square (lines) and on training pairs (dotted), network by network."""
    curves = tables["curves"]
    networks = list(dict.fromkeys(curves["network"]))
    figure = new_figure(3.6 * len(networks) + 0.4, 3.4)
    for axes, network in zip(figure.subplots(1, len(networks), sharey=True, squeeze=False)[0], networks, strict=True):
        shown = curves[curves["network"] == network]
        names = {SMALL_COMPLEXITY: "small initialization, large λ", LARGE_COMPLEXITY: "large initialization, small λ"}
        banded_lines(axes, shown, x="step", y="test", by="complexity", colours=_COLOURS, names=names)
        for complexity, rows in shown.groupby("complexity"):
            mean = rows.groupby("step")["train"].mean()
            axes.plot(mean.index, mean, color=_COLOURS[str(complexity)], linewidth=1.4, linestyle=":")
        axes.set_ylim(-0.03, 1.03)
        finish(axes, x="optimizer step", title=network)
    figure.axes[0].set_ylabel("accuracy", fontsize=TEXT)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    (dotted,) = figure.axes[0].plot([], [], color="black", linewidth=1.4, linestyle=":")
    figure.legend(
        [*handles, dotted],
        [*labels, "training pairs (lines: held-out square)"],
        loc="outside upper center",
        ncols=3,
        fontsize=SMALL,
        frameon=False,
    )
    return figure


_NARROW = {"layers": 2, "heads": 1, "width": 64, "feed_forward_width": 192}
_LARGE = {"initialization_rate": 0.5, "weight_decay": 0.01}
_NETWORKS = {
    "2 layers, 1 head": {
        "network": {"model": "post_ln", **_NARROW},
        "small": {"initialization_rate": 0.7, "weight_decay": 1.0},
        "large": _LARGE,
    },
    "GPT-2": {
        "network": {"model": "gpt2", **_NARROW},
        "small": {"initialization_rate": 0.7, "weight_decay": 1.5},
        "large": _LARGE,
    },
}
_PAPER_NETWORKS = {
    "2 layers, 1 head": {**_NETWORKS["2 layers, 1 head"], "network": {"model": "post_ln"}},
    "GPT-2": {
        **_NETWORKS["GPT-2"],
        "network": {"model": "gpt2", "layers": 12, "heads": 12, "width": 768, "feed_forward_width": 3072},
    },
}
_TRAINING = {
    "decay_scope": "matrices",
    "learning_rate": 2e-3,
    "batch_size": 128,
    "steps": 10_000,
    "evaluate_every": 500,
    "checkpoint_every": 10_000,
    "evaluation_rows": 2000,
}
_FINE_TUNING = {
    "weight_decay": {"small": 1.0, "large": 0.01},
    "training": {"learning_rate": 1e-4, "batch_size": 64, "steps": 2000, "checkpoint_every": 2000},
}

REPRODUCTIONS = (
    Reproduction(
        id="fig13.14c",
        title="Addition: the held-out square",
        source="section 13.6, figure 13.14C; arXiv 2501.08537",
        claim=Claim(
            text=(
                "Trained on sums whose numbers are not both in the middle of the range, networks with small initial "
                "weights and large weight decay mostly add the pairs of the middle too; with large initial weights and "
                "small decay they do not add them without mistakes."
            ),
            conditions=tuple(
                condition
                for network in _NETWORKS
                for condition in (
                    Condition(
                        quantity=f"{network} large train",
                        text=f"{network}: training accuracy, large initialization and small λ",
                        at_least=0.99,
                    ),
                    Condition(
                        quantity=f"{network} small test",
                        text=f"{network}: accuracy on the square, small initialization and large λ",
                        at_least=_GOOD,
                        source="good generalization",
                    ),
                    Condition(
                        quantity=f"{network} large test",
                        text=f"{network}: accuracy on the square, large initialization and small λ",
                        at_most=_GOOD,
                        source="not perfect",
                    ),
                )
            ),
        ),
        scales={
            "smoke": {
                "seeds": 1,
                "square": [9, 4, 5],
                "train_rows": None,
                "test_rows": None,
                "digits": False,
                "networks": _NETWORKS,
                "training": {**_TRAINING, "batch_size": 32, "steps": 20, "evaluate_every": 10},
                "pretrained": None,
                "fine_tuning": {
                    **_FINE_TUNING,
                    "training": {**_FINE_TUNING["training"], "batch_size": 8, "steps": 4, "evaluate_every": 2},
                },
            },
            "laptop": {
                "seeds": 3,
                "square": [49, 20, 30],
                "train_rows": None,
                "test_rows": None,
                "digits": False,
                "networks": _NETWORKS,
                "training": _TRAINING,
                "pretrained": None,
                "fine_tuning": _FINE_TUNING,
            },
            "paper": {
                "seeds": 3,
                "square": [999, 400, 600],
                "train_rows": None,
                "test_rows": None,
                "digits": False,
                "networks": _PAPER_NETWORKS,
                "training": {
                    **_TRAINING,
                    "decay_scope": "all",  # as in the paper
                    "learning_rate": 2e-4,
                    "batch_size": 2048,
                    "steps": 100_000,
                    "evaluate_every": 2000,
                    "checkpoint_every": 20_000,
                },
                "pretrained": None,
                "fine_tuning": {
                    **_FINE_TUNING,
                    "training": {**_FINE_TUNING["training"], "batch_size": 512, "steps": 20_000},
                },
            },
        },
        measure=_measure,
        figure=_figure,
        notes=(
            "The source says small initialization *or* large weight decay; trained are both together and neither, so "
            "what one of them does alone is not measured. Its text gives no γ and λ for this panel: those here are "
            "this project's. Laptop: numbers 0 to 49 with the pairs of the square 20..30 held out (the source: 0 to "
            "999 and 400..600), one token for each number; a post-LN Transformer and a GPT-2, each of 2 layers, 1 head "
            "and width 64, 10,000 steps of 128 rows at learning rate 2e-3. Weight decay acts on matrices only, at "
            "scale paper on all parameters as in the paper. The source's fine-tuned GPT-2 needs weights: with "
            "--set pretrained=FOLDER its accuracies are reported beside the claim, no condition reads them."
        ),
    ),
)
