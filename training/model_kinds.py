"""What is trained: a language model, which speaks, or a reward model, which scores whole conversations."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from interalign.training.served import Answers, Rows, logits_of, scores_of


@dataclass(frozen=True)
class ModelKind:
    """How a model of one kind is loaded, adapted, compared and served."""

    name: str
    auto: Callable[[], Any]
    """The `AutoModelFor...` class of transformers, imported when it is asked for."""
    task_type: str
    """PEFT's name for it."""
    pipeline: str
    """The pipeline tag of its model card."""
    loading: str
    """How it is loaded, in Markdown for the model card."""
    answers: Callable[[Any, Rows], Answers]
    """What a model answers to rows of token ids: the saved one has to answer as the trained one."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What it is loaded with, besides the user's own settings."""


def _causal_lm() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM


def _sequence_classification() -> Any:
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification


_SPEAKS: Final = """\
`hf:FOLDER` is its name in `interalign simulate --candidate` and `interalign evaluate --candidate`; `vllm serve FOLDER`
serves it to others. With transformers: `AutoModelForCausalLM.from_pretrained(FOLDER)`."""
_SCORES: Final = """\
It gives a whole conversation, the reply last, one number; of two replies to the same conversation the one with the
higher number is the preferred one, and the numbers mean nothing else.

```text
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
model = AutoModelForSequenceClassification.from_pretrained(FOLDER)
tokens = tokenizer.apply_chat_template(messages, return_tensors="pt", return_dict=True)
score = model(**tokens).logits[0, 0]
```"""
LANGUAGE_MODEL: Final = ModelKind("language model", _causal_lm, "CAUSAL_LM", "text-generation", _SPEAKS, logits_of)
REWARD_MODEL: Final = ModelKind(
    "reward model", _sequence_classification, "SEQ_CLS", "text-classification", _SCORES, scores_of, {"num_labels": 1}
)
