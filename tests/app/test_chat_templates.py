"""Chat templates of other makers: one that knows the date, ones without a system role, and ones that fail."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from transformers.utils import chat_template_utils

from app.errors import ModelUnavailable
from app.prompts import SYSTEM, Prompts
from app.reader_model import ReaderModel
from app.settings import Settings
from engine.models.tokenizer import Tokenizer
from tests import tiny
from tests.app import paper
from tests.app.conftest import OpenApp

DATED = (
    "{% if strftime_now is defined %}{% set today = strftime_now('%A, %d %b %Y, %H:%M') %}{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'system' %}Today: {{ today }}\n\n{% endif %}{{ message.content | trim }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)
# As Mistral 0.2 and Gemma do it.
ALTERNATING = (
    "{% for message in messages %}"
    "{% if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}"
    "{% elif message.role == 'user' %}[INST] {{ message.content }} [/INST]"
    "{% else %}{{ message.content }}<|im_end|>{% endif %}{% endfor %}"
)
SILENT = (
    "{% for message in messages if message.role != 'system' %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
QUESTION = "What is the access code of room 3?"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Sets the clock that chat templates look at."""

    def put(moment: datetime) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz: object = None) -> datetime:
                return moment

        monkeypatch.setattr(chat_template_utils, "datetime", Clock)

    return put


def prompts(template: str) -> tuple[Prompts, Tokenizer]:
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    return Prompts(Tokenizer(tokenizer)), Tokenizer(tokenizer)


@pytest.fixture
def folder(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be given another template."""
    return shutil.copytree(tiny_model_dir, tmp_path / "some-model")


def test_what_is_read_today_answers_tomorrow(
    folder: Path, settings: Settings, open_app: OpenApp, source: Path, clock: Callable[[datetime], None]
) -> None:
    (folder / "chat_template.jinja").write_text(DATED)
    paper.prepare_models(folder, settings.home / "models")
    today = datetime(2026, 12, 31, 23, 59)
    clock(today)
    app = open_app(model=str(folder))
    document_id = paper.read_here(app, source)
    answer = paper.last(app.questions.ask(document_id, QUESTION))
    app.close()
    clock(today + timedelta(days=1))
    inner = tiny.tokenizer()
    said = inner.apply_chat_template([{"role": "system", "content": "x"}], chat_template=DATED, tokenize=False)
    assert "Friday, 01 Jan 2027" in said, "the clock did move"
    app = open_app(model=str(folder))
    again = paper.last(app.questions.ask(document_id, QUESTION))
    assert (again.answer, again.citations) == (answer.answer, answer.citations)
    assert again.reused_tokens == answer.reused_tokens > 0
    assert (
        len(app.library.presets(document_id).steps) > 1
        and app.library.catalogue.entry(document_id).progress.stage == "ready"
    )


def test_a_template_that_asks_for_the_date_gets_the_pinned_one(clock: Callable[[datetime], None]) -> None:
    seen = []
    for day in (datetime(2026, 12, 31), datetime(2027, 1, 1)):
        clock(day)
        made, tokenizer = prompts(DATED)
        seen.append((made.template, made.head(), made.suffix("Why?"), tokenizer.user_turn()))
    assert seen[0] == seen[1]
    assert seen[0][0].startswith("<|im_start|>system\nToday: Friday, 26 Jul 2024, 00:00\n\n"), seen[0][0]


@pytest.mark.parametrize("template", ["\n" + DATED, "  " + DATED, "{{ bos_token }}\n\n" + DATED])
def test_pinning_leaves_the_rest_of_a_template_as_it_is(template: str) -> None:
    """Also the white space that it begins with."""
    inner = tiny.tokenizer()
    messages = [{"role": "user", "content": "x"}]
    plain = inner.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    inner.chat_template = template
    assert Tokenizer(inner).chat(messages) == plain


@pytest.mark.parametrize("template", [ALTERNATING, SILENT])
def test_without_a_system_role_its_words_begin_the_first_user_turn(template: str) -> None:
    made, tokenizer = prompts(template)
    whole = made.head() + tokenizer.encode("Page one.")[0] + made.suffix("How many?")
    said = tokenizer.decode(whole)
    assert said.count(SYSTEM) == 1
    before, after = said.split("Page one.")
    assert before.endswith(f"{SYSTEM}\n\nDocument:\n") and len(before) < len(SYSTEM) + 25
    assert "How many?" in after


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% for message in messages %}{{ message.content }", "TemplateSyntaxError"),
        ("{{ raise_exception('Only tools are supported') }}", "Only tools are supported"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ messages.nothing.at_all }}", "UndefinedError"),
        ("Hello!", "says 0 times what a user says once"),
        ("{% for message in messages %}{{ message.content }}{{ message.content }}{% endfor %}", "says 2 times"),
    ],
)
def test_a_template_that_cannot_be_used_is_named(template: str, words: str, folder: Path, settings: Settings) -> None:
    (folder / "chat_template.jinja").write_text(template)
    reader_model = ReaderModel(replace(settings, model=str(folder)), settings.home / "models")
    with pytest.raises(ModelUnavailable, match=words) as raised:
        reader_model.ready()
    assert "chat template" in raised.value.message and "network" not in raised.value.hint
    assert "--model" in raised.value.hint
