"""Run on two hosts by torchrun, and compare every byte with the run on one process: scripts/two-hosts [--cut] [K=V]

The hosts are two network namespaces of this machine with a cable between them (a veth pair). Each has an address and a
host's name of its own, which the other finds in its hosts file; they share the disk, as hosts of a cluster do. It needs
root and iproute2, and says `skipped` where namespaces are not permitted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
SETTINGS: Final = (
    "config=tiny", "model.layers=1", "steps=4", "prompts_per_step=4", "samples_per_prompt=4", "max_new_tokens=8",
    "checkpoint.every=1", "evaluate.every=2", "evaluate.prompts=4", "evaluate.samples=4", "shards=4", "threads=1",
    "display=quiet",
)  # fmt: skip
COMPARED: Final = ("metrics.jsonl", "samples.jsonl", "evaluations.jsonl", "result.json",
                   "adapter/adapter_model.safetensors")  # fmt: skip
PROCESSES: Final = 2
"""Processes on each host."""
PORT: Final = 29411
LIMIT_S: Final = 600.0
ENDS_S: Final = 90.0
"""Longest time from the cut of the cable to the end of the first host's part of the run."""


class Host:
    """A network namespace with a name of its own."""

    def __init__(self, number: int) -> None:
        self.name, self.address = f"rlhf{os.getpid()}-{number}", f"10.213.{os.getpid() % 200}.{number}"
        self.cable = f"rlhf{os.getpid()}v{number}"

    def start(self, *command: str, cwd: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start a command on this host."""
        own = ["unshare", "--uts", "sh", "-c", f'hostname {self.name} && exec "$@"', "sh", *command]
        with log.open("wb") as output:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.name, *own], cwd=cwd, stdout=output, stderr=output,
                env=without_interface() | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip


def without_interface() -> dict[str, str]:
    """This process's environment, but for a network interface that it may name: a host has its own."""
    return {name: value for name, value in os.environ.items() if name != "GLOO_SOCKET_IFNAME"}


def ip(*arguments: str) -> str:
    """Run iproute2, and return what it prints; raises CalledProcessError, and FileNotFoundError where it is missing."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Two hosts with a cable between them, which are gone after the block with all that runs on them."""
    one, two = hosts = Host(1), Host(2)
    known = "127.0.0.1 localhost\n" + "".join(f"{host.address} {host.name}\n" for host in hosts)
    try:
        for host in hosts:
            ip("netns", "add", host.name)
            own = Path("/etc/netns") / host.name  # `ip netns exec` lays these files over those of /etc
            own.mkdir(parents=True)
            (own / "hosts").write_text(known, encoding="utf-8")
        ip("link", "add", one.cable, "netns", one.name, "type", "veth", "peer", "name", two.cable, "netns", two.name)
        for host in hosts:
            ip("-n", host.name, "link", "set", "lo", "up")
            ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.cable)
            ip("-n", host.name, "link", "set", host.cable, "up")
        yield one, two
    finally:
        for host in hosts:
            with suppress(subprocess.CalledProcessError, FileNotFoundError):
                for process in ip("netns", "pids", host.name).split():
                    os.kill(int(process), signal.SIGKILL)  # those that torchrun started outlive it
                ip("netns", "delete", host.name)  # its end of the cable goes with it
            shutil.rmtree(Path("/etc/netns") / host.name, ignore_errors=True)
        with suppress(OSError):
            Path("/etc/netns").rmdir()  # where it held nothing else


def torchrun(hosts: Sequence[Host], settings: Sequence[str], folder: Path) -> list[subprocess.Popen[bytes]]:
    """Start the same command on each host, as a user would."""
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint={hosts[0].name}:{PORT}", "--rdzv-id=run"]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(hosts)}"]
    command += [f"--nproc-per-node={PROCESSES}", *rendezvous, "-m", "rlhf_cli", "train", *settings, f"run_dir={folder}"]
    return [host.start(*command, cwd=folder.parent, log=folder.parent / f"{host.name}.log") for host in hosts]


def cut(hosts: Sequence[Host], processes: Sequence[subprocess.Popen[bytes]], folder: Path) -> str:
    """Cut the cable once a step is done; return what the run says at its end, which has to come by itself."""
    until = time.monotonic() + LIMIT_S
    while not any((folder / "checkpoints").glob("step-*1")) and time.monotonic() < until:
        if processes[0].poll() is not None:
            return "it ended before its first step"
        time.sleep(0.05)
    ip("-n", hosts[0].name, "link", "set", hosts[0].cable, "down")
    begun = time.monotonic()
    processes[0].wait(ENDS_S)
    said = [line for line in log_of(hosts[0], folder).splitlines() if line.startswith("stopped: ")]
    return f"{said[-1] if said else 'it says nothing'} ({time.monotonic() - begun:.0f} s after the cut)"


def log_of(host: Host, folder: Path) -> str:
    """All that the host's part of the run has printed."""
    return (folder.parent / f"{host.name}.log").read_text(encoding="utf-8", errors="replace")


def main() -> int:
    """Run on one process, then on two hosts, and compare."""
    parser = argparse.ArgumentParser(description="Run on two hosts, and compare every byte with the run on one.")
    parser.add_argument("--cut", action="store_true", help="cut the cable in the middle")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of the runs")
    options = parser.parse_args()
    settings = [*SETTINGS, *options.overrides]
    with tempfile.TemporaryDirectory(prefix="rlhf-hosts-") as scratch:
        alone, folder = Path(scratch, "alone"), Path(scratch, "run")
        try:
            with two_hosts() as hosts:
                processes = torchrun(hosts, [*settings, *(["steps=500"] if options.cut else [])], folder)
                if options.cut:
                    said = cut(hosts, processes, folder)
                    print(said)
                    return 0 if said.startswith("stopped: ") else 1
                codes = [process.wait(LIMIT_S) for process in processes]
                if any(codes):
                    print(*(log_of(host, folder) for host in hosts), f"exit codes {codes}", sep="\n")
                    return 1
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            print(f"skipped: network namespaces are not permitted here ({(getattr(error, 'stderr', '') or error)})")
            return 0
        command = [sys.executable, "-m", "rlhf_cli", "train", *settings, f"run_dir={alone}"]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        different = [name for name in COMPARED if (alone / name).read_bytes() != (folder / name).read_bytes()]
    if different:
        print(f"different: {', '.join(different)}")
        return 1
    print(f"two hosts with {PROCESSES} processes each wrote the bytes of one process: {', '.join(COMPARED)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
