"""The sampler of `hf:` models beside transformers' own: the same tokens are left, with the same probabilities."""

from typing import Any

import pytest

from interalign.config import Parameters
from interalign.models.local.request import GenerationJob
from interalign.models.local.sampler import Sampler
from interalign.models.request import Request, Shape
from interalign.tree import Message

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
VOCABULARY = 60
PROMPT = (3, 7, 7, 11)


def theirs(ids: Any, scores: Any, parameters: Parameters) -> Any:
    """Probabilities as transformers would sample from, shape [vocabulary]."""
    warpers = transformers.LogitsProcessorList()
    if parameters.repetition_penalty:
        warpers.append(transformers.RepetitionPenaltyLogitsProcessor(parameters.repetition_penalty))
    if parameters.temperature:
        warpers.append(transformers.TemperatureLogitsWarper(parameters.temperature))
    if parameters.top_k:
        warpers.append(transformers.TopKLogitsWarper(parameters.top_k))
    if parameters.top_p:
        warpers.append(transformers.TopPLogitsWarper(parameters.top_p))
    if parameters.min_p:
        warpers.append(transformers.MinPLogitsWarper(parameters.min_p))
    return warpers(ids, scores.double()).softmax(-1)[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"top_k": 5},
        {"top_k": 1},
        {"top_k": 1000},
        {"min_p": 0.2},
        {"min_p": 1.0},
        {"repetition_penalty": 1.8},
        {"repetition_penalty": 0.5, "temperature": 0.7},
        {"top_k": 12, "top_p": 0.8, "min_p": 0.05, "temperature": 0.6, "repetition_penalty": 1.3},
    ],
)
def test_tokens_are_drawn_with_the_probabilities_of_transformers(settings: dict[str, Any]) -> None:
    parameters = Parameters(**{"temperature": 1.0, **settings})
    scores = torch.randn(1, VOCABULARY, generator=torch.Generator().manual_seed(1)) * 2
    expected = theirs(torch.tensor([PROMPT]), scores, parameters)
    draws = 4000
    jobs = [GenerationJob((), parameters, seed, prompt=PROMPT) for seed in range(draws)]
    chosen = Sampler(jobs)(torch.tensor([PROMPT]).repeat(draws, 1), scores.repeat(draws, 1)).argmax(-1)
    counts = torch.bincount(chosen, minlength=VOCABULARY) / draws
    assert set(counts.nonzero().flatten().tolist()) <= set(expected.nonzero().flatten().tolist())
    assert torch.allclose(counts.double(), expected, atol=0.04)


def test_a_penalty_looks_at_a_rows_own_tokens_and_not_at_its_padding() -> None:
    parameters = Parameters(temperature=0, repetition_penalty=100.0)
    scores = torch.zeros(1, VOCABULARY)
    scores[0, 0], scores[0, 7], scores[0, 9] = 3.0, 2.0, 1.0  # 0 is the padding
    long, short = (
        GenerationJob((), parameters, 0, prompt=(1, 2, 3, 4, 5)),
        GenerationJob((), parameters, 0, prompt=(7,)),
    )
    ids = torch.tensor([[1, 2, 3, 4, 5], [0, 0, 0, 0, 7]])
    chosen = Sampler([long, short])(ids, scores.repeat(2, 1)).argmax(-1).tolist()
    assert chosen == [0, 0]
    scores[0, 0] = 0.0
    assert Sampler([long, short])(ids, scores.repeat(2, 1)).argmax(-1).tolist() == [7, 9]


def test_neighbours_with_other_settings_change_nothing() -> None:
    scores = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(2))
    each = [Parameters(temperature=1.0, top_k=3), Parameters(temperature=1.0), Parameters(temperature=1.0, min_p=0.3)]
    jobs = [GenerationJob((), parameters, number, prompt=PROMPT) for number, parameters in enumerate(each)]
    ids = torch.tensor([PROMPT] * 3)
    together = Sampler(jobs)(ids, scores).argmax(-1).tolist()
    alone = [int(Sampler([job])(ids[:1], scores[row : row + 1]).argmax()) for row, job in enumerate(jobs)]
    assert together == alone


def test_a_server_gets_what_is_set_and_a_request_without_stays_as_it_was() -> None:
    messages = [Message(role="user", content="Hi.")]
    plain = Request("m", messages, Parameters(), 0).fields(Shape("max_tokens"))
    assert not {"top_k", "min_p", "repetition_penalty"} & plain.keys()
    given = Parameters(top_k=5, min_p=0.1, repetition_penalty=1.1)
    fields = Request("m", messages, given, 0).fields(Shape("max_tokens"))
    assert (fields["top_k"], fields["min_p"], fields["repetition_penalty"]) == (5, 0.1, 1.1)
    assert Parameters().model_dump() == {
        "temperature": None, "top_p": None, "max_tokens": None, "seed": None, "extra_body": {},
    }  # fmt: skip


@pytest.mark.parametrize("bad", [{"top_k": 0}, {"min_p": 1.5}, {"repetition_penalty": 0.0}])
def test_a_setting_that_cannot_be_one_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Parameters(**bad)
