"""Sentences of COGS' kind as trees, in words and as logical forms (arXiv 2010.05465, section 3 and appendix)."""

from dataclasses import dataclass

PREPOSITIONS = ("on", "in", "beside")
NAMES = ("Emma", "Liam", "Olivia", "Noah", "Ava", "William", "Isabella", "James", "Sophia", "Oliver")
BEINGS = ("girl", "boy", "cat", "dog", "baby", "child", "teacher", "doctor", "captain", "monkey", "bear", "king")
THINGS = ("cake", "cookie", "donut", "book", "box", "ball", "rose", "hammer", "pen", "balloon", "ring", "shirt")
PLACES = ("table", "chair", "house", "tree", "car", "stage", "mat", "bed", "cabinet", "bench")

# Lemma: past tense and participle.
UNERGATIVE = {"smile": ("smiled", "smiled"), "laugh": ("laughed", "laughed"), "sleep": ("slept", "slept")} | {
    verb: (f"{verb}ed", f"{verb}ed") for verb in ("talk", "walk", "scream")
}
UNACCUSATIVE = {"roll": ("rolled", "rolled"), "float": ("floated", "floated"), "shatter": ("shattered", "shattered")}
TRANSITIVE = {
    "eat": ("ate", "eaten"),
    "see": ("saw", "seen"),
    "find": ("found", "found"),
    "hold": ("held", "held"),
    "draw": ("drew", "drawn"),
    "touch": ("touched", "touched"),
    "clean": ("cleaned", "cleaned"),
    "help": ("helped", "helped"),
}
DATIVE = {
    "give": ("gave", "given"),
    "send": ("sent", "sent"),
    "sell": ("sold", "sold"),
    "lend": ("lent", "lent"),
    "offer": ("offered", "offered"),
}
CLAUSAL = {"say": ("said", "said"), "think": ("thought", "thought"), "hope": ("hoped", "hoped")} | {
    verb: (f"{verb}d", f"{verb}d") for verb in ("believe", "notice")
}
# Seen in training in one use only, and tested in another.
RESERVED = {
    "bless": ("blessed", "blessed"),
    "squeeze": ("squeezed", "squeezed"),
    "teleport": ("teleported", "teleported"),
    "ship": ("shipped", "shipped"),
}
FORMS = UNERGATIVE | UNACCUSATIVE | TRANSITIVE | DATIVE | CLAUSAL | RESERVED

FRAMES = {
    "unergative": "agent PAST",
    "unaccusative": "theme PAST",
    "transitive": "agent PAST theme",
    "passive": "theme was PARTICIPLE by agent",
    "short passive": "theme was PARTICIPLE",
    "dative": "agent PAST theme to recipient",
    "double object": "agent PAST recipient theme",
    "clausal": "agent PAST that ccomp",
}
ROLES = ("agent", "theme", "recipient", "ccomp")


@dataclass(frozen=True)
class Noun:
    """A noun phrase: a name (`definite` is None), or a noun with `the` or `a` and perhaps a preposition and another."""

    word: str
    definite: bool | None = None
    modifier: "tuple[str, Noun] | None" = None


@dataclass(frozen=True)
class Clause:
    """A verb in one of `FRAMES`, and what stands in its roles."""

    verb: str
    frame: str
    arguments: "dict[str, Noun | Clause]"


class _Writer:
    """Words, and the terms of the logical form with the places of the words that they belong to."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.definites: list[str] = []
        self.terms: list[tuple[int, str]] = []

    def noun(self, noun: Noun) -> str:
        """Write a noun phrase; returns the variable or name that stands for it."""
        if noun.definite is None:
            self.words.append(noun.word)
            return noun.word
        self.words += ["the" if noun.definite else "a", noun.word]
        place = len(self.words) - 1
        variable = f"x _ {place}"
        if noun.definite:
            self.definites.append(f"* {noun.word} ( {variable} ) ;")
        else:
            self.terms.append((place, f"{noun.word} ( {variable} )"))
        if noun.modifier:
            preposition, other = noun.modifier
            self.words.append(preposition)
            self.terms.append((place, f"{noun.word} . nmod . {preposition} ( {variable} , {self.noun(other)} )"))
        return variable

    def clause(self, clause: Clause) -> str:
        """Write a clause; returns the variable of its verb."""
        forms = dict(zip(("PAST", "PARTICIPLE"), FORMS[clause.verb], strict=True))
        variables, place = {}, 0
        for item in FRAMES[clause.frame].split():
            if item in ROLES:
                argument = clause.arguments[item]
                variables[item] = self.noun(argument) if isinstance(argument, Noun) else self.clause(argument)
                continue
            if item in forms:
                place = len(self.words)
            self.words.append(forms.get(item, item))
        for role, variable in variables.items():
            self.terms.append((place, f"{clause.verb} . {role} ( x _ {place} , {variable} )"))
        return f"x _ {place}"


def write(clause: Clause) -> tuple[str, str]:
    """The sentence, and its logical form: definite nouns first, then all terms in the order of their words.

    `The cat ate a cake .` is `* cat ( x _ 1 ) ; eat . agent ( x _ 2 , x _ 1 ) AND eat . theme ( x _ 2 , x _ 4 ) AND
    cake ( x _ 4 )`: a variable is the place of its word, counted from 0.
    """
    writer = _Writer()
    writer.clause(clause)
    first, *others = writer.words
    sentence = " ".join([first[0].upper() + first[1:], *others, "."])
    terms = " AND ".join(term for _, term in sorted(writer.terms, key=lambda placed: placed[0]))
    return sentence, " ".join([*writer.definites, terms])
