"""`rlhf chat RUN`: a conversation with a trained policy, and with its reference beside it."""

import sys
from typing import Final

from rlhf_cli.commands.parts.chatting import Session, describe_commands
from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.commands.parts.writing import add_options, lines_of_stdin, load_writer, note_template
from rlhf_cli.display.printing import print_note
from rlhf_cli.display.verbs.chat import type_turns
from rlhf_cli.prompts.conversation import Conversation

ABOUT: Final = """\
Talk to a trained policy. Answers appear as they are sampled; Ctrl-C stops one.
Where stdin is no terminal, each of its lines is a turn, and stdout gets the
answers alone."""


def main(argv: list[str]) -> None:
    """Answer turn by turn; answers on stdout, the rest on stderr."""
    parser = Parser(prog="rlhf chat", description=ABOUT, epilog=f"commands:\n{describe_commands()}")
    parser.add_argument("run", metavar="RUN", help="a run's folder, one of its checkpoints, or latest")
    parser.add_argument("--reference", action="store_true", help="let the reference answer too, above the policy")
    parser.add_argument(
        "--system", type=str, metavar="TEXT", help="the system prompt (default: data.system of the run)"
    )
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a turn, at its end")
    options = parser.parse_args(argv)
    writer = load_writer(options)
    template = writer.policy.use_chat_template
    system = options.system if options.system is not None else getattr(writer.config.data, "system", None)
    names = ("reference", "policy") if options.reference else ("policy",)
    sides = {name: Conversation(template, system) for name in names}
    if not template:
        print_note("without a chat template, the model goes on with the text so far")
    elif system:
        print_note(f"the system prompt is {system!r}")
    note_template(writer.config)
    typed = sys.stdin.isatty()
    if typed:
        print("/help lists the commands, Ctrl-D ends", file=sys.stderr)
    session = Session(writer, sides, options.temperature, options.seed, typed, options.json)
    session.run(type_turns() if typed else lines_of_stdin("chat"))
