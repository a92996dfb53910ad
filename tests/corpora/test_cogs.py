import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorlab.corpora import cogs
from anchorlab.corpora.cogs_grammar import FORMS, FRAMES, NAMES, PREPOSITIONS, Clause, Noun, write
from anchorlab.corpora.pairs import Pair
from anchorlab.errors import InputError

SMALL = {"train_rows": 400, "test_rows": 30, "ood_rows": 5, "exposures": 10}
LEMMAS = {form: lemma for lemma, forms in FORMS.items() for form in forms}


def understood(sentence: str) -> set[str]:
    """The terms of the logical form, read off the words from left to right: no parts in common with the package."""
    words = sentence.split()[:-1]
    words[0] = words[0] if words[0] in (*NAMES, "Paula") else words[0].lower()
    terms, place = set[str](), 0

    def noun() -> str:
        nonlocal place
        if words[place][0].isupper():
            place += 1
            return words[place - 1]
        word, me = words[place + 1], place + 1
        terms.add(f"{'* ' if words[place] == 'the' else ''}{word} ( x _ {me} )")
        place += 2
        if place < len(words) and words[place] in PREPOSITIONS:
            preposition = words[place]
            place += 1
            terms.add(f"{word} . nmod . {preposition} ( x _ {me} , {noun()} )")
        return f"x _ {me}"

    def clause() -> str:
        nonlocal place
        subject = noun()
        passive = words[place] == "was"
        place += passive
        verb, me = LEMMAS[words[place]], f"x _ {place}"
        place += 1
        roles = {"theme" if passive or verb in ("roll", "float", "shatter") else "agent": subject}
        if place < len(words) and words[place] == "by":
            place += 1
            roles["agent"] = noun()
        elif place < len(words) and words[place] == "that":
            place += 1
            roles["ccomp"] = clause()
        elif place < len(words) and not passive:
            first = noun()
            if place == len(words):
                roles["theme"] = first
            elif words[place] == "to":
                place += 1
                roles |= {"theme": first, "recipient": noun()}
            else:
                roles |= {"recipient": first, "theme": noun()}
        terms.update(f"{verb} . {role} ( {me} , {what} )" for role, what in roles.items())
        return me

    clause()
    assert place == len(words)
    return terms


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_logical_forms_say_what_the_words_say(seed: int) -> None:
    found = cogs.generate(train_rows=60, test_rows=3, ood_rows=1, exposures=1, seed=seed)
    sentences = [pair for part in found.values() for pair in part if pair.source.endswith(" .")]
    for pair in sentences[-60:]:
        terms = re.split(r" ; | AND ", pair.target)
        assert set(terms) == understood(pair.source)
        assert len(terms) == len(set(terms))
        definite = [term.startswith("* ") for term in terms]
        assert definite == sorted(definite, reverse=True)
        for part in ([t for t in terms if t[0] == "*"], [t for t in terms if t[0] != "*"]):
            places = [int(re.findall(r"x _ (\d+)", term)[0]) for term in part]
            assert places == sorted(places)


@pytest.mark.parametrize(
    ("clause", "sentence", "form"),
    [
        (
            Clause("help", "passive", {"theme": Noun("rose", definite=False), "agent": Noun("dog", definite=False)}),
            "A rose was helped by a dog .",
            "rose ( x _ 1 ) AND help . theme ( x _ 3 , x _ 1 ) AND help . agent ( x _ 3 , x _ 6 ) AND dog ( x _ 6 )",
        ),
        (
            Clause("roll", "transitive", {"agent": Noun("Emma"), "theme": Noun("teacher", definite=True)}),
            "Emma rolled the teacher .",
            "* teacher ( x _ 3 ) ; roll . agent ( x _ 1 , Emma ) AND roll . theme ( x _ 1 , x _ 3 )",
        ),
        (
            Clause(
                "say",
                "clausal",
                {
                    "agent": Noun("Emma"),
                    "ccomp": Clause(
                        "see", "transitive", {"agent": Noun("girl", definite=False), "theme": Noun("Liam")}
                    ),
                },
            ),
            "Emma said that a girl saw Liam .",
            "say . agent ( x _ 1 , Emma ) AND say . ccomp ( x _ 1 , x _ 5 ) AND girl ( x _ 4 ) AND "
            "see . agent ( x _ 5 , x _ 4 ) AND see . theme ( x _ 5 , Liam )",
        ),
    ],
)
def test_forms_are_written_as_in_the_published_data(clause: Clause, sentence: str, form: str) -> None:
    assert write(clause) == (sentence, form)


def test_training_never_shows_what_the_cases_test() -> None:
    found = cogs.generate(**SMALL)
    trained = [pair.target for pair in found["train"]]

    def occurs(pattern: str) -> bool:
        return any(re.search(pattern, form) for form in trained)

    for word, tested, seen in [("hedgehog", "theme", "agent"), ("cockroach", "agent", "theme")]:
        forms = [form for form in trained if word in form]
        assert len(forms) == SMALL["exposures"]
        for form in forms:
            variable = re.findall(rf"{word} \( (x _ \d+) \)", form)[0]
            assert not re.search(rf"{tested} \( x _ \d+ , {variable} \)", form)
            assert re.search(rf"{seen} \( x _ \d+ , {variable} \)", form)
    assert Counter(form for form in trained if "shark" in form or "Paula" in form) == {
        "LAMBDA a . shark ( a )": 10,
        "Paula": 10,
    }
    words = [pair.source for pair in found["train"]]
    assert not any("was blessed" in text for text in words)
    assert all("was" in text for text in words if "squeezed" in text)
    assert not any(re.search(r"teleported .* to ", text) for text in words)
    assert all(" to " in text for text in words if "shipped" in text)
    assert max(text.count(" that ") for text in words) == 2
    assert max(len(re.findall(" on | in | beside ", text)) for text in words) == 2
    assert occurs("nmod")
    for text in words:  # no subject has a modifier
        assert not re.match(rf"(The|A) \w+ ({'|'.join(PREPOSITIONS)})\b", text)


def test_tested_cases_are_what_their_names_say() -> None:
    rows = cogs.generate(**SMALL)["ood"]
    tested = {case.name: [pair for pair in rows if pair.group == case.name] for case in cogs.CASES}
    assert {name: len(part) for name, part in tested.items()} == dict.fromkeys(tested, SMALL["ood_rows"])
    patterns = {
        "subject to object (noun)": r" (the|a) hedgehog .*\.",
        "object to subject (noun)": r"(The|A) cockroach ",
        "primitive to subject (noun)": r"(The|A) shark ",
        "primitive to object (noun)": r" (the|a) shark ",
        "primitive to subject (name)": r"^Paula ",
        "active to passive": r"was blessed by",
        "passive to active": r"^\w+( \w+)? squeezed ",
        "double object to dative": r"teleported .* to ",
        "dative to double object": r"shipped ((the|a) )?\w+ (the|a) ",
        "modified object to modified subject": r"^(The|A) \w+ (on|in|beside) ",
        "deeper prepositional phrases": r"( (on|in|beside) (the|a) \w+){3,5} \.$",
        "deeper clauses": r"( that .*){3,5}",
    }
    assert patterns.keys() == tested.keys()
    for name, pattern in patterns.items():
        assert all(re.search(pattern, pair.source) for pair in tested[name])


@pytest.mark.slow
def test_every_case_has_a_thousand_sentences() -> None:
    rows = cogs.generate(train_rows=300, test_rows=5, ood_rows=1000, exposures=5, depth=1)["ood"]
    assert set(Counter(pair.group for pair in rows).values()) == {1000}
    for word, case in (("hedgehog", "subject to object (noun)"), ("shark", "primitive to object (noun)")):
        for text in (pair.source for pair in rows if pair.group == case):
            modified = re.fullmatch(rf"[^.]* (the|a) {word}((?: (?:on|in|beside) (?:the|a) \w+)*) \.", text)
            assert modified is not None
            assert len(modified[2].split()) in (0, 3)


def test_depths_follow_what_is_trained() -> None:
    found = cogs.generate(**SMALL, depth=1)
    nested = [text.source.count(" that ") for text in found["train"]]
    tested = [pair.source.count(" that ") for pair in found["ood"] if pair.group == "deeper clauses"]
    assert max(nested) == 1
    assert set(tested) <= {2, 3, 4}


def test_no_sentence_is_in_two_splits_and_rows_follow_the_seed() -> None:
    found = cogs.generate(**SMALL)
    assert {name: len(part) for name, part in found.items()} == {"train": 400, "test": 30, "ood": 5 * len(cogs.CASES)}
    sources = [{pair.source for pair in part} for part in found.values()]
    assert len(set.union(*sources)) == sum(map(len, sources))
    assert found == cogs.generate(**SMALL) != cogs.generate(**SMALL, seed=1)


def test_compact_forms_say_the_same_in_fewer_tokens() -> None:
    assert cogs.compact("* cat ( x _ 1 ) ; eat . agent ( x _ 2 , x _ 1 )") == "* cat x1 ; eat agent x2 x1"
    forms = {pair.target for part in cogs.generate(**SMALL).values() for pair in part}
    assert len({cogs.compact(form) for form in forms}) == len(forms)
    assert all(re.fullmatch(r"[\w*;]+( [\w*;]+)*", cogs.compact(form)) for form in forms)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_rows": 80}, "more than the 80 rows"),
        ({"ood_rows": 0}, "ood_rows=0"),
        ({"exposures": 0}, "exposures=0"),
        ({"depth": 0}, "depth=0: must be at least 1"),
        # 34 agents, 8 verbs and 2 articles of the cockroach
        ({"train_rows": 5_000, "exposures": 545}, "^exposures=545: must be at most the 544 different sentences[^\n]*$"),
    ],
)
def test_wrong_numbers_of_rows_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cogs.generate(**(SMALL | change))


def test_published_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("Paula\tPaula\tprimitive\n")
    (tmp_path / "gen.tsv").write_text("A cat smiled .\tcat ( x _ 1 ) AND smile . agent ( x _ 2 , x _ 1 )\tcase\n")
    found = cogs.load(tmp_path / "train.tsv", ood=tmp_path / "gen.tsv")
    assert found["train"] == [Pair("Paula", "Paula", "primitive")]
    assert found["ood"][0].group == "case"
    (tmp_path / "bad.tsv").write_text("A cat smiled .\tcat\n")
    with pytest.raises(InputError, match="line 1 has another form"):
        cogs.load(tmp_path / "bad.tsv")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "train.csv").write_text("source,target,category\nPaula,Paula,primitive\n")
    assert cogs.load_hub(str(tmp_path / "hub"))["train"] == found["train"]


def test_frames_use_known_words_only() -> None:
    items = {item for frame in FRAMES.values() for item in frame.split()}
    assert items == {"agent", "theme", "recipient", "ccomp", "PAST", "PARTICIPLE", "was", "by", "to", "that"}
