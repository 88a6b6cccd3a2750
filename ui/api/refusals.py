"""Refusals: whatever goes wrong as a status and a body that the client's own library understands."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.errors import (
    AppError,
    Busy,
    DiskFailed,
    DiskFull,
    DocumentNotFound,
    DocumentTooLarge,
    ModelUnavailable,
    NotRead,
    OutOfMemory,
)
from app.refusals import as_app_error
from ui.trouble import explain

STATUS: dict[type[AppError], int] = {
    DocumentNotFound: 404,
    NotRead: 409,
    Busy: 409,
    DocumentTooLarge: 413,
    ModelUnavailable: 503,
    OutOfMemory: 503,
    DiskFull: 507,
    DiskFailed: 500,
}
"""All others are the request's fault."""
KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
"""The names by which both OpenAI and Anthropic know what happened, of statuses below 500."""
RETRY_SECONDS = {409: 5, 429: 2, 503: 10}
"""When another attempt may go better; the official clients wait so long and try again."""


class Refused(Exception):
    """What the client is told: a status, and what happened in the words of an AppError."""

    def __init__(self, status: int, code: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.hint = status, code, message, hint

    def body(self, headers: Mapping[str, str]) -> dict[str, Any]:
        """In the shape of the client that sent these headers."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        told = f"{self.message} {self.hint}".strip()
        if "anthropic-version" in headers:
            return {"type": "error", "error": {"type": kind, "message": told}}
        return {"error": {"message": told, "type": kind, "param": None, "code": self.code, "hint": self.hint}}

    def response(self, headers: Mapping[str, str]) -> JSONResponse:
        """The whole answer to a request with these headers."""
        extra = {"Retry-After": str(RETRY_SECONDS[self.status])} if self.status in RETRY_SECONDS else {}
        if self.status == 401:
            extra["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(headers), self.status, extra)


def refused(error: Exception) -> Refused:
    """Any error as a refusal; a bug goes into the log under an id, which is all that is told of it."""
    if isinstance(error, Refused):
        return error
    trouble = explain(error)
    if (known := as_app_error(error)) is None:
        return Refused(500, "bug", trouble.message, trouble.hint)
    code = "".join(f"_{each.lower()}" if each.isupper() else each for each in type(known).__name__).lstrip("_")
    status = next((status for kind, status in STATUS.items() if isinstance(known, kind)), 400)
    return Refused(status, code, trouble.message, trouble.hint)


def install(api: FastAPI) -> None:
    """Have every error of the API's routes told as a refusal."""

    def known(request: Request, error: Exception) -> JSONResponse:
        return refused(error).response(request.headers)

    def malformed(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        wrong = "; ".join(f"{'.'.join(str(each) for each in e['loc'][1:])}: {e['msg']}" for e in error.errors()[:3])
        return Refused(400, "malformed", f"The request is malformed: {wrong}.", "").response(request.headers)

    def by_status(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        hint = "GET /v1/openapi.json lists what there is." if error.status_code in (404, 405) else ""
        return Refused(error.status_code, "http", f"{error.detail}.", hint).response(request.headers)

    for kind in (Refused, AppError, Exception):
        api.add_exception_handler(kind, known)
    api.add_exception_handler(RequestValidationError, malformed)
    api.add_exception_handler(HTTPException, by_status)
