"""commands.parts.chatting, with a model that repeats its prompt's last word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlhf_cli.commands.parts.chatting import COMMANDS, Session, describe_commands, parse_command
from rlhf_cli.data.messages import read_message
from rlhf_cli.errors import UserError
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.prompts.conversation import Conversation
from rlhf_cli.types import Prompt, PromptBatch, PromptRow
from tests.support import lines


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("hello", None),
        ("//etc/hosts", None),
        ("", None),
        ("/temperature  0.5 ", ("temperature", "0.5")),
        ("/system Be brief.", ("system", "Be brief.")),
        ("/system", ("system", "")),
        ("/undo", ("undo", "")),
        ("/save my file.jsonl", ("save", "my file.jsonl")),
    ],
)
def test_a_line_is_a_command_or_a_turn(line: str, command: tuple[str, str] | None) -> None:
    assert parse_command(line) == command


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/temp 1", "no command /temp; fix: /temperature"),  # and not /system, which is as near
        ("/temprature 1", "no command /temprature; fix: /temperature"),
        ("/", "no command /; fix: /help lists the commands; // begins a turn with a slash"),
        ("/save", "/save takes FILE; fix: /save FILE"),
        ("/undo 2", "/undo takes nothing; fix: /undo"),
    ],
)
def test_a_wrong_command_is_one_line(line: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_command(line)
    assert raised.value.line() == said


class Echo:
    """Answers with the last word of the prompt, letter by letter; notes how it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[float, tuple[int, ...]]] = []
        self.stop_at: int | None = None

    def encode(self, row: PromptRow, how: str) -> Prompt:
        if row.shown == "stop me":
            raise KeyboardInterrupt
        if len(row.shown) > 40:
            raise UserError("too long", where=row.where, fix=how)
        return Prompt(row, row.shown, tuple(row.shown.encode()))

    def sample(
        self,
        batch: PromptBatch,
        sampling: Sampling,
        tick: Callable[[], None],
        *,
        reference: bool,
        watch: Callable[[torch.Tensor], None],
    ) -> Any:
        self.asked.append((sampling.temperature, batch.seeds))
        answer = batch.prompts[0].text.split()[-1] + ("?" if reference else "!")
        for length in range(1, len(answer) + 1):
            if length == self.stop_at:
                raise KeyboardInterrupt
            watch(torch.tensor([list(answer[:length].encode())]))
        return SimpleNamespace(texts=(answer,))


def session(*names: str, typed: bool = False) -> tuple[Session, Echo]:
    echo = Echo()
    policy = SimpleNamespace(decode=lambda tokens: bytes(tokens).decode())
    writer: Any = SimpleNamespace(encode=echo.encode, policy=policy, engine=echo, limit=9)
    return Session(writer, {name: Conversation(True) for name in names or ("policy",)}, 0.0, 0, typed), echo


def test_the_answers_alone_are_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    chat, _ = session()
    chat.run(["say one", "", "//two", "/help", "/quit", "three"])
    captured = capsys.readouterr()
    assert captured.out == "one!\n/two!\n"
    assert captured.err == f"{describe_commands()}\n"
    assert set(COMMANDS) == {line.split()[0].removeprefix("/") for line in captured.err.splitlines()}


def test_each_side_has_its_own_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    chat, echo = session("reference", "policy")
    chat.run(["one", "two"])
    assert capsys.readouterr().out == ("reference  one?\npolicy     one!\nreference  two?\npolicy     two!\n")
    assert chat.sides["reference"].turns == [("one", "one?"), ("two", "two?")]
    assert chat.sides["policy"].turns == [("one", "one!"), ("two", "two!")]
    first, second, third, fourth = (seeds for _, seeds in echo.asked)
    assert first == second != third == fourth


def test_commands_change_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    chat, echo = session()
    chat.run(["one", "/temperature 0.7", "/system Be kind.", "two", "/undo", "/undo", "/undo", "three"])
    assert [temperature for temperature, _ in echo.asked] == [0.0, 0.7, 0.7]
    assert len({seeds for _, seeds in echo.asked}) == 3  # a turn taken back is answered anew
    assert chat.sides["policy"] == Conversation(True, "Be kind.", [("three", "three!")])
    said = capsys.readouterr().err.splitlines()
    assert said == ["taken back: two", "taken back: one", "there is no turn to take back"]
    chat.run(["/clear", "/system"])
    assert chat.sides["policy"] == Conversation(True)


def test_ctrl_c_stops_an_answer_and_keeps_what_was_shown() -> None:
    chat, echo = session(typed=True)
    echo.stop_at = 3
    chat.run(["seven"])
    assert chat.sides["policy"].turns == [("seven", "se")]
    echo.stop_at = 1
    chat.run(["eight"])
    assert chat.sides["policy"].turns == [("seven", "se")]
    chat.run(["stop me"])
    assert chat.sides["policy"].turns == [("seven", "se")]
    chat.typed = False
    with pytest.raises(KeyboardInterrupt):
        chat.run(["nine"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/quti", "no command /quti (line 2 of stdin); fix: /quit"),
        ("/temperature warm", "must be 0 or more (got warm) (/temperature)"),
        ("/save there", "there is such a file (there); fix: name another one"),
        (
            "/save no/where",
            "the disk refuses: No such file or directory (no/.where.tmp); fix: give, or go to, a folder that exists",
        ),
        ("x" * 41, "too long (turn 2); fix: /undo or /clear"),
    ],
)
def test_a_mistake_ends_a_pipe_and_not_a_person(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").touch()
    chat, _ = session()
    with pytest.raises(UserError) as raised:
        chat.run(["one", line, "two"])
    assert raised.value.line() == said
    typing, echo = session(typed=True)
    typing.run(["one", line, "two"])
    assert len(echo.asked) == 2
    assert f"error: {said.replace(' (line 2 of stdin)', '')}\n" in capsys.readouterr().err


def test_saved_turns_are_prompts(tmp_path: Path) -> None:
    chat, _ = session("reference", "policy")
    with pytest.raises(UserError, match="no turn to save"):
        chat.run(["/save x"])
    chat.run(["one", "two", f"/save {tmp_path / 'saved.jsonl'}"])
    first, second = (read(row["prompt"]) for row in lines(tmp_path / "saved.jsonl"))
    assert first == ["one"]
    assert second == ["one", "one!", "two"]


def read(turns: Sequence[Any]) -> list[str | None]:
    return [read_message(turn, "f:1").content for turn in turns]
