"""A configuration is data: what it may name, and what a run folder of somebody cannot do."""

import ast
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from tiny import composed, tiny_run

from convpose.config import allowlist as trust
from convpose.config.allowlist import find_target, read_config
from convpose.config.instantiate import build, check
from convpose.errors import ConfigError, ModelError
from convpose.evaluate.command import evaluate
from convpose.predict.predictor import PosePredictor
from convpose.run import Run

PART_OF_A_RUN = (
    *("torch.nn.Linear", "torch.optim.AdamW", "torch.optim.lr_scheduler.OneCycleLR"),
    *("lightning.Trainer", "lightning.pytorch.callbacks.EarlyStopping"),
    *("lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.strategies.DDPStrategy"),
    *("albumentations.Blur", "albumentations.OneOf", "torchvision.models.VGG"),
    *("convpose.data.synthetic.SyntheticSource", "convpose.train.module.cosine"),
    # names of older versions, see MOVED
    *("convpose.train.optim.ParameterGroups", "convpose.training.schedules.step"),
    *("convpose.train.callbacks.alarms.NanGuard", "convpose.train.callbacks.preview.PosePreview"),
    *("convpose.train.callbacks.early_stopping.EarlyStopping", "convpose.search.samplers.Grid"),
    *("convpose.training.alarms.CollapseAlarm", "convpose.searching.samplers.Grid"),
    *("convpose.models.keypoints.rle.RleHead", "convpose.models.heads.rle.RleHead"),
    *("convpose.models.keypoints.integral.IntegralHead", "convpose.train.callbacks.ema.Ema"),
    *("convpose.train.callbacks.freeze.FreezeBackbone", "convpose.inference.yolox.YoloxDetector"),
    *("convpose.predict.detectors.YoloxDetector", "convpose.predict.detectors.find_detector"),
    *("convpose.predict.detectors.TorchvisionDetector", "convpose.inference.cluster.Cluster"),
)
OUTSIDE = (
    *("os.system", "subprocess.run", "builtins.eval", "shutil.rmtree", "this.s", "evil.Model"),
    *("convpose.__main__.main", "torch._C.anything", "", ".os.system", "3"),
)
NO_PART = (
    *("torch.os.system", "torch.hub.load", "torch.load", "torch.ops.load_library", "torch.nn"),
    *("torch.utils.cpp_extension.load", "torchvision.models.vgg16", "albumentations.load"),
    *("convpose.run.subprocess.run", "convpose.run.Path", "convpose.files.write"),
    *("convpose.train.command.train", "convpose.config.instantiate.build", "convpose.run.Run.find"),
)


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder of modules that notes which of them are imported."""
    for name in ("mine", "evil"):
        (tmp_path / f"{name}.py").write_text(
            "from pathlib import Path\n"
            "from torch import nn\n"
            f"Path({str(tmp_path)!r}, '{name}_was_here').touch()\n"
            "class Model(nn.Module): pass\n"
            "class Something: pass\n"
            "def model() -> nn.Module: return nn.Identity()\n"
            "def anything(path='/etc'): return path\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("mine", "evil"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("path", PART_OF_A_RUN)
def test_parts_of_a_run_are_found(path):
    assert find_target(path, "key").__name__ == path.rpartition(".")[2]


def test_a_renamed_class_is_found():
    assert find_target("convpose.train.loggers.Table", "key").__name__ == "CsvTable"


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_module_outside_the_packages_is_not_even_imported(path, packages, capsys):
    with pytest.raises(ConfigError, match=r"^model\._target_=.*: not one of the packages that a"):
        find_target(path, "model")
    assert not list(packages.glob("*_was_here"))
    assert capsys.readouterr().out == "", "`import this` prints"


@pytest.mark.parametrize("path", NO_PART)
def test_what_no_run_is_made_of(path):
    with pytest.raises(ConfigError, match=r"^model\._target_=.*: not a part of a run; expected a"):
        find_target(path, "model")


def test_a_name_that_does_not_exist():
    with pytest.raises(
        ConfigError, match=r"^model\._target_=convpose\.models\.backbones\.vgg\.Vgg: not found"
    ):
        find_target("convpose.models.backbones.vgg.Vgg", "model")


def test_an_own_module_that_breaks_says_why(packages, monkeypatch):
    (packages / "broken.py").write_text("import nothing_of_that_name\n")
    monkeypatch.setenv("CONVPOSE_PACKAGES", "broken")
    with pytest.raises(ConfigError, match=r"not found \(.*No module named 'nothing_of_that_name'"):
        find_target("broken.Model", "model")


def test_the_own_package_is_named_in_the_environment(packages, monkeypatch):
    with pytest.raises(ConfigError, match=r"put CONVPOSE_PACKAGES=mine before the command"):
        find_target("mine.Model", "model")
    monkeypatch.setenv("CONVPOSE_PACKAGES", "other,mine")
    for name in ("Model", "Something", "model"):
        assert find_target(f"mine.{name}", "model").__module__ == "mine"
    with pytest.raises(ConfigError, match="whose annotation says that it returns one"):
        find_target("mine.anything", "model")
    with pytest.raises(ConfigError, match="not one of the packages"):
        find_target("evil.Model", "model")
    assert not (packages / "evil_was_here").exists()


def test_no_source_file_evaluates_or_unpickles():
    """Find in all that reads files `weights_only=True`, `allow_pickle=False`, safe YAML."""
    wanted = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}
    wanted |= {"yaml.load": "SafeLoader", "numpy.load": "allow_pickle=False"}
    never = ("eval", "exec", "compile", "pickle.load", "pickle.loads", "joblib.load", "os.system")
    calls = 0
    for path in Path(trust.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                calls += 1
                name, text = ast.unparse(node.func), ast.unparse(node)
                assert name not in never, f"{path}:{node.lineno}: {text}"
                assert wanted.get(name, "") in text, f"{path}:{node.lineno}: {text}"
    assert calls > 1000


def test_nothing_is_hidden_in_a_list_or_an_argument(tmp_path):
    trace = tmp_path / "was_here"
    bad = {"_target_": "os.mkdir", "_args_": [str(trace)]}
    for node in (
        {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": bad},
        {"_target_": "torch.nn.Sequential", "_args_": [[bad]]},
        {"_target_": "convpose.data.augment.Augment", "transforms": {"a": {"b": [1, bad]}}},
    ):
        with pytest.raises(ConfigError, match=r"^x\..*_target_=os\.mkdir: not one of the packages"):
            build(OmegaConf.create(node), "x")
    with pytest.raises(ConfigError, match=r"^x\.0\._target_=os\.mkdir"):
        check(OmegaConf.create([bad]), "x")
    assert not trace.exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    tiny_run(folder, "debug=fast", "logger=none", "callbacks.preview=null")
    return folder


class TestRunFolder:
    @pytest.fixture
    def run(self, trained, tmp_path):
        return shutil.copytree(trained, tmp_path / "run")

    def evaluation(self, run):
        return composed("evaluate", f"run={run}", "split=val", "accelerator=cpu", "gallery=0")

    def change(self, run, key, value):
        cfg = OmegaConf.load(run / "config.yaml")
        OmegaConf.update(cfg, key, value, merge=False, force_add=True)
        (run / "config.yaml").write_text(OmegaConf.to_yaml(cfg))

    @pytest.mark.parametrize("key", ["model._target_", "head._target_", "data._target_"])
    def test_a_target_that_runs_commands(self, key, run):
        self.change(run, key, "os.system")
        self.change(run, key.replace("_target_", "command"), f"touch {run}/was_here")
        with pytest.raises(ConfigError, match=rf"^{key}=os\.system: not one of the packages"):
            evaluate(self.evaluation(run))
        assert not (run / "was_here").exists()

    @pytest.mark.parametrize("value", ["${oc.env:HOME}", "a${seed}", "${eval:1+1}"])
    def test_an_interpolation_is_not_resolved(self, value, run):
        called = []
        OmegaConf.register_new_resolver("eval", called.append, replace=True)
        self.change(run, "data.sources.synthetic.num_images", value)
        with pytest.raises(
            ConfigError,
            match=r"config\.yaml: data\.sources\.synthetic\.num_images=.*nothing in it is evalu",
        ):
            evaluate(self.evaluation(run))
        assert not called

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (
                "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
                + "".join(f"a{i + 1}: &a{i + 1} [{', '.join(9 * [f'*a{i}'])}]\n" for i in range(9)),
                r"an alias, \*a0; write the values themselves",
            ),
            ("a: &b\n  c: *b\n", r"an alias, \*b"),
            (f"a: {99 * '['}{99 * ']'}\n", "more than 64 levels deep"),
            (f"seed: {5000 * '9'}\n", "not a YAML file"),
        ],
    )
    def test_what_would_grow_without_end(self, text, reason, run):
        (run / "config.yaml").write_text(text)
        for what in (lambda: evaluate(self.evaluation(run)), lambda: PosePredictor.from_run(run)):
            with pytest.raises(ConfigError, match=rf"config\.yaml: not a configuration \({reason}"):
                what()

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            ("data.input_size_px", 10**9, "a whole number from 32 to 4096"),
            ("data.box_scale", float("inf"), "a number from 1 up"),
            ("data", [1], "a mapping"),
            ("head", None, "a mapping"),
            ("trainer.precision", 3, "a text, got int"),
        ],
    )
    def test_values_are_in_range_before_anything_is_built(self, key, value, expected, run):
        self.change(run, key, value)
        for what in (lambda: evaluate(self.evaluation(run)), lambda: PosePredictor.from_run(run)):
            with pytest.raises(ConfigError, match=rf"^{key}.*=.*: expected {expected}"):
                what()

    def test_a_network_larger_than_its_checkpoint_is_not_filled(self, run):
        self.change(run, "head.hidden", 10**8)
        for what in (lambda: evaluate(self.evaluation(run)), lambda: PosePredictor.from_run(run)):
            with pytest.raises(
                ModelError, match=r"best\.ckpt: its configuration describes a larger"
            ):
                what()

    def test_an_evaluation_writes_no_cache_and_starts_no_crowd(self, run, tmp_path):
        self.change(run, "data.cache", str(tmp_path / "elsewhere" / "cache"))
        self.change(run, "data.num_workers", 100_000)
        scored = Run(run).config_to_score("")
        assert scored.data.cache is None
        assert scored.data.num_workers <= os.cpu_count()
        assert evaluate(self.evaluation(run)) >= 0
        assert not (tmp_path / "elsewhere").exists()

    def test_no_file_that_the_network_began_with_is_opened(self, run, tmp_path):
        (tmp_path / "secret.safetensors").write_bytes(b"secret")
        self.change(run, "model.weights", str(tmp_path / "secret.safetensors"))
        assert evaluate(self.evaluation(run)) >= 0
        assert PosePredictor.from_run(run).spec.input_size_px == 32

    def test_a_yaml_tag_that_calls(self, run):
        line = f"seed: !!python/object/apply:os.mkdir ['{run}/was_here']\n"
        (run / "config.yaml").write_text(line)
        with pytest.raises(
            ConfigError, match=r"config\.yaml: not a configuration \(not a YAML file \(could"
        ):
            evaluate(self.evaluation(run))
        assert not (run / "was_here").exists()

    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"- a\n- list", b"a: [", b""])
    def test_what_is_no_configuration(self, content, run):
        (run / "config.yaml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"config\.yaml: not a configuration"):
            read_config(run / "config.yaml")

    def test_a_checkpoint_that_runs_code(self, run):
        class Malicious:
            def __reduce__(self):
                return (run / "was_here").mkdir, ()

        content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
        torch.save(content | {"extra": Malicious()}, run / "checkpoints" / "best.ckpt")
        with pytest.raises(Exception, match=r"best\.ckpt: not a file of tensors"):
            evaluate(self.evaluation(run))
        for name in ("last", "previous"):
            shutil.copy(run / "checkpoints" / "best.ckpt", run / "checkpoints" / f"{name}.ckpt")
        with pytest.raises(Exception, match=r"last\.ckpt is damaged \(not a file of tensors"):
            tiny_run(run, "debug=fast", "logger=none", "ckpt_path=last")
        assert not (run / "was_here").exists()

    def test_an_honest_one_is_evaluated(self, run):
        assert evaluate(self.evaluation(run)) >= 0
        assert Run(run).config.model._target_ == "convpose.models.backbones.vgg.VggBn"
