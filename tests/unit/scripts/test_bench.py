"""scripts/bench: what is counted, fitted and shown, worked out by hand; and a tiny run that it steps through."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from rlhf_cli.models import libraries
from rlhf_cli.models.libraries import AMD, PATIENT, SPINS
from tests.scripts import SCRIPTS, load_beside
from tests.unit.support import build, tiny

BENCHMARK = SCRIPTS / "benchmark"


def script(name: str) -> ModuleType:
    return load_beside(f"benchmark/{name}.py")


bench, bench_lines, bench_tables, flops = map(script, ("bench", "bench_lines", "bench_tables", "flops"))

SHAPE = {"blocks": 100, "head": 30, "lora": 10, "layers": 2, "width": 4}
"""A model small enough to count by hand."""


def test_the_least_work_by_hand() -> None:
    """Prompts of 4 and 6 tokens that begin with the same one, and two completions of 4 tokens each.

    Read: 4 + 6 - 1 + 2 * 2 * 3 = 21; written: 16. Pairs: 10 + 2 (5 + 6 + 7), 21 + 2 (7 + 8 + 9), less 1, so 114.
    Attention 4 * 4 * 2 * 114 = 3648, forward 2 * 100 * 21 + 3648 = 7848, head 2 * 30 * 16 = 960.
    Rollout 8808, reference 7848 + 2 * 960 = 9768, update 2 * 7848 + 3648 + 2 * 960 + 6 * 10 * 21 = 22524.
    """
    assert flops.needed(flops.Shape(**SHAPE), (4, 6), 1, 2, 4) == {
        "rollout": 8808,
        "reference": 9768,
        "update": 22524,
        "step": 41100,
    }
    assert flops.weight_bytes(flops.Shape(**SHAPE), new=4, bytes_a_weight=2) == 4 * 130 * 2


@given(st.lists(st.integers(3, 7), min_size=1, max_size=3), st.integers(0, 2), st.integers(1, 3), st.integers(1, 5))
def test_tokens_and_pairs_by_enumeration(prompts: list[int], alike: int, group: int, new: int) -> None:
    """A token that is read is (its prompt, its completion or none, its place); those that begin all prompts are 0's."""
    read: list[tuple[int, int | None, int]] = []
    for p, length in enumerate(prompts):
        read += [(p, None, place) for place in range(alike if p else 0, length)]
        read += [(p, completion, length + t) for completion in range(group) for t in range(new - 1)]
    pairs = 0
    for prompt, completion, place in read:
        before = [(p if there >= alike else prompt, c) for p, c, there in read if there <= place]
        pairs += sum(p == prompt and c in (None, completion) for p, c in before)
    assert flops.read_tokens(prompts, alike, group, new) == len(read)
    assert flops.causal_pairs(prompts, alike, group, new) == pairs


@pytest.mark.parametrize(
    ("architecture", "blocks", "stacked"),
    [
        # q and o 16 x 16, k and v 8 x 16 (two heads of 4), gate, up and down 32 x 16: 2304 a block
        ("llama", 4608, [(112, 16), (16, 32)]),
        # q, k and v 48 x 16, o 16 x 16, a feed-forward of 64 x 16 and back: 3072 a block
        ("gpt2", 6144, [(128, 16), (16, 64)]),
    ],
)
def test_the_shape_of_a_model(architecture: str, blocks: int, stacked: list[tuple[int, int]]) -> None:
    worker, policy = script("bench_worker"), build(tiny(architecture))
    lora = sum(parameter.numel() for parameter in policy.parameters().values())
    assert worker.shape_of(policy) == flops.Shape(blocks=blocks, head=257 * 16, lora=lora, layers=2, width=16)
    assert worker.matrices(policy) == [*stacked, (257, 16)]


def test_the_shape_is_what_torch_counts() -> None:
    """Seven tokens through the reference: 2 (N_block + N_head) each in matrix products, attention aside."""
    policy, tokens = build(tiny()), torch.arange(7)[None]
    shape = script("bench_worker").shape_of(policy)
    with torch.no_grad(), policy.reference(), FlopCounterMode(display=False) as counter:
        policy.causal(input_ids=tokens, use_cache=False)
    products = {op: count for op, count in counter.get_flop_counts()["Global"].items() if op == torch.ops.aten.mm}
    assert sum(products.values()) == 2 * 7 * (shape.blocks + shape.head)


def test_a_fit_by_hand() -> None:
    """Through (1, 3), (2, 5), (3, 8): slope 5 / 2, start 16 / 3 - 5 = 1 / 3; off by 1/6, 1/3, 1/6: at most 1/15."""
    found = bench_tables.fit([1, 2, 3], [3, 5, 8])
    assert (found.start, found.slope, found.residual) == pytest.approx((1 / 3, 5 / 2, 1 / 15))


def test_a_table() -> None:
    assert bench_tables.table(["", "s"], [["a", "1"], ["b", "2"]]) == "|  | s |\n| --- | --: |\n| a | 1 |\n| b | 2 |"


def options(*argv: str) -> Any:
    return bench.parser().parse_intermixed_args(list(argv))


def test_the_grid_varies_one_number_at_a_time() -> None:
    def shapes(*argv: str) -> list[tuple[Any, ...]]:
        return [(one.group, one.new_tokens, one.dtype, one.engine) for one in bench.grid(options(*argv))]

    assert shapes() == [(4, 48, "float32", None)]
    assert shapes("--new-tokens", "128") == [(4, 128, "float32", None)]
    assert shapes("--lengths", "32,48", "--groups", "1,4") == [
        (4, 32, "float32", None),
        (4, 48, "float32", None),
        (1, 48, "float32", None),
    ]
    assert shapes("--dtypes", "float32,bfloat16", "--engines", "auto,transformers", "--groups", "2") == [
        (2, 48, dtype, engine) for dtype in ("float32", "bfloat16") for engine in ("auto", "transformers")
    ]


@pytest.mark.parametrize("wrong", ["0", "4,", "four", "-1"])
def test_lengths_are_numbers_above_0(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(f"--lengths={wrong}")
    assert "is no whole number above 0" in capsys.readouterr().err


def test_overrides_of_a_point() -> None:
    """What the user says comes after what is fixed, and cannot change the shape."""
    said = bench.Point(8, 1, 32, "bfloat16", "native").overrides(["config=tiny", "max_new_tokens=5"])
    assert said.index("max_new_tokens=32") > said.index("max_new_tokens=5") > said.index(bench.LONE)
    assert said[-1] == "model.engine=native"
    assert not {bench.LONE, "model.engine=None"} & set(bench.Point(8, 4, 32, "float32", None).overrides([]))


def test_completions_of_another_length_are_refused() -> None:
    point, about = bench.Point(2, 3, 4, "float32", None), {"engine": "native", "dtype": "float32", "prompts": ["a"]}
    found = bench.results_of(point, about, [{"tokens": 24}, {"tokens": 24}])
    assert (found["engine"], found["warm_up"], found["samples"]) == ("native", {"tokens": 24}, [{"tokens": 24}])
    assert found["about"] == {"engine": "native", "dtype": "float32"}
    with pytest.raises(bench_lines.Failed, match=r"2 x 3 x 4, float32, default engine: wrote \[24, 23\] tokens"):
        bench.results_of(point, about, [{"tokens": 24}, {"tokens": 23}])


def sample(step: float, **phases: float) -> dict[str, Any]:
    """A measured step of 2 prompts x 2 completions x 4 tokens."""
    return {
        "seconds": phases | {"step": step},
        "prompts": [3, 5],
        "alike": 0,
        "tokens": 16,
        "memory": {"rss": 3 * 10**9},
    }


def point(group: int = 2, *samples: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A measured point, two steps of 2 s by default."""
    fields = {"prompts": 2, "group": group, "new_tokens": 4, "dtype": "float32", "engine": "native", "save_s": 0.25}
    return fields | {"about": {"shape": SHAPE}, "samples": samples or (sample(2.0), sample(2.0))} | changes


PRODUCTS = [
    {"dtype": dtype, "rows": 512, "out": 8, "in": 4, "how": how, "gflop_s": rate}
    for dtype, how, rate in (("float32", "plain", 1e-6), ("float32", "packed", 4e-6), ("bfloat16", "plain", 8e-6))
]
RATES = {"products": PRODUCTS, "read_gb_s": 2e-6}
"""4000 FLOP/s and 2000 bytes/s in float32."""


def test_against_the_least_by_hand() -> None:
    """The rollout's 7936 FLOPs at 4000 a second are 1.984 s: half of 3.968, a quarter of 7.936; median 3/8.

    Its 130 weights, read once for each of 4 tokens at 4 bytes, are 2080 bytes: 1.04 s.
    """
    steps = [sample(9, rollout=seconds, reference=1.0, update=1.0) for seconds in (3.968, 7.936)]
    found = bench_tables.least(point(2, *steps), RATES)
    assert found["rollout"] == pytest.approx((7.936e-6, 3 / 8, 1.04))
    assert found["reference"][1:] == (pytest.approx(8896 / 4000), None)


def test_lines_are_of_sweeps_of_one_number() -> None:
    """4, 8 and 16 completions in 1, 2 and 4 s; two lengths make no line, nor does another dtype join one."""
    points = [point(group, sample(group / 2)) for group in (2, 4, 8)]
    points += [point(2, sample(9), new_tokens=8), point(16, sample(99), dtype="bfloat16")]
    ((what, found),) = bench_tables.lines(points)
    assert what == "completions (float32, native, 4 to 16)"
    assert (found.start, found.slope, found.residual) == pytest.approx((0, 1 / 4, 0))


def test_the_ratio_is_of_medians_and_its_range_of_pairs() -> None:
    """Ours 1, 2, 4 and the peer's 6, 8, 10: 8 / 2, and from 10 / 4 to 6 / 1."""
    ours, peer = (point(2, *map(sample, steps)) for steps in ((1, 2, 4), (6, 8, 10)))
    assert bench_tables.ratio(ours, peer) == (4, 2.5, 6)


def test_ways_to_wait_by_hand() -> None:
    way = {
        "prompts": 8,
        "group": 4,
        "new_tokens": 32,
        "way": "one thread",
        "quiet": [2.0, 1.0, 9.0],
        "busy": [3.0, 5.0],
    }
    found = {"machine": {"processor": "a"}, "roofline": {}, "points": [], "pairs": [], "busy": [way]}
    text = bench_tables.report(found)
    assert text.endswith("\n| 8 x 4 x 32, one thread | 2.00 | 4.00 | 2.00 |")


@pytest.mark.slow
def test_steps_beside_a_busy_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WAYS", {"one thread": bench.WAYS["one thread"]})
    chosen = options("--busy", "--steps", "1", "config=tiny", "device=cpu")
    (found,) = bench.measure_busy(bench.Point(2, 3, 9, "float32", None), chosen)
    assert found["way"] == "one thread"
    assert (len(found["quiet"]), len(found["busy"])) == (1, 1)


def test_a_worker_waits_as_training_does_unless_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setattr(libraries, "cpu_vendor", lambda: AMD)
    given: list[str] = []
    monkeypatch.setattr(bench, "Worker", lambda name, command, environment: given.append(environment["GOMP_SPINCOUNT"]))
    point = bench.Point(2, 3, 9, "float32", None)
    bench.start_worker(point, ["threads=2"])
    bench.start_worker(point, [])
    bench.start_worker(point, [], {"GOMP_SPINCOUNT": "0"})
    assert given == [SPINS, PATIENT, "0"]


def test_the_roofline_is_that_of_the_first_point(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    class Answering:
        """A worker that knows all answers."""

        def __init__(self, name: str, command: list[str], environment: dict[str, str]) -> None:
            """It starts nothing."""

        def __enter__(self) -> Answering:
            return self

        def __exit__(self, *error: object) -> None:
            """There is nothing to end."""

        def ask(self, **request: Any) -> dict[str, Any]:
            asked.append(request)
            return {"threads": 2, "gpu": None}

    monkeypatch.setattr(bench, "Worker", Answering)
    monkeypatch.setattr(bench, "measure_alone", lambda point, chosen: point.new_tokens)
    (first, second) = [[*found["points"]] for found in bench.measure(options("--lengths", "9,12", "config=tiny"))]
    assert (first, second) == ([9], [9, 12])
    assert [request.get("do") for request in asked] == [None, "roofline"]
    assert {"config=tiny", "max_new_tokens=9"} <= {*asked[0]["overrides"]}


def test_what_runs_beside_ends_with_it() -> None:
    others = {*psutil.Process().children()}
    with bench.running([(sys.executable, "-c", "import time; time.sleep(60)")]):
        (child,) = {*psutil.Process().children()} - others
        assert child.is_running()
    assert not child.is_running()


def test_the_report_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = [sample(seconds, rollout=1.0, reference=0.5, update=0.5) for seconds in (2.0, 4.0, 3.0)]
    peers = [sample(6.0, rollout=1.0, trainer=2.0, reference=0.5, update=0.5) | {"memory": {"rss": 6 * 10**9}}] * 3
    peer = point(2, *peers) | {"about": {"versions": {"trl": "1.2"}}, "tuned": True, "batch": 8}
    found = {
        "machine": {"processor": "A processor", "gpu": None},
        "roofline": RATES,
        "points": [point(2, *steps)],
        "pairs": [{"ours": point(2, *steps), "peer": peer}],
    }
    (tmp_path / "found.json").write_text(json.dumps(found))
    monkeypatch.setattr(sys, "argv", ["bench", "--markdown", str(tmp_path / "found.json")])
    assert bench.main() == 0
    out = capsys.readouterr().out
    assert out.startswith("A processor\n")
    # 16 tokens in 2, 4 and 3 s: the median of 8, 4 and 5.33
    phases = "1.00 | 0.00 | 0.00 | 0.50 | 0.50 | 0.00"
    assert f"| float32, native, 2 x 2 x 4 | 3.00 | 2.00 – 4.00 | {phases} | 5 | 3.00 | 0.25 |" in out
    assert "| float32 products | 0 GFLOP/s | [512, 4] x [4, 8], packed |" in out
    assert "| TRL 1.2, tuned allocator | 6.00 | 6.00 – 6.00 | 1.00 | 2.00 |" in out
    assert "takes 2.00 times as long (1.50 to 3.00; pairs of steps: 3); our peak is 0.50 of its." in out
    assert "Cost against size" not in out
    (tmp_path / "found.json").unlink()
    assert bench.main() == 1
    assert capsys.readouterr().err.startswith("error: [Errno 2] No such file")


WORKER = """
import sys
sys.path.insert(0, {scripts!r})
from bench_lines import Parent
parent = Parent()
print("noise")
while (asked := parent.request()) is not None:
    if asked["number"] < 0:
        sys.exit(7)
    parent.answer({{"twice": 2 * asked["number"]}})
print("the end")
"""


def test_a_worker_answers_until_it_ends(capfd: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-c", WORKER.format(scripts=str(BENCHMARK))]
    with bench_lines.Worker("it", command) as worker:
        assert [worker.ask(number=number) for number in (1, 2)] == [{"twice": 2}, {"twice": 4}]
    assert capfd.readouterr() == ("", "noise\nthe end\n")  # it was let to its end
    with (
        bench_lines.Worker("it", command) as worker,
        pytest.raises(bench_lines.Failed, match="it ended with exit code 7"),
    ):
        worker.ask(number=-1)


def test_the_environment_of_a_worker_is_ours_and_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    program = "import os, bench_lines; bench_lines.Parent().answer(dict(os.environ))"
    environment = {"MORE": "2", "PYTHONPATH": str(BENCHMARK)}
    with bench_lines.Worker("it", [sys.executable, "-c", program], environment) as worker:
        answer = worker.ask()
    assert (answer["OURS"], answer["MORE"]) == ("1", "2")


def test_the_machines_best_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    roofline = script("roofline")
    for name, value in {"ROWS": (3,), "SQUARE": 8, "READ": 64, "LEAST_S": 0.0, "REPEATS": 1}.items():
        monkeypatch.setattr(roofline, name, value)
    found = roofline.roofline([(6, 4)], torch.device("cpu"))
    plain = [one for one in found["products"] if one["how"] == "plain"]
    assert [(one["dtype"], one["rows"], one["out"], one["in"]) for one in plain] == [
        (dtype, *shape) for dtype in ("float32", "bfloat16") for shape in ((3, 6, 4), (8, 8, 8))
    ]
    assert min(found["read_gb_s"], *(one["gflop_s"] for one in found["products"])) > 0


def test_steps_of_a_tiny_run() -> None:
    """The stages of a step are timed and add up, the completions are of the same length, and a save is timed."""
    worker = script("bench_worker")
    overrides = bench.Point(2, 3, 9, "float32", None).overrides(["config=tiny", "device=cpu"])
    watch = worker.Timings()
    with worker.running(overrides, watch) as run:
        about = worker.about(run, steps=2)
        steps = [worker.take_step(run, watch) for _ in range(2)]
        saved = worker.time_save(run)
        assert (run.folder / "checkpoints" / "step-00000002").is_dir()
        prompts = {prompt.row.shown: len(prompt.tokens) for prompt in run.prompts.encoded.values()}
    assert not run.folder.exists()
    assert about["beta"] == 0.05
    assert about["dtype"] == "float32"
    assert [prompts[one] for one in about["prompts"]] == [length for step in steps for length in step["prompts"]]
    assert [step["tokens"] for step in steps] == [2 * 3 * 9] * 2
    every = {"rollout", "reward", "reference", "update", "other", "step"}
    assert [set(step["seconds"]) for step in steps] == [every | {"trainer"}, every]  # the first compares the sampler
    for step in steps:
        seconds = dict(step["seconds"])
        assert seconds.pop("step") == pytest.approx(sum(seconds.values()))
        assert min(seconds.values()) >= 0
    assert saved["seconds"] > 0
    assert [len(step["notes"]) for step in steps] == [1, 0]  # cut at max_new_tokens, said once


def test_the_peers_packages_that_we_pin_have_our_versions() -> None:
    """Pip refuses two versions of one package."""

    def pinned(file: Path) -> set[str]:
        texts = file.read_text(encoding="utf-8").splitlines()
        return {text.split("==")[0] for text in texts if "==" in text and not text.startswith("#")}

    assert not pinned(BENCHMARK / "peer.txt") & pinned(SCRIPTS / "constraints.txt")
