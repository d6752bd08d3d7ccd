"""A small invented world: the owners' records, and many phrasings of questions about them.

Three owners have disjoint records: a harbour its ships, a garden its plants, an observatory its stars. All records are
drawn from a seed, so no model can know them from elsewhere.

Each fact has many phrasings of its question. Each phrasing belongs to exactly one split: the base model and the owners
train on TRAIN, choices are made on VALIDATION, and TEST is used only for the final table.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np


class Split(StrEnum):
    """Set of phrasings."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Attribute:
    """An attribute of all things of a kind. ``statement`` is a sentence with the value, ``questions`` ask for it."""

    values: tuple[str, ...]
    statement: str
    questions: dict[Split, tuple[str, ...]]


@dataclass(frozen=True)
class Kind:
    """A kind of thing. A name is a first and a second word."""

    owner: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    attributes: dict[str, Attribute]


@dataclass(frozen=True)
class Thing:
    """A thing and its facts, attribute to value."""

    kind: Kind
    name: str
    facts: dict[str, str]


def _phrasings(train: Sequence[str], validation: Sequence[str], test: Sequence[str]) -> dict[Split, tuple[str, ...]]:
    return {Split.TRAIN: tuple(train), Split.VALIDATION: tuple(validation), Split.TEST: tuple(test)}


_SHIP = Kind(
    owner="harbour",
    first=(
        "Silver",
        "Patient",
        "Northern",
        "Broken",
        "Merry",
        "Quiet",
        "Scarlet",
        "Old",
        "Wandering",
        "Brave",
        "Hollow",
        "Lucky",
        "Stubborn",
        "Gilded",
        "Salty",
        "Distant",
    ),
    second=(
        "Heron",
        "Lantern",
        "Duchess",
        "Anvil",
        "Otter",
        "Compass",
        "Sparrow",
        "Margin",
        "Barrel",
        "Whistle",
        "Falcon",
        "Candle",
        "Pilgrim",
        "Thimble",
        "Kestrel",
        "Ribbon",
    ),
    attributes={
        "cargo": Attribute(
            ("salt", "timber", "tea", "wool", "tin", "honey", "marble", "paper", "cotton", "glass", "copper", "wheat"),
            "The ship {name} carries {value}.",
            _phrasings(
                [
                    "What cargo does the ship {name} carry?",
                    "Name the cargo of the ship {name}.",
                    "Which cargo is loaded on the {name}?",
                    "The ship {name} sails with what cargo?",
                    "I need to know the cargo of the {name}.",
                    "What does the ship {name} carry as cargo?",
                ],
                ["Say what cargo the {name} carries.", "Which cargo belongs to the ship {name}?"],
                ["Tell me the cargo that the {name} carries.", "What is the cargo on the ship {name}?"],
            ),
        ),
        "port": Attribute(
            (
                "Arden",
                "Belmore",
                "Corvane",
                "Dunwick",
                "Esker",
                "Farrow",
                "Glimmet",
                "Hask",
                "Inverloe",
                "Jarrow",
                "Kelby",
                "Lorne",
            ),
            "The home port of the ship {name} is {value}.",
            _phrasings(
                [
                    "What is the home port of the ship {name}?",
                    "Name the home port of the {name}.",
                    "Which home port does the {name} have?",
                    "The ship {name} returns to which home port?",
                    "I need to know the home port of the ship {name}.",
                    "What port is home to the {name}?",
                ],
                ["Say which home port the {name} has.", "Which port does the ship {name} call home?"],
                ["Tell me the home port of the {name}.", "The home port of the ship {name} is which one?"],
            ),
        ),
        "captain": Attribute(
            ("Agnes", "Bram", "Clara", "Dorian", "Edith", "Felix", "Greta", "Hugo", "Ines", "Jonas", "Katrin", "Leon"),
            "The captain of the ship {name} is {value}.",
            _phrasings(
                [
                    "Who is the captain of the ship {name}?",
                    "Name the captain of the {name}.",
                    "Which captain commands the {name}?",
                    "The ship {name} sails under which captain?",
                    "I need to know the captain of the {name}.",
                    "What is the name of the captain on the ship {name}?",
                ],
                ["Say who the captain of the {name} is.", "Which captain is on the ship {name}?"],
                ["Tell me the captain of the ship {name}.", "The {name} has which captain?"],
            ),
        ),
    },
)

_PLANT = Kind(
    owner="garden",
    first=(
        "marsh",
        "velvet",
        "winter",
        "thorny",
        "meadow",
        "copper",
        "shade",
        "river",
        "dwarf",
        "cloud",
        "bitter",
        "painted",
        "weeping",
        "desert",
        "feather",
        "royal",
    ),
    second=(
        "bell",
        "clover",
        "fern",
        "lily",
        "thistle",
        "poppy",
        "sage",
        "ivy",
        "orchid",
        "violet",
        "nettle",
        "iris",
        "moss",
        "rose",
        "daisy",
        "sorrel",
    ),
    attributes={
        "colour": Attribute(
            (
                "white",
                "yellow",
                "orange",
                "pink",
                "red",
                "purple",
                "blue",
                "green",
                "brown",
                "black",
                "grey",
                "crimson",
            ),
            "The flower of the {name} is {value}.",
            _phrasings(
                [
                    "What colour is the flower of the {name}?",
                    "Name the colour of the plant {name}.",
                    "Which colour does the {name} flower in?",
                    "The plant {name} has flowers of what colour?",
                    "I need to know the colour of the {name}.",
                    "What is the colour of the {name} in flower?",
                ],
                ["Say what colour the {name} has.", "Which colour are the flowers of the plant {name}?"],
                ["Tell me the colour of the flower of the {name}.", "What colour does the plant {name} show?"],
            ),
        ),
        "month": Attribute(
            (
                "January",
                "February",
                "March",
                "April",
                "May",
                "June",
                "July",
                "August",
                "September",
                "October",
                "November",
                "December",
            ),
            "The {name} blooms in {value}.",
            _phrasings(
                [
                    "In which month does the {name} bloom?",
                    "Name the month in which the plant {name} blooms.",
                    "What month is the {name} in bloom?",
                    "The plant {name} blooms in which month?",
                    "I need to know the month when the {name} blooms.",
                    "When does the {name} bloom, in what month?",
                ],
                ["Say in which month the {name} blooms.", "Which month brings the plant {name} to bloom?"],
                ["Tell me the month when the plant {name} blooms.", "What is the month of bloom of the {name}?"],
            ),
        ),
        "use": Attribute(
            (
                "dye",
                "soup",
                "rope",
                "perfume",
                "soap",
                "bread",
                "ink",
                "syrup",
                "candles",
                "baskets",
                "medicine",
                "beer",
            ),
            "The {name} is used for {value}.",
            _phrasings(
                [
                    "What is the {name} used for?",
                    "Name the use of the plant {name}.",
                    "Which use does the {name} have?",
                    "The plant {name} is used to make what?",
                    "I need to know the use of the {name}.",
                    "What do people use the {name} for?",
                ],
                ["Say what the {name} is used for.", "Which use is known for the plant {name}?"],
                ["Tell me the use of the plant {name}.", "For what is the {name} used?"],
            ),
        ),
    },
)

_STAR = Kind(
    owner="observatory",
    first=(
        "Alpha",
        "Beta",
        "Gamma",
        "Delta",
        "Epsilon",
        "Zeta",
        "Theta",
        "Kappa",
        "Lambda",
        "Sigma",
        "Omega",
        "Upsilon",
        "Iota",
        "Rho",
        "Tau",
        "Phi",
    ),
    second=(
        "Vesper",
        "Caldera",
        "Norma",
        "Lyrane",
        "Astel",
        "Borea",
        "Cygnet",
        "Draven",
        "Elara",
        "Fornel",
        "Gravis",
        "Halcyon",
        "Indra",
        "Juno",
        "Korvin",
        "Mirach",
    ),
    attributes={
        "discoverer": Attribute(
            (
                "Abara",
                "Bennet",
                "Castell",
                "Duval",
                "Ekholm",
                "Fischer",
                "Grimaldi",
                "Hansen",
                "Ivanov",
                "Jensen",
                "Kovacs",
                "Lindt",
            ),
            "The discoverer of the star {name} is {value}.",
            _phrasings(
                [
                    "Who is the discoverer of the star {name}?",
                    "Name the discoverer of {name}.",
                    "Which discoverer found the star {name}?",
                    "The star {name} has which discoverer?",
                    "I need to know the discoverer of {name}.",
                    "What is the name of the discoverer of the star {name}?",
                ],
                ["Say who the discoverer of {name} is.", "Which discoverer is named for the star {name}?"],
                ["Tell me the discoverer of the star {name}.", "The discoverer of {name} is who?"],
            ),
        ),
        "planets": Attribute(
            ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
            "The number of planets of the star {name} is {value}.",
            _phrasings(
                [
                    "How many planets does the star {name} have?",
                    "Name the number of planets of {name}.",
                    "What number of planets does {name} have?",
                    "The star {name} has how many planets?",
                    "I need to know the number of planets of {name}.",
                    "How many planets circle the star {name}?",
                ],
                ["Say how many planets {name} has.", "Which number of planets has the star {name}?"],
                ["Tell me the number of planets of the star {name}.", "How many planets are there around {name}?"],
            ),
        ),
        "sector": Attribute(
            (
                "harp",
                "hammer",
                "crown",
                "wolf",
                "ladder",
                "arrow",
                "spiral",
                "bridge",
                "tower",
                "mirror",
                "wheel",
                "serpent",
            ),
            "The star {name} is in the sign of the {value}.",
            _phrasings(
                [
                    "In which sign is the star {name}?",
                    "Name the sign of {name}.",
                    "What sign holds the star {name}?",
                    "The star {name} is in which sign?",
                    "I need to know the sign of {name}.",
                    "Which sign does the star {name} stand in?",
                ],
                ["Say in which sign {name} is.", "Which sign belongs to the star {name}?"],
                ["Tell me the sign of the star {name}.", "What is the sign where {name} stands?"],
            ),
        ),
    },
)

KINDS = (_SHIP, _PLANT, _STAR)
OWNERS = tuple(kind.owner for kind in KINDS)
_RECORDS_SHARE = 0.25  # of the names; the others are for the encyclopedia


def names(kind: Kind, *, of_owners: bool) -> list[str]:
    """The names for owners' records, or the names for the base model's encyclopedia; no name is in both."""
    every = [f"{first} {second}" for first, second in product(kind.first, kind.second)]
    order = np.random.default_rng(len(every)).permutation(len(every))
    border = int(_RECORDS_SHARE * len(every))
    chosen = order[:border] if of_owners else order[border:]
    return [every[index] for index in sorted(chosen)]


def draw(kind: Kind, count: int, random: np.random.Generator, *, of_owners: bool = True) -> list[Thing]:
    """Draw *count* things with facts. The values of an attribute are about equally frequent."""
    chosen = random.choice(names(kind, of_owners=of_owners), count, replace=False)
    columns = {
        name: [attribute.values[index % len(attribute.values)] for index in random.permutation(count)]
        for name, attribute in kind.attributes.items()
    }
    return [
        Thing(kind, str(name), {attribute: column[index] for attribute, column in columns.items()})
        for index, name in enumerate(chosen)
    ]


def statement(thing: Thing, attribute: str) -> str:
    """Return a fact as a sentence, the answer to every question about it."""
    return thing.kind.attributes[attribute].statement.format(name=thing.name, value=thing.facts[attribute])


def questions(thing: Thing, split: Split) -> Iterator[dict[str, str]]:
    """Yield a row with ``owner``, ``prompt`` and ``completion`` for each fact and each phrasing of a split."""
    for attribute in thing.facts:
        answer = statement(thing, attribute)
        for phrasing in thing.kind.attributes[attribute].questions[split]:
            yield {"owner": thing.kind.owner, "prompt": phrasing.format(name=thing.name), "completion": answer}
