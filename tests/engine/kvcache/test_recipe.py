"""Recipes: their parts in words, back and forth, and what does not go together."""

import pytest

from engine.core.errors import RecipeUnknown
from engine.kvcache.recipe import NAMED, Precision, Recipe, Selection, Sharing, parse

TEXTS = (
    "k4v4",
    "k3v2h",
    "k4v4hs",
    "k16v4s+near4,32",
    "keep50",
    "keep30:norm+k8v8",
    "A35",
    "B20+k4v4+near4,32",
    "linear35r2+k4v3",
    "A35+keep40+k4v3",
)


@pytest.mark.parametrize("text", (*TEXTS, "exact"))
def test_parts_read_the_same_back_and_forth(text: str) -> None:
    assert str(parse(text)) == text
    assert parse(str(parse(text))) == parse(text)


def test_names_stand_for_parts() -> None:
    assert [*NAMED] == ["exact", "light", "faithful", "balanced", "compact", "archive"]
    assert parse("exact") == Recipe() and parse("exact").exact
    for name in [*NAMED][1:]:
        assert parse(name) == parse(NAMED[name]) and not parse(name).exact


def test_every_part_means_what_it_says() -> None:
    recipe = parse("A35+keep40:norm+k4v3h+near8,128")
    assert recipe.sharing == Sharing("A", saving=0.35)
    assert recipe.selection == Selection(0.4, "norm")
    assert recipe.precision == Precision(4, 3, rotate=True)
    assert (recipe.sinks, recipe.recent) == (8, 128)
    packing = {text: parse(text).precision.while_reading for text in ("k4v4hs", "k4v4s", "k4v4h")}
    assert packing == {"k4v4hs": True, "k4v4s": True, "k4v4h": False}
    assert parse("linear20r3").sharing.residual_bits == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    (
        ("tiny", "no part of a recipe"),
        ("", "no part of a recipe"),
        ("k4", "no part"),
        ("k5v4", "bits are"),
        ("keep0", "keep 1 to 100"),
        ("keep101", "keep 1 to 100"),
        ("keep50:best", "keep 1 to 100 percent, by reread"),
        ("A60", "1 to 49"),
        ("B35r2", "only linear"),
        ("linear35r5", "bits are"),
        ("linear35+keep50", "all of them must stay"),
        ("k16v16s", "nothing to quantize"),
        ("keep50+k4v4s", "keeps every slot"),
        ("A35+k4v4hs", "no layers share"),
        ("linear35+k4v4s", "no layers share"),
        ("k4v4+near4,0", "last token"),
        ("k4v4++keep50", "no part"),
    ),
)
def test_what_is_no_recipe_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(RecipeUnknown, match=reason):
        parse(text)
