"""What the training tests share: rows to learn, the trainer of a run as TRL holds it, and what came out."""

import json
from pathlib import Path

from interalign.training.data import read_rows
from interalign.training.fit import Job, make_trainer
from interalign.training.library_output import quiet_libraries
from interalign.training.settings_file import read_settings
from interalign.training.weights import load_tokenizer, model_facts


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def write(path: Path, *rows) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def sft_rows(count: int):
    """Short talks whose last reply names the user's drink; every row another user."""
    drinks = ("tea", "milk", "rum")
    for number in range(count):
        drink = drinks[number % 3]
        talk = [user(f"{number}: I drink {drink}."), assistant("Hm."), user("So?"), assistant(f"More {drink}!")]
        yield {"messages": talk, "tree": f"t{number}", "node": "1/1"}


def dpo_rows(count: int):
    """Pairs of which the chosen reply names the user's drink and the rejected one does not."""
    for row in sft_rows(count):
        *prompt, chosen = row["messages"]
        yield {"prompt": prompt, "chosen": [chosen], "rejected": [assistant("Go away.")], "tree": row["tree"]}


def trainer_for(recipe, method, model: Path, data: Path, out: Path, score=None, **config):
    """The TRL trainer that `interalign train` would start, not started."""
    settings = read_settings(method, {"use_cpu": True, **config})
    tokenizer = load_tokenizer(str(model), settings)
    job = Job(settings, str(model), data, out)
    with quiet_libraries():
        facts = model_facts(str(model), tokenizer)
        return make_trainer(job, recipe, read_rows(data, method), tokenizer, facts, score).trainer


def weights(folder: Path):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def reply_of(folder: Path, messages) -> str:
    """The model's greedy reply, special tokens and all."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        answered = model.generate(**asked, max_new_tokens=30, do_sample=False)
    return tokenizer.decode(answered[0, asked["input_ids"].shape[1] :])
