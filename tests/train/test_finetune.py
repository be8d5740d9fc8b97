"""Fine-tuning on somebody's own labels: what is taken over, said, split, frozen."""

import pytest
import torch
from own_keypoints import OWN, own_folder
from tiny import composed, saved, tiny_config

from convpose.config.instantiate import skeleton_of
from convpose.data.build import build_datamodule
from convpose.errors import ConfigError
from convpose.files import shown
from convpose.models.build import build_model
from convpose.models.weights import transfer
from convpose.run import Run
from convpose.runtime.packaged import is_packaged, pack, read_packaged
from convpose.skeleton import LSP14, counterparts
from convpose.train.command import train
from convpose.train.start import Pretrained, shared_rows, take_network, validation_pck

pytestmark = pytest.mark.slow
FINETUNE = (
    *("experiment=finetune", "data=coco", "trainer=cpu", "data.num_workers=0"),
    *("data.batch_size=4", "callbacks.preview=null", "logger=none", "trainer.max_epochs=2"),
)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return own_folder(tmp_path_factory.mktemp("mine"))


@pytest.fixture(scope="module", params=["regression", "heatmap", "rle", "simcc"])
def start(request, tmp_path_factory):
    """A run of LSP's joints that has trained for a moment."""
    folder = tmp_path_factory.mktemp("start") / "run"
    own = [f"head={request.param}"]
    if request.param == "rle":
        own.append("optimizer=adamw")  # with SGD at its rate the loss becomes infinite
    cfg = tiny_config(*own, "trainer.max_epochs=1", "callbacks.preview=null")
    train(cfg, folder)
    return Run(folder)


def test_shared_joints_keep_their_rows_and_others_start_fresh(start, labels):
    """A row of a head is recognised by what it says: shared joints are predicted as before."""
    cfg = composed("train", *FINETUNE, f"data.source={labels}", f"weights={start.folder}")
    found = Pretrained.find(cfg.weights)
    take_network(cfg, found.config)
    build_datamodule(cfg)
    torch.manual_seed(0)
    model, whole = build_model(cfg).eval(), build_model(found.config).eval()
    whole.load_state_dict(
        {k.removeprefix("model."): v for k, v in found.state.items() if k.startswith("model.")}
    )
    done = transfer(model, found.source, found.state, shared_rows(cfg, model, found))
    assert done.fresh == {}
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    index = counterparts(LSP14.keypoints, skeleton_of(cfg))
    with torch.no_grad():
        new, old = (m.forward_uncalibrated(image)["keypoints"] for m in (model, whole))
    names = list(OWN.values())
    shared = [names.index(n) for n in ("R-Hip", "L-Hip", "RShoulder", "LShoulder")]
    assert [k for k, i in enumerate(index) if i >= 0] == shared
    for k in shared:
        assert torch.allclose(new[:, k], old[:, index[k]], atol=1e-5)


@pytest.mark.parametrize("kind", ["run", "packed", "checkpoint"])
def test_one_command_fine_tunes_and_says_what_it_did(kind, tmp_path, labels, capsys):
    begun = tmp_path / "begun"
    train(tiny_config("head=heatmap", "trainer.max_epochs=1", "callbacks.preview=null"), begun)
    weights = {
        "run": begun,
        "packed": pack(begun, tmp_path / "small.safetensors"),
        "checkpoint": begun / "checkpoints" / "last.ckpt",
    }[kind]
    capsys.readouterr()
    folder = tmp_path / "tuned"
    cfg = composed("train", *FINETUNE, f"data.source={labels}", f"weights={weights}")
    train(cfg, folder)
    said = capsys.readouterr().out
    assert "keypoints taken over: R-Hip, L-Hip, RShoulder, LShoulder; fresh: Foot R" in said
    assert "PCK@0.2 of the validation subset before the first epoch: " in said
    assert " before, " in said
    for command in ("evaluate run=", "predict PHOTO.jpg run=", "export run="):
        assert f"  python -m convpose.{command}{shown(folder)}" in said
    config = Run(folder).config
    assert config.model == Run(begun).config.model
    assert config.data.input_size_px == 32
    assert config.loss["_target_"].endswith("HeatmapCrossEntropy")
    before, after = saved(begun)["state_dict"], saved(folder)["state_dict"]
    backbone = [k for k in before if k.startswith("model.backbone.")]
    given = read_packaged(weights)[0] if kind == "packed" else {}  # in 16 bits
    for k in backbone:  # two epochs are frozen
        start = given.get(k.removeprefix("model."), before[k]).to(before[k])
        assert torch.equal(start, after[k]), k
    assert not torch.equal(
        before["model.head.pyramid.lateral.0.bias"], after["model.head.pyramid.lateral.0.bias"]
    )


def test_a_file_that_does_not_say_its_network_is_refused(tmp_path):
    torch.save({"backbone.weight": torch.zeros(2, 2)}, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="take_network=true: the file does not say what network"):
        train(composed("train", *FINETUNE, f"weights={tmp_path / 'a.pt'}"), tmp_path / "run")


def test_the_packaged_network_is_the_start():
    start = Pretrained.find("packaged")
    assert start.config.data.input_size_px == 192
    assert is_packaged(start.source)


def test_measuring_leaves_the_network_in_training():
    cfg = tiny_config()
    datamodule, model = build_datamodule(cfg), build_model(cfg)
    datamodule.setup()
    state = torch.get_rng_state()
    assert 0 <= validation_pck(model, datamodule, torch.device("cpu"), "32-true") <= 1
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
