"""The report of an epoch and the moving average of the weights, on their own."""

import csv
from types import SimpleNamespace

import pytest
import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import EMAWeightAveraging
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from convpose.train.callbacks import Ema
from convpose.train.callbacks.epoch_report import EpochBar, EpochReport, _line


class Module:
    """What the callbacks ask of a PoseModule."""

    def __init__(self):
        self.logged = {}
        self.validation = {"per_joint": {"head_top": {"pck@0.2": 0.5}}}

    def log(self, name, value, **_):
        self.logged[name] = value


class Writer:
    """Keeps what a SummaryWriter is given."""

    def __init__(self):
        self.scalars, self.layout, self.summaries = {}, None, []

    def add_scalar(self, name, value, step):
        self.scalars[name, step] = value

    def add_custom_scalars(self, layout):
        self.layout = layout

    def _get_file_writer(self):
        return SimpleNamespace(add_summary=self.summaries.append)

    def flush(self):
        pass


@pytest.fixture
def writer(monkeypatch):
    writer = Writer()
    monkeypatch.setattr("convpose.train.callbacks.epoch_report.tensorboard", lambda trainer: writer)
    return writer


def epoch_end(report, module, epoch, **measures):
    trainer = SimpleNamespace(
        current_epoch=epoch,
        max_epochs=9,
        num_training_batches=3,
        world_size=1,
        is_global_zero=True,
        datamodule=SimpleNamespace(batch_size=8),
        optimizers=[SimpleNamespace(param_groups=[{"lr": 0.5}])],
        callback_metrics={k.replace("__", "/"): torch.tensor(v) for k, v in measures.items()},
    )
    report.on_train_epoch_start(trainer, module)
    if module.validated:
        report.on_validation_start(trainer, module)
    report.on_train_epoch_end(trainer, module)


def test_a_row_an_epoch(tmp_path, writer, capsys):
    report, module = EpochReport(tmp_path, "val/loss", "min", {}), Module()
    for epoch, loss in enumerate((0.3, 0.1, 0.2)):
        module.validated = epoch != 1  # as with trainer.check_val_every_n_epoch
        epoch_end(report, module, epoch, train__loss=0.4, val__loss=loss)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["0.0", "1.0", "2.0"]
    assert [bool(row["val/loss"]) for row in rows] == [True, False, True], "no stale measure"
    assert [row["joint/head_top"] for row in rows] == ["0.5", "", "0.5"]
    assert all(float(row["images_per_s"]) > 0 for row in rows)
    assert report.best()["epoch"] == 2
    assert {("train/loss", 1), ("lr", 1), ("val/loss", 2), ("joint/head_top", 2)} <= set(
        writer.scalars
    )
    assert ("val/loss", 1) not in writer.scalars
    assert ("joint/head_top", 1) not in writer.scalars
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("epoch 1/9  train/loss 0.4  val/loss 0.3  lr 0.5  ")
    assert "val/loss" not in lines[1]


def test_the_best_epoch_is_what_hparams_sorts_by(tmp_path, writer):
    report, module = EpochReport(tmp_path, "val/loss", "min", {}), Module()
    module.validated = True
    for epoch, (loss, auc) in enumerate(((0.3, 0.5), (0.1, 0.6), (0.2, 0.9))):
        epoch_end(report, module, epoch, train__loss=0.4, val__loss=loss, val__auc=auc)
    best = {name: value for (name, step), value in writer.scalars.items() if name[:4] == "best"}
    assert best == {
        "best/val/loss": pytest.approx(0.1),
        "best_epoch/val/auc": pytest.approx(0.6),
        "best_epoch/epoch": 2,
    }
    assert ("best/val/loss", 2) not in writer.scalars, "the last epoch was no better"
    assert sorted(best)[0] == "best/val/loss", "TensorBoard shows the first ones"


def test_hparams_have_the_run_from_its_start_and_its_success(tmp_path, writer):
    given = {"optimizer": "sgd", "optimizer.lr": 0.1, "optimizer.nesterov": True}
    report = EpochReport(tmp_path, "val/loss", "min", given)
    trainer = SimpleNamespace()
    report.on_fit_start(trainer, None)
    (start,) = writer.summaries
    (chart,) = writer.layout["losses"].values()
    assert chart == ["Multiline", ["train/loss", "val/loss"]]
    values = hparams_of(start).session_start_info.hparams
    assert values["optimizer"].string_value == "sgd"
    assert values["optimizer.lr"].number_value == 0.1
    assert values["optimizer.nesterov"].string_value == "true"
    report.on_fit_end(trainer, None)
    assert len(writer.summaries) == 1, "no epoch was any good"
    report.rows = [{"epoch": 0.0, "val/loss": 0.1}]
    report.on_fit_end(trainer, None)
    assert hparams_of(writer.summaries[1]).session_end_info.status == STATUS_SUCCESS


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
        "epoch 7/25  train/loss 0.03712  val/loss 0.0421  PCK@0.2 0.5124  EPE px 12.35  lr 0.01  "
        "812 images/s  8.6 s"
    )
    assert _line(row, None).startswith("epoch 7  train/loss")
    monkeypatch.setattr(EpochBar, "trainer", SimpleNamespace(max_epochs=9))
    assert EpochBar()._get_train_description(0) == "epoch 1/9 "


def test_rows_before_a_continued_epoch_are_kept(tmp_path, writer):
    (tmp_path / "metrics.csv").write_text("epoch,val/loss\n0.0,0.3\n1.0,0.2\n2.0,0.1\n")
    report = EpochReport(tmp_path, "val/loss", "min", {})
    report.on_fit_start(SimpleNamespace(), None)
    assert report.best()["epoch"] == 2, "a run that is complete already has its result"
    report.on_train_start(SimpleNamespace(current_epoch=2), None)
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
