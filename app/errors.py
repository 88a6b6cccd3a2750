"""What can go wrong in a way that a user can act on.

Everything else is a bug: it is logged under a short id, and the user sees that id.
"""


class AppError(Exception):
    """A failure with a message and a hint, both fit to be shown as they are."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message} {hint}")
        self.message = message
        self.hint = hint


class UnsupportedFile(AppError):
    """Of no format that can be read, or protected against it."""


class EmptyDocument(AppError):
    """No bytes, no pages, or no text on any page."""


class DamagedDocument(AppError):
    """Cannot be opened, or no page of it can be read."""


class PasswordNeeded(AppError):
    """Encrypted, and no password was given."""


class WrongPassword(PasswordNeeded):
    """Encrypted, and the given password does not open it."""


class DocumentTooLarge(AppError):
    """More bytes or pages than the limits allow."""


class DocumentNotFound(AppError):
    """No such document in the library."""


class NotRead(AppError):
    """The document has not been read far enough to answer."""


class QuestionRejected(AppError):
    """Empty, or longer than the window leaves room for."""


class ModelUnavailable(AppError):
    """The model cannot be found, fetched or loaded."""


class OutOfMemory(AppError):
    """The model or the document needs more memory than is free. A figure of 0 bytes is an unknown one."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        needed = f"{needed_bytes / 1e9:.1f} GB are needed at once, " if needed_bytes else ""
        known = f"There is too little memory: {needed}{free_bytes / 1e9:.1f} GB are free."
        super().__init__(
            known if free_bytes else "There is too little memory.",
            "Close other programs that use it, choose a recipe with fewer bytes such as --recipe light, "
            "or add the document in shorter parts.",
        )


class DiskFull(AppError):
    """What is to be kept does not fit on the disk. A need of 0 bytes is an unknown one."""

    def __init__(self, needed_bytes: int, free_bytes: int) -> None:
        needed = f"{needed_bytes / 1e9:.1f} GB are needed, " if needed_bytes else ""
        super().__init__(
            f"There is too little room on the disk: {needed}{free_bytes / 1e9:.1f} GB are free.",
            "Delete documents that are no longer needed, or choose another folder with --home.",
        )


class DiskFailed(AppError):
    """The disk does not do what it is asked, or what is on it is damaged."""


class LibraryAway(DiskFailed):
    """A server that keeps the library, or its files, cannot be reached for now."""


class Locked(AppError):
    """The library is encrypted, and is not opened."""


class BadName(AppError):
    """A document or a conversation cannot be called so."""


class Busy(AppError):
    """Another process, or this one, is reading this document."""


class NotAllowed(AppError):
    """More than was shared with a visitor, or too often."""


class NotShared(AppError):
    """The library cannot be shared that way."""


class RecipeNotThere(AppError):
    """The model cannot keep a document by this recipe."""


class NoSuchKey(AppError):
    """No key of a program has this name."""


class BadSetting(AppError):
    """A malformed option or environment variable."""
