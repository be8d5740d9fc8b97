"""Window: what is being drawn, on the screen, by whatever toolkit Matplotlib finds."""

from typing import Any

from convpose.errors import ConfigError
from convpose.geometry import Image

STILL_S = 1.5  # how long a still picture stays


class Window:
    """One window that shows one image after the other.

    Raises:
        ConfigError: there is no display, or no toolkit for windows.
    """

    def __init__(self) -> None:
        import matplotlib.pyplot as plt
        from matplotlib import backends

        known: Any = backends
        interactive = known.backend_registry.list_builtin(known.BackendFilter.INTERACTIVE)
        if plt.get_backend().lower() not in interactive:
            raise ConfigError(
                "show=true: no window can be opened here, there is no display or no toolkit "
                "(install python3-tk, or pip install pyqt6); leave show out, the drawings are "
                "written to output=FOLDER"
            )
        self._plt: Any = plt
        self._figure: Any = plt.figure("convpose", facecolor="black")
        self._shown: Any = None

    def show(self, image: Image, still: bool) -> bool:
        """Show an image, a still for `STILL_S`; False once the user has closed the window."""
        if not self._plt.fignum_exists(self._figure.number):
            return False
        if self._shown is None or self._shown.get_array().shape != image.shape:
            self._figure.clear()
            axes = self._figure.add_axes((0, 0, 1, 1))
            axes.axis("off")
            self._shown = axes.imshow(image)
        else:
            self._shown.set_data(image)
        self._plt.pause(STILL_S if still else 0.001)
        return bool(self._plt.fignum_exists(self._figure.number))

    def close(self) -> None:
        """Close it."""
        self._plt.close(self._figure)
