"""Facts to plant in a text: numbers to copy, and harder ones, for which a verbatim memory is not enough."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

NUMBERS = 4
"""Plain numbers in each document; of the harder kinds there are two each, and four questions about a list."""
LIST_ROWS = 40
_PLACES = "Amsterdam Berlin Cairo Dublin Geneva Havana Jakarta Lisbon Madrid Nairobi Oslo Prague Quito Rome".split()
_PEOPLE = "Albers Brandt Castro Demir Eklund Fischer Galli Haddad Ivanov Jensen Kovacs Laurent Moreau Nowak".split()
_THINGS = "lantern compass violin kettle ladder anchor mirror basket hammer saddle candle marble".split()
_SYLLABLES = "ba ce di fo gu ka le mi no pu ra se ti vo zu".split()


@dataclass(frozen=True)
class Plant:
    """Pieces that stand in the text, and a question about them; `lead` are the first words of the answer."""

    kind: str
    pieces: tuple[str, ...]
    question: str
    lead: str
    answer: str


def plants(rng: random.Random) -> list[Plant]:
    """The facts of one document, about different places, people and things."""
    made = [*_numbers(rng), *_hops(rng), *_largest(rng), *_paraphrases(rng), *_rows(rng)]
    return made


def _numbers(rng: random.Random) -> Iterator[Plant]:
    """Exact copy: a number that stands in the text once."""
    for place in rng.sample(_PLACES, NUMBERS):
        number = str(rng.randint(10_000, 99_999))
        yield Plant(
            "retrieval",
            (f"The special magic number for {place} is {number}. Remember it.",),
            f"What is the special magic number for {place}?",
            f"The special magic number for {place} is ",
            number,
        )


def _hops(rng: random.Random) -> Iterator[Plant]:
    """Two facts far apart: the first names who holds the thing, the second where that person keeps things."""
    people, things = rng.sample(_PEOPLE, 2), rng.sample(_THINGS[:6], 2)
    for person, thing in zip(people, things, strict=True):
        room = str(rng.randint(100, 999))
        yield Plant(
            "multi_hop",
            (f"The silver {thing} was given to {person}.", f"{person} keeps everything in room {room}."),
            f"In which room is the silver {thing} kept?",
            f"The silver {thing} is kept in room ",
            room,
        )


def _largest(rng: random.Random) -> Iterator[Plant]:
    """Three amounts in three places: which is the largest?"""
    for thing in rng.sample(_THINGS[6:], 2):
        people = rng.sample(_PEOPLE, 3)
        amounts = rng.sample(range(100, 1000), 3)
        yield Plant(
            "aggregation",
            tuple(
                f"{person} paid {amount} crowns for a {thing}." for person, amount in zip(people, amounts, strict=True)
            ),
            f"Who paid most for a {thing}?",
            f"The most for a {thing} was paid by ",
            people[amounts.index(max(amounts))],
        )


def _paraphrases(rng: random.Random) -> Iterator[Plant]:
    """Asked for in words that do not stand in the text."""
    year, town = str(rng.randint(1600, 1990)), rng.choice(_PLACES)
    yield Plant(
        "paraphrase",
        (f"The old mill by the weir was put up in {year}.",),
        "How long ago was the ancient building near the river constructed?",
        "It was built in the year ",
        year,
    )
    yield Plant(
        "paraphrase",
        (f"After the harvest the whole orchestra moved to {town}.",),
        "Where did the musicians relocate in autumn?",
        "They went to ",
        town,
    )


def _rows(rng: random.Random) -> Iterator[Plant]:
    """A list of random keys and values, of which some are asked."""
    rows = {"".join(rng.choices(_SYLLABLES, k=3)): str(rng.randint(1000, 9999)) for _ in range(LIST_ROWS)}
    table = "\n".join(f"{key}: {value}" for key, value in rows.items())
    for index, key in enumerate(rng.sample(sorted(rows), 4)):
        yield Plant(
            "key_value",
            (f"Register of codes:\n{table}",) if not index else (),
            f"Which code stands beside {key} in the register of codes?",
            f"{key}: ",
            rows[key],
        )
