"""Training that goes on from a saved model."""

from pathlib import Path

import pytest
import torch

from anchorlab import Experiment, models, train
from anchorlab.errors import InputError


def saved(folder: Path, seed: int = 3, *, half: bool = False) -> Path:
    model = models.build("gpt2", 120, 12, layers=1, heads=1, width=8)
    models.initialize(model, rule="pytorch", generator=torch.Generator().manual_seed(seed))
    models.save(model.half() if half else model, folder)
    return folder


def from_saved(folder: Path | str) -> Experiment:
    return Experiment(
        task="identity",
        model="pretrained",
        model_options={"folder": str(folder)},
        initialization_rule="own",
        train_rows=50,
        test_rows=10,
        batch_size=10,
        steps=2,
        keep_checkpoints=True,
        device="cpu",
    )


@pytest.mark.parametrize("half", [False, True])
def test_training_starts_from_the_saved_weights_in_float32(tmp_path: Path, half: bool) -> None:
    folder = saved(tmp_path / "model", half=half)
    run = train(from_saved(folder), tmp_path / "run", progress=False)
    for before, first, last in zip(
        models.load(folder).parameters(), run.model(0).parameters(), run.model().parameters(), strict=True
    ):
        assert torch.equal(before.float(), first)
        assert last.dtype == torch.float32
    assert not torch.equal(run.model(0).get_input_embeddings().weight, run.model().get_input_embeddings().weight)


def test_saved_weights_are_kept_unless_another_rule_is_given(tmp_path: Path) -> None:
    named = from_saved(saved(tmp_path))
    settings = {name: getattr(named, name) for name in ("task", "model", "model_options", "train_rows", "test_rows")}
    settings |= {"batch_size": 10, "steps": 2, "keep_checkpoints": True, "device": "cpu"}
    assert Experiment(**settings).record() == named.record()
    assert Experiment(**settings, initialization_rule="pytorch").record()["initialization_rule"] == "pytorch"
    assert Experiment().record()["initialization_rule"] == "arxiv-2405.05409"


def test_the_record_tells_which_weights_they_were(tmp_path: Path) -> None:
    one, other = (from_saved(saved(tmp_path / str(seed), seed)) for seed in (1, 2))
    assert one.model_options["source"] != other.model_options["source"]
    assert Experiment.from_record(one.record()).model_options == one.model_options
    saved(tmp_path / "1", 2)
    with pytest.raises(InputError, match="weights have changed"):
        train(one, tmp_path / "run", progress=False)


def test_other_rules_draw_the_weights_anew(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model")
    model = models.build("pretrained", 120, 12, folder=str(folder))
    models.initialize(model, rule="arxiv-2405.05409", rate=0.5, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(model.get_input_embeddings().weight, models.load(folder).get_input_embeddings().weight)
    models.initialize(model, rule="own", generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.get_input_embeddings().weight, models.load(folder).get_input_embeddings().weight)


@pytest.mark.parametrize(
    ("vocabulary", "length", "message"),
    [(121, 12, "knows 120 tokens, the data has 121"), (120, 13, "at most 12 tokens")],
)
def test_data_that_the_model_cannot_read_are_refused(
    tmp_path: Path, vocabulary: int, length: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        models.build("pretrained", vocabulary, length, folder=str(saved(tmp_path)))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a folder with a saved model"):
        from_saved(tmp_path)
    with pytest.raises(InputError, match="folder=None: must be a folder"):
        Experiment(model="pretrained", initialization_rule="own", steps=1)
