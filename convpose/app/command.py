"""The page, in Gradio."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before its import, which looks
import gradio as gr
from annotated_types import Ge, Le
from gradio.utils import get_upload_folder
from omegaconf import DictConfig

from convpose.app.handlers import KEPT_S, AnswerFolders, of_clip, of_picture
from convpose.app.networks import Networks
from convpose.config.instantiate import build
from convpose.config.schema import Count, check_table
from convpose.errors import ConfigError, ConvposeError, DataError

KEYS = {
    "port": Annotated[int, Ge(1), Le(65535)],
    **dict.fromkeys(("max_file_mb", "max_megapixels", "max_frames", "at_once"), Count),
}
HEADER = ["person", "joint", "x px", "y px", "score"]
# fonts of the visitor's own machine: nothing is fetched from anywhere
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
    """How Gradio serves it: no sharing service, no monitoring, bounded uploads."""
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
    """The page with its networks loaded."""
    check_table(cfg, KEYS)
    detector = build(cfg.detector, "detector") if cfg.get("detector") else None
    folders = AnswerFolders()
    networks = Networks(Path(cfg.paths.runs), cfg.run, detector, cfg.accelerator)

    def picture(upload: Any, network: str, several: bool) -> Any:
        path, name = _file(upload, "a picture")
        predictor = networks.predictor(network, several)
        image, rows, file, sentence = of_picture(
            *(path, name, predictor, cfg.max_megapixels, folders.new())
        )
        return image, rows, str(file), sentence

    def clip(upload: Any, network: str, several: bool) -> Any:
        path, name = _file(upload, "a clip")
        predictor = networks.predictor(network, several)
        video, file, sentence = of_clip(path, name, predictor, cfg.max_frames, folders.new())
        return str(video), str(file), sentence

    page: gr.Blocks
    with gr.Blocks(
        title="convpose", analytics_enabled=False, delete_cache=(KEPT_S, KEPT_S)
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
                said = gr.Markdown()
                file = gr.File(label="Keypoints, JSON", interactive=False)
            with gr.Column():
                drawn = gr.Image(
                    label="Skeleton",
                    interactive=False,
                    format="jpeg",
                    buttons=["download", "fullscreen"],  # and none that sends it anywhere
                )
                table = gr.Dataframe(headers=HEADER, label="Joints", interactive=False)
            _wire(find, picture, [upload, network, several], [drawn, table, file, said], cfg)
        with gr.Tab("Clip"), gr.Row():
            with gr.Column():
                film = gr.Video(label="Clip", sources=["upload", "webcam"])
                look = gr.Button("Find joints", variant="primary")
                told = gr.Markdown()
                joints = gr.File(label="Keypoints, JSON", interactive=False)
            shown = gr.Video(label="Skeletons", interactive=False, buttons=["download"])
            _wire(look, clip, [film, network, several], [shown, joints, told], cfg)
    return page


def _wire(
    button: gr.Button, answer: Callable[..., Any], inputs: list[Any], outputs: list[Any], cfg: Any
) -> None:
    """Call `answer` with the plain upload, not decoded by Gradio; errors become sentences."""

    def answered(*values: Any) -> Any:
        try:
            return answer(*values)
        except ConvposeError as error:
            raise gr.Error(str(error), print_exception=False) from error

    button.click(
        answered,
        inputs,
        outputs,
        preprocess=False,
        concurrency_limit=cfg.at_once,
        api_name=answer.__name__,
    )


def _file(upload: Any, what: str) -> tuple[Path, str]:
    """Path and name of an upload as Gradio hands it over before it looks inside.

    Gradio's own check of the path is part of what it does when it looks inside, so it is done here.

    Raises:
        DataError: nothing was uploaded, or the visitor names a file of this machine.
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
