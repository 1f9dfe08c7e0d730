"""What is to be done about a reward that fails: shared by all that can."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rlhf_cli.settings import Settings


class MayFail(Settings):
    """A reward that can hang, break off, or have no score for a completion."""

    timeout_s: float = Field(gt=0, le=86_400)
    """Seconds that one call may take, or importing the function."""
    retries: int = Field(ge=0)
    """How often a call that failed is made again."""
    on_error: Literal["stop", "mask", "value"]
    """Of a completion without a usable score: end the run, leave its prompt out of the step, or take error_value."""
    error_value: float = Field(ge=-1e18, le=1e18, allow_inf_nan=False)
    """The score of such a completion under on_error=value."""
