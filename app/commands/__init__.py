"""The commands, by noun: each module adds its own to the command line, with what they take and what they do."""

from app.commands import conversations, documents, keys, machine, questions

NOUNS = (documents, questions, conversations, keys, machine)

__all__ = ["NOUNS", "conversations", "documents", "keys", "machine", "questions"]
