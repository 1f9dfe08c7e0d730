"""The run that a command line resumes."""

import pytest

from rlhf_cli.commands.parts.resuming import resume_target
from rlhf_cli.errors import UserError


@pytest.mark.parametrize(
    ("argv", "target"),
    [
        ([], None),
        (["resume=auto", "run_dir=x"], None),
        (["resume=null"], None),
        (["resume=a", "steps=3", "resume='b c'"], "b c"),
        (["resume='"], "'"),
    ],
)
def test_it_is_the_last_one_named(argv: list[str], target: str | None) -> None:
    assert resume_target(argv) == target


@pytest.mark.parametrize("word", ["resume=", "resume=''", 'resume=""'])
def test_an_empty_one_is_refused(word: str) -> None:
    """It would mean the working directory, and go on with a run there."""
    with pytest.raises(UserError, match=r"^no run is named ") as caught:
        resume_target([word, "steps=3"])
    assert caught.value.where == "resume"
