"""The files in deploy/, parsed, and run as far as one machine goes: as processes with a scheduler's variables."""

import json
import os
import re
import shlex
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


def merged_as_the_whole_run(folder: Path, shards: int = SHARDS) -> None:
    files = sorted(folder.glob("shard-*.db"))
    assert [file.name for file in files] == [f"shard-{number}.db" for number in range(1, shards + 1)]
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


def instructions(file: str) -> list[tuple[str, str]]:
    text = (DEPLOY / file).read_text(encoding="utf-8")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, rest in lines]


def test_the_container_files_have_known_instructions_and_what_they_copy_is_there() -> None:
    alone = ["FROM", "COPY", "RUN", "RUN", "USER", "WORKDIR", "ENTRYPOINT", "CMD"]
    assert [word for word, _ in instructions("Containerfile")] == alone
    assert [word for word, _ in instructions("Containerfile.ray")] == ["FROM", "COPY", "RUN"]
    assert (DEPLOY.parent / "constraints.txt").exists()


def manifest(file: str) -> Any:
    return yaml.safe_load((DEPLOY / file).read_text(encoding="utf-8"))


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_the_ray_job_gives_its_command_as_many_workers_as_may_come_and_what_they_read() -> None:
    made = manifest("ray-job.yaml")
    assert (made["apiVersion"], made["kind"]) == ("ray.io/v1", "RayJob")
    words, cluster = shlex.split(made["spec"]["entrypoint"]), made["spec"]["rayClusterSpec"]
    assert words[:2] == ["interalign", "simulate"]
    (group,) = cluster["workerGroupSpecs"]
    assert (option(words, "--engine"), int(option(words, "--workers"))) == ("ray", group["maxReplicas"])
    head, config = cluster["headGroupSpec"], option(words, "--config")
    assert (head["rayStartParams"], group["rayStartParams"]) == ({"num-cpus": "0"}, {"num-cpus": "1"})
    assert cluster["authOptions"] == {"mode": "token"}
    for part, needed in ((head, [words[2], config]), (group, [config])):
        pod = part["template"]["spec"]
        (container,) = pod["containers"]
        mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
        assert {str(Path(each).parent) for each in needed} == set(mounted)
        assert {each["name"] for each in pod["volumes"]} == set(mounted.values())
        assert container["envFrom"] == [{"secretRef": {"name": "interalign-keys", "optional": True}}]
    image = dict(instructions("Containerfile.ray"))["FROM"]
    assert image.startswith(f"rayproject/ray:{cluster['rayVersion']}-py")  # head and command need the same Ray


def test_the_command_of_the_ray_job_makes_the_run_also_without_a_cluster(tmp_path: Path, cli) -> None:
    (tmp_path / "sim.yaml").write_text(yaml.safe_dump(SETTINGS))
    words = shlex.split(manifest("ray-job.yaml")["spec"]["entrypoint"])
    here = {words[2]: "run.db", option(words, "--config"): "sim.yaml", "ray": "local", option(words, "--workers"): "1"}
    assert cli(*[here.get(word, word) for word in words[1:]]).code == 0
    ia.simulate(tmp_path / "whole.db", **SETTINGS)
    assert calls(tmp_path / "run.db") == calls(tmp_path / "whole.db")


def skypilot_job(rank: int, bucket: Path, machine: Path, **more: str) -> "subprocess.Popen[bytes]":
    """The task's script as a job of two runs it."""
    machine.mkdir(exist_ok=True)
    given = {"SKYPILOT_JOB_RANK": str(rank), "SKYPILOT_NUM_JOBS": "2", "RUNS": str(bucket), "HOME": str(machine)}
    return subprocess.Popen(
        ["bash", "-c", manifest("skypilot.yaml")["run"]],
        env=environment(**given, CONFIG=str(bucket.parent / "sim.yaml"), **more),
        stderr=subprocess.PIPE,
    )


def test_the_task_mounts_what_its_script_reads_and_names_what_has_to_be_given() -> None:
    task = manifest("skypilot.yaml")
    assert set(task["file_mounts"]) == {task["envs"]["RUNS"], task["envs"]["CONFIG"]}
    assert task["file_mounts"][task["envs"]["RUNS"]] == {"name": "${BUCKET}", "mode": "MOUNT"}
    assert task["envs"]["BUCKET"] is None  # SkyPilot refuses the task until it is given
    used = set(re.findall(r"\b[A-Z][A-Z_]+\b", task["run"]))
    assert used == {"RUNS", "CONFIG", "HOME", "SHARD", "SHARDS", "SKYPILOT_JOB_RANK", "SKYPILOT_NUM_JOBS"}


def test_the_jobs_of_the_task_as_local_processes_make_the_run_and_go_on_from_the_bucket(tmp_path: Path) -> None:
    (tmp_path / "sim.yaml").write_text(yaml.safe_dump(SETTINGS))
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    jobs = [skypilot_job(rank, bucket, tmp_path / f"machine-{rank}") for rank in range(2)]
    assert [len(job.communicate()[1]) > 0 for job in jobs] == [True, True]
    assert [job.returncode for job in jobs] == [0, 0]
    merged_as_the_whole_run(bucket, 2)
    again = skypilot_job(1, bucket, tmp_path / "another-machine")
    ended = json.loads(again.communicate()[1].splitlines()[-1])
    assert (again.returncode, ended["done"], ended["calls"]) == (0, 3, 0)
    refused = skypilot_job(0, bucket, tmp_path / "machine-9", SHARD="9")
    assert b"9/2: shards count from 1" in refused.communicate()[1]
    assert refused.returncode == 2  # and not that of the copying
    assert not (bucket / "shard-9.db").exists()


@pytest.mark.parametrize("file", sorted(DEPLOY.iterdir()), ids=lambda file: file.name)
def test_every_option_that_a_file_gives_exists(file: Path, cli) -> None:
    known = cli("simulate", "--help").out + cli("merge", "--help").out
    for command in re.findall(r"interalign simulate (.+)", file.read_text(encoding="utf-8")):
        for option in re.findall(r"(--[a-z-]+)", command):
            assert option in known
