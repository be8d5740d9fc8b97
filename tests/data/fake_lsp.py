"""Fake archives with the layout and the traps of LSP and LSPET."""

import io
import zipfile

import cv2
import numpy as np
from scipy.io import savemat

IMAGES, WIDTH_PX, HEIGHT_PX = 8, 60, 80


def jpeg(rng, width_px=WIDTH_PX, height_px=HEIGHT_PX):
    image = rng.integers(0, 256, (height_px, width_px, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", image)[1].tobytes()


def matlab(**arrays):
    buffer = io.BytesIO()
    savemat(buffer, arrays)
    return buffer.getvalue()


def fake_joints(name, images=IMAGES):
    """(K, 3, N) joints, reaching past the middle of every image; flags as `name` has them."""
    rng = np.random.default_rng(0)
    joints = np.empty((14, 3, images))
    joints[:, 0] = rng.uniform(5, WIDTH_PX - 5, (14, images))
    joints[:, 1] = rng.uniform(5, HEIGHT_PX - 5, (14, images))
    rare = rng.random((14, images)) < 0.15
    joints[:, 2] = rare if name == "lsp" else ~rare
    if name == "lspet":
        joints[:, 0][rare], joints[:, 1][rare] = -12.5, 0.0
    return joints


def fake_files(name, joints=None, images=IMAGES):
    """Contents by name; LSP's joints have the axes (3, K, N), LSPET's (K, 3, N)."""
    rng = np.random.default_rng(1)
    if joints is None:
        joints = fake_joints(name, images)
        joints = joints.transpose(1, 0, 2) if name == "lsp" else joints
    digits = 4 if name == "lsp" else 5
    files = {f"images/im{i + 1:0{digits}d}.jpg": jpeg(rng) for i in range(images)}
    return {"README.txt": b"Leeds Sports Pose", "joints.mat": matlab(joints=joints), **files}


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_folder(path, files):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path
