"""The commands, by noun: each module adds its own to the command line, with what they take and what they do."""

from app.commands import conversations, documents, keys, machine, order, questions, readers, search

NOUNS = (documents, order, questions, search, conversations, readers, keys, machine)
