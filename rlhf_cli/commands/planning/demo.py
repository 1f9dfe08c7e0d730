"""`rlhf demo`: the lecture, with pictures from the tool's own functions, on the terminal or as a page."""

import argparse
import importlib
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.commands.parts.stage import show
from rlhf_cli.demo.lecture import OPENING, TIPS, TITLE
from rlhf_cli.demo.scene import Scene
from rlhf_cli.display.console import ResultConsole
from rlhf_cli.errors import visible
from rlhf_cli.paths import expand
from rlhf_cli.report.page import render
from rlhf_cli.report.writing import check_page, write_page

MODULES: Final = {"a": "trick", "b": "toy_example", "c": "clipping", "d": "tuning"}
WIDEST: Final = 100


def main(argv: list[str]) -> None:
    """Show the scenes, or write them as a page; progress goes to stderr."""
    options = _parser().parse_args(argv)
    file = expand(options.html) if options.html else None
    if file is not None:
        check_page(file, overwrite=True, fix="--html FILE")
    chosen = sorted(set(options.scenes)) or list(MODULES)
    whole = chosen == list(MODULES)
    scenes = _scenes(chosen, whole, options.fast)
    if file is not None:
        write_page(file, render("lecture.html.j2", title=TITLE, scenes=list(scenes)), overwrite=True)
        print(visible(f"written to {file}"))
        return
    console = ResultConsole()
    console.width = min(console.width, WIDEST)
    moving = console.is_terminal and not console.is_dumb_terminal and not options.fast
    waits = console.is_terminal and sys.stdin.isatty()
    if whole:
        console.print(Text(TITLE, style="bold"), "")
    for i, scene in enumerate(scenes):
        if scene.pictures and i and waits:
            try:
                console.input(Text("Enter goes on, Ctrl-C ends: ", style="dim"))
            except EOFError:
                return
        show(scene, console, moving)


def _scenes(chosen: Sequence[str], whole: bool, fast: bool) -> Iterator[Scene]:
    """Yield the scenes; each is computed when it is needed."""
    if whole:
        yield from OPENING
    print("loading torch ...", file=sys.stderr, flush=True)
    import torch

    torch.set_num_threads(1)  # tensors of six numbers: a second thread only waits, and makes it ten times as long
    for key in chosen:
        module = importlib.import_module(f"rlhf_cli.demo.{MODULES[key]}")
        print(f"computing scene {key} ...", file=sys.stderr, flush=True)
        scene: Scene = module.scene(fast)
        yield scene
    if "d" in chosen:
        yield TIPS


def _parser() -> Parser:
    parser = Parser(
        prog="rlhf demo",
        description="The ideas behind the tool, with pictures that its own functions compute: a, the log-derivative "
        "trick; b, gradient ascent with and without a baseline and the reference; c, clipping; d, beta and the "
        "temperature.",
    )
    parser.add_argument("scenes", metavar="SCENE", nargs="*", type=_scene, help="a, b, c, d (default: all)")
    parser.add_argument("--html", metavar="FILE", help="write one self-contained page instead")
    parser.add_argument("--fast", action="store_true", help="shorter runs, and nothing moves")
    return parser


def _scene(text: str) -> str:
    if text not in MODULES:
        raise argparse.ArgumentTypeError(f"no scene {text}; have {', '.join(MODULES)}")
    return text
