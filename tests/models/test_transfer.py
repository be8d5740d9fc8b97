"""Fine-tuning: what fits is taken over, what does not is named."""

import pytest
import torch
from tiny import tiny_config, tiny_run
from torch import nn

from convpose.errors import ModelError
from convpose.models.build import build_model
from convpose.models.weights import transfer


def checkpoint(tmp_path, model):
    path = tmp_path / "w.ckpt"
    torch.save({"state_dict": {f"model.{k}": v for k, v in model.state_dict().items()}}, path)
    return path


def filled(model, value):
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)
    return model


def test_the_same_network_is_taken_over_but_for_its_calibration(tmp_path):
    trained = filled(build_model(tiny_config()), 3)
    model = build_model(tiny_config())
    done = transfer(model, checkpoint(tmp_path, trained))
    state = model.state_dict()
    calibration = {k for k in state if k.startswith("score_")}
    assert len(calibration) == 2
    assert all((state[k] == 3).all() for k in state.keys() - calibration)
    assert all((state[k] != 3).all() for k in calibration)
    assert done.taken == len(state) - 2
    assert done.fresh == done.unused == {}


def test_another_head_starts_fresh_and_is_named(tmp_path):
    path = checkpoint(tmp_path, filled(build_model(tiny_config()), 3))
    model = build_model(tiny_config("head=heatmap"))
    done = transfer(model, path)
    assert (model.backbone.features[0].weight == 3).all()
    assert "head.pyramid" in done.fresh
    assert "head.hidden" in done.unused
    text = str(done)
    assert f"weights={path}: {done.taken} tensors taken over" in text
    assert "start at random: head.pyramid" in text
    assert "have no place: head." in text


def test_a_network_that_nothing_fits_is_refused(tmp_path):
    path = checkpoint(tmp_path, nn.Sequential(nn.Linear(3, 5)))
    with pytest.raises(ModelError, match=r"none of its 2 tensors fits.*type weights=null"):
        transfer(build_model(tiny_config()), path)


def test_fine_tuning_a_run_starts_where_it_ended(tmp_path, capsys):
    tiny_run(tmp_path / "first")
    still = "optimizer.lr=1e-9"
    tiny_run(tmp_path / "second", f"weights={tmp_path / 'first'}", still, "trainer.max_epochs=1")
    assert "tensors taken over" in capsys.readouterr().out
    saved = [
        torch.load(tmp_path / name / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for name in ("first", "second")
    ]
    weight = "model.head.output.weight"
    torch.testing.assert_close(saved[1][weight], saved[0][weight])
