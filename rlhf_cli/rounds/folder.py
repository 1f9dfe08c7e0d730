"""The folder of several rounds: its names, and the settings that they began with.

FOLDER/feedback.json             the settings
       report.html               the page
       round-1/pairs.jsonl       two completions of each prompt, and beside it pairs.votes.jsonl
               preferences.jsonl the votes of this round and of those before, as rows to train on
               reward-model/     a run of rlhf reward train
               policy/           a run of rlhf train, from that reward model
               truth.jsonl       the hidden reward at each evaluation of the policy
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from rlhf_cli.errors import bad_run
from rlhf_cli.feedback.annotator import Annotator
from rlhf_cli.runs.folder import ADAPTER, LOCK
from rlhf_cli.runs.json_files import StoredAlone

SETTINGS: Final = "feedback.json"


@dataclass(frozen=True, slots=True)
class FeedbackSettings(StoredAlone):
    """All that the rounds depend on."""

    file = SETTINGS

    overrides: tuple[str, ...]
    """Overrides of `rlhf train`, for the policy; its reward is the hidden one of a simulated annotator."""
    reward_model: tuple[str, ...]
    """Overrides of `rlhf reward train`."""
    rounds: int
    pairs: int
    """Prompts of a round, each with two completions."""
    annotator: Literal["person", "simulated"]
    noise: float
    """As in `Annotator`, and so are the `ties`."""
    ties: float
    config: dict[str, str]
    """The settings that the overrides stood for when the rounds began, as JSON by dotted name: those that decide what a
    policy learns, and below `reward_model.` what a reward model learns. A file of the user may change meanwhile."""

    @property
    def simulated(self) -> Annotator | None:
        """The simulated annotator; None where people vote."""
        return Annotator(self.noise, self.ties) if self.annotator == "simulated" else None


@dataclass(frozen=True, slots=True)
class Round:
    """The files and folders of one round, as above."""

    number: int
    """From 1."""
    folder: Path

    @property
    def pairs(self) -> Path:
        return self.folder / "pairs.jsonl"

    @property
    def preferences(self) -> Path:
        return self.folder / "preferences.jsonl"

    @property
    def reward_model(self) -> Path:
        return self.folder / "reward-model"

    @property
    def policy(self) -> Path:
        return self.folder / "policy"

    @property
    def adapter(self) -> Path:
        """The policy's adapter, of a finished run."""
        return self.policy / ADAPTER

    @property
    def truth(self) -> Path:
        return self.folder / "truth.jsonl"


def rounds_in(folder: Path, count: int) -> list[Round]:
    """The rounds, the first one first."""
    return [Round(number, folder / f"round-{number}") for number in range(1, count + 1)]


def keep_settings(folder: Path, settings: FeedbackSettings) -> None:
    """Write the settings, or check them against those that the rounds began with; only more rounds may be asked for.

    The caller holds the folder. Raises UserError (exit 5) where they differ, and OSError.
    """
    former = FeedbackSettings.read(folder)
    if former is not None and (changed := _difference(former, settings)):
        fix = "give the first command again, with more --rounds perhaps, or name a new folder"
        raise bad_run(f"the rounds began with {changed}", folder, fix)
    if former is None or former.rounds != settings.rounds:
        replace(former or settings, rounds=settings.rounds).write(folder)


def make_folder(folder: Path) -> None:
    """Make the folder; raises UserError (exit 5) where it holds something else than rounds, or damaged settings."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    why = "no folder" if folder.exists() and not folder.is_dir() else None
    if names - {LOCK} and SETTINGS not in names:
        why = "the folder holds something else"
    if why:
        raise bad_run(why, folder, "name a new one")
    if SETTINGS in names and FeedbackSettings.read(folder) is None:
        raise bad_run(f"{SETTINGS} cannot be read", folder, "bring it back as it was written, or name a new folder")
    folder.mkdir(parents=True, exist_ok=True)


def _difference(former: FeedbackSettings, now: FeedbackSettings) -> str | None:
    """The first setting that differs, with its former value; the words of the overrides may differ."""
    for name in ("pairs", "annotator", "noise", "ties"):
        if getattr(former, name) != getattr(now, name):
            return f"{name} = {getattr(former, name)}"
    keys = sorted(former.config.keys() | now.config.keys())
    key = next((key for key in keys if former.config.get(key) != now.config.get(key)), None)
    return None if key is None else f"{key} = {former.config.get(key)}"
