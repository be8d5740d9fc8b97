"""What the tests of exporting share."""

from hydra import compose, initialize_config_dir

from convpose.config.application import conf_folder


def export_config(*overrides):
    """The composed configuration of `convpose.export`."""
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        return compose("export", list(overrides))
