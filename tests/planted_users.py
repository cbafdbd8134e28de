"""Conversations of the world in which the user's messages have faults of a known kind and rate."""

from random import Random

from interalign.agents.audit import ANSWERS, ENDS, REPEATS
from interalign.agents.findings import CONTRADICTS, DRIFTS, RECITES
from interalign.models.world.candidate import POLICIES, candidate_reply
from interalign.models.world.people import person_of, world_personas
from interalign.models.world.sentences import tell
from interalign.models.world.user import toss, user_message
from interalign.models.world.values import SLOTS, Fact, Style
from interalign.personas import Persona
from interalign.tree import Node, Tree

PLANTED = (CONTRADICTS, RECITES, ANSWERS, REPEATS, ENDS, DRIFTS)


def planted_talk(persona: Persona, number: int, rate: float, turns: int = 10) -> tuple[Tree, dict[str, str]]:
    """One path between the world's user and an average candidate, and the fault of each message that got one."""
    rng = Random(number)
    person = person_of(persona)
    nodes: list[Node] = []
    faults: dict[str, str] = {}
    said: list[str] = []
    clean: list[str] = []
    reply = None
    for turn in range(1, turns + 1):
        parent = nodes[-1].id if nodes else None
        user = "u" if parent is None else f"{parent}/u"
        kind = rng.choice(PLANTED) if rng.random() < rate else None
        coins = toss(rng)
        text = user_message(person, said, reply, coins)
        if kind == DRIFTS:
            flipped = Style(*(not feature for feature in person.style))
            marks = (0.0, 0.0, 0.0)  # every mark of the other style shows
            text = user_message(person._replace(style=flipped), said, reply, coins._replace(marks=marks))
        elif kind == REPEATS and clean:
            text = rng.choice(clean)
        elif kind == CONTRADICTS:
            slot = rng.randrange(len(SLOTS))
            other = rng.choice([value for value in SLOTS[slot].values if value != person.facts[slot].value])
            text = f"{tell(Fact(slot, other))} {text}"
        elif kind == RECITES:
            text = f"{' '.join(persona.profile)} {text}"
        elif kind == ENDS:
            text = f"{text} {rng.choice(['Goodbye.', 'Thanks, bye.', 'That is all for today.', 'See you later.'])}"
        elif kind == ANSWERS:
            text = candidate_reply(POLICIES["attentive"], [*said, text], None, rng)
        else:
            kind = None
        if kind is not None:
            faults[user] = kind
        else:
            clean.append(text)
        said.append(text)
        nodes.append(Node(id=user, parent=parent, turn=turn, role="user", text=text, by="user"))
        reply = candidate_reply(POLICIES["average"], said, None, rng)
        answer = "1" if parent is None else f"{parent}/1"
        nodes.append(Node(id=answer, parent=user, turn=turn, role="assistant", text=reply, by="average"))
    return Tree(id=f"t{number}", run="planted", persona=persona.id, seed=number, nodes=tuple(nodes)), faults


def planted_talks(n: int, rate: float) -> list[tuple[Tree, Persona, dict[str, str]]]:
    """`n` such talks, each of a persona of its own."""
    talks = []
    for number, persona in enumerate(world_personas("train", n, seed=0)):
        tree, faults = planted_talk(persona, number, rate)
        talks.append((tree, persona, faults))
    return talks
