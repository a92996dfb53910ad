"""The whole benchmark, with and without planted trainings, and its table."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from planted_sweeps import History, PlantedSweep

from anchorlab.benchmark_card import PROTOCOLS, TASKS, benchmark, running, shipped_cards
from anchorlab.engine import Run
from anchorlab.errors import InputError
from anchorlab.experiments import Experiment, train

EXAMPLE = f"{Path(__file__).parents[2] / 'examples/tiny_rnn.py'}:make"
SMOKE = PROTOCOLS["smoke"]
ACCURACY = {"gpt2": 0.96, "fnn": 0.5, "factory": 1.0}


def accuracies(experiment: Experiment) -> History:
    """By network; less with half of the rows, and half of it on unseen pairs."""
    value = ACCURACY[experiment.model] * (1 if experiment.train_rows == max(SMOKE.rows) else 0.9)
    history: dict[tuple[str, str], dict[int, float]] = {("test", ""): {0: 0.0, 10: value / 2, 20: value}}
    history["test", "x"] = history["test", ""]
    if experiment.task in ("composite", "synonym"):
        history["ood", ""] = {0: 0.0, 20: value / 2}
    return history


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> PlantedSweep:
    sweep = PlantedSweep(accuracies)
    monkeypatch.setattr(running, "sweep", sweep)
    return sweep


def train_here(members: Mapping[str, Experiment], out: Path, **options: Any) -> list[Run]:
    """A sweep in this process."""
    return [train(one, Path(out) / name, progress=False) for name, one in members.items()]


def test_own_network_is_trained_and_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "sweep", train_here)
    found = benchmark(EXAMPLE, out=tmp_path, scale="smoke", tasks=["synonym"], progress=False)
    score = found.card.scores["synonym"]
    assert (found.card.network, found.card.steps, found.card.seeds) == ("tiny_rnn.py:make", 20, 1)
    assert set(score.test) == set(SMOKE.rows)
    # Embedding and head have a row for every token id, the recurrent net three gates of two matrices and two biases.
    vocabulary, width = TASKS["synonym"].task.vocabulary.size, 64
    assert score.parameters == vocabulary * (2 * width + 1) + 3 * (2 * width**2 + 2 * width)
    assert score.ood is not None
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/metrics.parquet")}
    assert len(times) == len(SMOKE.rows)
    again = benchmark(EXAMPLE, out=tmp_path, scale="smoke", tasks=["synonym"], progress=False)
    assert again.card == found.card
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_card_and_table_lie_in_the_folder(tmp_path: Path, planted: PlantedSweep) -> None:
    found = benchmark("gpt2", out=tmp_path, scale="smoke", seeds=2)
    assert len(planted.members) == 9 * len(SMOKE.rows) * 2
    assert json.loads((tmp_path / "card.json").read_text())["seeds"] == 2
    assert (tmp_path / "card.md").read_text() == found.markdown()
    lines = found.markdown().splitlines()
    assert lines[2] == "| identity | gpt2 | 0.96 | - | 200 | 20 |"
    assert "| composite | gpt2 | 0.96 | 0.48 | 200 | 20 |" in lines


def test_table_shows_networks_side_by_side_and_their_means(tmp_path: Path, planted: PlantedSweep) -> None:
    for name in ("fnn", "gpt2"):
        benchmark(name, out=tmp_path / name, scale="smoke", tasks=["identity", "composite"])
    other = benchmark(EXAMPLE, out=tmp_path / "one", scale="smoke", tasks=["identity"], name="other")
    beside = [tmp_path / name / "card.json" for name in ("fnn", "gpt2")]
    found = benchmark(
        EXAMPLE,
        **{"out": tmp_path / "own", "scale": "smoke", "tasks": ["composite", "identity"]},
        beside=[*beside, other.folder / "card.json"],
    )
    rows = [row[:2] + row[4:] for row in found.rows()]
    own = "tiny_rnn.py:make"
    assert rows == [
        ("identity", own, "100", "20"),
        ("identity", "fnn", "more than 200", "more than 20"),
        ("identity", "gpt2", "200", "20"),
        ("identity", "other", "100", "20"),
        ("composite", own, "100", "20"),
        ("composite", "fnn", "more than 200", "more than 20"),
        ("composite", "gpt2", "200", "20"),
        ("mean", own, "2 of 2 learned", ""),
        ("mean", "fnn", "0 of 2 learned", ""),
        ("mean", "gpt2", "2 of 2 learned", ""),
    ]
    assert [row.data_generalization for row in found.rows()[-3:]] == ["1.00", "0.50", "0.96"]
    assert [row.task_generalization for row in found.rows()[-3:]] == ["0.50", "0.25", "0.48"]
    text = found.text().splitlines()
    assert text[1].split() == ["identity", own, "1.00", "-", "100", "20"]
    assert text[2].split() == ["fnn", "0.50", "-", "more", "than", "200", "more", "than", "20"]
    single = other.rows()
    assert [row.task for row in single] == ["identity"]


def test_seeds_are_told_where_they_differ(tmp_path: Path, planted: PlantedSweep) -> None:
    benchmark("fnn", out=tmp_path / "fnn", scale="smoke", tasks=["identity"], seeds=1)
    settings: dict[str, Any] = {"scale": "smoke", "tasks": ["identity"], "seeds": 2}
    found = benchmark("gpt2", out=tmp_path / "gpt2", beside=[tmp_path / "fnn/card.json"], **settings)
    assert "over seeds: gpt2 2, fnn 1" in found.text()


def test_own_measurement_takes_the_place_of_the_shipped_one(
    tmp_path: Path, planted: PlantedSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"scale": "smoke", "tasks": ["identity"]}
    for name in ("gpt2", "fnn"):
        benchmark(name, out=tmp_path / name, **settings)
        (tmp_path / name / "card.json").rename(tmp_path / f"{name}-smoke.json")
    shipped, notes = shipped_cards(SMOKE, tmp_path)
    assert ([card.network for card in shipped], notes) == (["fnn", "gpt2"], ())
    monkeypatch.setattr(running, "shipped_cards", lambda protocol: (shipped, notes))
    found = benchmark("gpt2", out=tmp_path / "again", **settings)
    assert [card.network for card in found.cards] == ["gpt2", "fnn"]
    assert found.cards[0] is found.card


def test_networks_of_one_name_need_another(tmp_path: Path, planted: PlantedSweep) -> None:
    settings: dict[str, Any] = {"scale": "smoke", "tasks": ["identity"]}
    first = benchmark(EXAMPLE, out=tmp_path / "first", **settings)
    beside = [first.folder / "card.json"]
    with pytest.raises(InputError, match=r"two of the networks are called 'tiny_rnn.py:make'; give yours another name"):
        benchmark(EXAMPLE, out=tmp_path / "second", beside=beside, **settings)
    found = benchmark(EXAMPLE, out=tmp_path / "second", beside=beside, name="wider", **settings)
    assert [card.network for card in found.cards[:2]] == ["wider", "tiny_rnn.py:make"]


@pytest.fixture
def shipped_fnn(tmp_path: Path, planted: PlantedSweep, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The card of a network that ships measured."""
    benchmark("fnn", out=tmp_path / "fnn", scale="smoke", tasks=["identity"])
    card = (tmp_path / "fnn/card.json").rename(tmp_path / "fnn-smoke.json")
    shipped = shipped_cards(SMOKE, tmp_path)
    monkeypatch.setattr(running, "shipped_cards", lambda protocol: shipped)
    planted.members = {}
    return card


@pytest.mark.parametrize("name", list(SMOKE.networks))
def test_names_of_this_package_are_not_given_to_others(tmp_path: Path, planted: PlantedSweep, name: str) -> None:
    other = "gpt2" if name == "fnn" else "fnn"
    for network in (EXAMPLE, other):
        with pytest.raises(InputError, match=f"name='{name}': '{name}' is a network of this package; give another"):
            benchmark(network, out=tmp_path / "out", scale="smoke", tasks=["identity"], name=name)
    assert not planted.members


def test_card_beside_does_not_replace_a_shipped_one(tmp_path: Path, planted: PlantedSweep, shipped_fnn: Path) -> None:
    settings: dict[str, Any] = {"scale": "smoke", "tasks": ["identity"]}
    with pytest.raises(InputError, match=r"beside='.*fnn-smoke.json': 'fnn' is a network of this package; give anoth"):
        benchmark(EXAMPLE, out=tmp_path / "out", beside=[shipped_fnn], **settings)
    assert not planted.members
    benchmark("fnn", out=tmp_path / "mine", name="my fnn", **settings)
    found = benchmark(EXAMPLE, out=tmp_path / "out", beside=[tmp_path / "mine/card.json"], **settings)
    assert [card.network for card in found.cards] == ["tiny_rnn.py:make", "my fnn", "fnn"]


@pytest.mark.parametrize("name", ["", " ", "fnn ", "a\nb", "a\tb", "a\x1b[31mb", "a\x7f", "a\u202eb"])
def test_names_are_printable(tmp_path: Path, planted: PlantedSweep, name: str) -> None:
    with pytest.raises(InputError, match="must be one line of printable characters") as caught:
        benchmark(EXAMPLE, out=tmp_path / "out", scale="smoke", name=name)
    assert str(caught.value).isprintable()
    assert not planted.members


def test_bars_do_not_end_a_cell_of_the_markdown_table(tmp_path: Path, planted: PlantedSweep) -> None:
    found = benchmark("gpt2", out=tmp_path, scale="smoke", tasks=["identity"], name=r"gpt|2\x")
    assert found.markdown().splitlines()[2] == r"| identity | gpt\|2\\x | 0.96 | - | 200 | 20 |"
    assert found.rows()[0].network == r"gpt|2\x"


@pytest.mark.parametrize("name", ["card.json", "card.md"])
def test_folder_in_the_place_of_a_card_stops_before_any_training(
    tmp_path: Path, planted: PlantedSweep, name: str
) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"out='.*': {name} in it is a folder; choose another"):
        benchmark("fnn", out=tmp_path, scale="smoke")
    assert not planted.members


def test_folder_that_cannot_be_written_stops_before_any_training(
    tmp_path: Path, planted: PlantedSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file/out"):
        with pytest.raises(InputError, match=r"out='.*': '.*/file' is no folder; choose another"):
            benchmark("fnn", out=out, scale="smoke")
    with pytest.raises(InputError, match=r"out='.*': cannot be written to \(File name too long\)"):
        benchmark("fnn", out=tmp_path / ("x" * 300), scale="smoke")
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)  # root may write everywhere
    with pytest.raises(InputError, match=r"out='.*/a/b': cannot be written to \(no permission in '.*'\)"):
        benchmark("fnn", out=tmp_path / "a/b", scale="smoke")
    assert not planted.members


def test_broken_card_beside_stops_before_any_training(tmp_path: Path, planted: PlantedSweep) -> None:
    found = benchmark("fnn", out=tmp_path / "fnn", scale="smoke", tasks=["identity"])
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps(found.card.record() | {"seeds": None}))
    planted.members = {}
    with pytest.raises(InputError, match=r"card='.*broken.json': is no card of a benchmark \(seeds=None: "):
        benchmark("gpt2", out=tmp_path / "gpt2", scale="smoke", beside=[broken])
    assert not planted.members


def test_shipped_card_of_another_version_is_left_out_with_a_line(tmp_path: Path, planted: PlantedSweep) -> None:
    benchmark("fnn", out=tmp_path / "fnn", scale="smoke", tasks=["identity"])
    content = json.loads((tmp_path / "fnn/card.json").read_text())
    for name, change in (("a", {"schema_version": 0}), ("b", {"protocol": "other"})):
        (tmp_path / f"{name}-smoke.json").write_text(json.dumps(content | change))
    cards, notes = shipped_cards(SMOKE, tmp_path)
    assert cards == []
    assert "a-smoke.json" in notes[0]
    assert "has schema version 0, this anchorlab reads 1" in notes[0]
    assert "was measured by protocol other" in notes[1]
    assert "no card of another network comes with this package at scale smoke" in notes[2]


def test_shipped_cards_are_of_the_protocol_as_it_is() -> None:
    laptop = PROTOCOLS["laptop"]
    cards, notes = shipped_cards(laptop)
    assert {card.network for card in cards} == {"gpt2", "lstm", "fnn"}
    assert notes == ()
    for card in cards:
        assert set(card.scores) == set(TASKS)
        assert card.seeds == laptop.seeds
        assert all(set(score.test) == set(laptop.rows) for score in card.scores.values())


@pytest.mark.parametrize(
    ("network", "options", "said"),
    [
        ("fnn", {"scale": "labtop"}, "scale: unknown value 'labtop'; did you mean 'laptop'"),
        ("fnn", {"tasks": ["idenity"]}, "tasks: unknown value 'idenity'; did you mean 'identity'"),
        ("fnn", {"seeds": 0}, "seeds=0: must be at least 1"),
        ("fnn", {"beside": ["no.json"]}, "card='no.json': is no card"),
        ("gpt3", {}, "network: unknown value 'gpt3'; did you mean 'gpt2'"),
        ("no.py:make", {}, "there is no file"),
    ],
)
def test_wrong_values_stop_before_any_training(
    tmp_path: Path, planted: PlantedSweep, network: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        benchmark(network, **{"out": tmp_path / "out", "scale": "smoke"} | options)
    assert not planted.members
    assert not (tmp_path / "out").exists()


def test_network_that_does_not_fit_stops_before_any_training(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make(v, n): return nn.Sequential(nn.Embedding(101, 8), nn.Linear(8, v))\n"
    )
    with pytest.raises(InputError, match=r"composite-100rows-seed0: factory=.*IndexError"):
        benchmark(f"{tmp_path / 'net.py'}:make", out=tmp_path / "out", scale="smoke", progress=False)
    assert not list(tmp_path.glob("out/runs/*/config.json"))
