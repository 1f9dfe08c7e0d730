"""The folder of several rounds: its names, and the settings that they began with.

FOLDER/feedback.json             the settings
       report.html               the page
       round-1/pairs.jsonl       two completions of each prompt, and beside it pairs.votes.jsonl
               preferences.jsonl the votes of this round and of those before, as rows to train on
               reward-model/     a run of rlhf reward train
               policy/           a run of rlhf train, from that reward model
               truth.jsonl       the hidden reward at each evaluation of the policy
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter

from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.feedback.annotator import Annotator
from rlhf_cli.runs.folder import ADAPTER
from rlhf_cli.runs.json_files import read_json, write_json
from rlhf_cli.settings import READ_STRICTLY

SETTINGS: Final = "feedback.json"


@dataclass(frozen=True, slots=True)
class FeedbackSettings:
    """All that the rounds depend on."""

    __pydantic_config__ = READ_STRICTLY

    overrides: tuple[str, ...]
    """Of `rlhf train`, for the policy; its reward is the hidden one of a simulated annotator."""
    reward_model: tuple[str, ...]
    """Of `rlhf reward train`."""
    rounds: int
    pairs: int
    """Prompts of a round, each with two completions."""
    annotator: Literal["person", "simulated"]
    noise: float
    """As in `Annotator`, and so are the `ties`."""
    ties: float

    @property
    def simulated(self) -> Annotator | None:
        """The simulated annotator; None where people vote."""
        return Annotator(self.noise, self.ties) if self.annotator == "simulated" else None


_SETTINGS: Final = TypeAdapter(FeedbackSettings)


@dataclass(frozen=True, slots=True)
class Round:
    """The files of one round."""

    number: int
    """From 1."""
    folder: Path

    @property
    def pairs(self) -> Path:
        """Two completions of each prompt."""
        return self.folder / "pairs.jsonl"

    @property
    def preferences(self) -> Path:
        """The votes so far as rows to train on."""
        return self.folder / "preferences.jsonl"

    @property
    def reward_model(self) -> Path:
        """The run of the reward model."""
        return self.folder / "reward-model"

    @property
    def policy(self) -> Path:
        """The run of the policy."""
        return self.folder / "policy"

    @property
    def adapter(self) -> Path:
        """The policy's adapter, of a finished run."""
        return self.policy / ADAPTER

    @property
    def truth(self) -> Path:
        """The hidden reward at each evaluation of the policy."""
        return self.folder / "truth.jsonl"


def rounds_in(folder: Path, count: int) -> list[Round]:
    """The rounds, the first one first."""
    return [Round(number, folder / f"round-{number}") for number in range(1, count + 1)]


def read_settings(folder: Path) -> FeedbackSettings | None:
    """The settings of the rounds in the folder; None where there are none."""
    return read_json(_SETTINGS, folder / SETTINGS)


def keep_settings(folder: Path, settings: FeedbackSettings) -> None:
    """Write the settings, or check them against those that the rounds began with; only more rounds may be asked for.

    Raises UserError (exit 5) where they differ, or the folder holds something else, and OSError.
    """
    former = read_settings(folder)
    if former is None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            what = "the folder holds something else" if folder.is_dir() else "no folder"
            raise UserError(what, where=str(folder), fix="name a new one", exit_code=EXIT_RESUME)
        folder.mkdir(parents=True, exist_ok=True)
    elif replace(former, rounds=settings.rounds) != settings:
        now = asdict(settings)
        key = next(f.name for f in fields(former) if f.name != "rounds" and getattr(former, f.name) != now[f.name])
        raise UserError(
            f"the rounds began with {key.replace('_', '-')} = {_words(getattr(former, key))}",
            where=str(folder),
            fix="give the first command again, with more --rounds perhaps, or name a new folder",
            exit_code=EXIT_RESUME,
        )
    if former != settings:
        write_json(folder / SETTINGS, asdict(settings))


def _words(value: object) -> str:
    return " ".join(value) or "nothing" if isinstance(value, tuple) else str(value)
