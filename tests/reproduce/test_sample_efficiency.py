"""Sample efficiency: values of planted accuracies, and the figure from a small table."""

import pandas as pd
import pytest
import torch

from anchorlab import models, tasks
from anchorlab.experiments import Experiment
from anchorlab.reproduce import decide, get
from anchorlab.reproduce.chapter12.sample_efficiency import efficiency_values

SIZES = (200, 600, 2200)


def planted(transformer: tuple[float, ...], lstm: tuple[float, ...], fnn: tuple[float, ...]) -> pd.DataFrame:
    accuracies = {"Transformer": transformer, "LSTM": lstm, "FNN": fnn}
    return pd.DataFrame(
        [
            {"network": network, "rows": rows, "accuracy": accuracy}
            for network, column in accuracies.items()
            for rows, accuracy in zip(SIZES, column, strict=True)
        ]
    )


AS_PUBLISHED = planted((0.3, 0.97, 1.0), (0.1, 0.4, 0.95), (0.01, 0.02, 0.05))


def test_values_of_planted_accuracies():
    found = {value.quantity: value.value for value in efficiency_values(0, AS_PUBLISHED, 600, 2200)}
    assert found == pytest.approx({"transformer_few": 0.97, "lstm_few": 0.4, "lstm_many": 0.95, "fnn": 0.05})


@pytest.mark.parametrize(
    ("table", "verdict"),
    [
        (AS_PUBLISHED, "holds"),
        (planted((0.3, 0.6, 1.0), (0.1, 0.4, 0.95), (0.01, 0.02, 0.05)), "fails"),  # the Transformer needs more
        (planted((0.3, 0.97, 1.0), (0.1, 0.95, 0.95), (0.01, 0.02, 0.05)), "fails"),  # the LSTM needs as few
        (planted((0.3, 0.97, 1.0), (0.1, 0.4, 0.6), (0.01, 0.02, 0.05)), "fails"),  # the LSTM never learns
        (planted((0.3, 0.97, 1.0), (0.1, 0.4, 0.95), (0.01, 0.3, 0.8)), "fails"),  # the FNN learns
    ],
)
def test_planted_accuracies_decide_the_claim(table: pd.DataFrame, verdict: str):
    values = [value for seed in range(3) for value in efficiency_values(seed, table, 600, 2200)]
    assert decide(get("fig12.6").claim, values).verdict == verdict


def test_every_network_has_the_colour_and_name_of_its_line():
    table = pd.concat([AS_PUBLISHED.assign(seed=seed) for seed in range(2)])
    (axes,) = get("fig12.6").figure({"accuracy": table}).axes
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["Transformer", "LSTM", "FNN"]
    line = axes.get_lines()[0]
    assert list(line.get_xdata()) == list(SIZES)
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.97, 1.0])


@pytest.mark.parametrize(("network", "millions"), [("Transformer", 5.6), ("LSTM", 5.3), ("FNN", 416)])
def test_networks_at_paper_scale_have_the_published_sizes(network: str, millions: float):
    settings = get("fig12.6").settings("paper")
    experiment = Experiment(**{**settings["training"], **settings["networks"][network]})
    task = tasks.create(experiment.task, experiment.preset)
    shape = {
        name: getattr(experiment, name) for name in ("layers", "heads", "width", "head_width", "feed_forward_width")
    }
    with torch.device("meta"):
        model = models.build(experiment.model, task.vocabulary.size, task.length, **shape, **experiment.model_options)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count / 1e6 == pytest.approx(millions, rel=0.02)
