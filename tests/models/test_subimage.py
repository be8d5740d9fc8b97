"""Sub-images around joints: where they lie, and which pixels they show."""

import cv2
import numpy as np
import pytest
import torch

from convpose.geometry import box_to_affine, warp
from convpose.models.cascade import GREY, LARGEST, SMALLEST, SubImages, pose_diameter
from convpose.skeleton import LSP14

K = LSP14.num_keypoints


def crops(count: int, size_px: int, seed: int = 0) -> torch.Tensor:
    """Smooth colours: an error of a fraction of a pixel is a small error of colour."""
    noise = np.random.default_rng(seed).uniform(0, 255, (count, size_px, size_px, 3))
    smooth = [cv2.GaussianBlur(image, (0, 0), 3) for image in noise]
    scaled = [(i - i.min()) / (i.max() - i.min()) * 255 for i in smooth]
    return torch.from_numpy(np.stack(scaled).astype(np.uint8)).permute(0, 3, 1, 2)


def test_points_of_a_sub_image_by_hand_and_there_and_back():
    sub_images = SubImages.around(torch.tensor([[[0.5, 0.25]]]), torch.tensor([0.5]))
    assert sub_images.corner.tolist() == [[[0.25, 0.0]]]
    assert sub_images.to_unit(torch.tensor([[[0.5, 0.25]]])).tolist() == [[[0.5, 0.5]]]
    assert sub_images.to_unit(torch.tensor([[[0.25, 0.5]]])).tolist() == [[[0.0, 1.0]]]
    assert sub_images.to_crop(torch.tensor([[[1.0, 2.0]]])).tolist() == [[[0.75, 1.0]]]

    draw = torch.Generator().manual_seed(0)
    points, centres = torch.rand(2, 3, K, 2, generator=draw)
    sub_images = SubImages.around(centres, torch.rand(3, generator=draw))
    assert torch.allclose(sub_images.to_crop(sub_images.to_unit(points)), points, atol=1e-5)


def test_a_sub_image_on_whole_pixels_shows_them():
    image = torch.arange(2 * 3 * 64, dtype=torch.uint8).view(2, 3, 8, 8)
    corner = torch.tensor([[[0.25, 0.5], [0.0, 0.0]], [[0.5, 0.0], [0.375, 0.125]]])
    seen = SubImages(corner, torch.full((2, 1, 1), 0.5)).sample(image, 4)
    assert seen.shape == (4, 3, 4, 4)
    wanted = [image[0, :, 4:, 2:6], image[0, :, :4, :4], image[1, :, :4, 4:], image[1, :, 1:5, 3:7]]
    assert torch.allclose(seen, torch.stack(wanted).float(), atol=1e-3)


def test_outside_the_crop_is_grey():
    image = torch.full((1, 3, 8, 8), 200, dtype=torch.uint8)
    seen = SubImages(torch.tensor([[[-0.25, 0.75]]]), torch.full((1, 1, 1), 0.5)).sample(image, 4)
    assert seen[0, :, :2, 2:].unique().tolist() == pytest.approx([200])
    for outside in (seen[..., :2], seen[..., 2:, :]):
        assert outside.unique().tolist() == pytest.approx([GREY])


@pytest.mark.parametrize("size_px", [11, 17, 40])
def test_the_pixels_are_those_of_the_one_warp(size_px):
    """Enlarged, shrunk by up to 9, partly outside: as `warp` cuts them out of the crop."""
    image = crops(4, 96)
    centres = torch.from_numpy(np.random.default_rng(1).uniform(-0.1, 1.1, (4, 5, 2))).float()
    sub_images = SubImages.around(centres, torch.tensor([0.1, 0.3, 0.6, 1.0]))
    seen = sub_images.sample(image, size_px).view(4, 5, 3, size_px, size_px)
    for i in range(4):
        for k in range(5):
            low = sub_images.corner[i, k].double().numpy()
            box = np.concatenate([low, low + float(sub_images.side[i])]) * 96 - 0.5
            pixels = warp(image[i].permute(1, 2, 0).numpy(), box_to_affine(box), size_px)
            difference = seen[i, k].permute(1, 2, 0).numpy() - pixels
            assert np.abs(difference).mean() < 0.6, (i, k)  # of 255; warp rounds
            assert np.abs(difference).max() < 6, (i, k)  # warp's coordinates have 1/32 pixel


def test_fine_stripes_do_not_turn_into_coarse_ones():
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    seen = SubImages(torch.zeros(1, 1, 2), torch.ones(1, 1, 1)).sample(stripes, 20)
    assert float(seen.std()) < 1


def test_a_crop_alone_mirrored_or_turned_has_such_sub_images():
    image, points, side = crops(2, 64), torch.rand(2, K, 2), torch.tensor([0.8, 0.2])
    x, y = points.unbind(-1)
    plain = SubImages.around(points, side).sample(image, 24)
    alone = SubImages.around(points[1:], side[1:]).sample(image[1:], 24)
    assert torch.allclose(plain[K:], alone, atol=1e-3)
    mirrored = SubImages.around(torch.stack([1 - x, y], dim=-1), side).sample(image.flip(-1), 24)
    assert torch.allclose(mirrored, plain.flip(-1), atol=0.05)
    turned = SubImages.around(torch.stack([y, 1 - x], dim=-1), side)  # rot90 is anticlockwise
    turned_pixels = turned.sample(image.rot90(1, (2, 3)), 24)
    assert torch.allclose(turned_pixels, plain.rot90(1, (2, 3)), atol=0.05)


def pose(**joints: tuple[float, float]) -> torch.Tensor:
    """(1, K, 2), all joints in one place but those named."""
    points = torch.full((1, K, 2), 0.5)
    for name, place in joints.items():
        points[0, LSP14.index(name)] = torch.tensor(place)
    return points


def test_the_diameter_is_the_longer_torso_diagonal():
    three_four_five = pose(left_shoulder=(0.5, 0.5), right_hip=(0.8, 0.9))
    assert float(pose_diameter(three_four_five, LSP14)) == pytest.approx(0.5)
    other = pose(right_shoulder=(0.5, 0.5), left_hip=(0.2, 0.1))
    assert float(pose_diameter(other, LSP14)) == pytest.approx(0.5)
    # folded up, it has a quarter of the extent
    assert float(pose_diameter(pose(left_wrist=(0.1, 0.5)), LSP14)) == pytest.approx(0.1)
    assert float(pose_diameter(pose(left_wrist=(0.5, 1.3)), LSP14)) == pytest.approx(0.2)


def test_the_diameter_turns_and_mirrors_with_the_pose():
    points = torch.rand(20, K, 2, generator=torch.Generator().manual_seed(0))
    mirrored = torch.stack([1 - points[..., 0], points[..., 1]], dim=-1)[:, list(LSP14.mirror)]
    for other in (mirrored, points.flip(-1), points + 3):
        found = pose_diameter(other, LSP14)
        assert torch.allclose(found, pose_diameter(points, LSP14), atol=1e-5)


def test_a_degenerate_pose_still_has_a_sub_image():
    sides = pose_diameter(torch.cat([pose(), 50 * pose(neck=(0, 0))]), LSP14)
    assert SubImages.around(torch.zeros(2, K, 2), sides).side.flatten().tolist() == [
        SMALLEST,
        LARGEST,
    ]
