"""Weights that are trained in half precision: what is said before, and that it is true."""

import pytest
from training_runs import sft_rows, weights, write

from interalign.training.train import train

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "sft.jsonl", *sft_rows(8))


def trained(base, data, out, lora=False, **config) -> list[str]:
    told: list[str] = []
    given = {"use_cpu": True, "max_steps": 2, "per_device_train_batch_size": 4, **config}
    train("sft", str(base), data, out, config=given, lora=lora, tell=told.append)
    return [line for line in told if not line.startswith("memory: ")]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_training_all_weights_in_half_precision_is_told_in_one_line(base, data, tmp_path, dtype):
    (line,) = trained(base, data, tmp_path / "out", model_init_kwargs={"dtype": dtype}, learning_rate=1e-5)
    assert line.startswith(f"the weights are trained in {dtype} itself: at learning_rate 1e-05 the change of a step")
    assert "\n" not in line
    assert f"- Weights: {dtype}" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(("lora", "config"), [(False, {}), (True, {"model_init_kwargs": {"dtype": "bfloat16"}})])
def test_float32_weights_and_an_adapter_need_no_warning(base, data, tmp_path, lora, config):
    assert trained(base, data, tmp_path / "out", lora=lora, **config) == []


def test_the_weights_that_the_line_names_do_not_change_in_bfloat16_and_do_in_float32(base, data, tmp_path):
    still = {}
    for dtype in ("bfloat16", "float32"):
        given = {"model_init_kwargs": {"dtype": dtype}, "learning_rate": 1e-5, "weight_decay": 0.0}
        trained(base, data, tmp_path / dtype, **given)
        before, after = weights(base), weights(tmp_path / dtype)
        large = {name: tensor.abs() > 0.01 for name, tensor in before.items()}
        same = [
            (before[name].to(after[name].dtype) == after[name])[large[name]] for name in after if after[name].ndim > 1
        ]
        still[dtype] = torch.cat(same).float().mean().item()
    assert still["bfloat16"] > 0.95
    assert still["float32"] < 0.6  # rows of the embedding that no text has do not change either
