"""Properties that rows of every task have, for arbitrary parameters."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anchorlab import tasks
from anchorlab.errors import InputError

QUICK = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
EVERY = [(name, preset) for name in tasks.names() for preset in (None, *tasks.presets(name))]
CHAIN_OPERATIONS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", "e"]),
    st.one_of(
        st.integers(-4, 9).map("add:{}".format),
        st.integers(0, 50).map("permute:{}".format),
        st.sampled_from(["identity", "reflect:130"]),
    ),
    min_size=2,
    max_size=4,
)


def assert_rows_are_right(task: tasks.Task, seed: int = 0, rows: int = 300) -> None:
    for split in task.splits:
        sample = task.sample(split, rows, seed)
        found = task.locate(sample.tokens)
        majority = sample.group == 0 if task.name == "statistical" else np.ones(rows, bool)
        assert (task.solve(sample.tokens) == sample.label)[majority].all()
        assert (found.key == sample.key).all()
        assert (found.key_position == sample.key_position).all()
        assert (found.anchors[:, : sample.anchors.shape[1]] == sample.anchors).all()
        words = task.vocabulary
        assert sample.label.min() >= words.labels[0] > 0
        assert sample.label.max() <= words.labels[1] < words.size
        assert sample.tokens.min() > words.pad
        assert sample.tokens.max() < words.size
        assert sample.tokens.shape == (rows, task.length)
        assert all(
            array.dtype == np.int16
            for array in (sample.tokens, sample.label, sample.key, sample.key_position, sample.anchors, sample.group)
        )
        assert sample.group.max() < len(task.group_names)


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_labels_equal_the_oracles(name: str, preset: str | None) -> None:
    assert_rows_are_right(tasks.create(name, preset), rows=2000)


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_config_rebuilds_the_task(name: str, preset: str | None) -> None:
    task = tasks.create(name, preset)
    again = tasks.from_config(task.config())
    assert again == task
    assert again.hash == task.hash


@QUICK
@given(
    operations=CHAIN_OPERATIONS,
    links=st.integers(2, 3),
    length=st.integers(5, 12),
    modulus=st.integers(2, 30),
    key_side=st.sampled_from(["before", "after"]),
    order=st.sampled_from(["left_to_right", "right_to_left"]),
    seed=st.integers(0, 2**40),
)
def test_any_chain(operations, links, length, modulus, key_side, order, seed) -> None:
    held_out = [tuple(itertools.islice(itertools.cycle(operations), links))]
    task = tasks.create(
        "chain",
        operations=operations,
        links=links,
        length=length,
        modulus=modulus,
        key_side=key_side,
        order=order,
        held_out=held_out,
    )
    assert_rows_are_right(task, seed)
    assert set(task.splits) == {"train", "test", "ood"}


@QUICK
@given(
    data=st.data(),
    links=st.integers(2, 3),
    order=st.sampled_from(["left_to_right", "right_to_left"]),
    override=st.sampled_from(["sum", "max", "min", "add:3", "permute:4"]),
    seed=st.integers(0, 1000),
)
def test_any_chain_of_several_key_items(data, links, order, override, seed) -> None:
    """Rows are right by the oracle, and by arithmetic that knows nothing of the package's rules."""
    places = st.integers(-3, links + 3).filter(lambda place: not 0 <= place < links)
    offsets = tuple(data.draw(st.lists(places, min_size=2, max_size=4, unique=True)))
    broken = tuple(data.draw(st.lists(st.sampled_from("ab"), min_size=links, max_size=links)))
    fields = {"links": links, "order": order, "offsets": offsets, "length": 12}
    task = tasks.create(
        "chain", operations={"a": "add:3", "b": "reflect:200"}, overrides={",".join(broken): override}, **fields
    )
    assert_rows_are_right(task, seed)
    ids = {anchor: name for name, anchor in task.vocabulary.anchors.items()}
    functions = {"sum": sum, "max": max, "min": min, "add:3": lambda items: items[0] + 3}
    sample = task.sample("train", 200, seed)
    for row, label in zip(sample.tokens.tolist(), sample.label.tolist(), strict=True):
        first = next(place for place, token in enumerate(row) if token in ids)
        names = tuple(ids[token] for token in row[first : first + links])
        items = [row[first + offset] for offset in offsets]
        if names == broken and override in functions:
            assert label == functions[override](items)
        elif names != broken:
            value = items[0]
            for name in names if order == "left_to_right" else names[::-1]:
                value = value + 3 if name == "a" else 200 - value
            assert label == value


def test_an_anchor_of_several_key_items_that_acts_first_only() -> None:
    task = tasks.create(
        "composite",
        operations={"a": "sum", "b": "add:1"},
        overrides={"a,a": "max", "b,a": "min"},
        offsets=(-1, 2),
        held_out=[],
    )
    assert_rows_are_right(task)
    rows = [task.vocabulary.encode((30, *pair, 50, 60, 60, 60, 60, 60)) for pair in ("ab", "aa", "ba", "bb")]
    assert task.solve(np.concatenate(rows)).tolist() == [81, 50, 30, 32]


@QUICK
@given(
    offsets=st.dictionaries(
        st.sampled_from(["a", "b", "c"]), st.lists(st.integers(-3, 3).filter(bool), min_size=1, max_size=3, unique=True)
    ),
    split=st.sampled_from(["anchor_ranges", "mod_remainder"]),
    seed=st.integers(0, 1000),
)
def test_anchors_with_offsets_of_their_own(offsets, split, seed) -> None:
    ranges = {"a": (20, 40), "b": (41, 60), "c": (61, 80)} if split == "anchor_ranges" else None
    operations = dict.fromkeys("abc", "sum")
    task = tasks.create("multi_anchor", operations=operations, anchor_offsets=offsets, split=split, test_ranges=ranges)
    assert_rows_are_right(task, seed)
    sample = task.sample("train", 200, seed)
    for row, label in zip(sample.tokens.tolist(), sample.label.tolist(), strict=True):
        place = next(place for place, token in enumerate(row) if token in (1, 2, 3))
        assert label == sum(row[place + offset] for offset in offsets.get("abc"[row[place] - 1], (1,)))


@QUICK
@given(
    offsets=st.lists(st.integers(-3, 3).filter(bool), min_size=1, max_size=3, unique=True),
    operation=st.sampled_from(["identity", "add:7", "permute:3", "sum", "max", "min", "difference:150"]),
    noise=st.tuples(st.integers(20, 40), st.integers(60, 100)),
    seed=st.integers(0, 1000),
)
def test_any_single_anchor(offsets, operation, noise, seed) -> None:
    settings = {"offsets": offsets, "operation": operation, "noise": noise}
    name = operation.partition(":")[0]
    arity = tasks.operations()[name].arity
    if arity is not None and arity != len(offsets):
        with pytest.raises(InputError, match="key item"):
            tasks.create("identity", **settings)
    else:
        assert_rows_are_right(tasks.create("identity", **settings), seed)


@QUICK
@given(
    pairs=st.integers(2, 6),
    extra=st.integers(0, 4),
    low=st.integers(20, 60),
    width=st.integers(15, 50),
    ties=st.sampled_from(["first", "exclude"]),
    seed=st.integers(0, 1000),
)
def test_any_paired_task(pairs, extra, low, width, ties, seed) -> None:
    shared = {"pairs": pairs, "anchors": pairs + extra, "numbers": (low, low + width)}
    assert_rows_are_right(tasks.create("reading_comprehension", **shared), seed)
    task = tasks.create("classification", ties=ties, **shared)
    assert_rows_are_right(task, seed)
    tokens = task.sample("train", 300, seed).tokens.astype(int)
    assert all(len(set(row)) == pairs for row in tokens[:, 1:-1:2].tolist())


@QUICK
@given(
    length=st.integers(6, 25),
    smallest=st.integers(0, 3),
    more=st.none() | st.integers(0, 5),
    percent=st.integers(0, 100),
    seed=st.integers(0, 1000),
)
def test_any_working_memory_and_recitation(length, smallest, more, percent, seed) -> None:
    largest = None if more is None else smallest + more
    memory = tasks.create("working_memory", length=length, smallest_gap=smallest, largest_gap=largest)
    assert_rows_are_right(memory, seed)
    places = memory.locate(memory.sample("train", 300, seed).tokens).anchor_positions
    gaps = places[:, 1] - places[:, 0] - 1
    assert gaps.min() >= smallest
    assert largest is None or gaps.max() <= largest
    assert_rows_are_right(tasks.create("recitation", length=length, forward_percent=percent), seed)


@pytest.mark.parametrize("name", tasks.names())
def test_noise_contains_no_anchor_and_stays_in_its_range(name: str) -> None:
    task = tasks.create(name, **({} if name in {"classification", "reading_comprehension"} else {"noise": (20, 99)}))
    sample = task.sample("train", 3000)
    found = task.locate(sample.tokens)
    rest = np.ones(sample.tokens.shape, bool)
    rows = np.arange(len(rest))
    rest[rows, found.key_position] = False
    for places in found.anchor_positions.T:
        rest[rows, places] = False
    if name == "recitation":
        rest[:, -1] = False
        beside = 2 * found.anchor_positions[:, 0] - found.key_position
        rest[rows, beside] = False
    if name in {"classification", "reading_comprehension"}:
        rest[:, (0 if name == "reading_comprehension" else 1) : -1 : 2] = False  # the anchors of the other pairs
        rest[:, -1] &= name == "classification"
        assert np.unique(sample.tokens[rest]).tolist() == list(range(20, 101))
    else:
        assert np.unique(sample.tokens[rest]).tolist() == list(range(20, 100))


@QUICK
@given(start=st.integers(0, 30_000), n=st.integers(1, 12_000), name=st.sampled_from(tasks.names()))
def test_a_row_depends_on_its_number_only(start: int, n: int, name: str) -> None:
    task = tasks.create(name)
    whole = task.sample("train", 42_000, seed=5)
    part = task.sample("train", n, seed=5, start=start)
    for field in ("tokens", "label", "key", "key_position", "anchors", "group"):
        assert (getattr(part, field) == getattr(whole, field)[start : start + n]).all()


def test_rows_are_those_of_the_documented_words() -> None:
    """The first key of the first block, worked out from the Philox words by hand."""
    task = tasks.create("composite")
    import hashlib
    import json

    digest = hashlib.sha256(json.dumps([task.hash, "train", 4, "rows", 0]).encode()).digest()
    words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(1)
    first = int(words[0] & np.uint64(0xFFFFFFFF)) * len(task.cells("train")) >> 32
    sample = task.sample("train", 1, seed=4)
    assert sample.key[0] == task.cells("train").key[first]
    assert sample.key_position[0] == task.cells("train").key_position[first]


def test_neighbouring_seeds_splits_and_tasks_share_no_rows() -> None:
    one, other = tasks.create("composite"), tasks.create("composite", modulus=8)
    streams = [one.sample("train", 20_000, seed) for seed in range(3)] + [other.sample("train", 20_000, 0)]
    rows = [{row.tobytes() for row in sample.tokens} for sample in streams]
    for a, b in itertools.combinations(rows, 2):
        assert not a & b


def test_sampling_leaves_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    tasks.create("composite", operations=tasks.permutations(4), held_out=[]).sample("train", 100)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("name", [name for name in tasks.names() if name != "statistical"])
def test_unique_rows_use_each_cell_once(name: str) -> None:
    task = tasks.create(name)
    split = "train" if name == "synonym" else "test"
    n = len(task.cells(split))
    if name in {"synonym", "recitation"}:  # a fixed mix stops where the first kind of row runs out of cells
        with pytest.raises(InputError) as refused:
            task.sample(split, n + 1, unique=True)
        n = int(re.findall(r"cells for (\d+) unique rows", str(refused.value))[0])
    sample = task.sample(split, n, seed=1, unique=True)
    cells = np.column_stack([sample.anchors, sample.key_position, sample.key, sample.group])
    assert len(np.unique(cells, axis=0)) == n
    assert (task.solve(sample.tokens) == sample.label).all()
    assert (task.sample(split, 3, seed=1, unique=True, start=n - 3).tokens == sample.tokens[-3:]).all()
    with pytest.raises(InputError, match=str(n)):
        task.sample(split, n + 1, unique=True)


def test_cells_are_drawn_uniformly() -> None:
    task = tasks.create("identity")
    n, cells = 400_000, task.cells("train")
    sample = task.sample("train", n)
    counts = np.bincount(sample.key_position.astype(int) * 128 + sample.key, minlength=9 * 128)
    counts = counts[counts > 0]
    assert len(counts) == len(cells)
    chi_square = ((counts - n / len(cells)) ** 2 / (n / len(cells))).sum()
    assert abs(chi_square - (len(cells) - 1)) < 5 * np.sqrt(2 * (len(cells) - 1))
