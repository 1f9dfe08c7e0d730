"""Trace two steps with torch's profiler into RUN/profile/: which operations take the time."""

import os
from pathlib import Path
from typing import Final

import torch
from torch.profiler import profile

from rlhf_cli.reporter import Reporter

STEPS: Final = 2
"""Traced steps. They follow an untraced one: the first step of a process lays out memory and chooses kernels."""
OPERATIONS: Final = 10
"""Lines of the table, the most costly first."""


class Profiler:
    """Trace the second and third step of this process into `folder`, and note it.

    The profiler reads the clock and no result: the run comes out the same, only later.
    """

    def __init__(self, folder: Path, device: torch.device, reporter: Reporter) -> None:
        self._folder, self._reporter = folder, reporter
        self._cost = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
        self._steps = 0
        self._trace: profile | None = None
        # above all its levels: it would write into the dashboard that it starts and stops
        os.environ.setdefault("KINETO_LOG_LEVEL", "6")

    def step(self) -> None:
        """Start or end the trace after a step."""
        self._steps += 1
        if self._steps == 1:
            self._trace = profile()  # of CPU and GPU
            self._trace.start()
        elif self._steps == 1 + STEPS:
            self.close()

    def close(self) -> None:
        """Write the trace; where the run ends early, it has one step or none."""
        trace, self._trace = self._trace, None
        if trace is None:
            return
        trace.stop()
        if self._steps == 1:
            self._reporter.note("nothing was profiled: the first step only warms up, and there was no second one")
            return
        file = self._folder / "trace.json.gz"
        try:
            with self._reporter.phase("writing the profile", 0):
                self._folder.mkdir(exist_ok=True)
                trace.export_chrome_trace(str(file))
                table = trace.key_averages().table(sort_by=self._cost, row_limit=OPERATIONS)
                (self._folder / "operations.txt").write_text(table + "\n", encoding="utf-8")
        except OSError as error:  # a profile that cannot be written must not stop the run
            self._reporter.note(f"the profile could not be written: {error.strerror or error}")
            return
        self._reporter.note(f"profiled: open {file} in https://ui.perfetto.dev; in short: operations.txt beside it")
