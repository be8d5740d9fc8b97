"""Let a training choose for itself: ``data.batch_size=auto`` and ``lr_find=true``."""

import re
from types import SimpleNamespace

import pytest
import torch
from tiny import QUIET, assert_same, assert_same_run, history, tiny_config, tiny_run

from convpose.data.build import build_datamodule
from convpose.errors import ConfigError, ModelError
from convpose.models.build import build_model
from convpose.run import Run
from convpose.train import command
from convpose.train.build import build_module, build_trainer
from convpose.train.module import PoseModule
from convpose.train.start import choose_batch_size, largest_that_fits

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (7, "2 (at least 10 steps an epoch of 7 images)"),
        (700, "64 (at least 10 steps an epoch of 700 images)"),
        (5000, "64 (a CPU gains nothing from more)"),
    ],
)
def test_a_cpu_has_steps_enough_and_no_more_images_than_it_gains_from(images, said, capsys):
    datamodule = SimpleNamespace(datasets={"train": range(images)}, batch_size=0)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))
    size = choose_batch_size(None, datamodule, trainer)
    assert capsys.readouterr().out == f"data.batch_size=auto: {said}\n"
    assert said.startswith(f"{size} ")
    assert datamodule.batch_size == size


@pytest.fixture
def gpu(monkeypatch):
    """The refusals of a GPU, on this CPU: more images than `room` do not fit."""
    found = SimpleNamespace(room=5, sizes=[], shares=[])
    step = PoseModule.step

    def refuse(self, batch):
        size = len(batch["image_id"])
        if self.training:
            found.sizes.append(size)
        if size > found.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(self, batch)

    monkeypatch.setattr(PoseModule, "step", refuse)
    nothing = "lightning.pytorch.tuner.batch_size_scaling.garbage_collection_cuda"
    monkeypatch.setattr(nothing, lambda: None)  # takes most of the time
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, _: found.shares.append(share)
    )
    return found


@pytest.fixture
def parts(tmp_path):
    cfg = tiny_config("data.batch_size=auto", "model.dropout=0.5")
    datamodule = build_datamodule(cfg)
    datamodule.setup()
    module = build_module(cfg, build_model(cfg))
    return module, datamodule, build_trainer(cfg, [], False, tmp_path)


def test_a_gpu_is_tried_until_it_is_full(parts, gpu, tmp_path):
    module, datamodule, trainer = parts
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert largest_that_fits(module, datamodule, trainer, 64) == 4
    assert datamodule.batch_size == 4
    assert list(dict.fromkeys(gpu.sizes)) == [2, 4, 8]
    assert gpu.shares == [0.9, 1.0], "the limit is taken back"
    assert_same(before, dict(module.state_dict()))
    assert not list(tmp_path.iterdir())
    gpu.room = 64
    assert largest_that_fits(module, datamodule, trainer, 4) == 4, "an epoch needs its steps"


@pytest.mark.parametrize("room", [0, 1])
def test_a_gpu_without_room_for_two_images(room, parts, gpu):
    gpu.room = room
    with pytest.raises(ModelError, match=r"^data\.batch_size=auto: not even 2 images of data\.inp"):
        largest_that_fits(*parts, 64)
    assert gpu.shares == [0.9, 1.0]


def test_another_error_of_a_step_is_not_about_memory(parts, gpu, monkeypatch):
    monkeypatch.setattr(PoseModule, "step", lambda self, batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        largest_that_fits(*parts, 64)
    assert gpu.shares == [0.9, 1.0]


def test_a_gpu_says_what_did_not_fit(monkeypatch, capsys):
    monkeypatch.setattr("convpose.train.start.largest_that_fits", lambda *_: 32)
    datamodule = SimpleNamespace(datasets={"train": range(5000)}, batch_size=0)
    trainer = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda")))
    assert choose_batch_size(None, datamodule, trainer) == 32
    assert "auto: 32 (64 do not fit into 90% of the GPU's memory)\n" in capsys.readouterr().out


AUTO = ("trainer.max_epochs=1", "model.dropout=0.5", *QUIET)


def test_the_choice_is_written_and_belongs_to_the_run(tmp_path, monkeypatch, capsys):
    tiny_run(tmp_path / "auto", *AUTO, "data.batch_size=auto")
    assert re.match(r"data\.batch_size=auto: 2 \(at least 10 steps", capsys.readouterr().out)
    assert Run(tmp_path / "auto").config.data.batch_size == 2
    monkeypatch.setattr(command, "choose_batch_size", lambda *_: 1 / 0)
    more = ("data.batch_size=auto", "trainer.max_epochs=2", "ckpt_path=last")
    tiny_run(tmp_path / "auto", *AUTO, *more)
    assert [row["epoch"] for row in history(tmp_path / "auto")] == [0, 1]


def test_the_search_for_a_batch_size_leaves_no_trace(tmp_path, monkeypatch, gpu):
    tiny_run(tmp_path / "typed", *AUTO, "data.batch_size=4")
    monkeypatch.setattr(command, "choose_batch_size", lambda *parts: largest_that_fits(*parts, 4))
    tiny_run(tmp_path / "found", *AUTO, "data.batch_size=auto")
    assert Run(tmp_path / "found").config.data.batch_size == 4
    assert_same_run(tmp_path / "found", tmp_path / "typed")
    assert not list((tmp_path / "found").glob(".scale*"))


def test_the_found_rate_is_used_and_the_search_leaves_no_trace(tmp_path, capsys):
    search = (
        *("data.batch_size=4", "trainer.max_epochs=15", "trainer.check_val_every_n_epoch=15"),
        *("scheduler=constant", *QUIET),
    )
    tiny_run(tmp_path / "found", *search, "lr_find=true")
    assert "lr_find: optimizer.lr=" in capsys.readouterr().out
    assert (tmp_path / "found" / "lr_find.png").stat().st_size > 10_000
    rate = history(tmp_path / "found")[0]["lr"]
    assert 1e-4 < rate <= 0.1
    tiny_run(tmp_path / "given", *search, f"optimizer.lr={rate}")
    assert_same_run(tmp_path / "found", tmp_path / "given")
    assert not list((tmp_path / "found").glob(".lr_find*"))


def test_a_search_over_too_few_steps(tmp_path):
    with pytest.raises(ConfigError, match=r"no valley; choose optimizer\.lr yourself"):
        tiny_run(tmp_path, "lr_find=true", "trainer.max_epochs=1", "logger=none")
    assert not list(tmp_path.iterdir())
