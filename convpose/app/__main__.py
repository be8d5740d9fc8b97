"""Serve a web page to try networks on: ``python -m convpose.app``, then open http://127.0.0.1:7860.

Without ``host`` it can be opened on this machine alone. It works offline and sends nothing
anywhere. Needs ``pip install 'convpose[app]'``.
"""

if not __package__:  # started as a file: modules of its folder would hide others
    raise SystemExit("type python -m convpose.app")

from omegaconf import DictConfig

from convpose.config.application import application


@application("app")
def main(cfg: DictConfig) -> None:
    """Serve the page until Ctrl-C."""
    from convpose.errors import require_extra

    require_extra("app", "gradio")
    from convpose.app.request import check_keys

    check_keys(cfg)
    from convpose.app.command import serve

    serve(cfg)


if __name__ == "__main__":
    main()
