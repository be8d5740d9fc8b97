"""What a cascade has to repair: the errors of the poses that it starts from."""

import torch

from convpose.data.datamodule import PoseDataModule
from convpose.models.cascade import Cascade
from convpose.models.pose_model import PoseModel
from convpose.models.subimage import pose_diameter
from convpose.scoring import Truth, predict


def measure_starts(
    model: PoseModel, datamodule: PoseDataModule, device: torch.device, precision: str
) -> str:
    """Tell a cascade the errors of its start on the validation part; nothing for another network.

    Not those on the training part, which its start knows by heart.

    Args:
        model: the network.
        datamodule: of the training.
        device: see `predict`.
        precision: likewise.

    Returns:
        A line for the console, empty for another network.
    """
    if not isinstance(model, Cascade):
        return ""
    predictions = predict(model.start, datamodule.loader("val"), device, precision)
    model.start.cpu()  # where the rest of the network still is
    truth = Truth.of(datamodule.datasets["val"], datamodule.skeleton)
    predicted_px = torch.from_numpy(predictions.keypoints_px)
    predicted = truth.to_unit(predicted_px)
    size = pose_diameter(predicted, datamodule.skeleton)[:, None, None]
    errors = (predicted - truth.to_unit(truth.keypoints_px)) / size
    mean, std, share = fit_errors(errors, model.side)
    model.set_errors(mean.float(), std.float())
    measures = truth.score(predicted_px)
    return (
        f"starts from val/pck@0.2 {measures['pck@0.2']:.4f}, val/pcp@0.5 {measures['pcp@0.5']:.4f};"
        f" {100 * share:.0f} % of the joints lie in their sub-images"
    )


def fit_errors(errors: torch.Tensor, side: float) -> tuple[torch.Tensor, torch.Tensor, float]:
    """A Gaussian for each joint and coordinate.

    Fitted to the errors that leave the joint in its sub-image: the others, such as an exchange of
    left and right, cannot be repaired there, and a few of them would widen the Gaussian for all.

    Args:
        errors: (N, K, 2) in diameters of the pose, NaN where unlabelled.
        side: of a sub-image in diameters.

    Returns:
        Mean and deviation (K, 2), 0 and a quarter of the side for a joint without errors to fit;
        share of the labelled joints in their sub-images.
    """
    labelled = ~errors.isnan().any(dim=-1, keepdim=True)
    inside = (errors.abs() <= side / 2).all(dim=-1, keepdim=True)  # false for NaN
    found = inside.sum(dim=0)
    count = found.clamp(min=1)
    mean = torch.where(inside, errors, 0).sum(dim=0) / count
    variance = torch.where(inside, errors - mean, 0).square().sum(dim=0) / count
    share = float(inside.sum() / labelled.sum().clamp(min=1))
    return mean, torch.where(found > 0, variance.sqrt(), side / 4), share
