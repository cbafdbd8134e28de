"""The files in deploy/, parsed, and run as far as one machine goes: as processes with a scheduler's variables."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_merge import calls

import interalign as ia
from interalign import api

DEPLOY = Path(__file__).parents[1] / "deploy"
SETTINGS: dict[str, Any] = {"trees": 7, "turns": 1, "seed": 5}
SHARDS = 3


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, **more}


def all_end_with_zero(processes: "list[subprocess.Popen[bytes]]") -> None:
    assert [process.wait(timeout=120) for process in processes] == [0] * len(processes)


def merged_as_the_whole_run(folder: Path) -> None:
    files = sorted(folder.glob("shard-*.db"))
    assert [file.name for file in files] == [f"shard-{number}.db" for number in range(1, SHARDS + 1)]
    ia.simulate(folder / "whole.db", **SETTINGS)
    assert api.merge(folder / "out.db", files).is_whole
    assert calls(folder / "out.db") == calls(folder / "whole.db")


def job() -> Any:
    return yaml.safe_load((DEPLOY / "kubernetes-job.yaml").read_text(encoding="utf-8"))


def test_the_job_is_indexed_and_has_as_many_completions_as_it_says_there_are_shards() -> None:
    made = job()
    assert (made["apiVersion"], made["kind"], made["spec"]["completionMode"]) == ("batch/v1", "Job", "Indexed")
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    variables = {each["name"]: each["value"] for each in container["env"]}
    assert int(variables["SHARDS"]) == made["spec"]["completions"]
    assert pod["restartPolicy"] == "Never"  # which podFailurePolicy needs
    mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    assert mounted[variables["RUNS"]] == "runs"
    assert mounted[str(Path(variables["CONFIG"]).parent)] == "config"
    assert {each["name"] for each in pod["volumes"]} == set(mounted.values())
    (refused, _) = made["spec"]["podFailurePolicy"]["rules"]
    assert refused["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [2]}


def test_the_pods_of_the_job_as_local_processes_make_the_run(tmp_path: Path) -> None:
    (tmp_path / "sim.yaml").write_text(yaml.safe_dump(SETTINGS))
    (container,) = job()["spec"]["template"]["spec"]["containers"]
    words = [*container["command"], *container["args"]]
    variables = {"SHARDS": str(SHARDS), "RUNS": str(tmp_path), "CONFIG": str(tmp_path / "sim.yaml")}
    processes = [
        subprocess.Popen(
            words, env=environment(JOB_COMPLETION_INDEX=str(index), **variables), stderr=subprocess.DEVNULL
        )
        for index in range(SHARDS)
    ]
    all_end_with_zero(processes)
    merged_as_the_whole_run(tmp_path)


def test_the_tasks_of_the_array_as_local_processes_make_the_run(tmp_path: Path) -> None:
    options = ["--trees", "7", "--turns", "1", "--seed", "5"]
    processes = [
        subprocess.Popen(
            [DEPLOY / "slurm-array.sh", *options],
            env=environment(RUNS=str(tmp_path), SLURM_ARRAY_TASK_ID=str(task), SLURM_ARRAY_TASK_COUNT=str(SHARDS)),
            stderr=subprocess.DEVNULL,
        )
        for task in range(1, SHARDS + 1)
    ]
    all_end_with_zero(processes)
    merged_as_the_whole_run(tmp_path)


def test_the_array_begins_at_one_and_one_task_alone_knows_how_many_shards_there_are(tmp_path: Path) -> None:
    script = (DEPLOY / "slurm-array.sh").read_text(encoding="utf-8")
    assert re.findall(r"^#SBATCH --array=(\S+)$", script, re.MULTILINE) == ["1-8"]
    alone = {"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_COUNT": "1"}
    words = [DEPLOY / "slurm-array.sh", "--trees", "3", "--turns", "1"]
    done = subprocess.run(
        words, env=environment(RUNS=str(tmp_path), SHARDS="3", **alone), check=False, capture_output=True
    )
    assert done.returncode == 0
    with ia.open_run(tmp_path / "shard-2.db") as run:
        assert [tree.id for tree in run.trees()] == ["t00001"]
    done = subprocess.run(words, env=environment(**alone), check=False, capture_output=True, text=True)
    assert done.returncode != 0
    assert "RUNS: the folder for the shards" in done.stderr


def test_the_container_file_has_known_instructions_and_what_it_copies_is_there() -> None:
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert [word for word, _ in lines] == ["FROM", "COPY", "RUN", "RUN", "USER", "WORKDIR", "ENTRYPOINT", "CMD"]
    assert (DEPLOY.parent / "constraints.txt").exists()


@pytest.mark.parametrize("file", sorted(DEPLOY.iterdir()), ids=lambda file: file.name)
def test_every_option_that_a_file_gives_exists(file: Path, cli) -> None:
    known = cli("simulate", "--help").out + cli("merge", "--help").out
    for command in re.findall(r"interalign simulate (.+)", file.read_text(encoding="utf-8")):
        for option in re.findall(r"(--[a-z-]+)", command):
            assert option in known
