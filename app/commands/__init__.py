"""The commands, by noun: each module adds its own to the command line, with what they take and what they do."""

from app.commands import (
    cluster,
    conversations,
    documents,
    encryption,
    keys,
    machine,
    order,
    people,
    questions,
    readers,
    search,
    settings,
)

NOUNS = (
    documents,
    order,
    questions,
    search,
    conversations,
    readers,
    keys,
    people,
    settings,
    machine,
    encryption,
    cluster,
)
