"""`rlhf check [KEY=VALUE ...]`: go or no-go, from one step of which nothing is kept."""

import time
from dataclasses import asdict
from functools import partial
from typing import Final

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.commands.parts.ready import check_new_run, code_notices, compose_new
from rlhf_cli.display.printing import print_result
from rlhf_cli.display.verbs.check import show_trial
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import EXIT_DONE, EXIT_REWARD, UserError
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.ranks.children import place

ABOUT: Final = """\
Load everything that a run needs, start all of its processes, and take a step,
of which nothing is kept: no folder is made. It shows a prompt as the policy
reads it, a completion with its score, what the step would learn from,
the time and the memory, and says go or no-go with the reasons (exit 4)."""

EXAMPLES: Final = """\
examples:
  rlhf check config=./my-run.yaml
  rlhf check config=tiny reward=regex reward.pattern='x+' --json"""


def main(argv: list[str]) -> int:
    """Check the run of these overrides; the report on stdout, progress on stderr."""
    parser = Parser(prog="rlhf check", description=ABOUT, epilog=EXAMPLES)
    parser.add_overrides()
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_intermixed_args(argv)
    if place()[1] > 1:
        raise UserError("rlhf check starts its processes itself", fix="rlhf check processes=N, without torchrun")
    begun = time.monotonic()
    config = compose_new(options.overrides)
    check_new_run(config.model_copy(update={"resume": None}), checked=[])
    watch = progress(config.display)
    watch.note_all(code_notices(config))
    with watch.phase("loading torch and transformers", 0):
        import_libraries()
        from rlhf_cli.verify.trial import try_step
    trial = try_step(config, read_rows(config), watch, StopSignals(config.time_limit, begun))
    print_result(asdict(trial), partial(show_trial, trial, config), as_json=options.json)
    return EXIT_REWARD if trial.reasons else EXIT_DONE
