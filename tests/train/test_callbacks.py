"""The report of an epoch and the moving average of the weights, on their own."""

import csv
import re
from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import EMAWeightAveraging
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import convpose.train.loggers
from convpose.train.callbacks import Ema
from convpose.train.epoch_report import EpochBar, EpochReport, _line
from convpose.train.loggers import chart_names


class Module:
    """Give what the callbacks ask of a PoseModule."""

    def __init__(self):
        self.logged = {}
        self.validation = {"per_joint": {"head_top": {"pck@0.2": 0.5}}}

    def log(self, name, value, **_):
        self.logged[name] = value


class Board(convpose.train.loggers.Board):
    """Keeps what a SummaryWriter is given."""

    def __init__(self):
        self.scalars, self.layout, self.summaries = {}, None, []

    def log_metrics(self, metrics, step):
        self.scalars |= {(name, step): value for name, value in metrics.items()}

    @property
    def experiment(self):
        writer = SimpleNamespace(add_summary=self.summaries.append)
        return SimpleNamespace(
            add_custom_scalars=lambda layout: setattr(self, "layout", layout),
            _get_file_writer=lambda: writer,
            flush=lambda: None,
        )


@pytest.fixture
def board():
    return Board()


def epoch_end(report, module, board, epoch, **measures):
    trainer = SimpleNamespace(
        current_epoch=epoch,
        max_epochs=9,
        num_training_batches=3,
        world_size=1,
        is_global_zero=True,
        loggers=[board],
        datamodule=SimpleNamespace(batch_size=8),
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.5}])],
        callback_metrics={k.replace("__", "/"): torch.tensor(v) for k, v in measures.items()},
    )
    report.on_train_epoch_start(trainer, module)
    if module.validated:
        report.on_validation_start(trainer, module)
    report.on_train_epoch_end(trainer, module)


def test_a_row_an_epoch(tmp_path, board, capsys):
    report, module = EpochReport(tmp_path, "val/loss", "min", {}), Module()
    for epoch, loss in enumerate((0.3, 0.1, 0.2)):
        module.validated = epoch != 1  # as with trainer.check_val_every_n_epoch
        epoch_end(report, module, board, epoch, train__loss=0.4, val__loss=loss)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0.0", "1.0", "2.0"]
    assert [bool(row["val/loss"]) for row in rows] == [True, False, True], "no stale measure"
    assert [row["joint/head_top"] for row in rows] == ["0.5", "", "0.5"]
    assert all(float(row["images_per_s"]) > 0 for row in rows)
    assert report.best()["epoch"] == 2
    shown = {("main/train/loss", 1), ("training/lr", 1), ("main/val/loss", 2)}
    assert shown <= set(board.scalars)
    assert ("pck_of_joints/head_top", 2) in board.scalars
    stale = ("main/val/loss", "main-best/val/loss", "pck_of_joints/head_top")
    assert not {(name, 1) for name in stale} & {*board.scalars}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1/9  train/loss 0.4  val/loss 0.3  lr 0.5  ")
    assert "val/loss" not in lines[1]


def test_the_best_epoch_is_what_hparams_sorts_by(tmp_path, board):
    report, module = EpochReport(tmp_path, "val/loss", "min", {}), Module()
    module.validated = True
    for epoch, (loss, auc) in enumerate(((0.3, 0.5), (0.1, 0.6), (0.2, 0.9))):
        epoch_end(report, module, board, epoch, train__loss=0.4, val__loss=loss, val__auc=auc)
    last = {name: value for (name, step), value in board.scalars.items() if step == 2}
    assert {name: value for name, value in last.items() if "best" in name} == {
        "main-best/val/loss": pytest.approx(0.1),
        "of_best_epoch/val/auc": pytest.approx(0.6),
        "of_best_epoch/epoch": 2,
    }
    assert board.scalars["main-best/val/loss", 0] == pytest.approx(0.3), "a line, not a dot"


@pytest.mark.parametrize("monitor", ["val/pck@0.2", "val/loss", "val/epe_px"])
def test_the_first_charts_are_losses_pck_and_what_hparams_sorts_by(monitor):
    row = dict.fromkeys(("epoch", "train/loss", "val/loss", "val/auc", "val/pck@0.2"), 1.0)
    row |= dict.fromkeys(("val/epe_px", "joint/head_top", "lr", "seconds", "images_per_s"), 1.0)
    names = sorted({*chart_names(row, row, monitor), "main/train/loss_step"})
    first = ["train/loss", "train/loss_step", *sorted({"val/loss", "val/pck@0.2", monitor})]
    first = [f"main/{name}" for name in first]
    assert names[: len(first) + 1] == [f"main-best/{monitor}", *first], "HParams sorts by ASCII"
    assert names[-3:] == ["training/images_per_s", "training/lr", "training/seconds"]


def test_the_loss_by_step_where_an_epoch_is_long(tmp_path, board):
    report = EpochReport(tmp_path, "val/loss", "min", {})
    trainer = SimpleNamespace(is_global_zero=True, loggers=[board])

    def train(batches):
        trainer.num_training_batches = batches
        report.on_train_epoch_start(trainer, None)
        for i in range(batches):
            trainer.global_step = 10 + i + 1
            report.on_train_batch_end(trainer, None, {"loss": torch.tensor(float(i))}, None, i)

    train(50)
    assert not board.scalars
    train(120)
    assert board.scalars == {
        ("main/train/loss_step", 60): 24.5,
        ("main/train/loss_step", 110): 74.5,
    }


@pytest.mark.parametrize(("rows", "forgotten"), [(3, 40), (4, 3)])
def test_what_an_interrupted_training_wrote_is_forgotten(tmp_path, board, rows, forgotten):
    """Steps of the broken epoch alone, or epochs that the checkpoint does not know."""
    report = EpochReport(tmp_path, "val/loss", "min", {})
    report.rows = [{"epoch": float(epoch)} for epoch in range(rows)]
    steps = []
    board.forget_from = steps.append
    trainer = SimpleNamespace(is_global_zero=True, loggers=[board], current_epoch=3, global_step=40)
    report.on_train_start(trainer, None)
    assert (steps, len(report.rows)) == ([forgotten], 3)


def test_hparams_have_the_run_from_its_start_and_its_success(tmp_path, board):
    given = {"optimizer": "sgd", "optimizer.lr": 0.1, "optimizer.nesterov": True}
    report = EpochReport(tmp_path, "val/loss", "min", given)
    trainer = SimpleNamespace(is_global_zero=True, loggers=[board])
    report.on_fit_start(trainer, None)
    (start,) = board.summaries
    losses, pck = (patterns for _, patterns in board.layout["training"].values())
    names = ("train/loss", "train/loss_step", "val/loss", "val/pck@0.2")
    shown = [
        [name for name in names if any(re.search(pattern, f"main/{name}") for pattern in group)]
        for group in (losses, pck)
    ]
    assert shown == [["train/loss", "val/loss"], ["val/pck@0.2"]]
    values = hparams_of(start).session_start_info.hparams
    assert values["optimizer"].string_value == "sgd"
    assert values["optimizer.lr"].number_value == 0.1
    assert values["optimizer.nesterov"].string_value == "true"
    report.on_fit_end(trainer, None)
    assert len(board.summaries) == 1, "no epoch was any good"
    report.rows = [{"epoch": 0.0, "val/loss": 0.1}]
    report.on_fit_end(trainer, None)
    assert hparams_of(board.summaries[1]).session_end_info.status == STATUS_SUCCESS


def hparams_of(summary):
    (value,) = summary.value
    return HParamsPluginData.FromString(value.metadata.plugin_data.content)


def test_the_line_of_an_epoch(monkeypatch):
    row = {
        "epoch": 6.0,
        "train/loss": 0.0371234,
        "val/loss": 0.0421,
        "val/pck@0.2": 0.51239,
        "val/epe_px": 12.3456,
        "lr": 0.01,
        "images_per_s": 812.4,
        "seconds": 8.62,
    }
    assert _line(row, 25) == (
        "epoch 7/25  train/loss 0.03712  val/loss 0.0421  PCK@0.2 51.2 %  EPE 12.35 px  lr 0.01  "
        "812 images/s  8.6 s"
    )
    assert _line(row, None).startswith("epoch 7  train/loss")
    monkeypatch.setattr(EpochBar, "trainer", SimpleNamespace(max_epochs=9))
    assert EpochBar()._get_train_description(0) == "epoch 1/9 "


def test_rows_before_a_continued_epoch_are_kept(tmp_path, board):
    (tmp_path / "metrics.csv").write_text("epoch,val/loss\n0.0,0.3\n1.0,0.2\n2.0,0.1\n")
    report = EpochReport(tmp_path, "val/loss", "min", {})
    trainer = SimpleNamespace(is_global_zero=True, loggers=[], current_epoch=2, global_step=0)
    report.on_fit_start(trainer, None)
    assert report.best()["epoch"] == 2, "a run that is complete already has its result"
    report.on_train_start(trainer, None)
    assert [row["epoch"] for row in report.rows] == [0, 1]


class Weights(LightningModule):
    """Weights, statistics and a counter, as a network with batch norm has them."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

    def step(self):
        """Somewhere else."""
        with torch.no_grad():
            for value in (*self.parameters(), *self.layers[1].buffers()):
                value.add_(torch.rand_like(value) if value.is_floating_point() else 10)


def test_the_moving_average_is_that_of_the_formula():
    ema, network, expected = Ema(decay=0.75), Weights(), {}
    ema.setup(None, network, "fit")
    for step in range(1, 5):
        network.step()
        ema.on_train_batch_end(SimpleNamespace(global_step=step), network, None, None, 0)
        for name, value in network.state_dict().items():
            before = expected.get(name, value)  # the first step's weights are the first average
            expected[name] = (0.75 * before + 0.25 * value).to(value.dtype)
    content = {"state_dict": network.state_dict()}
    ema.on_save_checkpoint(None, network, content)
    assert content["state_dict"].keys() == expected.keys()
    for name, value in content["state_dict"].items():
        torch.testing.assert_close(value, expected[name])


def test_the_moving_average_follows_the_network_to_its_device():
    ema, network = Ema(), Weights()
    ema.setup(None, network, "fit")  # Lightning moves the network later
    ema.on_fit_start(None, network.to("meta"))
    average = ema._average_model
    tensors = (*average.module.parameters(), *average.module.buffers())
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert average.n_averaged.device.type == "cpu"  # read at every step


def test_the_moving_average_takes_few_operations():
    """A GPU spends more time on starting small ones than on doing them."""

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            counted.append(function.__name__)
            return function(*args, **(kwargs or {}))

    counted, network, ema = [], Weights(), Ema()
    ema.setup(None, network, "fit")
    for step in (1, 2):
        counted.clear()
        with Count():
            ema.on_train_batch_end(SimpleNamespace(global_step=step), network, None, None, 0)
    assert sum("lerp" in name for name in counted) == 1, "for all tensors at once"


def test_earlier_runs_continue_with_their_moving_average():
    old = EMAWeightAveraging(decay=0.9)
    old._latest_update_step = 7
    new = Ema(decay=0.9)
    assert new.state_key == old.state_key
    new.load_state_dict(old.state_dict())
    assert new.state_dict() == {"latest_update_step": 7}
