"""Reading prompt files: every mistake is one line that names file and line number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.data.messages import ROLES
from rlhf_cli.data.reading import read_source
from rlhf_cli.data.split import fingerprint
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.types import Message, PromptRow
from tests.unit.support import source_of


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "prompts.jsonl"


def read_prompts(path: Path | str) -> list[PromptRow]:
    return read_source(source_of(path)).rows


def rows_of(file: Path, *lines: str) -> list[PromptRow]:
    file.write_bytes("\n".join(lines).encode())
    return read_prompts(str(file))


def problem_of(file: Path, *lines: str) -> str:
    with pytest.raises(UserError) as caught:
        rows_of(file, *lines)
    assert caught.value.exit_code == EXIT_DATA == 3
    return caught.value.line()


WHICH = "or say which it is: data.prompt=COLUMN"
GOOD = '{"prompt": "ok"}'


def test_text_prompts_keep_their_other_columns_and_their_place(file: Path) -> None:
    rows = rows_of(file, '{"prompt": "one", "answer": 1, "tags": ["a"]}', '{"prompt": "two"}')
    assert rows == [
        PromptRow("one", {"answer": 1, "tags": ["a"]}, "prompts.jsonl:1"),
        PromptRow("two", {}, "prompts.jsonl:2"),
    ]


@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\r\n"])
def test_the_last_line_ends_as_it_likes(file: Path, ending: str) -> None:
    file.write_bytes((GOOD + ending).encode())
    assert [row.prompt for row in read_prompts(str(file))] == ["ok"]


def test_blank_lines_are_skipped_and_still_counted(file: Path) -> None:
    rows = rows_of(file, "", GOOD, "   ", "\t", GOOD)
    assert [row.where for row in rows] == ["prompts.jsonl:2", "prompts.jsonl:5"]


def test_chat_prompts_become_messages(file: Path) -> None:
    turns = [{"role": role, "content": f"from {role}"} for role in ROLES]
    (row,) = rows_of(file, json.dumps({"prompt": turns}))
    assert row.prompt == tuple(Message(role, f"from {role}") for role in ("system", "user", "assistant", "tool"))


@pytest.mark.parametrize(
    "text",
    [
        "naïve café",
        "汉字 🙂",
        "nul \x00 inside",
        "right-to-left \u202e override \u2066x\u2069",
        "line\nbreak\ttab",
        "\u2028 and \u0085",
        "<|end|> <s> </s>",
        " spaces around ",
        "\x1b[31mred",
    ],
)
@pytest.mark.parametrize("escaped", [True, False])
def test_any_text_is_taken_as_it_is(file: Path, text: str, escaped: bool) -> None:
    (row,) = rows_of(file, json.dumps({"prompt": text}, ensure_ascii=escaped))
    assert row.prompt == text


LIST = "one JSON object a line; jq -c '.[]' FILE writes a list so"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "{]",
            "not JSON: Expecting property name enclosed in double quotes at column 2 (prompts.jsonl:2); "
            "fix: one JSON object a line",
        ),
        ('{"prompt": "a"} x', "not JSON: Extra data at column 17 (prompts.jsonl:2); fix: one JSON object a line"),
        ("hello", "not JSON: Expecting value at column 1 (prompts.jsonl:2); fix: one JSON object a line"),
        ("[1, 2]", f"not a JSON object but a list (prompts.jsonl:2); fix: {LIST}"),
        ("[", f"not JSON: Expecting value at column 2 (prompts.jsonl:2); fix: {LIST}"),
        ('"hello"', 'not a JSON object but text (prompts.jsonl:2); fix: write {"prompt": "..."}'),
        ("3", 'not a JSON object but a number (prompts.jsonl:2); fix: write {"prompt": "..."}'),
        ("2.5", 'not a JSON object but a number (prompts.jsonl:2); fix: write {"prompt": "..."}'),
        ("true", 'not a JSON object but true or false (prompts.jsonl:2); fix: write {"prompt": "..."}'),
        ("null", 'not a JSON object but null (prompts.jsonl:2); fix: write {"prompt": "..."}'),
        (
            "{}",
            f"no column 'prompt'; columns: none (prompts.jsonl:2); fix: name the column prompt, {WHICH}",
        ),
        (
            '{"question": "a", "answer": "b"}',
            f"no column 'prompt'; columns: question, answer (prompts.jsonl:2); fix: name the column prompt, {WHICH}",
        ),
        (
            '{"text": "a", "label": 1}',
            f"no column 'prompt'; columns: text, label (prompts.jsonl:2); fix: name the column prompt, {WHICH}; "
            "texts with labels are data=labelled",
        ),
        (
            '{"id": 1, "prompts": "a"}',
            f"no column 'prompt'; columns: id, prompts (prompts.jsonl:2); fix: rename 'prompts' to prompt, {WHICH}",
        ),
        ('{"prompt": ""}', "the prompt is empty (prompts.jsonl:2); fix: remove the line or write a prompt"),
        ('{"prompt": " \\n "}', "the prompt is empty (prompts.jsonl:2); fix: remove the line or write a prompt"),
        (
            '{"prompt": [{"role": "system", "content": ""}, {"role": "user", "content": " \\n"}]}',
            "the prompt is empty (prompts.jsonl:2); fix: remove the line or write a message",
        ),
        ('{"prompt": []}', "the prompt is empty (prompts.jsonl:2); fix: remove the line or write a message"),
        ('{"prompt": null}', "prompt is null (prompts.jsonl:2); fix: give text or a list of chat messages"),
        ('{"prompt": 3}', "prompt is a number (prompts.jsonl:2); fix: give text or a list of chat messages"),
        ('{"prompt": 7.5}', "prompt is a number (prompts.jsonl:2); fix: give text or a list of chat messages"),
        ('{"prompt": false}', "prompt is true or false (prompts.jsonl:2); fix: give text or a list of chat messages"),
        ('{"prompt": {}}', "prompt is an object (prompts.jsonl:2); fix: give text or a list of chat messages"),
        (
            '{"prompt": [{"role": "robot", "content": "x"}]}',
            "unknown role 'robot' (prompts.jsonl:2); fix: use one of system, user, assistant, tool",
        ),
    ],
)
def test_every_mistake_is_named_with_its_line(file: Path, line: str, problem: str) -> None:
    assert problem_of(file, GOOD, line, GOOD) == problem


@pytest.mark.parametrize(
    "turn",
    [
        3,
        "hello",
        {},
        {"role": "user"},
        {"content": "x"},
        {"role": "user", "content": None},
        {"role": 1, "content": "x"},
    ],
)
def test_a_broken_chat_message_is_named(file: Path, turn: Any) -> None:
    assert problem_of(file, json.dumps({"prompt": [{"role": "user", "content": "fine"}, turn]})) == (
        "a chat message without text for 'role' and 'content' (prompts.jsonl:1); "
        'fix: write {"role": "user", "content": "..."}'
    )


@pytest.mark.parametrize("content", ["", "\n\n  \n", "\n \n\r\n", "\ufeff"])
def test_an_empty_file_is_refused(file: Path, content: str) -> None:
    assert problem_of(file, content) == f"the prompt file is empty ({file}); fix: one JSON object a line"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "promts.jsonl").touch()
    for path, what, fix in (
        (tmp_path / "none.jsonl", "no such prompt file", "give a file by data.path="),
        (tmp_path / "prompts.jsonl", "no such prompt file", "did you mean promts.jsonl?"),
        (tmp_path, "a folder, not a prompt file", "name its files by a pattern, as FOLDER/*.jsonl"),
        ("package:no_such_package/x.jsonl", "no such prompt file", "give a file by data.path="),
    ):
        with pytest.raises(UserError) as caught:
            read_prompts(str(path))
        assert caught.value.line() == f"{what} ({path}); fix: {fix}"
        assert caught.value.exit_code == EXIT_DATA


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'{"prompt": "caf\xe9"}', 1),
        (b'{"prompt": "caf\xc3\xa9"}\n' * 9999 + b'{"prompt": "caf\xe9"}', 10000),
        (b"\x1f\x8b\x08", 1),
    ],
    ids=["latin-1", "far behind", "gzip"],
)
def test_bytes_that_are_not_utf_8_are_refused(content: bytes, line: int, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_prompts(str(file))
    assert caught.value.line() == f"not UTF-8 text (prompts.jsonl:{line}); fix: save it as UTF-8"
    assert caught.value.exit_code == EXIT_DATA


def test_the_packaged_prompts_can_be_read() -> None:
    rows = {
        name: read_prompts(f"package:rlhf_cli/data/prompts/{name}.jsonl")
        for name in ("tiny", "writing_train", "writing_eval")
    }
    assert {name: len(found) for name, found in rows.items()} == {"tiny": 20, "writing_train": 320, "writing_eval": 64}
    train, held_out = ({row.prompt for row in rows[name]} for name in ("writing_train", "writing_eval"))
    assert not train & held_out


class TestFingerprint:
    """The same rows are the same data; any other rows are not."""

    ROWS = (PromptRow("a", {"x": 1, "y": 2}, "f:1"), PromptRow((Message("user", "b"),), {}, "f:2"))

    def test_it_does_not_depend_on_where_the_rows_stand_or_on_the_order_of_columns(self) -> None:
        moved = [PromptRow("a", {"y": 2, "x": 1}, "g:7"), PromptRow((Message("user", "b"),), {}, "g:9")]
        assert fingerprint(moved) == fingerprint(self.ROWS)

    @pytest.mark.parametrize(
        "other",
        [
            ROWS[::-1],
            ROWS[:1],
            (PromptRow("A", {"x": 1, "y": 2}, "f:1"), ROWS[1]),
            (PromptRow("a", {"x": 1, "y": 3}, "f:1"), ROWS[1]),
            (ROWS[0], PromptRow((Message("system", "b"),), {}, "f:2")),
            (ROWS[0], PromptRow("b", {}, "f:2")),
        ],
        ids=["order", "fewer", "text", "column", "role", "chat or text"],
    )
    def test_it_changes_with(self, other: tuple[PromptRow, ...]) -> None:
        assert fingerprint(other) != fingerprint(self.ROWS)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"prompt": "a",', "not JSON: Expecting property name enclosed in double quotes at column 16"),
        ('{"prompt": "\\ud800"}', "\\ud800 is half of a surrogate pair, which is no text"),
        ("[" * 200_000, "not readable as JSON: it is nested too deeply"),
        ('{"prompt": "a", "prompt": "b"}', "not readable as JSON: 'prompt' stands twice in an object"),
        ('{"prompt": "a", "of": {"n": 1, "m": 2, "n": 1}}', "not readable as JSON: 'n' stands twice in an object"),
        ('{"m": 0, "n": 1, "n": 2}', "not readable as JSON: 'n' stands twice in an object"),
        (
            '{"prompt": "a", "answer": NaN}',
            "not readable as JSON: NaN is no JSON; null says that a value is missing",
        ),
        ('{"prompt": "a", "n": [-Infinity]}', "not readable as JSON: -Infinity is no JSON"),
        ('{"prompt": "x", "n": ' + "9" * 5000 + "}", "not readable as JSON: a number of 5,000 digits"),
        ("1" * 5000, "not readable as JSON: a number of 5,000 digits"),
        ('{"prompt": "a", "answer": -1e400}', "not readable as JSON: -1e400 is too large for a number"),
        ("\0\0", "not JSON: Expecting value at column 1"),
    ],
    ids=[
        "cut",
        "surrogate",
        "nested",
        "twice",
        "twice within",
        "twice behind another",
        "NaN",
        "infinity",
        "digits",
        "digits alone",
        "too large",
        "NUL",
    ],
)
def test_json_that_is_none_is_named_by_line(line: str, said: str, file: Path) -> None:
    problem = problem_of(file, GOOD, line)
    assert problem.startswith(said)
    assert "(prompts.jsonl:2)" in problem


def test_a_byte_order_mark_is_no_part_of_the_data(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert [row.prompt for row in read_prompts(str(file))] == ["ok"]
