"""Import and export of datasets: round trips are exact, hostile and damaged files are refused."""

import base64
import csv
import dataclasses
import io
import os
import pickle
import struct
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spin_rl.envs import catalogue
from spin_rl.errors import UserError
from spin_rl.platform.datasets import OfflineDataset, open_dataset
from spin_rl.platform.datasets.collect import make_dataset
from spin_rl.platform.exchange import arrow, benchmark, pickle_machine, rllib, table
from spin_rl.platform.exchange.importing import Spaces, import_dataset, spaces_of
from spin_rl.platform.exchange.pickled_values import PickledArray
from spin_rl.platform.exchange.restricted_pickle import read_items
from spin_rl.platform.exchange.rules import Duplicates, ImportRules
from spin_rl.platform.exchange.transitions import Source, episodes_of
from tests.toy import toy_task

TASK = toy_task()
SPACES = Spaces((3, 2, 4), 3)
SOURCE = Source("source", *SPACES)


@pytest.fixture(autouse=True)
def _known_task(monkeypatch):
    monkeypatch.setitem(catalogue._TASKS, ("toy", 4), TASK)
    monkeypatch.delenv("SPIN_RL_CACHE", raising=False)


@pytest.fixture
def dataset(tmp_path) -> OfflineDataset:
    make_dataset(TASK, "random", 300, root=tmp_path / "original", workers=0)
    return open_dataset("toy", "random", bins=4, root=tmp_path / "original")


def bring_in(batches, tmp_path, level="imported", **rules) -> OfflineDataset:
    import_dataset(
        batches, task="toy", bins=4, level=level, spaces=SPACES, origin="a test", root=tmp_path / "new",
        rules=ImportRules(**rules),
    )  # fmt: skip
    return open_dataset("toy", level, bins=4, root=tmp_path / "new")


def assert_equal(one: OfflineDataset, other: OfflineDataset) -> None:
    assert one.metadata.digest == other.metadata.digest
    for name in ("observations", "actions", "rewards", "terminated", "transitions", "episode_offsets"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def tuples(dataset: OfflineDataset) -> list[tuple]:
    """As the benchmark has them; consecutive tuples share an array, as they do after a recording loop."""
    arrays = list(dataset.observations)
    return [
        (arrays[row], dataset.actions[row].astype(np.int64), dataset.rewards[row], arrays[row + 1],
         bool(dataset.terminated[row]))
        for row in dataset.transitions
    ]  # fmt: skip


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_benchmark_file_is_imported_exactly(dataset, tmp_path, protocol, monkeypatch):
    monkeypatch.setattr(benchmark, "_BATCH", 64)
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(tuples(dataset), protocol))
    assert_equal(bring_in(benchmark.read(path, SOURCE), tmp_path), dataset)


def test_restricted_reading_gives_what_pickle_gives(tmp_path):
    values = [
        1,
        -5,
        70000,
        1 << 40,
        2.5,
        True,
        None,
        "text",
        b"bytes",
        (1, (2, 3)),
        [4, [5]],
        np.float32(0.5),
        np.int64(7),
    ]
    arrays = [np.arange(6).reshape(2, 3), np.ones(2, np.float64), np.zeros((0, 3), np.int16), np.array([1.5], ">f4")]
    path = tmp_path / "values.pkl"
    path.write_bytes(pickle.dumps(values + arrays + arrays, 4))
    read = list(read_items(path))
    assert read[: len(values)] == values
    assert all(type(one) is type(other) for one, other in zip(read, values, strict=False))
    for one, other in zip(read[len(values) :], arrays + arrays, strict=True):
        assert isinstance(one, PickledArray)
        np.testing.assert_array_equal(one.array, other)
        assert one.array.dtype == other.dtype


class Runs:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


def hostile(name: str, tmp_path: Path) -> bytes:
    row = (np.zeros(3, np.float32), np.zeros(3, np.int64), 0.0, np.zeros(3, np.float32), False)
    good = pickle.dumps([row] * 3, 4)
    return {
        "call": pickle.dumps([row, Runs(tmp_path / "made")], 4),
        "import": b"\x80\x04]\x94(cos\nsystem\ne.",
        "global of ours": b"\x80\x04]\x94(cnumpy\nload\ne.",
        "call without a name": b"\x80\x04]\x94(K\x01)Re.",
        "huge bytes": b"\x80\x04]\x94(\x8e" + struct.pack("<Q", 1 << 60) + b"e.",
        "huge array": good.replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85", 1),
        "object array": pickle.dumps([(np.array([{}], object),) * 5], 4),
        "marks without end": b"\x80\x04]" + b"(" * 200_000,
        "extension code": b"\x80\x02]\x82\x01a.",
        "persistent id": b"\x80\x04]K\x01Qa.",
        "stack underflow": b"\x80\x04\x85.",
        "cut off": good[: len(good) // 2],
        "empty": b"",
        "a dictionary": pickle.dumps({"a": 1}, 4),
        "a number": pickle.dumps(1, 4),
        "text": b"observation,action\n1,2\n",
    }[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("call", r"it wants to import .*mkdir"),
        ("import", "it wants to import os.system"),
        ("global of ours", "it wants to import numpy.load"),
        ("call without a name", "a call"),
        ("huge bytes", "1,152,921,504,606,846,976 bytes, more than the file has left"),
        ("huge array", r"an array of shape \(2147483647,\) with 12 bytes"),
        ("object array", "values of type 'O8'"),
        ("marks without end", "a nesting that no list"),
        ("extension code", "opcode"),
        ("persistent id", "opcode"),
        ("stack underflow", "a tuple of nothing"),
        ("cut off", "cut off|more than the file has left"),
        ("empty", "is empty"),
        ("a dictionary", "opcode"),
        ("a number", "something else than a list"),
        ("text", "opcode"),
    ],
)
def test_a_hostile_or_damaged_pickle_is_refused_and_runs_nothing(tmp_path, name, said):
    path = tmp_path / "file.pkl"
    path.write_bytes(hostile(name, tmp_path))
    tracemalloc.start()
    with pytest.raises(UserError, match=said):
        bring_in(benchmark.read(path, SOURCE), tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert not (tmp_path / "made").exists()
    assert not list((tmp_path / "new").glob("**/metadata.json"))


def test_a_flipped_byte_in_a_pickle_runs_nothing_and_ends_in_one_sentence(dataset, tmp_path):
    """Either the content is still one that a dataset can have, or the file is refused; never another exception."""
    content = pickle.dumps(tuples(dataset)[:40], 4)
    path = tmp_path / "file.pkl"
    refused = 0
    generator = np.random.default_rng(0)
    for position in generator.choice(len(content), 400, replace=False):
        path.write_bytes(content[:position] + bytes([int(generator.integers(256))]) + content[position + 1 :])
        try:
            list(episodes_of(benchmark.read(path, SOURCE)))
        except UserError:
            refused += 1
    assert refused > 100


def test_a_long_pickle_is_not_held_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(pickle_machine, "_REMEMBERED", 500)

    def peak(count: int) -> int:
        rows = [(np.full(17, index), np.ones(6, int), 0.5, np.full(17, index + 1), False) for index in range(count)]
        path = tmp_path / f"{count}.pkl"
        path.write_bytes(pickle.dumps(rows, 4))
        tracemalloc.start()
        assert sum(1 for _ in read_items(path)) == count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(6000) < 1.2 * peak(3000)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (0, np.array([0, np.nan, 0]), "row 5: the observation is not finite"),
        (2, np.inf, "row 5: the reward is not finite"),
        (1, np.array([0, 2, 0]), r"row 5: the action is outside of nvec \[3, 2, 4\]"),
        (1, np.array([0, -1, 0]), r"row 5: the action is outside of nvec \[3, 2, 4\]"),
        (1, np.array([0, 0.5, 0]), "arrays differ in shape or type"),
        (0, np.zeros(4), "arrays differ in shape or type"),
        (4, "yes", "neither a number nor an array"),
    ],
)
def test_a_bad_value_of_a_pickle_is_refused_by_row(dataset, tmp_path, column, value, said):
    rows = [tuple(np.float64(v) if k == 0 else v for k, v in enumerate(row)) for row in tuples(dataset)]
    rows[5] = (*rows[5][:column], value, *rows[5][column + 1 :])
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(rows))
    with pytest.raises(UserError, match=said):
        list(benchmark.read(path, SOURCE))


def test_an_empty_list_and_short_rows_are_refused(tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps([]))
    with pytest.raises(UserError, match="there are no transitions"):
        bring_in(benchmark.read(path, SOURCE), tmp_path)
    path.write_bytes(pickle.dumps([(1, 2)]))
    with pytest.raises(UserError, match="row 0: not an"):
        bring_in(benchmark.read(path, SOURCE), tmp_path)


def batch(observation, following, *, terminated=None, ended=None):
    count = len(observation)
    spread = [np.repeat(np.array(values, np.float32)[:, None], 3, 1) for values in (observation, following)]
    return SOURCE.batch(
        np.arange(count), observation=spread[0], action=np.ones((count, 3)), reward=np.arange(count) + 1.0,
        next_observation=spread[1], terminated=np.zeros(count) if terminated is None else terminated, ended=ended,
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_episodes_are_recovered_from_continuity(size):
    """(0 1)(1 2) | (5 6)(6 7, terminated) | (7 8) | (3 4): the third begins where the second ended."""
    whole = batch([0, 1, 5, 6, 7, 3], [1, 2, 6, 7, 8, 4], terminated=[0, 0, 0, 1, 0, 0])
    parts = [type(whole)(*(column[start : start + size] for column in whole)) for start in range(0, 6, size)]
    blocks = list(episodes_of(parts))
    found = [
        [[float(value) for value in block.observations[start:end, 0]], bool(block.terminated[start:end].any())]
        for block in blocks
        for start, end in zip(block.starts()[:-1], block.starts()[1:], strict=True)
    ]
    assert found == [[[0, 1, 2], False], [[5, 6, 7], True], [[7, 8], False], [[3, 4], False]]
    assert [float(r) for block in blocks for r in block.rewards] == [1, 2, 0, 3, 4, 0, 5, 0, 6, 0]


def test_done_can_stand_for_the_time_limit(dataset, tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(tuples(dataset)))
    found = bring_in(benchmark.read(path, SOURCE), tmp_path, timeouts=True)
    assert not found.terminated.any()
    np.testing.assert_array_equal(found.episode_offsets, dataset.episode_offsets)


def test_a_termination_in_a_task_that_never_terminates_is_refused(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(catalogue._TASKS, ("toy", 4), dataclasses.replace(TASK, terminates=False))
    batches = [batch([0, 1], [1, 2]), batch([2, 5], [3, 6], terminated=[1, 0])]
    with pytest.raises(
        UserError, match=r"a test: row 2 is marked as terminated, but this task never terminates.* --timeouts"
    ):
        bring_in(batches, tmp_path)
    found = bring_in(batches, tmp_path, timeouts=True)
    assert (found.metadata.episodes, found.terminated.any()) == (2, False)


def test_shuffled_rows_are_refused_early_unless_the_rules_allow_them(dataset, tmp_path):
    rows = [row for _ in range(40) for row in tuples(dataset)]
    order = np.random.default_rng(0).permutation(len(rows))
    numbers = np.arange(0, 2 * len(rows), 2)[order]

    def shuffled(read: list[int]):
        for start in range(0, len(rows), 500):
            read.append(start)
            here = numbers[start : start + 500]
            yield batch(here, here + 1)

    read: list[int] = []
    with pytest.raises(UserError, match=r"a test: 999 of the first 1,000 rows are not followed .* with --shuffled"):
        bring_in(shuffled(read), tmp_path)
    assert read == [0, 500]
    assert not (tmp_path / "new/toy-4/imported-v1").exists()
    with pytest.raises(UserError, match="2 of the first 3 rows are not followed"):
        bring_in([batch([0], [1]), batch([5, 9], [6, 10])], tmp_path)
    assert bring_in(shuffled([]), tmp_path, shuffled=True).metadata.episodes == len(rows)


def test_a_duplicate_episode_is_refused_left_out_or_kept(tmp_path):
    """Three episodes, of which the third equals the first; a fourth one differs in one reward."""
    first = batch([0, 1, 2], [1, 2, 3])
    other = first._replace(reward=first.reward + np.float32([0, 0, 1]))
    batches = [first, batch([5, 6], [6, 7]), first, other]
    with pytest.raises(UserError, match=r"a test: episode 2 equals episode 0, bit for bit; .*--duplicates drop"):
        bring_in(batches, tmp_path)
    dropped = bring_in(batches, tmp_path, duplicates=Duplicates.drop)
    assert_equal(dropped, bring_in([batches[0], batches[1], other], tmp_path, "without"))
    assert dropped.metadata.episodes == 3
    assert bring_in(batches, tmp_path, duplicates=Duplicates.keep).metadata.episodes == 4
    joined = type(first)(*(np.concatenate(column) for column in zip(*batches, strict=True)))  # in one block
    assert_equal(bring_in([joined], tmp_path, "joined", duplicates=Duplicates.drop), dropped)


def test_an_equal_import_is_found_and_another_is_the_next_version(dataset, tmp_path):
    def bring(rows):
        (tmp_path / "file.pkl").write_bytes(pickle.dumps(rows))
        batches = benchmark.read(tmp_path / "file.pkl", SOURCE)
        return import_dataset(
            batches, task="toy", bins=4, level="mine", spaces=SPACES, origin="it", root=tmp_path / "new"
        )

    rows = tuples(dataset)
    assert [bring(rows)[2], bring(rows)[2], bring(rows[1:])[2]] == [False, True, False]
    assert open_dataset("toy", "mine", bins=4, root=tmp_path / "new").metadata.version == 2


def test_concurrent_imports_run_one_after_the_other(tmp_path):
    """The second waits while the first reads its source; both remove what a killed import left behind."""
    left = tmp_path / "new/toy-4/.imported-import-killed"
    left.mkdir(parents=True)
    reads = threading.Event()

    def slow():
        reads.set()
        time.sleep(0.5)  # the other one has begun by then
        yield batch([0, 1, 2], [1, 2, 3])

    def bring(batches):
        return import_dataset(
            batches, task="toy", bins=4, level="imported", spaces=SPACES, origin="it", root=tmp_path / "new"
        )

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(bring, slow())
        assert reads.wait(30)
        second = threads.submit(bring, [batch([5, 6], [6, 7])])
        found = [first.result(), second.result()]
    assert [(each.metadata.version, each.metadata.transitions) for each in found] == [(1, 3), (2, 2)]
    for version in (1, 2):
        open_dataset("toy", "imported", bins=4, root=tmp_path / "new", version=version)
    assert sorted(path.name for path in left.parent.iterdir() if path.is_dir()) == ["imported-v1", "imported-v2"]


def test_rllib_columns_round_trip(dataset, tmp_path):
    (tmp_path / "rllib").mkdir()
    rllib.write(dataset, tmp_path / "rllib")
    assert_equal(bring_in(rllib.read(tmp_path / "rllib", SOURCE), tmp_path), dataset)
    file = next((tmp_path / "rllib").iterdir())
    pq.write_table(pq.read_table(file).drop_columns("new_obs"), file)
    with pytest.raises(UserError, match=r"episodes-00000\.parquet has no column new_obs"):
        list(rllib.read(tmp_path / "rllib", SOURCE))
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match="is not a complete Parquet file"):
        list(rllib.read(tmp_path / "rllib", SOURCE))


def test_a_hostile_compressed_observation_runs_nothing(dataset, tmp_path):
    lz4 = pytest.importorskip("lz4.frame")
    (tmp_path / "rllib").mkdir()
    rllib.write(dataset, tmp_path / "rllib")
    file = next((tmp_path / "rllib").iterdir())
    columns = pq.read_table(file)
    arrays = [np.array(row) for row in columns["obs"].to_pylist()]
    for bad, said in (
        (lz4.compress(pickle.dumps(Runs(tmp_path / "made"))), "row 3, obs is refused: it wants to import .*mkdir"),
        (b"not lz4", "row 3, obs is damaged"),
        (lz4.compress(pickle.dumps(np.zeros(5))), "row 0 and after: the values of obs have different lengths"),
        (lz4.compress(b"\x00" * (1 << 27)), "row 3, obs is refused"),
    ):
        packed = [lz4.compress(pickle.dumps(array)) for array in arrays]
        packed[3] = bad
        texts = pa.array([base64.b64encode(each).decode() for each in packed])
        pq.write_table(columns.set_column(3, "obs", texts), file)
        with pytest.raises(UserError, match=said):
            list(rllib.read(file, SOURCE))
    assert not (tmp_path / "made").exists()


@pytest.mark.integration
def test_rllib_reads_what_we_write_and_we_read_what_it_records(dataset, tmp_path):
    import gymnasium
    import ray
    from ray.rllib.algorithms.bc import BCConfig
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.rllib.core.rl_module.torch import TorchRLModule
    from ray.rllib.offline.offline_env_runner import OfflineSingleAgentEnvRunner
    from ray.rllib.offline.offline_prelearner import OfflinePreLearner

    (tmp_path / "rllib").mkdir()
    rllib.write(dataset, tmp_path / "rllib")
    ray.init(address="local", include_dashboard=False, num_cpus=2, log_to_driver=False)
    try:
        columns = ray.data.read_parquet(str(tmp_path / "rllib")).take_batch(10_000)
        prelearner = object.__new__(OfflinePreLearner)
        prelearner.config = BCConfig()
        episodes = prelearner._map_to_episodes(columns)["episodes"]
        assert len(episodes) == len(dataset)
        for number in (0, len(dataset) // 2, len(dataset) - 1):
            row = dataset.transitions[number]
            np.testing.assert_array_equal(episodes[number].get_observations(0), dataset.observations[row])
            np.testing.assert_array_equal(episodes[number].get_observations(1), dataset.observations[row + 1])
            np.testing.assert_array_equal(episodes[number].get_actions(0), dataset.actions[row])
            assert episodes[number].get_rewards(0) == dataset.rewards[row]
            assert episodes[number].is_terminated == dataset.terminated[row]

        gymnasium.register("toy-recorded-v0", TASK.make)
        config = (
            BCConfig()
            .environment("toy-recorded-v0")
            .rl_module(rl_module_spec=RLModuleSpec(module_class=TorchRLModule))
            .env_runners(num_envs_per_env_runner=1)
            .offline_data(
                output=str(tmp_path / "recorded"), output_write_episodes=False, output_write_method="write_parquet"
            )
        )
        recorder = OfflineSingleAgentEnvRunner(config=config)
        recorded = recorder.sample(num_episodes=12, random_actions=True)
        recorder.stop()
    finally:
        ray.shutdown()
    found = bring_in(rllib.read(tmp_path / "recorded", SOURCE), tmp_path)
    assert found.metadata.episodes == len(recorded) == 12
    # Ray Data writes its blocks in an order of its own: compare the episodes, whichever comes first
    expected = {np.array(each.get_observations()).tobytes(): each for each in recorded}
    for number in range(12):
        rows = found.transitions[slice(*found.episode_offsets[number : number + 2])]
        episode = expected[found.observations[rows[0] : rows[-1] + 2].tobytes()]
        np.testing.assert_array_equal(found.actions[rows], np.array(episode.get_actions()))
        assert found.terminated[rows[-1]] == episode.is_terminated


def write_table(path: Path, dataset: OfflineDataset, *, with_next: bool) -> table.Columns:
    names = {"observation": ("x", "y", "z"), "action": ("a", "b", "c")}
    rows = dataset.transitions if with_next else np.arange(len(dataset.observations))
    episode = np.searchsorted(dataset.transitions[dataset.episode_offsets[1:-1]], rows, side="right")
    columns = {name: dataset.observations[rows, k] for k, name in enumerate(names["observation"])}
    columns |= {name: dataset.actions[rows, k] for k, name in enumerate(names["action"])}
    columns |= {"gain": dataset.rewards[rows], "run": episode, "over": dataset.terminated[rows]}
    if with_next:
        names["next_observation"] = ("x2", "y2", "z2")
        columns |= {f"{name}2": dataset.observations[rows + 1, k] for k, name in enumerate(names["observation"])}
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return table.Columns(**names, reward="gain", episode="run", terminated="over")


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize("with_next", [True, False])
def test_a_table_is_imported_exactly(dataset, tmp_path, ending, with_next, monkeypatch):
    monkeypatch.setattr(arrow.read_batches, "__defaults__", (7,))  # smaller than an episode
    path = tmp_path / f"table.{ending}"
    columns = write_table(path, dataset, with_next=with_next)
    assert_equal(bring_in(table.read(path, SOURCE, columns=columns), tmp_path), dataset)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: [*lines, lines[1]], r"row \d+: episode 0 appears a second time"),
        (lambda lines: [line.replace("gain", "loss") for line in lines], "has no column gain; it has: x, y"),
        (lambda lines: [lines[0], lines[1].replace(",", ",many", 1), *lines[2:]], "y is of type string"),
        (lambda lines: [lines[0]], "there are no transitions|not a table"),
        (lambda lines: [lines[0], ",".join([*lines[1].split(",")[:3], "0.5", *lines[1].split(",")[4:]]), *lines[2:]],
         "row 0: the action is not made of integers"),
        (lambda lines: [lines[0], ",".join(["", *lines[1].split(",")[1:]]), *lines[2:]], "a value of x is missing"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused(dataset, tmp_path, change, said):
    path = tmp_path / "table.csv"
    columns = write_table(path, dataset, with_next=True)
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with pytest.raises(UserError, match=said):
        bring_in(table.read(path, SOURCE, columns=columns), tmp_path)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_columns_can_be_given_by_patterns(dataset, tmp_path, ending):
    path = tmp_path / f"table.{ending}"
    columns = write_table(path, dataset, with_next=True)
    assert table.named_columns(path, ["?2"]) == ["x2", "y2", "z2"]
    assert table.named_columns(path, ["z", "[ab]"]) == ["z", "a", "b"]
    with pytest.raises(UserError, match=r"has no column obs_\*; it has: x, y, z, a"):
        table.named_columns(path, ["obs_*"])
    assert columns.observation == tuple(table.named_columns(path, ["[xyz]"]))


def test_a_table_may_hold_lists(dataset, tmp_path):
    rows = dataset.transitions
    lists = {"obs": dataset.observations[rows], "then": dataset.observations[rows + 1], "act": dataset.actions[rows]}
    columns = {name: pa.array(list(values)) for name, values in lists.items()}
    episode = np.repeat(np.arange(dataset.metadata.episodes), np.diff(dataset.episode_offsets))
    columns |= {"reward": dataset.rewards[rows], "episode": episode, "terminated": dataset.terminated[rows]}
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    named = table.Columns(observation=["obs"], action=["act"], next_observation=["then"])
    assert_equal(bring_in(table.read(tmp_path / "table.parquet", SOURCE, columns=named), tmp_path), dataset)


def test_minari_round_trip(dataset, tmp_path, monkeypatch):
    pytest.importorskip("minari")
    from spin_rl.platform.exchange import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    minari.write(dataset, "toy/random-v0")
    assert_equal(bring_in(minari.read("toy/random-v0", SOURCE), tmp_path), dataset)
    with pytest.raises(UserError, match="is already a Minari dataset toy/random-v0"):
        minari.write(dataset, "toy/random-v0")
    with pytest.raises(UserError, match=r"has nvec \[3, 2, 4\], but its task has \[3, 3\]"):
        list(minari.read("toy/random-v0", SOURCE._replace(nvec=(3, 3))))
    with pytest.raises(UserError, match=r"There is no Minari dataset toy/x-v0 .* \(there is: toy/random-v0\)"):
        list(minari.read("toy/x-v0", SOURCE))


def test_spaces_come_from_the_catalogue_or_are_given():
    assert spaces_of("toy", 4) == SPACES
    assert spaces_of("unheard-of", 9, nvec=(2, 2), observation_size=5) == Spaces((2, 2), 5)
    with pytest.raises(UserError, match="give --nvec and --observation-size"):
        spaces_of("unheard-of", 9)
    for nvec in ((3, 0), (-1, 2), (32_768,)):
        with pytest.raises(UserError, match="at least 1 choice and at most 32,767"):
            spaces_of("unheard-of", 9, nvec=nvec, observation_size=5)
    with pytest.raises(UserError, match=r"toy-4 has nvec \[3, 2, 4\]"):
        spaces_of("toy", 4, nvec=(3, 3, 3))


@pytest.mark.parametrize("name", ["../up", "a/b", "Level", "x-v2", "", "-a"])
def test_invalid_names_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="is not a valid level name"):
        import_dataset([], task="toy", bins=4, level=name, spaces=SPACES, origin="it", root=tmp_path)


def test_a_single_transition_is_an_episode(tmp_path):
    path = tmp_path / "one.pkl"
    row = (np.zeros(3), np.array([2, 1, 3]), 1.0, np.ones(3), True)
    stream = io.BytesIO()
    pickle.dump([row], stream)
    path.write_bytes(stream.getvalue())
    found = bring_in(benchmark.read(path, SOURCE), tmp_path)
    assert (len(found), found.metadata.episodes, bool(found.terminated[0])) == (1, 1, True)
