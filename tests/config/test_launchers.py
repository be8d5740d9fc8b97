"""Multirun in parallel on one machine and on a SLURM cluster, of which the commands are faked."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from tiny import TINY, history, start

pytestmark = pytest.mark.slow
TRAIN = """
import json, os, sys, time
from pathlib import Path
from convpose.config.application import application, output_folder

@application("train")
def main(cfg):
    '''A job that notes its GPU, and waits until the other job has begun as well.'''
    folder = output_folder()
    (folder / "gpu").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    deadline = time.monotonic() + 120
    while cfg.seed < 2 and len(list(folder.parent.glob("*/gpu"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if cfg.seed == 1:
        raise RuntimeError("unlucky")
    return 1.0

main()
"""


def test_parallel_jobs_have_a_gpu_each_and_one_folder(tmp_path):
    """Without a study the folder is named after the start, which all processes must agree on."""
    (tmp_path / "job.py").write_text(TRAIN)
    result = subprocess.run(
        [sys.executable, "job.py", "-m", "hydra/launcher=parallel", "seed=0,1,2,3"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "CUDA_VISIBLE_DEVICES": "6,7",
            "TMPDIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    (sweep,) = (tmp_path / "runs").iterdir()
    names = sorted(path.name for path in sweep.iterdir() if path.is_dir())
    assert names == ["000_seed-0", "001_seed-1", "002_seed-2", "003_seed-3"]
    first, second, *_ = ((sweep / name / "gpu").read_text() for name in names)
    assert {first, second} == {"6", "7"}
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines()[-2:] == [
        "1 jobs failed:",
        f"  {sweep.relative_to(tmp_path)}/{names[1]}: unlucky",
    ]


@pytest.mark.parametrize(
    ("launcher", "missing", "extra"),
    [
        ("parallel", "joblib", "search"),
        ("joblib", "joblib", "search"),
        ("slurm", "submitit_slurm", "slurm"),
    ],
)
def test_a_launcher_is_an_extra(launcher, missing, extra, command, monkeypatch):
    Plugins.instance()  # has registered them
    known = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.delitem(known, f"{missing}.yaml")
    ended = command("-m", f"hydra/launcher={launcher}", "seed=0,1")
    assert ended.code == 2
    assert ended.err == (
        f"error: hydra/launcher={missing} is not installed; type pip install 'convpose[{extra}]'\n"
    )


def test_several_processes_in_a_parallel_job_are_refused(command):
    overrides = ("trainer.devices=2", "hydra/launcher=parallel", "hydra.launcher.n_jobs=1")
    ended = command("-m", *TINY, *overrides, "seed=0")
    assert ended.code == 1
    assert "2 processes in a job of a multirun or search" in ended.err


SBATCH = """#!/bin/bash
# Runs the job or the tasks of the array here, each as often as FAKE_TURNS has words: SLURM may put
# a job into its queue again.
cp "$1" "$FAKE_SLURM/script.sh"
export SLURM_JOB_ID=42 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0
export SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=localhost SLURM_JOB_NAME=train
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
[[ $last ]] && export SLURM_ARRAY_JOB_ID=42
(
  for task in $(seq 0 "${last:-0}"); do
    [[ $last ]] && export SLURM_ARRAY_TASK_ID=$task
    for turn in $FAKE_TURNS; do bash "$1" >> "$FAKE_SLURM/tasks.log" 2>&1; done
  done
) > /dev/null 2>&1 < /dev/null &
echo "Submitted batch job 42"
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do [[ $1 == *=* || $1 == --unbuffered ]] && shift || shift 2; done
exec "$@"
"""
SACCT = "#!/bin/bash\necho 'JobID|State|NodeList'\n"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Commands of SLURM on PATH; the folder in which they leave their traces."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("sacct", SACCT)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("FAKE_TURNS", "")
    return folder


def test_the_jobs_of_a_multirun_are_one_array(command, cluster, monkeypatch):
    submitted = []

    def results(job):
        submitted.append(job)
        return [JobReturn(_return_value=0.5, status=JobStatus.COMPLETED)]

    monkeypatch.setattr("submitit.core.core.Job.results", results)
    ended = command(
        *("-m", *TINY, "hydra/launcher=slurm", "optimizer.lr=0.1,0.2,0.3", "study=s"),
        *("hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=90"),
    )
    assert ended.code == 0, ended.err
    script = (cluster / "script.sh").read_text()
    assert [job.job_id for job in submitted] == ["42_0", "42_1", "42_2"]
    for line in (
        *("--array=0-2%3", "--partition=gpu", "--time=90", "--nodes=1", "--ntasks-per-node=1"),
        *("--gpus-per-node=1", "--cpus-per-task=8", "--mem=32GB", "--signal=USR2@120"),
    ):
        assert f"#SBATCH {line}\n" in script
    assert f"{sys.executable} -u -m submitit.core._submit {Path.cwd()}/runs/s/.submitit" in script
    assert subprocess.run(["bash", "-n", cluster / "script.sh"]).returncode == 0


def test_a_job_that_slurm_repeats_goes_on_in_its_folder(tmp_path, cluster, monkeypatch):
    monkeypatch.setenv("FAKE_TURNS", "1 2")
    arguments = ("-m", *TINY, "hydra/launcher=slurm", "seed=5", "study=s", "ckpt_path=last")
    process = start(tmp_path, *arguments, "logger=none")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, (out, err)
    deadline = time.monotonic() + 300
    log = cluster / "tasks.log"
    while log.read_text().count("Exiting after successful completion") < 4:  # each says it twice
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    (folder,) = (file.parent for file in (tmp_path / "runs/s").glob("*/config.yaml"))
    assert len(history(folder)) == 2
    assert log.read_text().count("epoch 2/2") == 1
    assert json.loads((folder / "run.json").read_text())["seconds"] > 0
