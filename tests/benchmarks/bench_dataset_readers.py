"""Memory of eight processes that read one dataset of a million transitions, against that of one."""

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import make_noise_dataset

from spin_rl.platform.datasets import open_dataset

SIZE = 1_000_000

READER = r"""
import re, sys
from pathlib import Path
import numpy as np
from spin_rl.platform.datasets import open_dataset

def kilobytes(name):
    return sum(int(n) for n in re.findall(name + r": +(\d+)", Path("/proc/self/smaps").read_text()))

before = kilobytes("Anonymous")
dataset = open_dataset("cheetah-run", "random", root=sys.argv[1])
generator = np.random.default_rng(int(sys.argv[2]))
for _ in range(8000):  # about two draws for every transition
    dataset.batch(generator.integers(len(dataset), size=256))
print(kilobytes("Anonymous") - before, flush=True)
sys.stdin.read(1)
"""
"""Draws at random, prints the kB that are its own since it opened the dataset, and holds it until it is told to end."""


def main() -> None:
    with TemporaryDirectory() as folder:
        make_noise_dataset(Path(folder), "cheetah-run", SIZE)
        open_dataset("cheetah-run", "random", root=folder)
        one, eight = _memory(folder, 1), _memory(folder, 8)
    print(f"memory of 8 readers against 1: {eight:,.0f} / {one:,.0f} MiB = {eight / one:.2f} (aim: at most 1.2)")


def _memory(folder: str, readers: int) -> float:
    """MiB that so many readers take beyond what each has without a dataset, all of them together."""
    command = [sys.executable, "-c", READER, folder]
    running = [
        subprocess.Popen([*command, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(readers)
    ]
    private = [int(reader.stdout.readline()) for reader in running]
    mapped = [_share(reader) for reader in running]
    for reader in running:
        reader.communicate("x")
    return (sum(private) + sum(mapped)) / 1024


def _share(reader: subprocess.Popen) -> int:
    """kB of the mapped files that count for this process, while all of them still hold them."""
    parts = Path(f"/proc/{reader.pid}/smaps").read_text().split("VmFlags")
    return sum(int(n) for part in parts if ".arrow" in part for n in re.findall(r"\nPss: +(\d+)", part))


if __name__ == "__main__":
    main()
