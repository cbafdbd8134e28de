"""A form that a page of the viewer sent: read without more than it can hold, and refused if it is not from us."""

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

_MOST_BYTES = 10_000
"""Of a form: a name, a question, a key, a token."""


async def sent_form(request: Request) -> dict[str, str]:
    """The fields of a form, of each name the last; HTTPException for a body that is none or too long."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "Only the forms of these pages are taken.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise HTTPException(413, "The form is too long.")
    return dict(parse_qsl(body.decode("ascii", "replace"), keep_blank_values=True, max_num_fields=None))


def refused(request: Request, form: Mapping[str, str], token: str) -> str | None:
    """Why a form may not write, None if it may: it must hold the token, and be sent by a page of this address.

    Browsers say where a form comes from (`Sec-Fetch-Site`, `Origin`), and a page elsewhere cannot make them say
    otherwise. What says neither is no browser, and has the token from a page that it read here.
    """
    if not _from_here(request):
        return "A form of another page was sent here; nothing was kept."
    if not secrets.compare_digest(form.get("token", "").encode(), token.encode()):
        return "This form is from an earlier start of the viewer; nothing was kept. Load its page again."
    return None


def _from_here(request: Request) -> bool:
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        return site == "same-origin"
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")
