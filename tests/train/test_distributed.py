"""Two processes train as one: the same measures, one folder, whoever starts and ends them."""

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
from data.fake_lsp import fake_files, write_folder
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import assert_same_run, history, start

from convpose.data.build import build_datamodule
from convpose.history import read_history
from convpose.models.build import build_model
from convpose.models.weights import load_checkpoint
from convpose.run import Run
from convpose.train.build import build_module, build_trainer
from convpose.train.callbacks import CollapseAlarm
from convpose.train.command import keep_console_clean

pytestmark = pytest.mark.slow
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.devices=2")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """LSPET with 46 images of which many joints are unlabelled; 7 validate."""
    return write_folder(tmp_path_factory.mktemp("data") / "lspet", fake_files("lspet", images=46))


def arguments(archive, *overrides):
    return (
        *("data=lspet", f"data.source={archive}", "data.input_size_px=32", "data.num_workers=0"),
        *("data.batch_size=2", "model.depth=11", "model.width=0.0625", "model.dropout=0.5"),
        *("trainer.max_epochs=2", "callbacks.preview.every_epochs=1", "optimizer.lr=0.05"),
        *("callbacks=[default,freeze]", "callbacks.freeze.epochs=1"),  # each epoch another training
        *overrides,
    )


def finished(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out, err


@pytest.fixture(scope="module")
def trained(archive, tmp_path_factory):
    """The folder of a run of two processes that Lightning started, and what they said."""
    folder = tmp_path_factory.mktemp("lightning")
    out, err = finished(start(folder, *arguments(archive, *TWO), "hydra.run.dir=run"))
    return folder / "run", out, err


def test_one_process_speaks(trained):
    _, out, err = trained
    assert err == ""
    lines = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert lines == ["run", "epoch", "epoch", "best", *["python"] * 3, "tensorboard"]


def test_the_validation_is_that_of_one_process(trained, tmp_path):
    """Measure the same weights in the loop by two processes, then by one."""
    run = Run(trained[0])
    cfg = run.config
    datamodule = build_datamodule(cfg)
    datamodule.setup()
    assert len(datamodule.split["val"]) == 7
    module = build_module(cfg, build_model(cfg))
    load_checkpoint(module.model, run.folder / "checkpoints" / "last.ckpt")
    cfg.trainer.devices, cfg.trainer.strategy = 1, "auto"
    keep_console_clean()
    trainer = build_trainer(cfg, [CollapseAlarm()], False, tmp_path)
    trainer.validate(module, datamodule=datamodule, verbose=False)
    assert module.validation["num_images"] == 7
    last = read_history(run.folder / "metrics.csv")[-1]
    measured = {name: value for name, value in last.items() if name.startswith("val/")}
    assert {"val/loss", "val/spread", "val/pck@0.2", "val/epe_px"} <= set(measured)
    for name, value in measured.items():
        assert value == pytest.approx(float(trainer.callback_metrics[name]), abs=1e-5), name
    for name, joint in module.validation["per_joint"].items():
        assert last[f"joint/{name}"] == pytest.approx(joint["pck@0.2"], abs=1e-5), name


def test_the_pictures_show_the_images_of_both(trained):
    events = EventAccumulator(str(trained[0]), size_guidance={"images": 0})
    events.Reload()
    for name in ("pictures/fixed", "pictures/worst"):
        pictures = events.Images(name)
        assert [picture.step for picture in pictures] == [0, 1]
        # seven images take three rows of three; the share of one process would take two
        assert pictures[0].height > 0.9 * pictures[0].width


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_two_nodes_of_slurm(trained, archive, tmp_path, monkeypatch):
    """`srun` with a task on each of two nodes, as its environment says."""
    command = arguments(archive, *TWO[:-1], "trainer.devices=1", "trainer.num_nodes=2")
    slurm = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "pose",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_NNODES": "2",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_LOCALID": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    tasks = []
    for rank in ("0", "1"):
        for name, value in {**slurm, "SLURM_PROCID": rank, "SLURM_NODEID": rank}.items():
            monkeypatch.setenv(name, value)
        tasks.append(start(tmp_path, *command, "hydra.run.dir=run"))
    for task in tasks:
        finished(task)
    assert_same_run(tmp_path / "run", trained[0])


def test_a_scheduler_ends_both_and_the_run_goes_on_with_torchrun(
    trained, archive, tmp_path, forker
):
    command = (*arguments(archive, *TWO), "hydra.run.dir=run", "ckpt_path=last")
    process = forker.begin(*command)
    process.wait_for("epoch 1/2")
    children = processes_of(process.pid)
    os.kill(process.pid, signal.SIGTERM)
    assert process.ended() == 143
    said = process.log.read_text()
    assert re.search(r"^stopped by SIGTERM .* ckpt_path=last continues run$", said, re.M), said
    assert said.count("stopped by SIGTERM") == 1
    assert len(children) == 1
    deadline = time.monotonic() + 60
    while processes_of(process.pid) or any(alive(child) for child in children):
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.2)
    assert len(history(tmp_path / "run")) < 2, "it was stopped before its end"
    torchrun = ("--nproc-per-node=2", f"--master-port={free_port()}", "-m", "convpose.train")
    finished(start(tmp_path, *torchrun, *command, module="torch.distributed.run"))
    assert_same_run(tmp_path / "run", trained[0])


def processes_of(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = path.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == parent:
            found.append(int(path.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
