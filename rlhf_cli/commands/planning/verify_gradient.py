"""`rlhf verify-gradient config=...`: the expected update of a run's settings beside the exact gradient of J."""

from dataclasses import asdict
from functools import partial
from typing import Final

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.commands.parts.ready import compose_new
from rlhf_cli.display.printing import print_result
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import EXIT_NONFINITE, UserError

ABOUT: Final = """\
Does this run follow the gradient of E[r] - beta KL(policy || reference)? Its
algorithm, placement of the KL, temperature, truncation and reward shaping run
on a policy so small that every step can be listed: two prompts, completions of
up to two of three tokens, scores of its own. The expected update, by the code
that trains, is compared with the exact gradient, by code that shares nothing
with it. The model, the data and the reward's source are not read."""

EXAMPLES: Final = """\
The verdict is unbiased; biased by design, where the documentation names each
setting that bends the gradient, and the update is exact without them; or wrong
(exit 7). It is that of an update before AdamW and the limit of its norm.

  rlhf verify-gradient config=./my-run.yaml
  rlhf verify-gradient algorithm=grpo
  rlhf verify-gradient algorithm=rloo kl=loss_k2 beta=0.3 top_p=0.9 --json"""


def main(argv: list[str]) -> None:
    """Verify and print; the report on stdout, progress on stderr."""
    parser = Parser(prog="rlhf verify-gradient", description=ABOUT, epilog=EXAMPLES)
    parser.add_overrides()
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_intermixed_args(argv)
    config = compose_new(options.overrides)
    watch = progress(config.display)
    with watch.phase("loading torch", 0):
        from rlhf_cli.display.verbs.verify_gradient import show_verification
        from rlhf_cli.verify.gradient import verify_gradient
    with watch.phase("listing every step", 0):
        found = verify_gradient(config)
    print_result(asdict(found), partial(show_verification, found), as_json=options.json)
    if found.verdict == "wrong":
        raise UserError(
            "the expected update is not the documented one",
            where="verify-gradient",
            fix="report it with the settings: the training code and its documentation disagree",
            exit_code=EXIT_NONFINITE,
        )
