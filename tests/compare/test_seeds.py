"""Mean and deviation over seeds."""

import json

import pytest
from compare.fake_runs import fake_run

from convpose.compare.comparison import read_comparison
from convpose.compare.figure import heat_map
from convpose.compare.settings import seed_table, to_markdown


def study(folder, *runs):
    for number, (rate, seed, pck) in enumerate(runs):
        fake_run(folder / f"{number}", f"optimizer.lr={rate}", f"seed={seed}", pck=pck)
    return read_comparison([folder], folder)


def test_a_setting_is_a_row_with_mean_and_deviation(tmp_path):
    runs = ((0.1, 0, 0.30), (0.1, 1, 0.32), (0.1, 2, 0.34), (0.01, 0, 0.5), (0.01, 1, 0.4))
    table = seed_table(study(tmp_path, *runs))
    assert table.header[:3] == ["lr", "seeds", "PCK@0.2 %"]
    assert [row[:3] for row in table.rows] == [
        ["0.01", "2", "45.0 ± 7.1"],
        ["0.1", "3", "32.0 ± 2.0"],
    ]


def test_a_seed_that_was_trained_again_counts_once(tmp_path):
    """Copies of a seed would make the interval too narrow: 7 · 12.706 is that of two changes."""
    seeds = ((0.1, 0, 0.9), (0.1, 0, 0.30), (0.1, 1, 0.34), (0.01, 0, 0.5), (0.01, 1, 0.4))
    table = seed_table(study(tmp_path, *seeds))
    assert [row[:4] for row in table.rows] == [
        ["0.01", "2", "45.0 ± 7.1", ""],
        ["0.1", "2", "32.0 ± 2.8", "-13.0 [-101.9, +75.9]"],
    ]
    assert table.caption.endswith("; left out, for a newer run has their seed: 1 of 5")


def test_copies_of_the_one_seed_of_all_runs_are_no_seeds(tmp_path):
    copies = ((0.1, 0, 0.30), (0.1, 0, 0.30), (0.1, 0, 0.30), (0.01, 0, 0.5), (0.01, 0, 0.5))
    assert seed_table(study(tmp_path, *copies)) is None


@pytest.mark.parametrize(
    "facts",
    [
        {"seconds": None},  # killed, or still running
        {"state": "pruned after 4 epochs"},
    ],
)
def test_a_run_that_did_not_finish_is_left_out_and_said(tmp_path, facts):
    study(tmp_path, (0.1, 0, 0.30), (0.1, 1, 0.34), (0.01, 0, 0.5), (0.01, 1, 0.4))
    late = fake_run(tmp_path / "late", "optimizer.lr=0.1", "seed=2", pck=0.9, facts=facts)
    if "seconds" in facts:
        content = json.loads((late / "run.json").read_text())
        (late / "run.json").write_text(json.dumps({k: v for k, v in content.items() if v}))
    comparison = read_comparison([tmp_path], tmp_path)
    table = seed_table(comparison)
    assert [row[:3] for row in table.rows] == [
        ["0.01", "2", "45.0 ± 7.1"],
        ["0.1", "2", "32.0 ± 2.8"],
    ]
    assert table.caption.endswith("; left out, for they did not finish: 1 of 5")
    assert "left out, for they did not finish: 1 of 5" in to_markdown(comparison)
    axes = heat_map(comparison, "optimizer.lr", "seed").axes[0]
    assert {text.get_text() for text in axes.texts} == {"30.0", "34.0", "50.0", "40.0"}
    assert axes.get_title() == "left out, for they did not finish: 1 of 5"


def test_the_least_loss_comes_first(tmp_path):
    for number, loss_of in enumerate((0.2, 0.6, 0.3, 0.5)):
        fake_run(
            tmp_path / str(number),
            f"optimizer.lr={number % 2 + 1}",
            f"seed={number // 2}",
            pck=loss_of,
        )
    for path in tmp_path.glob("*/config.yaml"):
        text = path.read_text().replace("val/pck@0.2", "val/loss").replace("max\n", "min\n")
        path.write_text(text)
    comparison = read_comparison([tmp_path], tmp_path)
    means = [float(row[2].split()[0]) for row in seed_table(comparison).rows]
    assert seed_table(comparison).header[2] == "val/loss"
    assert means == sorted(means)


def test_a_seventh_key_is_listed_where_settings_look_alike_without_it(tmp_path):
    """As ImageNet weights against none, in a study in which six other keys differ before it."""
    six = ("data.crop", "data.batch_size", "model.depth", "model.width", "model.dropout")
    for number in range(8):
        varied = number // 2
        others = [f"{key}={1 + (varied == 2)}" for key in six]  # differ in one setting only
        seventh = f"trainer.precision={'abcc'[varied]}"
        keys = ("seed=0", "optimizer.lr=1", *others, seventh, f"trainer.accelerator=c{varied == 3}")
        fake_run(tmp_path / f"{number}", *keys, f"seed={number % 2}", pck=0.1 + number / 20)
    table = seed_table(read_comparison([tmp_path], tmp_path))
    settings = [tuple(row[: table.header.index("seeds")]) for row in table.rows]
    assert len(set(settings)) == len(settings) == 4
    assert "precision" in table.header


def test_a_narrow_terminal_keeps_the_means_and_the_differences(tmp_path):
    comparison = study(tmp_path, (0.1, 0, 0.3), (0.1, 1, 0.5), (0.2, 0, 0.3), (0.2, 1, 0.2))
    first = ["lr", "seeds", "PCK@0.2 %", "to the best, 95 %"]
    assert seed_table(comparison).header == [*first, "EPE px", "val/loss"]
    assert seed_table(comparison, width=70).header == [*first, "EPE px"]
    assert seed_table(comparison, width=20).header == first


def test_one_run_of_another_kind_adds_no_columns(tmp_path):
    """Tell it apart by its seed, not by its batch size; without a seed it is named."""
    keys = [(f"optimizer.lr={1 + i % 4}", f"seed={i // 4}") for i in range(12)]
    for i, given in enumerate(keys):
        fake_run(tmp_path / f"{i:02d}", *given, pck=i / 20)
    fake_run(tmp_path / "odd", "optimizer.lr=1", "data.batch_size=99", "seed=7", pck=0.9)
    comparison = read_comparison([tmp_path], tmp_path)
    assert comparison.label(0) == "seed 7 · lr 1"
    assert "data.batch_size" in comparison.caption(comparison.columns[:2], 13)
    assert seed_table(comparison).header[:2] == ["batch_size", "lr"], "its one run is a row"
    (tmp_path / "odd/config.yaml").write_text(
        (tmp_path / "odd/config.yaml").read_text().replace("seed: 7", "seed: 0")
    )
    comparison = read_comparison([tmp_path], tmp_path)
    assert comparison.label(0) == "seed 0 · batch_size 99 · lr 1"


@pytest.mark.parametrize("runs", [((0.1, 0, 0.3),), ((0.1, 0, 0.3), (0.01, 1, 0.4))])
def test_without_repeats_there_is_no_table(tmp_path, runs):
    comparison = study(tmp_path, *runs)
    assert seed_table(comparison) is None
    assert "by setting" not in to_markdown(comparison)


def test_it_stands_in_the_markdown(tmp_path):
    text = to_markdown(study(tmp_path, (0.1, 0, 0.3), (0.1, 1, 0.5)))
    assert "40.0 ± 14.1" in text
    assert "by setting**" in text
