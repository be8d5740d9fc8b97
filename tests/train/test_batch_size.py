"""``data.batch_size=auto`` and errors of full memory."""

import re

import numpy as np
import pytest
import torch
from tiny import history, tiny_config, tiny_run

from convpose.data.build import build_datamodule
from convpose.data.dataset import PoseLandmarksDataset
from convpose.errors import ModelError
from convpose.hardware import loader_killed, out_of_memory
from convpose.models.build import build_model
from convpose.run import Run
from convpose.train import batch_size
from convpose.train.batch_size import Trial, available_bytes, choose_batch_size, largest
from convpose.train.build import build_module, build_trainer
from convpose.train.module import PoseModule

MIB = 2**20
IMAGES = "data.sources.synthetic.num_images=1000"  # 700 of them train
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


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    cfg = tiny_config("data.batch_size=auto", IMAGES, "model.dropout=0.5")
    datamodule = build_datamodule(cfg)
    datamodule.setup()
    module = build_module(cfg, build_model(cfg))
    trainer = build_trainer(cfg, [], False, tmp_path_factory.mktemp("parts"))
    return module, datamodule, trainer


@pytest.mark.parametrize(
    ("room", "most", "expected"),
    [(1, 64, 0), (2, 64, 2), (5, 64, 4), (64, 64, 64), (900, 64, 64), (900, 2, 2), (31, 32, 16)],
)
def test_the_largest_power_of_two_that_fits(room, most, expected):
    tried = []
    assert largest(lambda size: tried.append(size) or size <= room, most) == expected
    assert all(size <= max(2, 2 * expected) for size in tried), "far too large is not even tried"


def test_a_large_memory_is_bounded_by_the_number_of_steps(parts, monkeypatch, capsys):
    monkeypatch.setattr(batch_size, "available_bytes", lambda: 10**12)
    monkeypatch.setattr(batch_size, "MOST_ON_CPU", 512)
    assert choose_batch_size(*parts) == 64  # ten steps of 700 images could have 70
    assert capsys.readouterr().out == (
        "data.batch_size=auto: 64 (at least 10 steps an epoch of 700 images)\n"
    )


def test_a_cpu_gets_no_more_than_it_gains_from(parts, monkeypatch, capsys):
    monkeypatch.setattr(batch_size, "available_bytes", lambda: 10**12)
    monkeypatch.setattr(batch_size, "MOST_ON_CPU", 16)
    assert choose_batch_size(*parts) == 16
    assert "16 (a CPU gains nothing from more)" in capsys.readouterr().out


def test_a_small_memory_bounds_it(parts, monkeypatch, capsys):
    kept = Trial(*parts).bytes_kept(8)
    monkeypatch.setattr(batch_size, "available_bytes", lambda: int(2.5 * kept))
    assert choose_batch_size(*parts) == 8
    assert "8 (16 do not fit into 50% of the free memory)" in capsys.readouterr().out
    monkeypatch.setattr(batch_size, "available_bytes", lambda: 1000)
    with pytest.raises(ModelError, match=r"^data\.batch_size=auto: not even 2 images of data\.inp"):
        choose_batch_size(*parts)


def test_the_estimate_is_what_a_step_keeps(parts):
    trial = Trial(*parts)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.append((t.untyped_storage().data_ptr(), t.untyped_storage().nbytes())) or t,
        lambda t: t,
    ):
        trial.step(32)
    assert trial.bytes_kept(32) == pytest.approx(1.1 * sum(dict(kept).values()), rel=0.05)


def test_a_gpu_is_tried_until_it_is_full(parts, monkeypatch):
    """With the refusals of a GPU, on this CPU."""
    module, datamodule, trainer = parts
    before = {name: value.clone() for name, value in module.state_dict().items()}
    sizes, shares = [], []
    step = PoseModule.step

    def refuse(self, batch):
        sizes.append(len(batch["image"]))
        if sizes[-1] > 20:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(self, batch)

    monkeypatch.setattr(PoseModule, "step", refuse)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, _: shares.append(share)
    )
    trial = Trial(module, datamodule, trainer)
    assert largest(trial.runs, 512) == 16
    assert sizes == [2, 2, 4, 4, 8, 8, 16, 16, 32]
    assert shares == [0.9, 1.0] * 5, "the limit is taken back each time"
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())

    monkeypatch.setattr(PoseModule, "step", lambda self, batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trial.runs(2)


def test_the_choice_is_written_and_belongs_to_the_run(tmp_path, monkeypatch, capsys):
    auto = ("data.batch_size=auto", "trainer.max_epochs=1", "logger=none")
    tiny_run(tmp_path / "auto", *auto)
    assert re.match(r"data\.batch_size=auto: 2 \(at least 10 steps", capsys.readouterr().out)
    assert Run(tmp_path / "auto").config.data.batch_size == 2
    tiny_run(tmp_path / "two", "data.batch_size=2", *auto[1:])
    assert history(tmp_path / "auto") == history(tmp_path / "two")
    monkeypatch.setattr(batch_size, "choose_batch_size", lambda *_: 1 / 0)
    tiny_run(tmp_path / "auto", *auto, "trainer.max_epochs=2", "ckpt_path=last")
    assert [row["epoch"] for row in history(tmp_path / "auto")] == [0, 1]


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:30])
def test_what_full_memory_looks_like(error):
    assert out_of_memory(error)


def test_memory_that_the_machine_refuses(tmp_path, monkeypatch):
    def too_much(self, batch, index):
        return torch.zeros(2**60)

    monkeypatch.setattr(PoseModule, "training_step", too_much)
    with pytest.raises(
        ModelError,
        match=r"^out of memory with data\.batch_size=8 at data\.input_size_px=32; halve data\."
        r"batch_size and double trainer\.accumulate_grad_batches, or type data\.batch_size=auto or",
    ):
        tiny_run(tmp_path, "logger=none", "callbacks.preview=null")


def test_other_errors_are_not_about_memory():
    for error in (RuntimeError("shapes do not match"), ValueError("out of range"), OSError(28, "")):
        assert not out_of_memory(error)
        assert not loader_killed(error)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the dead worker
def test_a_loading_process_that_is_killed(tmp_path, monkeypatch):
    def die(self, key):
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(PoseLandmarksDataset, "__getitem__", die)
    with pytest.raises(ModelError, match=r"^a loading process was killed, mostly because the mem"):
        tiny_run(tmp_path, "data.num_workers=1", "logger=none", "callbacks.preview=null")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/meminfo": "MemTotal: 900 kB\nMemAvailable: 500 kB\n"}, 500 * 1024),
        (
            {
                "proc/meminfo": "MemAvailable: 500 kB\n",
                "sys/fs/cgroup/memory.max": "300000\n",
                "sys/fs/cgroup/memory.current": "100000\n",
            },
            200_000,
        ),
        ({"proc/meminfo": "MemAvailable: 5 kB\n", "sys/fs/cgroup/memory.max": "max\n"}, 5120),
        (
            {
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000\n",
            },
            2000,
        ),
    ],
    ids=["machine", "container", "container without a limit", "old container"],
)
def test_memory_of_machine_and_container(files, expected, tmp_path):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert available_bytes(tmp_path) == expected


def test_memory_of_this_machine(tmp_path):
    assert 10 * MIB < available_bytes() < 2**50
    assert available_bytes(tmp_path) > 10 * MIB
