"""Definitions: what a term means is asked in many words, and told in as many forms."""

import pytest

from app.definitions import defined, definition, said_outright


@pytest.mark.parametrize(
    ("question", "term"),
    [
        ("What does Hammer mean?", "Hammer"),
        ("What does the term “Closing Date” mean in this agreement?", "Closing Date"),
        ("What is the meaning of 'Fee'?", "Fee"),
        ("What is meant by know-how?", "know-how"),
        ("Define berth", "berth"),
        ("How is Fee defined?", "Fee"),
        ("What does HRV stand for?", "HRV"),
        ("What is an anvil?", "anvil"),
        ("Was bedeutet Grundpreis?", "Grundpreis"),
        ("Que signifie « Bailleur » ?", "Bailleur"),
        ("¿Qué significa Incidencia?", "Incidencia"),
        ("“维修费”是什么意思？", "维修费"),
        ("ما معنى السكن؟", "السكن"),
        ("What is the rent?", ""),
        ("What does the hammer cost?", ""),
        ("Who is the landlord?", ""),
    ],
)
def test_the_term_that_is_asked_about(question: str, term: str) -> None:
    assert defined(question) == term


@pytest.mark.parametrize(
    ("term", "text", "meaning"),
    [
        ("Hammer", "“Hammer” means the steam hammer at the yard.", "the steam hammer at the yard"),
        ("hammer", "Hammer: a heavy tool for nails.", "a heavy tool for nails"),
        ("Hammer", "A hammer, a heavy tool, lay there.", "a heavy tool, lay there"),
        ("berth", "Berth – a place for a ship.", "a place for a ship"),
        ("anvil", "The anvil is the block on which he works.", "the block on which he works"),
        ("HRV", "An HRV (heat recovery valve) is a part.", "heat recovery valve"),
        ("Tenant", "and Holm Bakery AS (the “Tenant”).", "and Holm Bakery AS"),
        ("Détartrage", "« Détartrage » désigne l’élimination du calcaire.", "l’élimination du calcaire"),
        ("Grundpreis", "„Grundpreis“ bezeichnet den festen Betrag.", "den festen Betrag"),
        ("维修费", "“维修费”是指房屋维修所需的费用。", "房屋维修所需的费用"),
        ("hammer", "Never leave the hammer on the floor.", None),
        ("ham", "A hammer is a tool.", None),
    ],
)
def test_where_a_text_says_it(term: str, text: str, meaning: str | None) -> None:
    found = definition(term).search(text)
    assert (found[found.lastgroup].strip() if found and found.lastgroup else None) == meaning


def test_who_somebody_is_stands_in_brackets() -> None:
    says = said_outright("Who is the landlord?")
    assert says is not None
    assert says.search('between Ada Moe (the "Landlord") and Vik') and not says.search("The landlord (of 1999) pays.")
    assert said_outright("Who is the mayor of Holm?") is None
