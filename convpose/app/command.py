"""Build the page in Gradio, and serve it."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when it is imported
import gradio as gr
from annotated_types import Ge, Le
from gradio.utils import get_upload_folder
from omegaconf import DictConfig

from convpose.app.handlers import KEEP_S, Networks, ResultFolders, predict_clip, predict_picture
from convpose.config.instantiate import build
from convpose.config.schema import Count, Looks, Packaged, check_table
from convpose.errors import ConfigError, ConvposeError, DataError
from convpose.predict import limits
from convpose.predict.command import limits_of

KEYS = {
    "network": Packaged,
    "looks": Looks,
    "port": Annotated[int, Ge(1), Le(65535)],
    **limits.KEYS,
    **dict.fromkeys(("max_file_mb", "max_frames", "at_once"), Count),
}
HEADER = ["person", "joint", "x px", "y px", "score"]
# the fonts of the visitor's machine, so that no font is fetched
THEME = gr.themes.Base(
    primary_hue="blue",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)


def serve(cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C.

    Args:
        cfg: of ``conf/app.yaml``.

    Raises:
        ConfigError: a value out of its range, or a port that is taken.
        ModelError: the first network cannot be loaded.
    """
    page = build_page(cfg)
    try:
        with socket.create_server((cfg.host, cfg.port)):
            pass
    except OSError as error:
        raise ConfigError(
            f"host={cfg.host} port={cfg.port}: cannot listen there ({error.strerror}); type "
            f"another port, as port={7861 if cfg.port == 7860 else 7860}, or host=127.0.0.1"
        ) from error
    page.launch(**launch_settings(cfg))


def launch_settings(cfg: DictConfig) -> dict[str, Any]:
    """Return the settings of Gradio's `launch`: nothing is shared, uploads are bounded."""
    return {
        "server_name": cfg.host,
        "server_port": cfg.port,
        "max_file_size": f"{cfg.max_file_mb}mb",
        "share": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "show_error": True,
        "footer_links": [],
        "theme": THEME,
    }


def build_page(cfg: DictConfig) -> gr.Blocks:
    """Build the page and load its first network."""
    check_table(cfg, KEYS)
    detector = build(cfg.detector, "detector") if cfg.get("detector") else None
    folders = ResultFolders()
    networks = Networks(
        Path(cfg.paths.runs), cfg.run or cfg.network, detector, cfg.accelerator, cfg.looks
    )

    def picture(upload: Any, network: str, several: bool) -> Any:
        path, name = _file(upload, "a picture")
        predictor = networks.predictor(network, several)
        image, rows, file, sentence = predict_picture(
            *(path, name, predictor, limits_of(cfg), folders.new())
        )
        return image, rows, str(file), sentence

    def clip(upload: Any, network: str, several: bool) -> Any:
        path, name = _file(upload, "a clip")
        predictor = networks.predictor(network, several)
        video, file, sentence = predict_clip(
            *(path, name, predictor, limits_of(cfg), cfg.max_frames, folders.new())
        )
        return str(video), str(file), sentence

    page: gr.Blocks
    with gr.Blocks(
        title="convpose", analytics_enabled=False, delete_cache=(KEEP_S, KEEP_S)
    ) as page:
        gr.Markdown("# convpose\nFind the joints of a person in a picture or a clip.")
        with gr.Row():
            names = networks.names()
            network = gr.Dropdown(list(names), value=names[0], label="Network", scale=3)
            several = gr.Checkbox(
                label="Look for several people",
                value=detector is not None,
                interactive=detector is not None,
                info="" if detector else "start with detector=yolox or torchvision",
            )
        with gr.Tab("Picture"), gr.Row():
            with gr.Column():
                upload = gr.Image(
                    label="Picture", type="filepath", sources=["upload", "webcam", "clipboard"]
                )
                find = gr.Button("Find joints", variant="primary")
                picture_note = gr.Markdown()
                file = gr.File(label="Keypoints, JSON", interactive=False)
            with gr.Column():
                drawn = gr.Image(
                    label="Skeleton",
                    interactive=False,
                    format="jpeg",
                    buttons=["download", "fullscreen"],  # no button that uploads it
                )
                table = gr.Dataframe(headers=HEADER, label="Joints", interactive=False)
            _wire(
                find, picture, [upload, network, several], [drawn, table, file, picture_note], cfg
            )
        with gr.Tab("Clip"), gr.Row():
            with gr.Column():
                film = gr.Video(label="Clip", sources=["upload", "webcam"])
                find_in_clip = gr.Button("Find joints", variant="primary")
                clip_note = gr.Markdown()
                joints = gr.File(label="Keypoints, JSON", interactive=False)
            shown = gr.Video(label="Skeletons", interactive=False, buttons=["download"])
            _wire(find_in_clip, clip, [film, network, several], [shown, joints, clip_note], cfg)
    return page


def _wire(
    button: gr.Button, handler: Callable[..., Any], inputs: list[Any], outputs: list[Any], cfg: Any
) -> None:
    """Call `handler` with the upload as it is, not decoded by Gradio; show errors as messages."""

    def handle(*values: Any) -> Any:
        try:
            return handler(*values)
        except ConvposeError as error:
            raise gr.Error(str(error), print_exception=False) from error

    button.click(
        handle,
        inputs,
        outputs,
        preprocess=False,
        concurrency_limit=cfg.at_once,
        api_name=handler.__name__,
    )


def _file(upload: Any, what: str) -> tuple[Path, str]:
    """Return path and name of an upload that Gradio has not decoded.

    Gradio checks the path while it decodes. It does not decode here, so the check is made here.

    Raises:
        DataError: no upload, or the path of another file of this machine.
    """
    data = upload.get("video", upload) if isinstance(upload, dict) else upload
    path = getattr(data, "path", None) or (data.get("path") if isinstance(data, dict) else None)
    if not path:
        raise DataError(f"no {what.split()[-1]} yet: upload {what} first")
    if not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise DataError("not an upload: files of this machine are not shown")
    name = getattr(data, "orig_name", None)
    name = name or (data.get("orig_name") if isinstance(data, dict) else None)
    return Path(path), str(name or Path(path).name)
