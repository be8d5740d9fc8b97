"""Every yaml in conf/: explained, composed, built. A new one is picked up from its folder."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from tiny import composed
from torch import nn

from convpose.config.instantiate import build, check
from convpose.data.build import build_datamodule
from convpose.errors import ConfigError
from convpose.files import conf_folder
from convpose.hardware import resolve_precision
from convpose.models.build import build_head, build_model
from convpose.train.build import (
    build_callbacks,
    build_loggers,
    build_module,
    build_trainer,
    check_monitor,
    check_pair,
)
from convpose.train.request import check_keys

CONF = conf_folder()
FILES = sorted(CONF.rglob("*.yaml"))
APPLICATIONS = [path.stem for path in FILES if path.parent == CONF and path.stem != "application"]


def options(group: str) -> list[str]:
    return [path.stem for path in FILES if path.parent == CONF / group]


def over(cfg, run):
    """The configuration; that of a cascade refines a run."""
    if "run" in cfg.model:
        cfg.model.run = str(run)
    return cfg


def without_weights(cfg):
    """The configuration with a random network: nothing is downloaded."""
    backbone = cfg.model.get("backbone", cfg.model)
    if "weights" in backbone:
        backbone.weights = None
    return cfg


def test_there_is_something_to_test():
    groups = {path.parent.name for path in FILES}
    assert {"data", "augment", "model", "head", "loss", "optimizer", "scheduler"} <= groups
    assert {"trainer", "callbacks", "logger", "experiment", "debug", "source"} <= groups
    assert {"train", "evaluate", "data"} <= set(APPLICATIONS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_opens_with_what_it_is(path):
    lines = path.read_text("utf-8").splitlines()
    first = next(line for line in lines if not line.startswith("# @package"))
    assert first.startswith("# ")
    assert len(first) > 15
    assert max(map(len, lines)) <= 140
    content = yaml.safe_load(path.read_text("utf-8")) or {}
    package = lines[0] == "# @package _global_"
    assert package is (
        path.parent.name in ("experiment", "debug") or path.stem.startswith("application")
    )
    assert not list(_values(content, "${hydra:")), "a saved config must reload without Hydra"


def _values(node, text):
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _values(child, text)
    elif isinstance(node, str) and text in node:
        yield node


@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_compose(name):
    cfg = composed(name)
    assert cfg.paths.runs == "runs"
    OmegaConf.to_container(cfg, resolve=True)


def test_a_saved_config_reloads_without_hydra():
    cfg = composed("train")
    saved = OmegaConf.create(OmegaConf.to_yaml(cfg, resolve=True))
    assert saved.callbacks.checkpoint.monitor == cfg.monitor
    assert "${" not in OmegaConf.to_yaml(saved)


@pytest.mark.parametrize("name", options("data"))
def test_data_builds_without_archives(name):
    cfg = composed("train", f"data={name}")
    if name == "base":
        with pytest.raises(ConfigError, match="sources is missing"):
            build_datamodule(cfg)
        return
    datamodule = build_datamodule(cfg)
    assert datamodule.sources
    assert datamodule.split_name == cfg.data.split


@pytest.mark.parametrize("name", options("data/source"))
def test_a_source_is_opened_when_it_is_needed(name):
    cfg = composed("train", f"+data/source@extra={name}")
    check(cfg.extra, "extra")
    assert cfg.extra._partial_ is True
    assert callable(build(cfg.extra, "extra"))


@pytest.mark.parametrize("name", options("augment"))
def test_augment_builds(name):
    cfg = composed("train", f"augment={name}")
    augment = build(cfg.augment, "augment")
    assert type(augment).__module__ == "convpose.data.augment"


@pytest.fixture(scope="module", params=options("model"))
def network(request, unbroken):
    """Every model of conf/model, with whatever head; it sees a batch once, for all heads."""
    cfg = over(composed("train", f"model={request.param}", "data.input_size_px=64"), unbroken)
    network = build_model(without_weights(cfg)).eval()
    look, seen = network.backbone.forward, {}

    def once(pixels):
        if pixels.shape not in seen:
            seen[pixels.shape] = look(pixels)
        return seen[pixels.shape]

    network.backbone.forward = once
    return network


@pytest.mark.parametrize("head", options("head"))
def test_every_head_sits_on_every_model(network, head):
    cfg = composed("train", f"head={head}", "data.input_size_px=64")
    network.head = build_head(cfg, network.backbone, 64).eval()
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    with torch.no_grad():
        output = network(images)
    assert output["keypoints"].shape == (2, 14, 2)
    assert output["scores"].shape == (2, 14)
    assert output["keypoints"].dtype == torch.float32
    loss = build(cfg.loss, "loss")  # follows the head
    check_pair(network.head, loss)
    visibility = torch.full((2, 14), 2)
    assert torch.isfinite(loss(output, torch.rand(2, 14, 2), visibility))


@pytest.mark.parametrize("name", options("loss"))
def test_loss_builds(name):
    assert isinstance(build(composed("train", f"loss={name}").loss, "loss"), nn.Module)


@pytest.mark.parametrize("scheduler", options("scheduler"))
@pytest.mark.parametrize("optimizer", options("optimizer"))
def test_every_optimizer_goes_with_every_schedule(optimizer, scheduler):
    cfg = composed("train", f"optimizer={optimizer}", f"scheduler={scheduler}")
    model = nn.Module()
    model.head = nn.Linear(1, 1)
    module = build_module(cfg, model)
    steps = module.scheduler(module.optimizer(module.parameters()), 10)
    for _ in range(10):
        steps.optimizer.step()
        steps.step()
    assert steps.get_last_lr()[0] >= 0


@pytest.mark.parametrize("name", options("trainer"))
def test_trainer_builds_or_says_that_there_is_no_gpu(name, tmp_path):
    cfg = composed("train", f"trainer={name}", "trainer.precision=32-true")
    check(cfg.trainer, "trainer")
    if cfg.trainer.accelerator != "gpu" or torch.cuda.is_available():
        assert build_trainer(cfg, [], False, tmp_path).max_epochs == cfg.trainer.max_epochs


@pytest.mark.parametrize("name", options("callbacks"))
def test_callbacks_build(name, tmp_path):
    cfg = composed(
        "train", f"callbacks=[default,{name}]" if name != "default" else "callbacks=default"
    )
    callbacks = build_callbacks(cfg, None)
    assert len(callbacks) == 1 + len(cfg.callbacks)


SLOW = {"mlflow": pytest.mark.slow}  # to import


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=SLOW.get(n, ())) for n in options("logger")]
)
def test_logger_builds(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loggers = build_loggers(composed("train", f"logger={name}"), tmp_path)
    assert len(loggers) == (name != "none")
    written = {path.name for path in tmp_path.iterdir()} - {"mlflow.db"}  # MLflow opens it at once
    assert not written, "nothing is written before training"


@pytest.mark.parametrize("name", [f"experiment={n}" for n in options("experiment")])
@pytest.mark.parametrize("debug", [None, *(f"debug={n}" for n in options("debug"))])
def test_experiments_compose_and_build(name, debug, unbroken):
    cfg = over(composed("train", name, *([debug] if debug else [])), unbroken)
    check_keys(cfg)
    check_monitor(cfg)
    build_datamodule(cfg)
    cfg.trainer.precision = resolve_precision(cfg)
    check(cfg.trainer, "trainer")
    if debug is None:
        cfg.data.input_size_px = 64
        build_module(cfg, build_model(without_weights(cfg)))


def test_the_paper_says_so():
    cfg = composed("train", "experiment=paper")
    assert (cfg.data.split, cfg.data.crop, cfg.data.input_size_px) == ("paper", "image", 224)
    assert (cfg.trainer.max_epochs, cfg.model.depth, cfg.model.dropout) == (30, 16, 0.5)
    assert cfg.optimizer._target_ == "torch.optim.SGD"
    assert cfg.loss._target_.endswith("MaskedMSE")


@pytest.mark.slow
def test_an_installed_wheel_has_its_configuration(tmp_path):
    checkout = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    quiet = ["--quiet", "--disable-pip-version-check", "--wheel-dir", str(tmp_path)]
    subprocess.run([*command, *quiet, str(checkout)], check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"convpose/conf/{path.relative_to(CONF)}" for path in FILES} <= names
    beside = ("data/duplicates.tsv", "compare/page.html", "py.typed")
    assert {f"convpose/{name}" for name in beside} <= names
