"""The viewer as a web application: a page each for the run, a tree and a call, read only, no scripts."""

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from interalign.errors import InteralignError
from interalign.eval.view.queries import NotThereError, find_call, find_run, find_tree
from interalign.eval.view.render import page, policy
from interalign.store import Store


class _TreeId(Convertor[str]):
    """Any text: a case's id is the user's own, and may hold slashes and even line breaks."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("tree_id", _TreeId())


def create_app(path: Path, hosts: Sequence[str] | None = None) -> Starlette:
    """The application for this run file, which is opened anew for every request: a run still going on is seen grow.

    `hosts`: the names under which it answers (None: any), so that no page elsewhere can read it by renaming its host.
    """

    def trees(request: Request) -> HTMLResponse:
        query = request.query_params
        with Store.open(path) as store:
            found = find_run(store, page=query.get("page"), status=query.get("status"), judge=query.get("judge"))
            return _html(page("run", view=found))

    def tree(request: Request) -> HTMLResponse:
        query = request.query_params
        with Store.open(path) as store:
            found = find_tree(store, request.path_params["id"], node=query.get("node"), judge=query.get("judge"))
            return _html(page("tree", view=found, file=path.name))

    def call(request: Request) -> HTMLResponse:
        place = request.path_params
        with Store.open(path) as store:
            found = find_call(store, place["id"], place["key"], judge=request.query_params.get("judge"))
            return _html(page("call", view=found, file=path.name))

    pages = {"/": trees, "/tree/{id:tree_id}": tree, "/call/{key}/{id:tree_id}": call}
    return Starlette(
        routes=[Route(address, shown, methods=["GET"]) for address, shown in pages.items()],
        exception_handlers={
            HTTPException: _refused,
            NotThereError: _not_there,
            InteralignError: _unreadable,
        },
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts or ["*"]), www_redirect=False)],
    )


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
    return _html(page("sorry", said=said), error.status_code, dict(error.headers or {}))


def _not_there(request: Request, error: Exception) -> HTMLResponse:
    return _html(page("sorry", said=str(error)), 404)


def _unreadable(request: Request, error: Exception) -> HTMLResponse:
    return _html(page("sorry", said=str(error)), 503)
