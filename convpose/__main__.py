"""Run a command: ``convpose train model=vgg_bn`` is ``python -m convpose.train model=vgg_bn``.

Alone it lists the commands.
"""

import difflib
import runpy
import sys

from convpose import __version__

COMMANDS = {
    "train": "Train a network; -m sweeps over values with commas",
    "evaluate": "Score a run, or any file of predictions",
    "compare": "Put runs side by side: what differed, and what came of it",
    "search": "Find good settings with Optuna",
    "predict": "Find people in pictures, clips or a webcam",
    "export": "Write a network as one file: ONNX, OpenVINO, TorchScript",
    "app": "Open a web page to try networks on",
    "data": "Verify a data set, draw it, export it",
    "benchmark": "Measure the speed of this machine",
}


def main() -> None:
    """Run the command that the first argument names, or list the commands.

    Raises:
        SystemExit: with 2 and the nearest name for an unknown command.
    """
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in COMMANDS:
        del sys.argv[1]
        runpy.run_module(f"convpose.{name}", run_name="__main__", alter_sys=True)
    elif name in ("--help", "-h", "help"):
        print("usage: convpose COMMAND [KEY=VALUE …]\n")
        for command, purpose in COMMANDS.items():
            print(f"  {command:<10} {purpose}")
        print("\nconvpose COMMAND --help lists its keys; docs: configuration by example")
    elif name in ("--version", "-V"):
        print(f"convpose {__version__}")
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean convpose {near[0]}?" if near else ""
        print(f"error: {name}: no such command{hint}", file=sys.stderr)
        print(f"commands there: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
