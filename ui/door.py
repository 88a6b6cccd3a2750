"""The door: what somebody sees who is not in yet, and how he comes in."""

from html import escape
from pathlib import Path
from urllib.parse import parse_qs

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from app.errors import NotAllowed
from ui.access import Access
from ui.language import direction, language, speaking, t, translated

LONGEST_FORM = 4_096


class Door:
    """Answers requests of those who are not in."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")

    async def enter(self, request: Request) -> Response:
        """Takes a form of `page`, or the key in an opened address: a cookie and the page, or the door and why not."""
        access, host = self._access, request.headers.get("host", "")
        given = {"key": request.query_params.get("key", "")}
        if request.method == "POST":
            given = await _form(request)
        key, password = given.get("key", ""), given.get("password", "")
        secure = False
        try:
            if access.is_shared(host):
                sharing = access.app.sharing
                cookie = await anyio.to_thread.run_sync(sharing.admit, key, password, given.get("name", ""))
                secure = sharing.is_secure()
            else:
                cookie = await anyio.to_thread.run_sync(access.enter, key, password, given.get("name", ""))
                secure = request.headers.get("origin", "").startswith("https:")
        except NotAllowed as error:
            return self.page(request, key, f"{error.message} {error.hint}")
        return RedirectResponse("/", 303, {"Set-Cookie": access.set_cookie(cookie, secure)})

    async def hand_over(self, request: Request) -> Response:
        """Takes files of this machine from a second start, which alone has read the key: no script of a page has."""
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not self._access.is_home(request.headers.get("host", "")) or not self._access.is_key(key):
            return PlainTextResponse("This is private.", 401)
        files = [Path(each) for each in (await request.json())["files"]]
        await anyio.to_thread.run_sync(self._access.on_hand_over, files)
        return Response(status_code=204)

    def page(self, request: Request, key: str = "", trouble: str = "") -> Response:
        """How to come in, from where the request came, in the language of its sender."""
        with speaking(request.headers.get("accept-language", "")):
            return HTMLResponse(self._page(request, key, translated(trouble)), 401)

    def _page(self, request: Request, key: str, trouble: str) -> str:
        asked = '<input type="password" name="password" autocomplete="current-password" required autofocus>'
        password = f"<label>{t('Password')}{asked}</label>"
        access, host = self._access, request.headers.get("host", "")
        if access.is_shared(host):
            title = t("Documents are shared with you")
            words = t("Read them here, and see where each answer stands in them.")
            by_password = access.app.sharing.needs_password()
            fields = (
                f'<label>{t("Your name")}<input name="name" maxlength="40" autocomplete="name"'
                f' placeholder="{t("may be left out")}"></label>'
            )
            fields += password if by_password else f'<input type="hidden" name="key" value="{escape(key)}">'
            if not by_password and not key:
                alone = t("The link that you were sent lets you in; this address alone does not.")
                fields, trouble = "", trouble or alone
        elif access.has_people:
            title, words = t("Sign in to DocPod"), t("With the name and password that you were given.")
            named = '<input name="name" maxlength="200" autocomplete="username" autofocus>'
            fields = f"<label>{t('Name')}{named}</label>{password.replace(' autofocus', '')}"
        else:
            title, words = t("DocPod is private"), t("Open it with the address that it printed when it started.")
            fields = password if access.has_password else ""
        bad = f'<p class="bad" role="alert">{escape(trouble)}</p>' if trouble else ""
        press = t("Sign in") if "username" in fields else t("Open")
        form = f'<form method="post" action="/enter">{fields}<button>{press}</button></form>' if fields else ""
        return (
            f'<!doctype html><html lang="{language()}" dir="{direction()}"><meta charset="utf-8"><title>DocPod</title>'
            # Without a referrer of its own the form's origin would be "null", which is refused as another site's.
            '<meta name="referrer" content="same-origin">'
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
            f'<style>{self._style}</style><main><img src="/favicon.ico" alt=""><h1>{title}</h1>'
            f"<p>{words}</p>{bad}{form}</main>"
        )


async def _form(request: Request) -> dict[str, str]:
    """The fields of a short form; a long body is no form of ours."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_FORM:
            return {}
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
