"""A window where there is a display, one clear error where there is none."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from convpose.errors import ConfigError
from convpose.predict import drawing as window
from convpose.predict.drawing import ScreenWindow


def test_without_a_display(monkeypatch):
    monkeypatch.setattr(plt, "get_backend", lambda: "agg")
    with pytest.raises(ConfigError) as error:
        ScreenWindow()
    assert str(error.value).startswith("show=true: no window can be opened here")
    assert "leave show out" in str(error.value)


@pytest.fixture
def screen(monkeypatch):
    """A toolkit that shows nothing: every pause with what the figure would show."""
    shown = []
    monkeypatch.setattr(plt, "get_backend", lambda: "TkAgg")
    monkeypatch.setattr(plt, "pause", lambda seconds: shown.append((seconds, picture())))

    def picture():
        (axes,) = plt.gcf().axes
        return np.asarray(axes.images[0].get_array())

    with plt.rc_context():
        plt.switch_backend("agg")
        yield shown
        plt.close("all")


def test_images_are_shown_one_after_the_other(screen):
    display = ScreenWindow()
    images = [
        np.full(shape, i * 20, np.uint8) for i, shape in enumerate([(4, 6, 3)] * 2 + [(8, 5, 3)])
    ]
    assert display.show(images[0], still=True)
    assert display.show(images[1], still=False)
    assert display.show(images[2], still=False)
    assert [seconds for seconds, _ in screen] == [window.STILL_S, 0.001, 0.001]
    assert all(np.array_equal(image, seen) for image, (_, seen) in zip(images, screen, strict=True))
    display.close()
    assert not plt.get_fignums()


def test_a_closed_window_ends_it(screen):
    display = ScreenWindow()
    plt.close("all")
    assert not display.show(np.zeros((4, 6, 3), np.uint8), still=False)
