"""How the pages point at each other: by addresses when they are served, by anchors when they are one file."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol
from urllib.parse import quote, urlencode


class Links(Protocol):
    """Addresses of everything that can be looked at."""

    def trees(self, **query: str | None) -> str:
        """The list of trees, filtered and sorted as these parts of its address say; None leaves one out."""
        ...

    def tree(self, tree: str) -> str:
        """One tree."""
        ...

    def node(self, tree: str, node: str, number: int) -> str:
        """One message of a tree; `number` is its place in the tree's stored order."""
        ...

    def anchor(self, tree: str, number: int | None = None) -> str:
        """The id of the element that holds a message, or the whole tree."""
        ...

    def judged(self, tree: str, node: str | None, judge: str) -> str:
        """One tree seen through another judge."""
        ...

    def call(self, tree: str, key: str) -> str | None:
        """One call of a tree; None where calls have no pages."""
        ...


class ServedLinks(NamedTuple):
    """Addresses on the server."""

    judge: str | None = None
    """The judge that was asked for by name; links keep to it."""
    prefix: str = ""
    """What stands before every address: empty, or `/run/2` for the second of several run files."""
    show: str | None = None
    """How trees are shown, if not in the usual way; links to messages keep to it."""

    def front(self, judge: str | None = None) -> str:
        """The run's front page, `/`."""
        return _address(f"{self.prefix}/", judge=judge or self.judge)

    def page(self, path: str, **query: str | None) -> str:
        """Any page by its path."""
        return _address(self.prefix + path, **{"judge": self.judge} | query)

    def trees(self, **query: str | None) -> str:
        """`/trees`, with what is given as a query."""
        return self.page("/trees", **query)

    def tree(self, tree: str) -> str:
        """`/tree/ID`; slashes and dots of the id are escaped, so that no browser takes them for folders."""
        return _address(self.prefix + _tree(tree), judge=self.judge)

    def node(self, tree: str, node: str, number: int) -> str:
        """`/tree/ID?node=NODE`, scrolled to the message."""
        return self.shown(tree, node) + f"#{self.anchor(tree, number)}"

    def shown(self, tree: str, node: str | None) -> str:
        """`/tree/ID`, at the top, with the selected message and the way it is shown."""
        return _address(self.prefix + _tree(tree), node=node, judge=self.judge, show=self.show)

    def anchor(self, tree: str, number: int | None = None) -> str:
        """`n7` or `tree`: a page holds one tree."""
        return "tree" if number is None else f"n{number}"

    def judged(self, tree: str, node: str | None, judge: str) -> str:
        """`/tree/ID?judge=NAME`, the selected message kept."""
        return _address(self.prefix + _tree(tree), node=node, judge=judge)

    def call(self, tree: str, key: str) -> str | None:
        """`/call/KEY/ID`."""
        return _address(f"{self.prefix}/call/{key}/{_quoted(tree)}", judge=self.judge)


class AnchorLinks(NamedTuple):
    """Anchors in a file that holds everything."""

    numbers: Mapping[str, int]
    """Tree id -> its place in the run."""

    def trees(self, **query: str | None) -> str:
        """The top of the file, which lists all trees."""
        return "#trees"

    def tree(self, tree: str) -> str:
        """`#t3`."""
        return f"#{self.anchor(tree)}"

    def node(self, tree: str, node: str, number: int) -> str:
        """`#t3-n7`."""
        return f"#{self.anchor(tree, number)}"

    def anchor(self, tree: str, number: int | None = None) -> str:
        """`t3-n7` or `t3`."""
        return f"t{self.numbers[tree]}" + ("" if number is None else f"-n{number}")

    def judged(self, tree: str, node: str | None, judge: str) -> str:
        """A file shows one judge."""
        return self.tree(tree)

    def call(self, tree: str, key: str) -> str | None:
        """A file holds the prompts, but no page a call."""
        return None


def _tree(tree: str) -> str:
    return f"/tree/{_quoted(tree)}"


def _quoted(tree: str) -> str:
    return quote(tree, safe="", errors="surrogatepass")


def _address(path: str, **query: str | None) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, errors='surrogatepass')}" if given else path
