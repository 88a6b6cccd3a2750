"""The answer span: the amount, date, name, place or code in a passage that a question asks for."""

import pytest

from app.answer_span import answer_span
from app.indexed_page import indexed_page
from app.passages import Passage
from app.query_terms import seek

INVOICE = (
    "Access code of the Bergen office: 7731\nInvoice number: KX-20917\nDate of the sale: 12 March 2021\n"
    "Captain of the ferry: Ingrid Vale\nWeight of the anchor: 415 kg\nColour of the hull: grey"
)
REVENUES = "Revenues of the yards\n2019 2018 2017\nRents $ 39,117 $ 36,397 $ 34,350\nFees 21,643 20,441 19,038"
FIGURES = (
    "The mill in figures\nFlour ground  2,310 tonnes\nShare sold abroad  14.5 per cent\nSacks mended  87\n"
    "Hardest frost, 9 January  31.5 °C\nVisitors  1,204\nIncome  88,400 crowns"
)
CHINESE = "卑尔根办公室的门禁密码是七七三一，每年春天更换。奥斯陆起重机的保修期为九年。"


def answered(question: str, text: str) -> str | None:
    page = indexed_page(1, text)
    terms = seek(question, [page])
    passage = page.passages[int(terms.shares([page]).argmax())]
    span = answer_span(question, terms.weights, passage)
    return text[slice(*span)] if span else None


@pytest.mark.parametrize(
    ("question", "text", "answer"),
    [
        ("What were the sales of Vik?", "The sales of Vik rose by $12 in spring, to $412 million.", "$412 million"),
        ("How long is the pier?", "By May 31, 2031 the pier in section 7 was 300 metres long.", "300 metres"),
        ("Who is the chief officer?", "Chief Officer of the port since March is Ida Moe.", "Ida Moe"),
        ("What were the berth fees?", "Accounts\n2031 2030\nBerth fees (1) 120 140", "120"),
        ("What is the invoice number?", INVOICE, "KX-20917"),
        ("What is the access code of the Bergen office?", INVOICE, "7731"),
        ("What is the date of the sale?", INVOICE, "12 March 2021"),
        ("Who is the captain?", INVOICE, "Ingrid Vale"),
        ("What is the weight of the anchor?", INVOICE, "415 kg"),
        ("Who is the keeper?", "Keeper:Vale,Ingrid;yard:Hamar,berth:17.", "Vale,Ingrid"),
        ("How much was the lighthouse sold for?", "The lighthouse was sold for 930 crowns in May.", "930 crowns"),
        ("How long does the warranty last?", "Q: How long does the warranty last?\nA: Seven years.", "Seven years"),
        ("Who designed the bridge at Holm?", "The bridge at Holm was designed by Ottilie Brand.", "Ottilie Brand"),
        ("When was the light switched on?", "The light was switched on in May, on 14 March 1957.", "14 March 1957"),
        ("Where does Muller live?", "The pilot Jürgen Müller lives in Ålesund.", "Ålesund"),
        (
            "How long was the main light out?",
            "The main light was out for four hours and twelve minutes that night.",
            "four hours and twelve minutes",
        ),
        ("How tall is the tower?", "The tower was built in 1874 and is 41.5 metres tall.", "41.5 metres"),
        ("What were the rents in 2018?", REVENUES, "$ 36,397"),
        ("What were the fees in FY2017?", REVENUES, "19,038"),
        (
            "What did Bergen earn in 2019?",
            "Bergen earned 4.2 million crowns in 2018, 4.9 million crowns in 2019 and 5.6 million crowns in 2020.",
            "4.9 million crowns",
        ),
        ("卑尔根办公室的门禁密码是什么？", CHINESE, "七七三一"),
        ("奥斯陆起重机的保修期多长？", CHINESE, "九年"),
        ("When is the archive open?", "The archive is open from nine to four, not on Mondays.", "from nine to four"),
        ("When does the ferry leave?", "The ferry leaves at 7:30, and again at noon.", "at 7:30"),
        ("When did the barge leave Holm?", "06:40 The barge has left Holm with sand.", "06:40"),
        ("When did the barge leave Holm?", "The barge had left Holm at 6:40 p.m. with sand.", "6:40 p.m"),
        ("How much flour was ground?", FIGURES, "2,310 tonnes"),
        ("How many sacks were mended?", FIGURES, "87"),
        ("When was the hardest frost?", FIGURES, "9 January"),
        ("What was the hardest frost?", FIGURES, "31.5 °C"),
        ("How many visitors came?", FIGURES, "1,204"),
        ("What was the income?", FIGURES, "88,400 crowns"),
        (
            "How much energy was sold?",
            "Sold at 118 crowns were 13,426 megawatt-hours of energy.",
            "13,426 megawatt-hours",
        ),
        ("How much power does the pump have?", "The pump of 1957 has 22 kW of power.", "22 kW"),
        ("How much rain fell?", "Rain fell on 187 days and came to 936 millimetres.", "936 millimetres"),
        ("How much oil was lost?", "For 9 hours oil was lost, 400 litres in all.", "400 litres"),
        (
            "How much time did it take?",
            "For 40 crowns it took much time: two hours and ten minutes.",
            "two hours and ten minutes",
        ),
        ("How many children came?", "For 6 crowns children came on 3 days, 1,102 children in all.", "1,102 children"),
        ("How much did the repair cost?", "The repair cost 38 megawatt-hours.", None),
        ("When are the bins of Holm emptied?", "The bins of Holm are emptied every Thursday.", "every Thursday"),
        ("When is the rent due?", "The rent is due on the first of June.", "first of June"),
        ("What is the serial number of the pump?", "The serial number of the pump is ＡＢ－４７１.", "ＡＢ－４７１"),
        ("How much salt fish was sold?", "Of salt fish 77 tonnes were sold.", "77 tonnes"),
        (
            "What is the weight of the Skua?",
            "Ship Length (m) Weight (t) Built\nSkua 18.9 41 2004\nTern 9.7 8 1978",
            "41",
        ),
        ("Who is the cook, and since when?", "The cook of the inn is Ada Lind.", "Ada Lind"),
        ("How old is the one who runs it?", "It is run by Odd Lien, who is 54 years old.", "54 years"),
        ("How old is he? (Who runs the station)", "The station is run by Odd Lien, 54 years old.", "54 years"),
        ("How much were sales?", "Proposal 1 says that sales, see Note 5, were 8,400 crowns.", "8,400 crowns"),
        ("How much were sales?", "Proposal 1 is about sales.", None),
        ("How many came in 2031?", "In 2031 came 48,300 visitors, 7% more than before.", "48,300 visitors"),
        ("What percentage came by ferry?", "Of these 62% came by ferry, 25% by car.", "62%"),
        ("Wie hoch ist der Turm?", "Kapitel 1.0.0: Der Turm ist 41,5 Meter hoch.", "41,5 Meter"),
        ("Wie viel kostet der Eintritt?", "Der Eintritt für 2 Stunden kostet 3,50 Euro.", "3,50 Euro"),
        ("Wer hat den Turm entworfen?", "Der Turm wurde von Anna Berg entworfen.", "Anna Berg"),
        ("Wann wurde der Vertrag geschlossen?", "Der Vertrag wurde am 3. März 2030 geschlossen.", "3. März 2030"),
        ("Was kostet der Stuhl?", "Der Stuhl wiegt 3 kg und kostet 24,90 €.", "24,90 €"),
        ("Combien de marches a la tour ?", "La tour a 212 marches et 3 portes.", "212 marches"),
        ("¿Cuándo fue construido el faro?", "El faro fue construido el 4 de marzo de 1898.", "4 de marzo de 1898"),
        ("灯塔有多高？", "灯塔高41.5米，建于1898年。", "41.5米"),
        ("كم ارتفاع المنارة؟", "ارتفاع المنارة ٤١٫٥ متر.", "٤١٫٥ متر"),
        ("Какова высота маяка?", "Высота маяка 41,5 метра.", "41,5 метра"),
        ("Hoe hoog is de toren?", "De toren is 41,5 meter hoog.", "41,5 meter"),
        ("Who is the landlord?", 'The parties are Ada Moe (the "Landlord") and Vik AS (the "Tenant").', "Ada Moe"),
        ("What does Hammer mean?", "“Hammer” means the steam hammer at Holm.", "the steam hammer at Holm"),
        ("When will the parcel be sent?", "The parcel will be sent on Monday.", "on Monday"),
        ("Why was the tunnel closed?", "The tunnel was closed because of rare bats.", None),
        ("Who keeps the tower?", "Nobody knows who keeps the tower.", None),
    ],
)
def test_what_is_asked_for_is_found(question: str, text: str, answer: str | None) -> None:
    assert answered(question, text) == answer


@pytest.mark.parametrize(
    ("text", "above", "question", "answer"),
    [
        (
            "New crane on the pier 15 March 118,000",
            "Work Begins Cost in crowns",
            "What will the new crane cost?",
            "118,000",
        ),
        (
            "Survey of the sluice 3 May 9,400",
            "Work Begins Cost",
            "How much does the survey of the sluice cost?",
            "9,400",
        ),
        (
            "September 301 288 325 290",
            "Month Anvil Bellows Hammer Tongs",
            "How much did Hammer make in September?",
            "325",
        ),
        ("Alta 12 30 7", "Town Boats Nets Sheds", "How many sheds has Alta?", "7"),
        ("Tolls 412 388 6%", "2031 2030 2031", "What were the tolls in 2031?", "412"),
        ("Tolls 412 388 6%", "2031 2030 2031", "What was the change of the tolls in 2031?", "6%"),
    ],
)
def test_a_cell_is_no_date_and_stands_below_the_head_that_was_asked_for(
    text: str, above: str, question: str, answer: str
) -> None:
    passage = Passage(1, 0, len(text), text, above, is_row=True)
    assert text[slice(*answer_span(question, {}, passage))] == answer


def test_a_sentence_with_a_colon_is_no_label() -> None:
    text = "Walter Prynne was the last keeper in the service who had tended a flame: the lamp of the red sector."
    weights = {"last": 0.4, "keeper": 0.3, "flam": 0.3}
    assert (
        text[slice(*answer_span("Who was the last keeper?", weights, Passage(1, 0, len(text), text)))]
        == "Walter Prynne"
    )
