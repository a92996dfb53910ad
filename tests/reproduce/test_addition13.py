"""Figure 13.14C: planted accuracies come out as such; rows and the start of training are what the settings say."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as tokenizer_models

from anchorlab import models, train
from anchorlab.errors import InputError
from anchorlab.experiments.data import load_data
from anchorlab.reproduce import Study, decide
from anchorlab.reproduce.chapter13 import addition
from anchorlab.reproduce.chapter13.addition import accuracy_values, read_tokenizer

(ADDITION,) = addition.REPRODUCTIONS
NETWORKS = tuple(ADDITION.scales["laptop"]["networks"])
PUBLISHED = {"small": (1.0, 0.97), "large": (1.0, 0.2)}


def study(tmp_path: Path, **changes: Any) -> Study:
    return Study(
        scale="smoke",
        settings={**ADDITION.scales["smoke"], "seeds": 2, **changes},
        folder=tmp_path,
        runs=tmp_path / "runs",
        progress=False,
    )


def curves(levels: Mapping[str, tuple[float, float]], seeds: int = 3) -> pd.DataFrame:
    """Accuracies that grow to the given ones of training and test from step 0 to 100."""
    rows = [
        (network, complexity, seed, step, step / 100 * train, step / 100 * test)
        for network, (complexity, (train, test)), seed, step in product(
            NETWORKS, levels.items(), range(seeds), (0, 50, 100)
        )
    ]
    columns = ["network", "complexity", "seed", "step", "train", "test"]
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0)


def failing(levels: Mapping[str, tuple[float, float]]) -> set[str]:
    found = decide(ADDITION.claim, accuracy_values(curves(levels)))
    assert found.verdict == ("fails" if any(one.verdict == "fails" for one in found.conditions) else "holds")
    return {one.condition.quantity for one in found.conditions if one.verdict == "fails"}


def test_the_last_accuracies_decide() -> None:
    values = {(one.seed, one.quantity): one.value for one in accuracy_values(curves(PUBLISHED))}
    assert len(values) == 3 * 2 * 2 * len(NETWORKS)
    assert values[1, f"{NETWORKS[0]} small test"] == 0.97
    assert values[2, f"{NETWORKS[1]} large train"] == 1.0
    assert {quantity for _, quantity in values} > {one.quantity for one in ADDITION.claim.conditions}


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({}, None),
        ({"small": (1.0, 0.5)}, "small test"),
        ({"large": (1.0, 1.0)}, "large test"),
        ({"large": (0.9, 0.2)}, "large train"),
    ],
)
def test_what_is_missing_fails_and_nothing_else(changed: dict[str, tuple[float, float]], missing: str | None) -> None:
    assert failing(PUBLISHED | changed) == ({f"{network} {missing}" for network in NETWORKS} if missing else set())


def digits_tokenizer() -> Tokenizer:
    names = ["?", *"0123456789+="]
    tokenizer = Tokenizer(tokenizer_models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


def saved_model(folder: Path) -> Path:
    model = models.build("gpt2", 20, 8, layers=1, heads=1, width=8)
    models.initialize(model, rule="pytorch", generator=torch.Generator().manual_seed(5))
    models.save(model, folder)
    digits_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def test_both_complexities_see_the_same_rows_with_the_square_held_out(tmp_path: Path) -> None:
    experiments = addition._from_scratch(study(tmp_path))
    assert len(experiments) == len(NETWORKS) * 2 * 2
    _, low, high = ADDITION.scales["smoke"]["square"]
    for member, experiment in experiments.items():
        assert experiment.data == experiments[member._replace(complexity="small")].data
        settings = ADDITION.scales["smoke"]["networks"][member.network][member.complexity]
        assert experiment.weight_decay == settings["weight_decay"]
    splits = load_data(next(iter(experiments.values()))).splits
    inside = {}
    for name, rows in splits.items():
        numbers = rows.tokens[:, [0, 2]]
        inside[name] = ((numbers >= low) & (numbers <= high)).all(1)
    assert inside["test"].all()
    assert not inside["train"].any()


@pytest.mark.parametrize(("scale", "scope"), [("laptop", "matrices"), ("paper", "all")])
def test_all_parameters_decay_at_the_papers_scale(tmp_path: Path, scale: str, scope: str) -> None:
    settings = {name: ADDITION.scales[scale][name] for name in ("training", "networks")}
    experiments = addition._from_scratch(study(tmp_path, **settings))
    assert {one.decay_scope for one in experiments.values()} == {scope}


def test_digits_take_the_place_of_whole_numbers(tmp_path: Path) -> None:
    data = load_data(next(iter(addition._from_scratch(study(tmp_path, digits=True)).values())))
    assert data.vocabulary_size == 13
    assert data.has_labels_inside


def test_fine_tuning_starts_from_the_saved_weights_and_reads_the_tokenizers_tokens(tmp_path: Path) -> None:
    folder = saved_model(tmp_path / "saved")
    experiments = addition._fine_tuned(study(tmp_path, pretrained=str(folder), seeds=1))
    settings = ADDITION.scales["smoke"]["fine_tuning"]
    assert {member.complexity: one.weight_decay for member, one in experiments.items()} == settings["weight_decay"]
    member, experiment = next(iter(experiments.items()))
    run = train(experiment, tmp_path / "run", progress=False)
    pairs = zip(models.load(folder).parameters(), run.model().parameters(), strict=True)
    moved = max((before - after).abs().max().item() for before, after in pairs)
    assert 0 < moved < 2 * settings["training"]["steps"] * settings["training"]["learning_rate"]
    assert set(addition.curve_table({member: run})["network"]) == {"fine-tuned"}
    tokens = load_data(next(iter(experiments.values()))).splits["train"].tokens
    assert "+" in digits_tokenizer().decode(tokens[0].tolist())


def test_fine_tuned_networks_stand_beside_the_claim() -> None:
    scratch = curves(PUBLISHED)
    tuned = scratch[scratch["network"] == NETWORKS[0]].assign(network="fine-tuned", test=0.0)
    values = accuracy_values(pd.concat([scratch, tuned], ignore_index=True))
    assert {one.value for one in values if one.quantity == "fine-tuned small test"} == {0.0}
    assert decide(ADDITION.claim, values).verdict == "holds"


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read"):
        read_tokenizer(tmp_path)


def test_the_figure_has_a_panel_for_every_network() -> None:
    figure = ADDITION.figure({"curves": curves(PUBLISHED)})
    assert {axes.get_title() for axes in figure.axes} == set(NETWORKS)
    for axes in figure.axes:
        ends = {line.get_linestyle(): set[float]() for line in axes.get_lines()}
        for line in axes.get_lines():
            if len(line.get_xdata()):
                ends[line.get_linestyle()].add(round(float(np.asarray(line.get_ydata())[-1]), 6))
        assert ends == {"-": {0.97, 0.2}, ":": {1.0}}
