"""What a million transitions need: as Arrow, which the sizes alone decide, and as Parquet, which the content does.

Real transitions of a uniformly random policy, collected here; the ratios are against the arrays themselves.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from harness import make_random_dataset

from spin_rl.platform.datasets import OfflineDataset, open_dataset

SIZES = {"cheetah-run": 50_000, "dog-trot": 10_000}

ENCODINGS = {
    "byte-stream split, zstd (ours)": {"use_byte_stream_split": True, "use_dictionary": False, "compression": "zstd"},
    "plain, zstd": {"use_dictionary": False, "compression": "zstd"},
    "pyarrow's own settings (dictionary, snappy)": {},
}


def main() -> None:
    with TemporaryDirectory() as folder:
        for task, size in SIZES.items():
            location = make_random_dataset(Path(folder), task, size)
            dataset = open_dataset(task, "random", root=folder)
            raw = sum(array.nbytes for array in _arrays(dataset))
            arrow = sum(
                path.stat().st_size for path in Path(folder).glob(f".cache/arrow/{dataset.meta.digest}/*.arrow")
            )
            parquet = sum(path.stat().st_size for path in Path(location).glob("*.parquet"))
            million = 1e6 / len(dataset) / 1e9
            aim = " (aim: at most 1.0)" if task == "dog-trot" else ""
            print(f"{task}, a million transitions: {arrow * million:.3f} GB as Arrow{aim}, ", end="")
            print(f"{parquet * million:.3f} GB as Parquet, {raw / parquet:.2f} times smaller than the arrays")
            _compare_encodings(dataset, Path(folder) / "one.parquet")


def _compare_encodings(dataset: OfflineDataset, path: Path) -> None:
    columns = {f"observation_{index}": column for index, column in enumerate(dataset.observations.T)}
    table = pa.table({name: column.copy() for name, column in columns.items()})
    for name, options in ENCODINGS.items():
        level = {"compression_level": 12} if options.get("compression") == "zstd" else {}
        pq.write_table(table, path, row_group_size=32_768, **options, **level)
        print(f"  observations, {name}: {table.nbytes / path.stat().st_size:.2f} times smaller")


def _arrays(dataset: OfflineDataset) -> Iterator:
    yield from (dataset.observations, dataset.actions, dataset.rewards, dataset.terminated)


if __name__ == "__main__":
    main()
