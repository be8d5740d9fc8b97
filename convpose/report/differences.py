"""What differs between configurations in dotted keys, and short words for it."""

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest

from convpose.run import Value

ABSENT = "–"  # the value of a key that a configuration lacks


def differences(
    configs: Sequence[Mapping[str, Value]], overridden: Collection[str], by_choice: bool
) -> tuple[list[str], list[str]]:
    """The keys that differ, and those of them that only follow from others.

    A key of a group (``augment.shift``) follows from the group's choice if equal choices always
    have equal values of it. Where groups go by their class, which says less, it must also be a key
    that some choices lack. A text that repeats another key's, as ``${monitor}`` does, follows too.
    What a command line has set never follows.

    Args:
        configs: of the runs, as `convpose.run.flat` returns them.
        overridden: keys that the command line of a run has set.
        by_choice: groups go by the name of the chosen yaml, not by their class.
    """
    values = {
        key: [config.get(key, ABSENT) for config in configs]
        for key in dict.fromkeys(key for config in configs for key in config)
    }
    differing = {key: column for key, column in values.items() if len(set(column)) > 1}
    leading: list[str] = []
    for key, column in differing.items():
        group = key.partition(".")[0]
        if key in overridden:
            leading.append(key)
        elif group != key and group in differing and (by_choice or ABSENT in column):
            choices = differing[group]
            if len(set(zip(choices, column, strict=True))) > len(set(choices)):
                leading.append(key)
        elif not (_all_text(column) and column in [differing[k] for k in leading]):
            leading.append(key)
    return leading, [key for key in differing if key not in leading]


def abbreviate(names: Sequence[str]) -> list[str]:
    """What of the names tells them apart, ``…_002`` of ``2026-11-22_11-18-28_002_optimizer.lr-1``.

    Words that all begin with become an ellipsis; words after those that are enough are left out.
    """
    split = [name.split("_") for name in names]
    if len(set(names)) < 2:
        return list(names)
    same = next(i for i, words in enumerate(zip_longest(*split)) if len(set(words)) > 1)
    for end in range(same + 1, max(map(len, split)) + 1):
        short = ["_".join(["…"] * (same > 0) + words[same:end]) for words in split]
        if len(set(short)) == len(set(names)):
            return short
    return list(names)


def short_titles(keys: Sequence[str]) -> list[str]:
    """The last word of each key, or more of them where another key ends in the same."""
    titles = []
    for key in keys:
        words = key.split(".")
        ends = [".".join(words[-count:]) for count in range(1, len(words) + 1)]
        others = [f".{other}" for other in keys if other != key]
        unique = [end for end in ends if not any(o.endswith(f".{end}") for o in others)]
        titles.append((unique or [key])[0])
    return titles


def _all_text(column: Sequence[Value]) -> bool:
    return all(isinstance(value, str) for value in column)
