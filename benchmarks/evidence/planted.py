"""Reports of any length with facts planted in them: what a reader must find, and what it must not invent."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Literal

from fpdf import FPDF

from benchmarks.evidence.prose import CITIES, report

Shape = Literal["one_shape", "varied"]
NUM_FACTS = 20


@dataclass(frozen=True)
class PlantedFact:
    """A sentence on one page, and the question it answers. `answer` is part of `sentence`; `page` is 1-based."""

    question: str
    answer: str
    sentence: str
    page: int


def planted_report(path: Path, pages: int = 60, facts: Shape = "one_shape", seed: int = 0) -> list[PlantedFact]:
    """Write a PDF of made-up reports with twenty facts spread from the first page to the last; the facts by page.

    The same arguments write the same bytes. No answer occurs anywhere but in its own sentence.
    """
    random = Random(seed)
    planted = _facts(facts, random)
    random.shuffle(planted)
    numbers = [1 + index * (pages - 1) // (NUM_FACTS - 1) for index in range(NUM_FACTS)]
    found = [PlantedFact(*fact, page) for fact, page in zip(planted, numbers, strict=True)]

    pdf = FPDF()
    pdf.set_title("Collected reports")
    pdf.set_creation_date(datetime(2026, 1, 1, tzinfo=UTC))
    for number in range(1, pages + 1):
        heading, paragraphs = report(random, number)
        for fact in found:
            if fact.page == number:
                paragraph = random.choice(paragraphs)
                paragraph.insert(random.randint(0, len(paragraph)), fact.sentence)
        pdf.add_page()
        pdf.set_font("Helvetica", style="B", size=14)
        pdf.multi_cell(0, 10, heading, align="L", new_x="LMARGIN", new_y="NEXT")
        pdf.set_font("Helvetica", size=11)
        for paragraph in paragraphs:
            pdf.multi_cell(0, 5.5, " ".join(paragraph), align="L", new_x="LMARGIN", new_y="NEXT")
            pdf.ln(3)
    pdf.output(str(path))
    return found


def planted_absent(facts: Shape) -> list[str]:
    """Ten questions worded like those of `planted_report`, about things that no page answers."""
    if facts == "one_shape":
        return [f"What is the access code of the {city} office?" for city in CITIES[NUM_FACTS:]]
    return list(ABSENT)


def _facts(shape: Shape, random: Random) -> list[tuple[str, str, str]]:
    """Question, answer and sentence of each fact."""
    if shape == "varied":
        return [(question, answer, sentence.format(answer)) for question, answer, sentence in VARIED]
    codes = map(str, random.sample(range(10_000, 100_000), NUM_FACTS))
    return [
        (f"What is the access code of the {city} office?", code, f"The access code of the {city} office is {code}.")
        for city, code in zip(CITIES[:NUM_FACTS], codes, strict=True)
    ]


VARIED = (
    (
        "Who designed the pedestrian bridge at Ravensholm?",
        "Ottilie Brandvold",
        "The pedestrian bridge at Ravensholm was designed by {}.",
    ),
    (
        "When was the Sandmere lighthouse switched to electric light?",
        "14 March 1957",
        "The Sandmere lighthouse was switched to electric light on {}.",
    ),
    (
        "How much did the new organ for St Aldric's chapel cost?",
        "312,400 crowns",
        "The new organ for St Aldric's chapel cost {}, including delivery.",
    ),
    (
        "Where is the spare key of the seed vault kept?",
        "the blue cabinet behind the weighing room",
        "The spare key of the seed vault is kept in {}.",
    ),
    (
        "Which model of pump serves the lower reservoir?",
        "Tarvex QP-880",
        "The lower reservoir is served by a pump of the model {}.",
    ),
    (
        "How long did the restoration of the Halden tapestry take?",
        "nineteen months",
        "The restoration of the Halden tapestry took {}.",
    ),
    (
        "What share of the vineyard did the July hailstorm destroy?",
        "six tenths",
        "The July hailstorm destroyed {} of the vineyard.",
    ),
    (
        "At what temperature must the vaccine samples be stored?",
        "minus 68 degrees",
        "The vaccine samples must be stored at {}, day and night.",
    ),
    ("How heavy is the bronze bell of Corvane?", "4,150 kilograms", "The bronze bell of Corvane weighs {}."),
    (
        "Which telephone extension reaches the night porter?",
        "7306",
        "The night porter is reached under telephone extension {}.",
    ),
    (
        "Who has chaired the water board since the spring elections?",
        "Ignatius Quell",
        "Since the spring elections the water board has been chaired by {}.",
    ),
    (
        "What is the speed limit on the quarry railway?",
        "23 kilometres an hour",
        "On the quarry railway the speed limit is {}.",
    ),
    ("How many beehives stand in the hospital orchard?", "146", "There are {} beehives in the hospital orchard."),
    (
        "In what colour were the shutters of the customs house painted?",
        "oxblood red",
        "The shutters of the customs house were painted in {}.",
    ),
    ("What is the ferry to Little Marrow called?", "Patient Heron", "The ferry to Little Marrow is called the {}."),
    ("In which year was the Dunmarrow glassworks founded?", "1783", "The Dunmarrow glassworks was founded in {}."),
    (
        "By when must applications for the garden plots be handed in?",
        "noon on 9 October",
        "Applications for the garden plots must be handed in by {}.",
    ),
    (
        "Why was the tunnel under Fennick Hill closed?",
        "a colony of rare bats",
        "The tunnel under Fennick Hill was closed because of {}.",
    ),
    (
        "Which wood was used for the new mill wheel?",
        "seasoned tamarack",
        "For the new mill wheel the carpenters used {}.",
    ),
    ("How tall is the radio mast on Skerry Point?", "214 metres", "The radio mast on Skerry Point is {} tall."),
)

ABSENT = (
    "Who designed the clock tower of the covered market?",
    "When was the observatory connected to the telephone?",
    "How much did the new roof of the theatre cost?",
    "Where is the master key of the paper mill kept?",
    "Which model of boiler heats the old school?",
    "How long did the construction of the bus depot take?",
    "How heavy is the pewter jug in the museum?",
    "What is the speed limit in front of the fire station?",
    "What is the bakery beside the ferry terminal called?",
    "In which year was the brickworks founded?",
)
