"""What a page of the viewer is, and what it is handed: the open set `PAGES` (src/interalign/registries.py)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, get_args

from markupsafe import Markup

from interalign.errors import ConfigError
from interalign.eval.view.links import ServedLinks
from interalign.eval.view.render import page as rendered
from interalign.eval.view.tree_page import Link
from interalign.records import RunKind
from interalign.registries import PAGES, Registry
from interalign.store import Store


class Labelling(NamedTuple):
    """What a viewer that keeps labels was started with."""

    token: str
    """Made at the start; a form that writes must hold it."""
    instructions: str | None = None
    """What labellers are told; None: what the labels of the file were given by."""


@dataclass(frozen=True)
class PageRequest:
    """What a browser asked of a page, and what the page is drawn with."""

    file: str
    """Name of the run file."""
    query: Mapping[str, str] = field(default_factory=dict)
    """What stands behind the `?` of the address."""
    place: Mapping[str, str] = field(default_factory=dict)
    """The parts of the address that the page's path names, such as `id`."""
    menu: tuple[Link, ...] = ()
    """Links to the pages that make sense for this run."""
    prefix: str = ""
    """What stands before every address of this run: the first file is at `/`, the second one at `/run/2/`."""
    others: Sequence[tuple[Path, ServedLinks]] = ()
    """The other run files that are shown beside this one, and where their pages are."""
    labelling: Labelling | None = None
    """None: this viewer keeps no labels."""
    problem: str = ""
    """Why the form that was sent last could not be kept."""

    @property
    def files(self) -> tuple[Link, ...]:
        """The front pages of all run files that are shown, in their order; empty if there is one."""
        shown = sorted([(self.prefix, self.file), *((links.prefix, path.name) for path, links in self.others)])
        if len(shown) == 1:
            return ()
        return tuple(Link(name, f"{prefix}/", prefix == self.prefix) for prefix, name in shown)

    @property
    def links(self) -> ServedLinks:
        """Addresses of this run's pages."""
        return ServedLinks(prefix=self.prefix)

    def document(self, title: str, body: Markup) -> str:
        """A page with this body between menu and end, in the viewer's style; for pages without a template of ours.

        Build `body` with `Markup("<td>{}</td>").format(text)`, which escapes the text. Scripts and styles do not run.
        """
        return self.render("document", title=title, body=body)

    def render(self, template: str, **values: object) -> str:
        """One of the viewer's own templates."""
        return rendered(template, menu=self.menu, files=self.files, home=self.links.front(), file=self.file, **values)


@dataclass(frozen=True)
class Page:
    """A member of the open set: one page."""

    path: str
    """Where it is: `/words`, or with parts such as `/words/{id:tree_id}` that `PageRequest.place` holds."""
    title: str
    """What the menu calls it."""
    handler: Callable[[Store, PageRequest], str]
    """From the run, opened for reading, and what was asked for to HTML. `NotThereError` is a 404 with its text."""
    in_menu: bool = True
    kinds: tuple[RunKind, ...] = get_args(RunKind)
    """The kinds of run that it is in the menu of."""
    keep: Callable[[Path, Mapping[str, str], Labelling], Mapping[str, str]] | None = None
    """From the run file and the fields of a form that was sent to this page to the query with which the page is shown
    after that; None: the page only reads. An InteralignError is shown on the page, and the form can be sent again."""


def all_pages(registry: Registry = PAGES) -> tuple[Page, ...]:
    """Every page there is, the built-in ones first; ConfigError for one that is no page or has another's path."""
    found: dict[str, Page] = {}
    for name in registry.names():
        page, _ = registry.load(name)
        if not isinstance(page, Page) or not page.path.startswith("/"):
            raise ConfigError(
                f"the viewer page {name!r} is no Page whose path begins with '/': mend or remove its package"
            )
        if page.path in found:
            raise ConfigError(f"the viewer page {name!r} has the path {page.path} of another page: give it its own")
        found[page.path] = page
    return tuple(found.values())


def menu(pages: Sequence[Page], run: RunKind | None, current: Page | None, prefix: str) -> tuple[Link, ...]:
    """Links to the pages for this kind of run (None: nothing was run yet)."""
    return tuple(
        Link(page.title, prefix + page.path, page is current)
        for page in pages
        if page.in_menu and (run is None or run in page.kinds)
    )
