"""The viewer: what the agents said in a run, and what the judges made of it. Read only."""

from markupsafe import Markup

from interalign.eval.view.app import create_app
from interalign.eval.view.html_export import export_html
from interalign.eval.view.page import Page, PageRequest
from interalign.eval.view.queries import NotThereError
from interalign.eval.view.server import serve

__all__ = ["Markup", "NotThereError", "Page", "PageRequest", "create_app", "export_html", "serve"]
