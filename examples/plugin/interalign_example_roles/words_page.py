"""A page of the viewer: how many words each speaker of a run used, at `/words`."""

from collections import Counter

from interalign.eval.view import Markup, Page, PageRequest
from interalign.store import Store


def words(store: Store, asked: PageRequest) -> str:
    """A table of speakers, messages and words."""
    messages, used = Counter[str](), Counter[str]()
    for judged in store.judged_trees(None):
        for node in judged.tree.nodes:
            messages[node.label] += 1
            used[node.label] += len(node.text.split())
    # `format` escapes what a model or a user wrote; the page itself may hold no script.
    row = Markup('<tr><th scope="row">{}</th><td>{:,}</td><td>{:,}</td></tr>')
    rows = Markup().join(row.format(speaker, messages[speaker], used[speaker]) for speaker in messages)
    head = Markup("<tr><th>Speaker</th><th>Messages</th><th>Words</th></tr>")
    return asked.document("Words", Markup('<table class="numbers">{}{}</table>').format(head, rows))


PAGE = Page("/words", "Words", words, kinds=("simulation", "evaluation"))
