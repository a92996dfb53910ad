"""One protocol for every network, and a key that tells protocols apart."""

from dataclasses import replace

import pytest

from anchorlab import tasks
from anchorlab.benchmark_card import PROTOCOLS, TASKS, protocol
from anchorlab.errors import InputError
from anchorlab.experiments.populations import check_members

LAPTOP = PROTOCOLS["laptop"]


def test_tasks_are_those_of_the_source() -> None:
    assert set(TASKS) == set(tasks.names()) - {"chain"}
    assert len(TASKS) == 9


@pytest.mark.parametrize("scale", PROTOCOLS)
def test_networks_of_one_scale_share_everything_but_the_network(scale: str) -> None:
    one = PROTOCOLS[scale]
    shared = set()
    for name in one.networks:
        experiments = one.experiments(one.network(name), ["identity", "composite"], seeds=2)
        assert len(experiments) == 2 * len(one.rows) * 2
        for (task, rows, seed), experiment in experiments.items():
            assert (experiment.task, experiment.train_rows) == (task, rows)
            assert (experiment.seed, experiment.data_seed) == (seed, seed)
            assert experiment.initialization_rule == "pytorch"
        record = experiments["composite", one.rows[0], 1].record()
        for field in ("model", "layers", "heads", "width", "head_width", "feed_forward_width"):
            del record[field]
        shared.add(str(record))
    assert len(shared) == 1


def test_every_smoke_network_fits_every_task() -> None:
    smoke = PROTOCOLS["smoke"]
    for name in smoke.networks:
        experiments = smoke.experiments(smoke.network(name), list(TASKS), seeds=1)
        check_members({"-".join(map(str, key)): one for key, one in experiments.items()})


def test_training_ends_early_only_when_every_new_row_is_answered() -> None:
    stops = {
        key[0]: one.stop_accuracy
        for key, one in LAPTOP.experiments(LAPTOP.network("fnn"), ["identity", "synonym"], seeds=1).items()
    }
    assert stops == {"identity": {"test": 1.0}, "synonym": {"test": 1.0, "ood": 1.0}}
    paper = PROTOCOLS["paper"]
    (one, *_) = paper.experiments(paper.network("fnn"), ["identity"], seeds=1).values()
    assert one.stop_accuracy == {}


def test_key_tells_protocols_apart_but_not_their_number_of_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = (
        {"rows": (5, 10)},
        {"test_rows": 7},
        {"scale": "other"},
        {"until_solved": False},
        {"training": {**LAPTOP.training, "learning_rate": 0.5}},
        {"networks": {**LAPTOP.networks, "fnn": {"layers": 1}}},
    )
    keys = {LAPTOP.key, *(replace(LAPTOP, **change).key for change in changes)}
    assert len(keys) == 1 + len(changes)
    assert replace(LAPTOP, seeds=17).key == LAPTOP.key
    before = LAPTOP.key
    monkeypatch.setitem(protocol.TASKS, "identity", replace(TASKS["identity"], fields={"length": 8}))
    assert LAPTOP.key != before


def test_networks_are_known_by_name_or_made_by_a_factory() -> None:
    made = LAPTOP.network("some/net.py:make")
    assert made["model_options"] == {"factory": "some/net.py:make"}
    assert made["initialization_rule"] == "own"
    with pytest.raises(InputError, match=r"unknown value 'gtp2'; did you mean 'gpt2'\?; a network of your own"):
        LAPTOP.network("gtp2")
