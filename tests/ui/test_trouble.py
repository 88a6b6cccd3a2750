"""Errors of the disk and the database as the page and the API tell them; bugs are told by an id."""

import errno
import os
import sqlite3

import pytest

from storage import DatabaseDamaged, HomeBusy, StorageFull
from storage.sqlite import refusal
from ui.api.refusals import refused
from ui.trouble import explain


def sqlite_error(code: int) -> Exception:
    error = sqlite3.OperationalError("it failed")
    error.sqlite_errorcode = code
    return refusal(error, "/nowhere.sqlite3") or error


@pytest.mark.parametrize(
    ("error", "status", "hint"),
    [
        (StorageFull(10, 0), 507, "Delete documents"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 507, "Delete documents"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "/home/file"), 500, "Check that the disk"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), 500, "Check that the disk"),
        (sqlite_error(sqlite3.SQLITE_FULL), 507, "Delete documents"),
        (sqlite_error(sqlite3.SQLITE_IOERR_FSYNC), 500, "Check that the disk"),
        (sqlite_error(sqlite3.SQLITE_READONLY_DBMOVED), 500, "Check that the disk"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), 500, "The command `rescue`"),
        (DatabaseDamaged("its pages"), 500, "The command `rescue`"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "/home/file"), 409, "raise the limit"),
        (MemoryError(), 503, "Close other programs"),
        (HomeBusy("in use"), 409, "Try again"),
    ],
    # Not by their words, which tell how much of the disk is free at this moment.
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else repr(each),
)
def test_what_storage_refuses_is_told_with_a_hint(error: Exception, status: int, hint: str) -> None:
    trouble = explain(error)
    assert hint in trouble.hint
    assert "Something went wrong" not in trouble.message
    assert (refused(error).status, refused(error).hint) == (status, trouble.hint)


def test_a_bug_is_no_error_of_the_disk() -> None:
    for bug in (KeyError("a"), sqlite_error(sqlite3.SQLITE_MISUSE), FileNotFoundError(errno.ENOENT, "no")):
        assert "Something went wrong" in explain(bug).message
        assert refused(bug).status == 500
