"""One GPU for each of several trainings at once (the GPUs here are names); full memory."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from convpose import hardware as devices

FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((1000, 1000), np.dtype("float64")),
    OSError(12, "Cannot allocate memory"),
    RuntimeError("Caught RuntimeError in DataLoader worker process 0.\n can't allocate memory"),
)


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(devices, "_lease", [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    return tmp_path


@pytest.fixture
def lease(monkeypatch):
    """Lease as another process would."""
    held = []

    def call():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
        held.append([])
        monkeypatch.setattr(devices, "_lease", held[-1])
        gpu = devices.lease_gpu()
        assert os.environ["CUDA_VISIBLE_DEVICES"] == gpu
        return gpu

    yield call
    for file in (file for files in held for file in files):
        file.close()


def test_every_process_has_its_own_until_there_are_more_processes_than_gpus(lease):
    assert [lease() for _ in range(5)] == ["3", "5", "3", "5", "3"]


def test_a_process_keeps_its_gpu_for_all_its_jobs(lease):
    assert lease() == "3"
    assert devices.lease_gpu() == "3"
    assert len(devices._lease) == 1


def test_a_killed_process_gives_its_gpu_back(lease, locks):
    code = "from convpose.hardware import lease_gpu; print(lease_gpu(), flush=True); input()"
    environment = {
        "CUDA_VISIBLE_DEVICES": "3,5",
        "TMPDIR": str(locks),
        "PYTHONPATH": str(Path(__file__).parent.parent),
    }
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout.readline() == "3\n"
        assert lease() == "5"
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert lease() == "3"


@pytest.mark.parametrize("listed", ["", "-1"])
def test_there_is_no_gpu(listed, monkeypatch, locks):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert devices.lease_gpu() is None
    assert os.environ["CUDA_VISIBLE_DEVICES"] == listed
    assert not list(locks.iterdir())


def test_without_a_list_the_driver_counts(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert devices.visible_gpus() == ["0", "1", "2"]


@pytest.mark.parametrize(("launcher", "leases"), [({}, 0), ({"n_jobs": 1}, 0), ({"n_jobs": 2}, 1)])
def test_only_jobs_that_run_at_once_share(launcher, leases, monkeypatch):
    devices.share_devices(OmegaConf.create(launcher))
    assert len(devices._lease) == leases
    for file in devices._lease:
        file.close()


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:30])
def test_what_full_memory_looks_like(error):
    assert devices.out_of_memory(error)


def test_other_errors_are_not_about_memory():
    for error in (RuntimeError("shapes do not match"), ValueError("out of range"), OSError(28, "")):
        assert not devices.out_of_memory(error)
        assert not devices.loader_killed(error)
