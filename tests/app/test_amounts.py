"""Amounts: what says how much, in several languages, and what only names, dates or numbers something."""

import pytest

from app.amounts import amounts, fits


def told(text: str) -> list[str]:
    return [text[slice(*span)] for span in amounts(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The mast is 41.5 metres high and has 212 steps.", ["41.5 metres", "212 steps"]),
        ("Der Mast ist 41,5 Meter hoch und hat 212 Stufen.", ["41,5 Meter", "212 Stufen"]),
        ("Die Laterne wiegt 1.250 kg und kostet 3,50 €.", ["1.250 kg", "3,50 €"]),
        ("Le pont mesure 1 200,5 mètres.", ["1 200,5 mètres"]),
        ("El faro tiene 12.400 visitantes y cuesta 3,50 euros.", ["12.400 visitantes", "3,50 euros"]),
        ("Высота маяка 41,5 метра.", ["41,5 метра"]),
        ("灯塔高41.5米，门票35元。", ["41.5米", "35元"]),
        ("灯台の高さは41.5メートルです。", ["41.5メートル"]),
        ("ارتفاع المنارة ٤١٫٥ متر", ["٤١٫٥ متر"]),
        ("Der Turm ist einhundert Meter hoch.", ["einhundert Meter"]),
        ("The fee is EUR 120,000, in winds of up to 10 m/s.", ["EUR 120,000", "10 m/s"]),
        ("It took two hours and twelve minutes.", ["two hours and twelve minutes"]),
        ("Die Wohnung hat 82,5 m² und vier Zimmer.", ["82,5 m²", "vier Zimmer"]),
        ("Skarv has 2031 inhabitants, and a road of 2000 metres.", ["2031 inhabitants", "2000 metres"]),
    ],
)
def test_what_says_how_much(text: str, expected: list[str]) -> None:
    assert told(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Proposal 1. Sales of old tools.",
        "Item 1A describes risks, see Note 5 and Table 3 on page 12.",
        "Notes 5, 6 and 7, Sections 4.2 and 4.3, Exhibit 99.1",
        "§ 12 and Fig. 3, No. 4 and #5",
        "siehe Abschnitt 4, Tabelle 7 und Seite 12",
        "l'article 3 et la page 12",
        "第3条",
        "Expenses (3) were lower than before [12].",
        "1. Sales\n2. Costs\n(3) Taxes",
        "1.2 Salary. The company pays it.",
        "Version 1.0.0 of the plan",
        "The 1st and the 22nd floor, le 1er mai",
        "Pump KX-20, hall B12 and unit P-200",
        "in fiscal 2031 and in 2032, since 1999.",
    ],
)
def test_what_only_names_or_numbers_something(text: str) -> None:
    assert told(text) == []


@pytest.mark.parametrize(
    ("question", "amount", "is_counted", "expected"),
    [
        ("How old is she?", "41 years", False, True),
        ("How old is the museum?", "48,300 visitors", False, False),
        ("Wie alt ist der Turm?", "41,5 Meter", False, False),
        ("How heavy is the pump?", "48 kg", False, True),
        ("How heavy is the pump?", "48", False, True),
        ("How tall is the mast?", "$12", False, False),
        ("How many visitors came?", "7%", False, False),
        ("How many visitors came?", "412 people", False, True),
        ("How many hours does it take?", "12 hours", True, True),
        ("How high is the fee?", "350 crowns", False, True),
    ],
)
def test_an_amount_is_in_a_unit_of_what_is_asked(question: str, amount: str, is_counted: bool, expected: bool) -> None:
    assert fits(question, amount, is_counted) is expected
