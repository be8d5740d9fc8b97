"""Heat maps show every cell's mean, the best in bold; a random search becomes points."""

import matplotlib
import pytest
from compare.fake_runs import fake_run
from matplotlib.figure import Figure

from convpose.compare.comparison import Comparison, read_comparison
from convpose.compare.figure import heat_map
from convpose.errors import ConfigError

KEYS = ("optimizer.lr", "data.batch_size")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Learning rate × batch size, one cell twice and one missing."""
    root = tmp_path_factory.mktemp("sweep")
    results = [(0.1, 8, 0.2), (0.1, 8, 0.4), (0.1, 16, 0.5), (0.01, 8, 0.6), (1.0, 16, 0.1)]
    for i, (lr, size, pck) in enumerate(results):
        keys = (f"optimizer.lr={lr}", f"data.batch_size={size}", f"seed={i}")
        fake_run(root / f"run{i}", *keys, pck=pck)
    return read_comparison([root], root)


def written(figure: Figure) -> dict[tuple[float, float], tuple[str, str]]:
    (axes,) = figure.axes
    return {text.get_position(): (text.get_text(), text.get_weight()) for text in axes.texts}


def test_cells_hold_the_mean_and_the_best_is_bold(sweep: Comparison) -> None:
    figure = heat_map(sweep, *KEYS)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0.01", "0.1", "1"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["8", "16"]
    assert written(figure) == {
        (0, 0): ("60.0", "bold"),
        (1, 0): ("30.0", "normal"),
        (1, 1): ("50.0", "normal"),
        (2, 1): ("10.0", "normal"),
    }


def test_of_an_error_the_smallest_is_the_best(sweep: Comparison) -> None:
    cells = written(heat_map(sweep, *KEYS, metric="val/epe_px"))
    (best,) = [float(text) for text, weight in cells.values() if weight == "bold"]
    assert best == min(float(text) for text, _ in cells.values())


def test_a_run_that_diverged_takes_no_colour_from_the_others(tmp_path) -> None:
    for i, pck in enumerate((0.60, 0.61, 0.62, 0.001)):
        fake_run(
            tmp_path / f"run{i}", f"optimizer.lr={0.1 * (1 + i // 2)}", f"seed={i % 2}", pck=pck
        )
    figure = heat_map(read_comparison([tmp_path], tmp_path), "optimizer.lr", "seed")
    (picture,) = figure.axes[0].images
    assert picture.get_clim() == pytest.approx((0.62 - 3 * 0.015, 0.62))


def test_many_values_become_points(tmp_path) -> None:
    for i in range(13):
        keys = (f"optimizer.lr={0.01 * 1.5**i}", f"data.batch_size={8 * (1 + i % 3)}")
        fake_run(tmp_path / f"run{i}", *keys, pck=0.3 + i / 100)
    figure = heat_map(read_comparison([tmp_path], tmp_path), *KEYS)
    axes = figure.axes[0]
    (points,) = (
        c for c in axes.collections if isinstance(c, matplotlib.collections.PathCollection)
    )
    assert points.get_offsets().shape == (13, 2)
    assert sorted(points.get_array()) == pytest.approx([30 + i for i in range(13)])
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "linear")


def test_an_unknown_key_is_answered_with_those_there_are(sweep: Comparison) -> None:
    message = r"optimizer\.rate: no such column in .*; keys that differ: .*optimizer\.lr"
    with pytest.raises(ConfigError, match=message):
        heat_map(sweep, "optimizer.rate", KEYS[1])
