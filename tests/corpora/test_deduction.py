import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from anchorlab.corpora.deduction import Deductions, Ontology
from anchorlab.errors import InputError

ONTOLOGIES = st.builds(
    lambda chains, steps, spare, least: Ontology(
        concepts=chains * (steps + 1) + spare, chains=chains, steps=steps, least_steps=min(least, steps)
    ),
    st.integers(2, 4),
    st.integers(1, 4),
    st.integers(3, 9),
    st.integers(1, 4),
)


def deduced(text: str) -> tuple[bool, int]:
    """Answer and least number of rules, from the words alone: all that follows, one round of rules after another."""
    rules = re.findall(r"Every (\w+) is a (\w+)\.", text)
    ((who, known, asked_who, asked),) = re.findall(r"(\w+) is a (\w+)\. Is (\w+) a (\w+)\?", text)
    assert who == asked_who
    found, rounds = {known}, 0
    while asked not in found and rounds < len(rules):
        found |= {b for a, b in rules if a in found}
        rounds += 1
    return asked in found, rounds


@given(ONTOLOGIES, st.integers(0, 5))
def test_labels_follow_from_the_rules(ontology: Ontology, seed: int) -> None:
    for part in ontology.splits(train_rows=8, test_rows=4, seed=seed).values():
        for tokens, label, steps in zip(part.tokens, part.label, part.steps, strict=True):
            answer, rounds = deduced(ontology.text(tokens))
            assert answer == bool(label) == ontology.solve(tokens)
            assert ontology.names[label] == ("true" if answer else "false")
            assert not answer or rounds == steps


@given(ONTOLOGIES)
def test_half_of_every_split_is_true_and_all_rows_are_different(ontology: Ontology) -> None:
    found = ontology.splits(train_rows=20, test_rows=11)
    assert [int(part.label.sum()) for part in found.values()] == [10, 5]
    rows = np.concatenate([part.tokens for part in found.values()])
    assert len(np.unique(rows, axis=0)) == 31
    assert rows.shape[1] == ontology.length


def test_no_problem_is_in_two_splits_with_another_name_or_order_of_rules() -> None:
    ontology = Ontology(concepts=5, steps=1)
    found = ontology.splits(train_rows=1000, test_rows=50)
    train, test = (
        {(frozenset([tuple(row[1:3]), tuple(row[4:6])]), row[-4], row[-2]) for row in part.tokens.tolist()}
        for part in found.values()
    )
    assert len(train) > 150
    assert not train & test


@given(ONTOLOGIES)
def test_the_fact_alone_decides_between_two_equal_rows(ontology: Ontology) -> None:
    """The same row with another chain in the fact has the other answer: without the fact there is nothing to know."""
    for tokens in ontology.splits(train_rows=6, test_rows=2)["train"].tokens:
        rules = tokens[:-5].reshape(-1, 3)[:, 1:]
        starts = sorted(set(rules[:, 0]) - set(rules[:, 1]))
        answers = [ontology.solve([*tokens[:-4], start, *tokens[-3:]]) for start in starts]
        assert len(starts) == ontology.chains
        assert sum(answers) == 1


def _tokens(part: Deductions, ontology: Ontology) -> np.ndarray:
    encoder = OneHotEncoder(categories=[range(len(ontology.names))] * ontology.length)
    return np.asarray(encoder.fit_transform(part.tokens).todense())


def _places(part: Deductions, ontology: Ontology) -> np.ndarray:
    """Where the told and the asked concept stand in the rules, as one-hot pairs."""
    rules = part.tokens[:, :-5].reshape(len(part.tokens), -1, 3)
    told = (rules[..., 1] == part.tokens[:, -4, None]).argmax(1)
    asked = (rules[..., 2] == part.tokens[:, -2, None]).argmax(1)
    count = rules.shape[1]
    return np.asarray(np.eye(count**2)[told * count + asked])


def _counts(part: Deductions, ontology: Ontology) -> np.ndarray:
    """How often each concept occurs, and how often the told and the asked one do."""
    bags = np.stack([(part.tokens == token).sum(1) for token in range(len(ontology.names))], axis=1)
    rows = np.arange(len(bags))
    return np.column_stack([bags, bags[rows, part.tokens[:, -4]], bags[rows, part.tokens[:, -2]]])


@pytest.mark.parametrize("features", [_tokens, _places, _counts])
def test_shortcuts_answer_no_more_than_chance(features: Callable[[Deductions, Ontology], np.ndarray]) -> None:
    ontology = Ontology(concepts=12, steps=3, least_steps=2)
    found = ontology.splits(train_rows=3000, test_rows=3000)
    learner = LogisticRegression(max_iter=300).fit(features(found["train"], ontology), found["train"].label)
    accuracy = learner.score(features(found["test"], ontology), found["test"].label)
    assert accuracy == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(3000))


def test_rows_are_grouped_by_steps_which_all_occur_equally_often() -> None:
    part = Ontology(steps=3).splits(train_rows=3000, test_rows=2)["train"]
    rows = part.rows()
    assert rows.groups is not None
    counts = {group: list(rows.groups).count(group) for group in set(rows.groups)}
    assert counts.keys() == {"1 step", "2 steps", "3 steps"}
    assert all(count == pytest.approx(1000, abs=4 * np.sqrt(3000 * 2 / 9)) for count in counts.values())


def test_rows_follow_the_seed() -> None:
    one, again, other = (Ontology().splits(train_rows=9, test_rows=3, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(one[name].tokens, again[name].tokens) for name in one)
    assert not np.array_equal(one["train"].tokens, other["train"].tokens)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chains": 1}, "chains=1: must be at least 2"),
        ({"least_steps": 4}, "least_steps=4: must be between 1 and steps=3"),
        ({"concepts": 7}, r"concepts=7: must be between the 8 of a row"),
        ({"concepts": 66}, "and 65"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ontology(**settings)


def test_too_many_or_too_few_rows_are_refused() -> None:
    small = Ontology(concepts=4, steps=1)
    with pytest.raises(InputError, match="train_rows=5000: there are not so many different rows"):
        small.splits(train_rows=5000, test_rows=2)
    with pytest.raises(InputError, match="test_rows=1: must be at least 2"):
        small.splits(train_rows=4, test_rows=1)


def test_another_kind_of_row_is_refused() -> None:
    ontology = Ontology()
    tokens = ontology.splits(train_rows=2, test_rows=2)["train"].tokens[0]
    with pytest.raises(InputError, match="must be 6 rules, a fact and a question"):
        ontology.solve(tokens[:-1])
