"""Run a command: ``convpose train model=vgg_bn`` is ``python -m convpose.train model=vgg_bn``.

Alone it lists the commands.
"""

if not __package__:  # started as a file: modules of its folder would hide others
    raise SystemExit("type python -m convpose")

import difflib
import os
import runpy
import shlex
import sys
from pathlib import Path

from convpose import __version__
from convpose.errors import reader_may_leave

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

# bash asks the commands, and Hydra in them, what may follow; zsh does so by its bashcompinit
COMPLETION = """_convpose() {
    local line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=($(compgen -W "$(COMP_LINE="$line" convpose --complete 2> /dev/null)" -- "$word"))
    [[ ${COMPREPLY[0]} == *[=./] ]] && compopt -o nospace 2> /dev/null
    return 0
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o default -F _convpose convpose
"""


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
        with reader_may_leave():
            print("usage: convpose COMMAND [KEY=VALUE …]\n")
            for command, purpose in COMMANDS.items():
                print(f"  {command:<10} {purpose}")
            print("\nconvpose COMMAND --help lists its keys; docs/configuration.md shows examples")
            print("convpose --completion completes keys in bash and zsh; its output says how")
    elif name in ("--version", "-V"):
        print(f"convpose {__version__}")
    elif name == "--completion":
        print('# put into ~/.bashrc: eval "$(convpose --completion)"', COMPLETION, sep="\n", end="")
    elif name == "--complete":
        complete(os.environ.get("COMP_LINE", ""))
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        if Path(name).exists():
            near = [f"predict {shlex.quote(name)}"]
        hint = f"; did you mean convpose {near[0]}?" if near else ""
        print(f"error: {name}: no such command{hint}", file=sys.stderr)
        print(f"commands there: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)


def complete(line: str) -> None:
    """Print what may follow the beginning of a command line: commands, then groups and keys."""
    words = line.split(maxsplit=2)
    if len(words) < 2 or (len(words) == 2 and not line[-1].isspace()):
        print(*COMMANDS)
    elif words[1] in COMMANDS:
        os.environ["COMP_LINE"] = f"convpose {line.partition(words[1])[2].lstrip()}"
        sys.argv = ["convpose", words[1], "--shell-completion", "query=bash"]
        main()


if __name__ == "__main__":
    main()
