"""How many prompt tokens must a server with a prefix cache really read, per preference pair?

    python bench/prefix_cache.py [--run RUN.db | --trees 24 --turns 10 --words 0 60] [--replies-too]

Takes the prompts of a finished run as they were sent, and counts the tokens that a prefix cache does not have: blocks
of 16 tokens, a block is there if the whole prompt up to its end was sent before, and what does not fill a block is read
anew (so vLLM does it; the cache never overflows here, and one model sits in all seats). Beside it the same talk, in the
same words, with prompts that are rewritten for each role: every role gets one text of its own, with the conversation
pasted in.

The longer the messages, the more there is to share. So two talks are measured: one of the embedded world, whose
messages are short (`--words 0`), and one of replies of 60 words on average, which a fake server gives.

There is no tokenizer to download, so all are counted alike by an approximation: words in pieces of at most six
characters, every other sign and line break on its own, and four tokens of chat markup a message.
"""

import argparse
import json
import re
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import NamedTuple

from fake_server import serving

import interalign as ia
from interalign.agents.templates import builtin_prompts, quoted
from interalign.config import Runtime

BLOCK = 16
GOAL = 0.6
PAPERS_ORIGINAL = 1187
"""Uncached tokens per pair of the paper's released code, for its own prompts and talks: beside, not to divide by."""
_PIECES = re.compile(r"\w{1,6}|[^\w\s]|\n")

Prompt = list[dict[str, str]]
ROLES = ("user", "inducer", "candidate", "judge")


class Request(NamedTuple):
    """One call."""

    role: str
    prompt: Prompt
    reply: str


def tokens_of(messages: Iterable[dict[str, str]]) -> list[str]:
    """The messages as tokens, each with its markup: begin, role, end of head, end of turn."""
    found: list[str] = []
    for message in messages:
        found += ["<|begin|>", message["role"], "<|head|>", *_PIECES.findall(message["content"]), "<|end|>"]
    return found


class PrefixCache:
    """Remembers every full block by all that came before it."""

    def __init__(self, replies_too: bool) -> None:
        self._seen: set[int] = set()
        self._replies_too = replies_too
        self.tokens = 0
        """Of all prompts."""
        self.uncached = Counter[str]()
        """Of those, what was not in the cache, by role."""

    def send(self, request: Request) -> None:
        """Count one request."""
        tokens = [*tokens_of(request.prompt), "<|begin|>", "assistant", "<|head|>"]
        hits = self._remember(tokens)
        self.tokens += len(tokens)
        self.uncached[request.role] += len(tokens) - BLOCK * hits
        if self._replies_too:
            self._remember([*tokens, *_PIECES.findall(request.reply), "<|end|>"])

    def _remember(self, tokens: Sequence[str]) -> int:
        """Number of leading blocks that were there; all are there afterwards."""
        hits, chain = 0, 0
        for end in range(BLOCK, len(tokens) + 1, BLOCK):
            chain = hash((chain, *tokens[end - BLOCK : end]))
            hits += chain in self._seen  # a block is only ever there if those before it are
            self._seen.add(chain)
        return hits


# The prompts as they were sent -----------------------------------------------------------------------


def sent(path: Path) -> Iterator[Request]:
    """Every call of the run in the order of its commit."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db, ia.open_run(path) as run:
        for role, key in db.execute("SELECT role, lower(hex(key)) FROM calls ORDER BY id"):
            prompt = [message.model_dump() for message in run.prompt_of(key)]
            yield Request(role, prompt, run.reply_of(key).text)


# The same talk with prompts rewritten for each role --------------------------------------------------


class Turn(NamedTuple):
    """What the roles of one turn have before them."""

    persona: ia.Persona
    before: tuple[ia.Message, ...]
    """The conversation up to the last reply."""
    said: str
    """The user's message."""
    notes: str
    replies: tuple[str, str]
    judged: tuple[str, str]
    """The judge's words, in both orders."""


def turns_of(path: Path) -> Iterator[Turn]:
    """Every turn of the run, tree by tree."""
    with ia.open_run(path) as run:
        personas = run.personas()
        for judged in run.judged_trees():
            tree = judged.tree
            notes = {note.node: str(note.value) for note in judged.annotations if note.name == "hint"}
            for verdict in judged.verdicts:
                user = tree.node(tree.node(verdict.a).parent or "")
                yield Turn(
                    personas[tree.persona],
                    tree.transcript(user.id)[:-1],
                    user.text,
                    notes.get(user.id, ""),
                    (tree.node(verdict.a).text, tree.node(verdict.b).text),
                    (verdict.orders[0].replies[-1], verdict.orders[1].replies[-1]),
                )


def pasted(transcript: Sequence[ia.Message], *more: str) -> str:
    """The conversation as text, with the user's new message if there is one."""
    lines = [f"{message.role.capitalize()}: {message.content}" for message in transcript]
    return "\n".join(["The conversation so far:", *lines, *(f"User: {said}" for said in more)])


def rewritten(turn: Turn, kind: bool) -> Iterator[Request]:
    """The six requests of the turn, each one text. The wording is that of interalign's prompts; the arrangement is:
    what the role is and knows, then the conversation, then what is asked.

    `kind`: what changes from turn to turn stands last wherever it can, so that each role at least finds its own
    earlier prompt in the cache. Otherwise the notes and the replies stand in the task, before the conversation.
    """
    persona, talk = turn.persona, pasted(turn.before, turn.said)
    user = _one(builtin_prompts().render("user", persona=persona), pasted(turn.before), "Write your next message.")
    yield Request("user", user, turn.said)
    inducer = builtin_prompts("v1").render("inducer", message="").partition("[end of the conversation]")[2]
    yield Request("inducer", _one(inducer, talk, "Your notes:"), turn.notes)
    task = "You are an assistant. Answer the user's last message."
    hinted = f"{task} Have in mind what is known about the user, and do not mention it."
    notes = f"What the conversation so far has shown about the user:\n{quoted(turn.notes)}"
    tailored = _one(hinted, talk, notes) if kind else _one(hinted, notes, talk)
    yield Request("candidate", tailored, turn.replies[0])
    yield Request("candidate", _one(task, talk), turn.replies[1])
    for (first, second), said in zip((turn.replies, turn.replies[::-1]), turn.judged, strict=True):
        text = builtin_prompts().render("judge_compare", message="", persona=persona, first=first, second=second)
        head, mark, rest = text.partition("[end of the conversation]")[2].partition("Reply A:")
        assert mark, "the judge's prompt has changed: show this bench where its replies begin"
        yield Request("judge", _one(head, talk, mark + rest) if kind else _one(head + mark + rest, talk), said)


def _one(*parts: str) -> Prompt:
    return [{"role": "user", "content": "\n\n".join(part.strip() for part in parts)}]


# Counting --------------------------------------------------------------------------------------------


class Counted(NamedTuple):
    """One way to write the prompts. All tokens are per preference pair."""

    name: str
    tokens: float
    """Of the prompts: what is read without a cache."""
    uncached: float
    by_role: dict[str, float]
    """Uncached tokens."""


def counted(name: str, requests: Iterable[Request], pairs: int, replies_too: bool) -> Counted:
    cache = PrefixCache(replies_too)
    for request in requests:
        cache.send(request)
    by_role = {role: cache.uncached[role] / pairs for role in ROLES}
    return Counted(name, cache.tokens / pairs, cache.uncached.total() / pairs, by_role)


def all_counted(path: Path, replies_too: bool) -> list[Counted]:
    """interalign's prompts, then the rewritten ones in their usual and in their kindest arrangement."""
    turns = list(turns_of(path))
    if not turns:
        sys.exit(f"{path}: no judged pair in it; simulate with --judging compare and --branch 2")
    ways: list[tuple[str, Iterable[Request]]] = [
        ("interalign", sent(path)),
        ("rewritten for each role", (request for turn in turns for request in rewritten(turn, kind=False))),
        ("rewritten, changes last", (request for turn in turns for request in rewritten(turn, kind=True))),
    ]
    return [counted(name, requests, len(turns), replies_too) for name, requests in ways]


def table(found: Sequence[Counted]) -> tuple[str, bool]:
    """The table, and whether the goal holds."""
    ours, usual, _ = found
    head = ["uncached tokens a pair", *ROLES, "all", "ours / these", "without a cache"]
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join("-" * (len(name) + 2) for name in head) + "|"]
    for one in found:
        figures = [*one.by_role.values(), one.uncached]
        cells = [f"{figure:{len(name)}.0f}" for name, figure in zip(head[1:], figures, strict=False)]
        ratio = f"{'' if one is ours else format(ours.uncached / one.uncached, '.2f'):12}"
        without = f"{one.tokens:5.0f} ({ours.uncached / one.tokens:.2f})"
        lines.append("| " + " | ".join([f"{one.name:{len(head[0]) + 1}}", *cells, ratio, f"{without:15}"]) + " |")
    resent, cached = ours.uncached / usual.tokens, ours.uncached / usual.uncached
    original, holds = ours.uncached / PAPERS_ORIGINAL, resent <= GOAL
    lines += [
        "",
        f"interalign / rewritten for each role, all resent: {resent:.2f}, goal <= {GOAL}: {'holds' if holds else 'NO'}",
        f"interalign / rewritten for each role, through the same cache: {cached:.2f}",
        f"interalign / the paper's original code ({PAPERS_ORIGINAL:,} for its own prompts and talk): {original:.2f}",
    ]
    return "\n".join(lines), holds


def simulated(run: Path, words: int, asked: argparse.Namespace) -> Path:
    """A run to read the prompts from: of the world, or with replies of so many words."""
    seats = dict.fromkeys(ROLES, "openai:fake") if words else {}
    with serving("--words", str(words)) if words else nullcontext() as server:
        runtime = Runtime(base_url=server.url if server else None)
        ia.simulate(run, trees=asked.trees, turns=asked.turns, **seats, runtime=runtime)
    return run


def talks(asked: argparse.Namespace, folder: Path) -> Iterator[tuple[str, Path]]:
    """The runs to count, each with what to call it."""
    if asked.run:
        yield str(asked.run), asked.run
        return
    for words in asked.words:
        name = f"replies of {words} words" if words else "the embedded world"
        yield f"{name}, {asked.trees} trees of {asked.turns} turns", simulated(folder / f"{words}.db", words, asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a finished run; without it two are simulated")
    parser.add_argument("--trees", type=int, default=24)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--words", type=int, nargs="+", default=[0, 60], help="of a reply, on average; 0: the world's")
    parser.add_argument("--replies-too", action="store_true", help="the cache keeps what it generated, as well")
    parser.add_argument("--json", type=Path, help="write all figures to this file, too")
    asked = parser.parse_args()
    figures, all_hold = {}, True
    with tempfile.TemporaryDirectory() as folder:
        for name, run in talks(asked, Path(folder)):
            found = all_counted(run, asked.replies_too)
            shown, holds = table(found)
            print(f"{name}\n\n{shown}\n")
            figures[name] = [one._asdict() for one in found]
            all_hold = all_hold and holds
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all_hold else 1)


if __name__ == "__main__":
    main()
