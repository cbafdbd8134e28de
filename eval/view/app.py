"""The viewer as a web application: the registered pages of one or several run files.

Pages read only. What writes is a form that a page declares (`Page.keep`): labels, and nothing else of ours.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from interalign.errors import InteralignError
from interalign.eval.view.form import refused, sent_form
from interalign.eval.view.links import ServedLinks
from interalign.eval.view.page import Labelling, Page, PageRequest, all_pages, menu
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


def create_app(
    path: Path,
    hosts: Sequence[str] | None = None,
    others: Sequence[Path] = (),
    labelling: Labelling | None = None,
) -> Starlette:
    """The application for this run file, which is opened anew for every request: a run still going on is seen grow.

    `hosts`: the names under which it answers (None: any), so that no page elsewhere can read it by renaming its host.
    `others`: run files to compare it with, shown at `/run/2/`, `/run/3/` and so on.
    `labelling`: with what labels are kept; None: nothing is ever written.
    ConfigError if a registered page cannot be used.
    """
    pages, files = all_pages(), (path, *others)
    sites = [_Site(pages, files, number, labelling) for number in range(len(files))]
    beside = [Mount(prefix_of(site.number), routes=site.routes()) for site in sites[1:]]
    return Starlette(
        routes=[*beside, *sites[0].routes()],
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


class _Site(NamedTuple):
    """The pages of one of the run files."""

    pages: Sequence[Page]
    files: Sequence[Path]
    number: int
    labelling: Labelling | None

    def routes(self) -> list[BaseRoute]:
        """Every page; and the forms, where any are kept."""
        reading = [Route(page.path, self._answer(page), methods=["GET"]) for page in self.pages]
        if self.labelling is None:
            return [*reading]
        forms = [page for page in self.pages if page.keep is not None]
        return [*reading, *(Route(page.path, self._keep(page, self.labelling), methods=["POST"]) for page in forms)]

    def _answer(self, page: Page) -> Callable[[Request], HTMLResponse]:
        """What a page answers to a request."""

        def answer(request: Request) -> HTMLResponse:
            return _html(self._shown(page, dict(request.query_params), request.path_params))

        return answer

    def _shown(self, page: Page, query: Mapping[str, str], place: Mapping[str, str], problem: str = "") -> str:
        path, prefix = self.files[self.number], prefix_of(self.number)
        others = [(file, ServedLinks(prefix=prefix_of(at))) for at, file in enumerate(self.files) if at != self.number]
        with Store.open(path) as store:
            run = store.run
            shown = menu(self.pages, None if run is None else run.kind, page, prefix)
            asked = PageRequest(path.name, query, place, shown, prefix, others, self.labelling, problem)
            return page.handler(store, asked)

    def _keep(self, page: Page, labelling: Labelling) -> Callable[[Request], Awaitable[Response]]:
        """What is done with a form: it is kept, and the page is asked for anew; or the page says why it was not."""
        keep, path = page.keep, self.files[self.number]
        assert keep is not None

        def kept(form: Mapping[str, str]) -> Response:
            try:
                query = keep(path, form, labelling)
            except NotThereError:
                raise
            except InteralignError as error:
                query = {name: value for name, value in form.items() if name != "token"}
                return _html(self._shown(page, query, {}, str(error)), 409)
            there = ServedLinks(prefix=prefix_of(self.number)).page(page.path, **query)
            return RedirectResponse(there, 303, _headers())

        async def answer(request: Request) -> Response:
            form = await sent_form(request)
            why = refused(request, form, labelling.token)
            if why is not None:
                return _html(rendered("sorry", said=why), 403)
            return await run_in_threadpool(kept, form)

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
