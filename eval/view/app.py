"""The viewer as a web application: the registered pages of one or several run files, read only."""

from collections.abc import Callable, Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import BaseRoute, Mount, Route

from interalign.errors import InteralignError
from interalign.eval.view.links import ServedLinks
from interalign.eval.view.page import Page, PageRequest, all_pages, menu
from interalign.eval.view.queries import NotThereError
from interalign.eval.view.render import page as rendered
from interalign.eval.view.render import policy
from interalign.store import Store


class _TreeId(Convertor[str]):
    """Any text: a case's id is the user's own, and may hold slashes and even line breaks."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("tree_id", _TreeId())


def create_app(path: Path, hosts: Sequence[str] | None = None, others: Sequence[Path] = ()) -> Starlette:
    """The application for this run file, which is opened anew for every request: a run still going on is seen grow.

    `hosts`: the names under which it answers (None: any), so that no page elsewhere can read it by renaming its host.
    `others`: run files to compare it with, shown at `/run/2/`, `/run/3/` and so on.
    ConfigError if a registered page cannot be used.
    """
    pages, files = all_pages(), (path, *others)
    beside = [Mount(prefix_of(n), routes=_routes(pages, files, n)) for n in range(1, len(files))]
    return Starlette(
        routes=[*beside, *_routes(pages, files, 0)],
        exception_handlers={
            HTTPException: _refused,
            NotThereError: _not_there,
            InteralignError: _unreadable,
        },
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts or ["*"]), www_redirect=False)],
    )


def prefix_of(number: int) -> str:
    """Where the pages of this run file are: the first, 0, at the top."""
    return f"/run/{number + 1}" if number else ""


def _routes(pages: Sequence[Page], files: Sequence[Path], number: int) -> list[BaseRoute]:
    return [Route(page.path, _answer(page, pages, files, number), methods=["GET"]) for page in pages]


def _answer(page: Page, pages: Sequence[Page], files: Sequence[Path], number: int) -> Callable[[Request], HTMLResponse]:
    """What a page answers to a request."""
    path, prefix = files[number], prefix_of(number)
    others = [(file, ServedLinks(prefix=prefix_of(at))) for at, file in enumerate(files) if at != number]

    def answer(request: Request) -> HTMLResponse:
        with Store.open(path) as store:
            run = store.run
            shown = menu(pages, None if run is None else run.kind, page, prefix)
            asked = PageRequest(path.name, dict(request.query_params), request.path_params, shown, prefix, others)
            return _html(page.handler(store, asked))

    return answer


def _html(content: str, status: int = 200, headers: dict[str, str] | None = None) -> HTMLResponse:
    return HTMLResponse(content, status, {**(headers or {}), **_headers()})


def _headers() -> dict[str, str]:
    return {
        "Content-Security-Policy": policy() + "; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def _refused(request: Request, error: Exception) -> HTMLResponse:
    assert isinstance(error, HTTPException)
    said = {404: "There is no such page.", 405: "These pages can only be read."}.get(error.status_code, error.detail)
    return _html(rendered("sorry", said=said), error.status_code, dict(error.headers or {}))


def _not_there(request: Request, error: Exception) -> HTMLResponse:
    return _html(rendered("sorry", said=str(error)), 404)


def _unreadable(request: Request, error: Exception) -> HTMLResponse:
    return _html(rendered("sorry", said=str(error)), 503)
