"""Importing a factorised benchmark's file of 2,000,000 rows: memory against the file's size and against unpickling it.

The file is of cheetah-run's shapes: episodes of 1000 steps, observations in float64 and actions in int64, as such
recordings have them.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROWS = 2_000_000

WRITER = """
import pickle, sys
import numpy as np

rows, generator = [], np.random.default_rng(0)
for _ in range(int(sys.argv[2]) // 1000):
    observations = list(generator.random((1001, 17)))
    actions = list(generator.integers(3, size=(1000, 6)))
    ends = [False] * 999 + [True]
    rows += zip(observations, actions, generator.random(1000).tolist(), observations[1:], ends)
with open(sys.argv[1], "wb") as file:
    pickle.dump(rows, file, 4)
"""

MEASURED = """
import sys, threading, time
from pathlib import Path

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

def watch():
    while True:
        seen.append(anonymous())
        time.sleep(0.05)

{prepare}
seen = [anonymous()]
threading.Thread(target=watch, daemon=True).start()
started = time.perf_counter()
{run}
seen.append(anonymous())
print(time.perf_counter() - started, max(seen) - seen[0])
"""
"""Prints the seconds that it took and the kB of its own that it grew by at most; pages of the file are the system's."""

IMPORT = MEASURED.format(
    prepare="""
from spin_rl.platform.exchange import benchmark
from spin_rl.platform.exchange.importing import import_dataset, spaces_of
from spin_rl.platform.exchange.rules import ImportRules
from spin_rl.platform.exchange.transitions import Source

spaces = spaces_of("cheetah-run", 3)
""",
    run="""
batches = benchmark.read(Path(sys.argv[1]), Source("file", *spaces))
import_dataset(
    batches, task="cheetah-run", bins=3, level="imported", spaces=spaces, origin="file", root=sys.argv[2],
    rules=ImportRules(timeouts=True),
)
""",
)

UNPICKLE = MEASURED.format(
    prepare="import pickle", run="with open(sys.argv[1], 'rb') as file: rows = pickle.load(file)"
)


def main() -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "file.pkl"
        subprocess.run([sys.executable, "-c", WRITER, file, str(ROWS)], check=True)
        size = file.stat().st_size / 2**20
        seconds, used = _measure(IMPORT, file, folder)
        unpickling, held = _measure(UNPICKLE, file, folder)
    print(f"importing {ROWS:,} rows, {size:,.0f} MiB: {seconds:.0f} s, {ROWS / seconds:,.0f} rows/s")
    print(
        f"memory of the import against the file's size: {used:,.0f} / {size:,.0f} MiB = {used / size:.2f} (aim: far "
        f"below 10); unpickling alone, which would run what a file names: {held:,.0f} MiB, {unpickling:.0f} s"
    )


def _measure(script: str, *arguments: object) -> tuple[float, float]:
    """Seconds and MiB."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    seconds, kilobytes = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), float(kilobytes) / 1024


if __name__ == "__main__":
    main()
