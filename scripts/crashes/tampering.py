"""Tamper with finished runs, audit them, count what is found: scripts/tampering [--plants N] [--seed S]

Each try changes one thing of a copy of a run: a number or a text of a log, a line, a bit of the weights or of the
optimizer's moments, the state, a setting. In every second try all hashes of the run are forged as well, so that the
files fit each other again, and only repeating the run can tell. `rlhf audit --all` must find every one.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rlhf_cli.cli import run
from rlhf_cli.runs.binding import BOUND, CONFIGS, read_record, write_record

RUN: Final = ("config=tiny", "model.layers=1", "steps=8", "prompts_per_step=2", "samples_per_prompt=2",
              "max_new_tokens=4", "checkpoint.every=1", "checkpoint.keep=100", "evaluate.every=4",
              "evaluate.prompts=2", "evaluate.samples=2", "display=quiet")  # fmt: skip
LOGS: Final = ("metrics", "samples", "evaluations", "timings")


def change_number(folder: Path, chance: random.Random, name: str) -> None:
    """Change a digit behind the point of one number of a log."""
    file = folder / f"{name}.jsonl"
    text = file.read_text(encoding="utf-8")
    places = [match.end() - 1 for match in re.finditer(r'"(?:reward|score|kl)[^"]*": \[*-?\d\.\d+', text)]
    place = chance.choice(places)
    other = chance.choice([digit for digit in "123456789" if digit != text[place]])
    file.write_text(text[:place] + other + text[place + 1 :], encoding="utf-8")


def drop_line(folder: Path, chance: random.Random) -> None:
    """Leave out a line of metrics."""
    lines = _lines(folder, "metrics")
    del lines[chance.randrange(len(lines))]
    _put(folder, "metrics", lines)


def change_text(folder: Path, chance: random.Random) -> None:
    """Change a completion."""
    lines = _lines(folder, "samples")
    number = chance.randrange(len(lines))
    row = json.loads(lines[number])
    lines[number] = json.dumps(row | {"completion": row["completion"] + "!"}, ensure_ascii=False)
    _put(folder, "samples", lines)


def flip_bit(folder: Path, chance: random.Random, name: str) -> None:
    """Flip one of the lower bits of a number in a checkpoint's tensors."""
    file = chance.choice(_checkpoints(folder)[1:]) / name
    content = bytearray(file.read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")  # of the tensors in a safetensors file
    content[begin + 4 * chance.randrange((len(content) - begin) // 4)] ^= 1 << chance.randrange(4)
    file.write_bytes(content)


def change_state(folder: Path, chance: random.Random) -> None:
    """Change a number of a checkpoint's state."""
    file = chance.choice(_checkpoints(folder)[1:]) / "state.json"
    state = json.loads(file.read_text())
    file.write_text(_dumped(state | {"sampler_gap": state["sampler_gap"] + 1e-9}))


def change_setting(folder: Path, chance: random.Random) -> None:
    """Say another beta than the run had."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["beta"]["value"] *= chance.choice((0.5, 1.01, 2.0))
    file.write_text(json.dumps(config, indent=2) + "\n")


KINDS: Final[Mapping[str, Callable[[Path, random.Random], None]]] = {
    "a number of metrics": lambda folder, chance: change_number(folder, chance, "metrics"),
    "a number of samples": lambda folder, chance: change_number(folder, chance, "samples"),
    "a number of evaluations": lambda folder, chance: change_number(folder, chance, "evaluations"),
    "a completion": change_text,
    "a line gone": drop_line,
    "a bit of the weights": lambda folder, chance: flip_bit(folder, chance, "adapter_model.safetensors"),
    "a bit of the moments": lambda folder, chance: flip_bit(folder, chance, "optimizer.safetensors"),
    "the state": change_state,
    "a setting": change_setting,
}
"""Each kind of change, with the function that makes it."""


def forge(folder: Path) -> None:
    """Make all hashes of the run fit its files again."""
    config = _sha256((folder / "config.json").read_bytes())
    for checkpoint in _checkpoints(folder):
        step = int(checkpoint.name[-8:])
        state = json.loads((checkpoint / "state.json").read_text())
        for name in LOGS:
            seen = "".join(line + "\n" for line in _lines(folder, name) if json.loads(line)["step"] <= step).encode()
            state["logs"][name] = {"sha256": _sha256(seen), "size": len(seen)}
        (checkpoint / "state.json").write_text(_dumped(state))
        manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
        for name in manifest["files"]:
            content = (checkpoint / name).read_bytes()
            manifest["files"][name] = {"sha256": _sha256(content), "size": len(content)}
        manifest["bound"] = {"config.json": config}
        (checkpoint / "MANIFEST.json").write_text(_dumped(manifest))
    newest = _checkpoints(folder)[-1] / "adapter_model.safetensors"
    shutil.copyfile(newest, folder / "adapter" / newest.name)
    record = read_record(folder) | {
        CONFIGS: [config],
        BOUND["result.json"]: _sha256((folder / "result.json").read_bytes()),
    }
    write_record(folder, record)


def audit(folder: Path) -> tuple[int, str]:
    """`rlhf audit --all`: its exit code and what it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run(["audit", str(folder), "--all"])
    return code, said.getvalue()


def plant(scratch: Path, plants: int, seed: int) -> dict[str, list[bool]]:
    """Tamper `plants` times with a run below `scratch`; returns for each kind which tries were found."""
    whole = scratch / "run"
    if run(["train", *RUN, f"run_dir={whole}"]) != 0 or audit(whole)[0] != 0:
        raise SystemExit("the run that nobody changed is not found to be clean")
    forged = Path(shutil.copytree(whole, scratch / "forged"))
    forge(forged)
    if audit(forged)[0] != 0:
        raise SystemExit("forging the hashes of an unchanged run changes it: this script is wrong")
    chance = random.Random(seed)
    found: dict[str, list[bool]] = {}
    for number in range(plants):
        kind = list(KINDS)[number // 2 % len(KINDS)]
        folder = Path(shutil.copytree(whole, scratch / f"try-{number}"))
        KINDS[kind](folder, chance)
        if number % 2:
            forge(folder)
        code, said = audit(folder)
        found.setdefault(f"{kind}{', hashes forged' if number % 2 else ''}", []).append(code == 5)
        if code != 5:
            print(f"NOT FOUND ({code}): {kind}, {folder}\n{said}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
    return found


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "checkpoints").iterdir() if path.is_dir())


def _lines(folder: Path, name: str) -> list[str]:
    return (folder / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]


def _put(folder: Path, name: str, lines: list[str]) -> None:
    (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _dumped(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Print a line for each kind; exit code 1 where something was not found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plants", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = plant(Path(scratch), options.plants, options.seed)
    for kind, tries in found.items():
        print(f"{kind:44} {sum(tries)} of {len(tries)}")
    total, hits = sum(map(len, found.values())), sum(map(sum, found.values()))
    print(f"found {hits} of {total}")
    sys.exit(hits < total)


if __name__ == "__main__":
    main()
