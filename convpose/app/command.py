"""Build the page in Gradio, and serve it."""

import itertools
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # Gradio reads it when it is imported
import gradio as gr
import uvicorn
from fastapi import FastAPI
from gradio.utils import get_upload_folder
from omegaconf import DictConfig

from convpose.app.guard import Guard, visitor_files
from convpose.app.handlers import (
    Networks,
    add_corner,
    draw_boxes,
    example_picture,
    in_words,
    predict_clip,
    predict_picture,
    waits,
)
from convpose.app.request import check_keys
from convpose.config.application import sigterm_exits
from convpose.config.instantiate import build
from convpose.errors import ConfigError, DataError
from convpose.predict.command import limits_of
from convpose.predict.images import decode

log = logging.getLogger(__name__)
FILES_PX = 150  # an empty list of files takes no more
HEADER = ["person", "joint", "x px", "y px", "score"]
# the fonts of the visitor's machine, so that no font is fetched
THEME = gr.themes.Base(
    primary_hue="blue",
    neutral_hue="slate",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)


@sigterm_exits()
def serve(cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C, SIGTERM or the end of the terminal; then remove all uploads.

    Args:
        cfg: of ``conf/app.yaml``.

    Raises:
        ConfigError: a value out of its range, a port that is taken, or no password for a page that
            other machines reach.
        ModelError: the first network cannot be loaded.
        SystemExit: a signal.
    """
    if hasattr(signal, "SIGHUP"):  # uvicorn ends at SIGTERM in order, and passes it on
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    with visitor_files():
        page = build_page(cfg)
        with _listen(cfg.host, cfg.port) as listening:
            host = f"[{cfg.host}]" if ":" in cfg.host else cfg.host
            print(f"the page is at http://{host}:{cfg.port}; Ctrl-C ends it", flush=True)
            server(page, cfg).run([listening])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"host={host} port={port}: cannot listen there ({error.strerror}); type "
            f"another port, as port={7861 if port == 7860 else 7860}, or host=127.0.0.1"
        ) from error


class Server(uvicorn.Server):
    """Server that cuts off unfinished answers at its end without a traceback for each."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, as uvicorn does."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


def server(page: gr.Blocks, cfg: DictConfig) -> Server:
    """Make the server of a page; nothing is shared, uploads are bounded."""
    app = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        max_file_size=f"{cfg.max_file_mb}mb",
        enable_monitoring=False,
        ssr_mode=False,
        show_error=False,
        run_history=False,
        footer_links=[],
        theme=THEME,
    )
    guard = Guard(app, cfg.names, cfg.password or None)
    # answers that never end, such as those that wait for results, are not waited for
    return Server(
        uvicorn.Config(guard, log_level="warning", server_header=False, timeout_graceful_shutdown=1)
    )


def build_page(cfg: DictConfig) -> gr.Blocks:
    """Build the page and load its first network."""
    check_keys(cfg)
    detector = build(cfg.detector, "detector") if cfg.get("detector") else None
    networks = Networks(
        Path(cfg.paths.runs), cfg.run or cfg.network, detector, cfg.accelerator, cfg.looks
    )

    examples = itertools.count()

    def picture(upload: Any, network: str, several: bool, boxes: str = "") -> Any:
        path, name = _file(upload, "a picture")
        predictor = networks.predictor(network, several)
        image, rows, file, sentence = predict_picture(
            *(path, name, predictor, limits_of(cfg), _new_folder(), boxes or "")
        )
        return image, rows, str(file), sentence

    def next_example() -> Any:
        return str(example_picture(next(examples), _new_folder())), "", None, None, None, ""

    def corner(place: Any, upload: Any, network: str, several: bool, boxes: str) -> Any:
        path, name = _file(upload, "a picture")
        boxes = add_corner(boxes or "", place)
        if not waits(boxes):
            return *picture(upload, network, several, boxes), boxes
        shown = draw_boxes(boxes, decode(path, name, limits_of(cfg)))
        return shown, gr.skip(), gr.skip(), "Now click the opposite corner of the box.", boxes

    def clip(upload: Any, network: str, several: bool) -> Any:
        path, name = _file(upload, "a clip")
        predictor = networks.predictor(network, several)
        video, rows, files, sentence = predict_clip(
            *(path, name, predictor, limits_of(cfg), cfg.max_frames, _new_folder())
        )
        return str(video), rows, [str(file) for file in files], sentence

    page: gr.Blocks
    with gr.Blocks(title="convpose", analytics_enabled=False) as page:
        gr.Markdown("# convpose\nFind the joints of a person in a picture or a clip.")
        with gr.Row():
            with gr.Column(scale=2, min_width=260):
                names = list(networks.names())
                network = gr.Dropdown(names, value=names[0], label="Network")
            with gr.Column(min_width=260):
                several = gr.Checkbox(
                    label="There is more than one person",
                    value=detector is not None,
                    interactive=detector is not None,
                    info="" if detector else "draw a box round each; or start with detector=auto",
                )
        with gr.Tab("Picture"), gr.Row():
            with gr.Column():
                upload = gr.Image(
                    label="Picture",
                    type="filepath",
                    sources=["upload", "webcam", "clipboard"],
                )
                with gr.Row():
                    find = gr.Button("Find joints", variant="primary", min_width=120)
                    example = gr.Button("Example", min_width=120)
                with gr.Row():
                    boxes = gr.Textbox(
                        label="Boxes round people",
                        info="click two opposite corners in the picture",
                        placeholder="x0, y0, x1, y1",
                        max_lines=4,
                        scale=3,
                        min_width=160,
                    )
                    remove = gr.Button("Remove boxes", min_width=160)
                picture_note = gr.Markdown()
            with gr.Column():
                drawn = gr.Image(
                    label="Skeleton",
                    interactive=False,
                    format="jpeg",
                    buttons=["download", "fullscreen"],  # no button that uploads it
                )
                table = gr.Dataframe(headers=HEADER, label="Joints", interactive=False)
                file = gr.File(label="Keypoints, JSON", interactive=False, height=FILES_PX)
            inputs, outputs = [upload, network, several, boxes], [drawn, table, file, picture_note]
            _wire(find.click, picture, inputs, outputs, cfg)
            _wire(upload.select, corner, inputs, [*outputs, boxes], cfg, clicked=True)
            private: Any = {"api_visibility": "private"}
            new = [boxes, *outputs]  # a new picture has none of the last one's
            remove.click(lambda: "", None, boxes, **private)
            upload.input(lambda: ("", None, None, None, ""), None, new, **private)
            example.click(next_example, None, [upload, *new], **private)
        with gr.Tab("Clip"), gr.Row():
            with gr.Column():
                film = gr.Video(label="Clip", sources=["upload", "webcam"])
                find_in_clip = gr.Button("Find joints", variant="primary")
                clip_note = gr.Markdown()
            with gr.Column():
                shown = gr.Video(label="Skeletons", interactive=False, buttons=["download"])
                rows = gr.Dataframe(headers=["frame", *HEADER], label="Joints", interactive=False)
                label = "Keypoints, JSON and CSV"
                joints = gr.File(label=label, interactive=False, height=FILES_PX)
            outputs = [shown, rows, joints, clip_note]
            _wire(find_in_clip.click, clip, [film, network, several], outputs, cfg)
    return page


def _wire(
    event: Callable[..., Any],
    handler: Callable[..., Any],
    inputs: list[Any],
    outputs: list[Any],
    cfg: Any,
    clicked: bool = False,
) -> None:
    """Call `handler` with the upload as it is, not decoded by Gradio; show errors as messages.

    With `clicked`, its first argument is the place of the click in the picture.
    """

    def handle(*values: Any) -> Any:
        try:
            return handler(*values)
        except Exception as error:
            if not isinstance(error, DataError):
                log.exception("a request failed")
            raise gr.Error(in_words(error), print_exception=False) from error

    def handle_place(place: gr.SelectData, *values: Any) -> Any:
        return handle(place.index, *values)

    event(
        handle_place if clicked else handle,
        inputs,
        outputs,
        preprocess=False,
        concurrency_limit=cfg.at_once,
        api_name=handler.__name__,
    )


def _new_folder() -> Path:
    """Make a folder for a result, among the uploads."""
    folder = Path(get_upload_folder())
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder))


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
