"""Made-up but natural English for test documents: each page is one short report, filled from our own vocabulary.

Numbers are small or written out, so that nothing here can be mistaken for an answer that a test plants.
"""

from random import Random
from string import Formatter

WORDS = {
    kind: words.split(", ")
    for kind, words in {
        "city": "Lisbon, Oslo, Vienna, Prague, Dublin, Athens, Warsaw, Helsinki, Zurich, Madrid, Budapest, "
        "Copenhagen, Brussels, Rotterdam, Turin, Seville, Krakow, Hamburg, Lyon, Geneva, Porto, Tallinn, Riga, "
        "Vilnius, Zagreb, Antwerp, Bergen, Malmo, Bilbao, Naples",
        "town": "Ellenford, Brackwater, Oldmere, Thistley, Carrowby, Nettleham, Fairlock, Stonewick, Pellworth, "
        "Ashgrove, Lindale, Whitcombe, Marsden, Tarnbrook, Hollowell, Kettlesea, Wexby, Norrington, Dunholm, "
        "Saltreach",
        "building": "the boathouse, the town hall, the grain store, the old school, the ferry terminal, the theatre, "
        "the library, the fire station, the brickworks, the covered market, the observatory, the paper mill, "
        "the bus depot",
        "part": "roof, north wall, main staircase, heating boiler, drainage channel, loading ramp, goods lift, "
        "clock tower, wiring cabinet, cellar door, chimney, window frame, gutter, floor of the hall, water tank",
        "material": "oak, slate, copper, brick, cast iron, limestone, plywood, galvanised steel, plaster, pine",
        "flaw": "a hairline crack, traces of damp, loose screws, peeling paint, a slow leak, surface rust, "
        "worn hinges, a broken seal, rotten edges, a blocked vent, uneven joints, signs of mice",
        "remedy": "cleaned, sealed, repainted, replaced, tightened, propped up, dried out, covered with a tarpaulin, "
        "treated with oil, measured again, photographed, taken apart",
        "weather": "light rain, thick fog, a cold wind, bright sunshine, wet snow, a brief thunderstorm, "
        "heavy cloud, hard frost, a warm drizzle, clear skies",
        "time": "early in the morning, shortly before noon, in the late afternoon, after supper, on the second day, "
        "towards the end of the week, at first light, during the lunch break, on Tuesday, on Friday evening",
        "few": "two, three, four, five, six, seven, eight, nine, ten, eleven, twelve",
        "topic": "parking near the station, the summer festival, the state of the footpaths, the school kitchen, "
        "the price of firewood, noise from the sawmill, the lending of tools, street lighting, the allotments, "
        "the swimming lessons",
        "view": "too expensive, long overdue, worth a trial, badly explained, in need of a second opinion, "
        "quite sensible, hard to enforce, popular with the shopkeepers, a matter for next year, better left alone",
        "dish": "lentil soup, smoked trout, barley bread, pickled cabbage, roast chestnuts, plum cake, "
        "mushroom stew, sheep's cheese, fried potatoes, a plain omelette",
        "sight": "a market square, a row of painted houses, a ruined abbey, a small museum of clocks, "
        "a botanical garden, a covered bridge, a busy harbour, a street of bookshops, an empty fairground, "
        "a tiled railway station",
        "transport": "the slow train, a hired bicycle, the early ferry, a crowded bus, the night coach, "
        "the funicular, an old tram, a borrowed van",
        "crop": "barley, carrots, runner beans, rye, apples, leeks, potatoes, red clover, pumpkins, onions, hops",
        "animal": "swallows, hares, a family of hedgehogs, wood pigeons, bees, two goats, a stray dog, field mice, "
        "geese",
        "object": "a pewter jug, a bundle of letters, a hand-drawn map, a child's shoe, a set of weights, "
        "a cracked lens, a wooden printing block, a silver thimble, a ledger, an enamel sign, "
        "a fiddle without strings",
        "source": "a retired teacher, the parish, an anonymous donor, the widow of a sailor, a house clearance, "
        "the railway, a travelling circus, the former post office, a farm sale",
        "state": "in good order, badly faded, complete except for one corner, heavier than it looks, "
        "older than the label says, still in working condition, stained with ink, wrapped in newspaper",
        "machine": "lathe, conveyor, dough mixer, bottling line, band saw, loom, compressor, forklift, kiln, "
        "printing press",
        "sound": "a dull knock, a high whine, a rattle, no unusual noise, a faint hiss, a regular click",
        "feeling": "tired but content, impatient, pleased, a little worried, curious, relieved, unconvinced",
    }.items()
}
WORDS["number"] = [str(number) for number in range(13, 90)]
WORDS["person"] = [
    f"{first} {last}"
    for first in "Anna Martin Helena Jonas Priya Samuel Ingrid Marcus Leila Edwin Clara Theo Nadia Victor".split()
    for last in "Hartley Moreau Vance Okafor Lindgren Castell Pryce Tanaka Weller Brandt Osei Fontaine".split()
]
CITIES = WORDS["city"]

REPORTS = {
    ("Inspection of", "{building} in {town}"): (
        "The inspection of {subject} began {time} in {weather}.",
        "{person} and {person} opened the doors and had the plans at hand.",
        "The {part} shows {flaw}, which was already noted at the last visit.",
        "Most of the {part} is made of {material} and was found to be sound.",
        "Near the {part} we found {flaw} over a length of {few} metres.",
        "The {part} was {remedy} on the spot by {person}.",
        "A sample of {material} was taken and sent to the laboratory in {city}.",
        "The tenants say that the {part} has been noisy for {few} weeks.",
        "We recommend that the {part} be {remedy} before the winter.",
        "The {part} could not be reached, because {animal} had settled in front of it.",
        "Moisture was measured at {few} points, and {number} percent was the highest value.",
        "The estimate of the repair is to be written by {person}.",
        "In {subject} the emergency lamps worked, but the sign above the exit had fallen down.",
        "Compared with the report of the year before, the {part} has become slightly worse.",
        "{person} asked whether {material} could be used instead of {material}, and we advised against it.",
        "The keys were returned {time}, and the visit ended without an accident.",
    ),
    ("Travel notes from", "{city}"): (
        "We reached {subject} by {transport} and were met by {person}.",
        "The office there has moved to a street behind {sight}.",
        "From the window one sees {sight} and, on clear days, the hills.",
        "For supper we had {dish} and {dish}, which cost less in {subject} than in {city}.",
        "The journey from {city} took {few} hours, most of it in {weather}.",
        "{person} showed us {sight}, where we stayed until it closed.",
        "The hotel in {subject} had {number} rooms, a code at every door, and very little access to daylight.",
        "On the way back we took {transport}, since {transport} had been cancelled.",
        "We met the people of the {subject} branch {time} and talked about {topic}.",
        "Everyone recommended {dish}, and nobody could say where to find it.",
        "The guide, a cousin of {person}, knew a story about every corner.",
        "I was {feeling}, and {person} was {feeling}.",
        "The map was wrong about {sight}, but right about the distance.",
        "A colleague from {city} joined us {time} and brought {object}.",
        "On the platform we saw {animal}, to the delight of the children.",
        "Our luggage arrived {few} hours later than we did.",
    ),
    ("Minutes of the council of", "{town}"): (
        "The meeting was opened by {person}, and {few} members were absent.",
        "The first item on the agenda was {topic}.",
        "{person} called the proposal {view}.",
        "A letter from {person} about {topic} was read aloud.",
        "The council agreed by {few} votes to {few} to return to {topic} in the spring.",
        "It was reported that {building} of {subject} needs a new {part}.",
        "{person} offered to ask for prices in {city} and in {town}.",
        "Several residents find {topic} {view}.",
        "The treasurer explained the figures and was thanked for {few} years of patience.",
        "A working group on {topic} will be led by {person}.",
        "{person} regretted that the minutes of the last meeting had not been sent out in time.",
        "The request to hang {object} in {building} was granted.",
        "There was a short discussion on whether {topic} is {view} or {view}.",
        "Under other business, {person} mentioned {animal} in the park.",
        "The next meeting takes place {time} in {building}.",
        "Coffee and {dish} were provided by the women's choir of {subject}.",
    ),
    ("Garden diary of", "{town}"): (
        "Sowed {crop} and {crop} {time}, with the help of {person}.",
        "After {few} days of {weather} the soil is too heavy to dig.",
        "The {crop} came up well, while the {crop} suffered from {weather}.",
        "{person} brought compost from {town} and stayed for {dish}.",
        "We saw {animal} near the fence and left a gap for them.",
        "The water barrel has {flaw} and was {remedy}.",
        "Picked {number} baskets of {crop}, more than in any year so far.",
        "The neighbours consider our {crop} {view}.",
        "Put a cover of {material} over the young {crop}.",
        "A visitor from {city} wanted to know how we in {subject} store {crop}.",
        "The greenhouse door was {remedy} by {person} {time}.",
        "Under the old pear tree {person} found {object}.",
        "The path of {material} is {number} steps long and slippery in {weather}.",
        "Rested at noon, ate {dish}, and felt {feeling}.",
        "Next year the {crop} should go where the {crop} was.",
        "The children counted {animal} and drew them.",
    ),
    ("Museum register of", "{town}"): (
        "The item is {object}, given by {source}.",
        "It came from {source} and is {state}.",
        "{person} believes that it was made in {city}, perhaps by an apprentice.",
        "The case is of {material}, with a lining that has been {remedy}.",
        "One notices {flaw} along one side, visible only in strong light.",
        "It was shown in {building} of {subject} for {few} months and drew many visitors.",
        "A similar piece, {object}, belongs to the collection in {city}.",
        "The label was written by {person} and contains a spelling mistake.",
        "It is kept on shelf {number}, beside {object}.",
        "Insurance was discussed with {person}, who found it {view}.",
        "The conservator from {town} advises against {weather} and direct sun.",
        "On the back somebody has drawn {animal}.",
        "A loan to {city} was refused, since the item is {state}.",
        "The next entry concerns {object}, also from {source}.",
        "According to {person} the story of its discovery is {view}.",
        "Photographs were taken {time} and filed in {subject} under the name of the donor.",
    ),
    ("Workshop log of", "{town}"): (
        "The {machine} was started {time} and ran for {few} hours.",
        "{person} heard {sound} from the {machine} and stopped it.",
        "Behind the cover of the {machine} we discovered {flaw}.",
        "The part was {remedy}, after which the {machine} gave {sound}.",
        "A new belt for the {machine} has been ordered from {city}.",
        "The shift was short of {few} people, and {person} stepped in.",
        "We processed {number} boards of {material} without waste.",
        "The {machine} and the {machine} may not run at the same time.",
        "{person} repeated the safety talk and was {feeling} about the questions.",
        "Delivery of {material} was late because of {weather}.",
        "The fitter from {subject} needed {few} attempts to align the {machine}.",
        "During the break we shared {dish} and talked about {topic}.",
        "The floor around the {machine} was swept, oiled and {remedy}.",
        "Somebody had left {object} on the {machine}, where it does not belong.",
        "Output was {number} pieces, which {person} called {view}.",
        "The log was closed {time} by {person}.",
    ),
}

REMARKS = (
    "Nothing else of note happened before the evening.",
    "As so often, {person} had the better idea.",
    "In {town} the same question is still open.",
    "The cost was modest, and the result is {view}.",
    "It took {few} attempts, but nobody complained.",
    "Those who were there remember {weather} more than anything else.",
    "A copy of this page was sent to {person} in {city}.",
    "Opinions differ on whether that was {view}.",
    "We shall come back to this when {person} has returned from {city}.",
    "Since then, {number} people have asked about it.",
    "{person} took notes, from which this summary is drawn.",
    "That may sound odd, yet in {town} it is the custom.",
    "Whoever wants to know more should ask {person}, who was present from the beginning to the end.",
    "The office in {city} has been informed and will answer within {few} weeks.",
    "For the sake of completeness it should be said that {person} disagreed.",
    "Had it not been for {weather}, the work would have been finished sooner.",
    "There is a rule for such cases, but it is {view}.",
    "Two people from {town} watched with interest and asked for a copy of the plan.",
)


def report(random: Random, number: int) -> tuple[str, list[list[str]]]:
    """A heading and six paragraphs of sentences, some 330 to 420 words together."""
    kind, subject = list(REPORTS)[number % len(REPORTS)]
    opening, *middle, end = REPORTS[kind, subject]
    subject = _fill(random, subject)
    middle = random.sample(middle + random.sample(REMARKS, 14), len(middle) + 14)
    sentences = [_fill(random, sentence.replace("{subject}", subject)) for sentence in (opening, *middle, end)]
    sentences = [sentence[0].upper() + sentence[1:] for sentence in sentences]
    return f"{kind} {subject}", [sentences[start : start + 5] for start in range(0, len(sentences), 5)]


def _fill(random: Random, template: str) -> str:
    """The template with a word in every slot; a slot that comes twice gets two different words."""
    pieces = [(before, slot) for before, slot, _, _ in Formatter().parse(template)]
    slots = [slot for _, slot in pieces]
    words = {slot: iter(random.sample(WORDS[slot], slots.count(slot))) for slot in dict.fromkeys(slots) if slot}
    return "".join(before + (next(words[slot]) if slot else "") for before, slot in pieces)
