"""Datasets: they open as they were collected, damage is refused by file and row, incomplete ones are never read."""

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from spin_rl.envs import catalogue, rollout
from spin_rl.envs.behaviour.library import PolicyCard
from spin_rl.envs.behaviour.network import DecoupledQ
from spin_rl.errors import UserError
from spin_rl.platform.datasets import OfflineDataset, collect, inspect, list_datasets, open_dataset, parts
from spin_rl.platform.datasets.collect import make_dataset
from spin_rl.platform.datasets.metadata import DatasetMetadata
from spin_rl.platform.datasets.picture import draw
from spin_rl.platform.datasets.reader import verify_dataset
from spin_rl.platform.datasets.store import DatasetRoot
from tests.toy import toy_task

TASK = toy_task()


@pytest.fixture(autouse=True)
def _small_parts_and_known_task(monkeypatch, tmp_path):
    monkeypatch.setattr(parts, "PART_ROWS", 150)
    monkeypatch.delenv("SPIN_RL_CACHE", raising=False)
    monkeypatch.setitem(catalogue._TASKS, ("toy", 4), TASK)


@pytest.fixture(scope="session")
def policies(tmp_path_factory) -> Path:
    """Medium and expert policies for the toy: random weights."""
    folder = tmp_path_factory.mktemp("policies")
    (folder / "toy-4").mkdir()
    for seed, level in enumerate(("medium", "expert")):
        torch.manual_seed(seed)
        path = folder / "toy-4" / f"{level}.safetensors"
        save_file(DecoupledQ(3, (3, 2, 4), 8).state_dict(), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        card = PolicyCard("toy", 4, level, 1, 0, {"width": 8}, 1.0, 0.0, 20, 1.0, 0.5, digest, {}, "2026-01-01")
        path.with_suffix(".json").write_text(json.dumps(asdict(card)))
    return folder


def make(root, level="random", size=400, **options) -> DatasetMetadata:
    return make_dataset(TASK, level, size, root=root, workers=0, **options).metadata


def test_a_dataset_opens_as_it_was_collected(tmp_path, policies):
    metadata = make(tmp_path, "random-medium-expert", 500, seed=3, policies=policies)
    dataset = open_dataset("toy", "random-medium-expert", bins=4, root=tmp_path)
    assert len(metadata.parts) > 2
    stream = int(np.random.SeedSequence([3, 0]).generate_state(1)[0])
    first = collect._source(TASK, "random", 0.0, None).policy
    episodes = rollout(TASK.make, first, episodes=metadata.behaviours[0].episodes, seed=stream, record=True).recorded
    for number, episode in enumerate(episodes):
        rows = dataset.transitions[slice(*dataset.episode_offsets[number : number + 2])]
        np.testing.assert_array_equal(dataset.observations[rows], episode.observations[:-1])
        np.testing.assert_array_equal(dataset.observations[rows + 1], episode.observations[1:])
        np.testing.assert_array_equal(dataset.actions[rows], episode.actions)
        np.testing.assert_array_equal(dataset.rewards[rows], episode.rewards)
        ended = np.zeros(len(episode), bool)
        ended[-1] = episode.terminated
        np.testing.assert_array_equal(dataset.terminated[rows], ended)
    assert {episode.terminated for episode in episodes} == {True, False}

    assert len(dataset) == metadata.transitions == sum(behaviour.transitions for behaviour in metadata.behaviours)
    assert len(dataset.observations) == metadata.rows
    returns = dataset.returns()
    assert returns[: len(episodes)] == pytest.approx([episode.episode_return for episode in episodes])
    assert metadata.behaviours[0].return_mean == pytest.approx(returns[: len(episodes)].mean())
    assert metadata.returns.maximum == returns.max()
    share = -(-500 // 3)
    for behaviour in metadata.behaviours:  # whole episodes, and no more than needed
        assert share <= behaviour.transitions < share + 12
    assert [behaviour.epsilon for behaviour in metadata.behaviours] == [1.0, 0.0, 0.0]


def test_opening_copies_nothing(tmp_path):
    make(tmp_path)
    open_dataset("toy", "random", bins=4, root=tmp_path)
    dataset = open_dataset("toy", "random", bins=4, root=tmp_path)
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(".arrow")]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in mapped]
    for name in ("observations", "actions", "rewards", "terminated", "transitions", "episode_offsets"):
        array = getattr(dataset, name)
        start = array.__array_interface__["data"][0]
        assert any(low <= start and start + array.nbytes <= high for low, high in ranges), name
        assert not array.flags.writeable
    assert dataset.observations.dtype == np.float32
    assert dataset.actions.dtype == np.int16
    assert dataset.terminated.dtype == np.bool_


def test_parts_are_stored_with_suitable_encodings(tmp_path):
    make(tmp_path)
    stored = pq.ParquetFile(tmp_path / "toy-4/random-v1/part-00000.parquet").metadata.row_group(0)
    columns = {column.path_in_schema: column for column in (stored.column(n) for n in range(stored.num_columns))}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    for name, encoding in {
        "observation_0": "BYTE_STREAM_SPLIT",
        "reward": "BYTE_STREAM_SPLIT",
        "step": "DELTA_BINARY_PACKED",
        "episode": "DELTA_BINARY_PACKED",
        "action_2": "RLE_DICTIONARY",
    }.items():
        assert encoding in columns[name].encodings, name


def test_another_seed_size_or_epsilon_makes_the_next_version(tmp_path, policies):
    first = make(tmp_path, "medium", policies=policies)
    again = make_dataset(TASK, "medium", 400, root=tmp_path, workers=0, policies=policies)
    assert again.found
    assert again.metadata == first
    others = [
        make(tmp_path, "medium", policies=policies, **other) for other in ({"seed": 1}, {"size": 500}, {"epsilon": 0.5})
    ]
    assert [metadata.version for metadata in others] == [2, 3, 4]
    assert len({metadata.digest for metadata in (first, *others)}) == 4
    assert open_dataset("toy", "medium", bins=4, root=tmp_path).metadata == others[-1]
    assert open_dataset("toy", "medium", bins=4, root=tmp_path, version=1).metadata == first
    assert [metadata.version for metadata in list_datasets(tmp_path)] == [1, 2, 3, 4]
    with pytest.raises(UserError, match="no version 9"):
        open_dataset("toy", "medium", bins=4, root=tmp_path, version=9)


def test_the_digest_depends_on_the_content_not_on_the_files(tmp_path, monkeypatch):
    """It is the same on every machine: here is its value."""
    split = make(tmp_path / "split")
    monkeypatch.setattr(parts, "PART_ROWS", 10_000)
    whole = make(tmp_path / "whole")
    assert (len(split.parts), len(whole.parts)) == (3, 1)
    assert split.digest == whole.digest
    rows = parts.Rows(
        np.arange(1), np.zeros(1, np.int32), np.ones((1, 2), np.float32), np.ones((1, 1), np.int16),
        np.ones(1, np.float32), np.zeros(1, bool),
    )  # fmt: skip
    assert parts.part_digest(rows) == "67234dff0900ac76e85b2331135f76bc"
    big_endian = rows._replace(observations=rows.observations.astype(">f4"), actions=np.asfortranarray(rows.actions))
    assert parts.part_digest(big_endian) == parts.part_digest(rows)


@pytest.mark.integration
def test_any_number_of_workers_gives_the_same_bits(tmp_path, policies):
    import ray

    ray.init(address="local", include_dashboard=False, num_cpus=2, log_to_driver=False)
    try:
        made = [
            make_dataset(TASK, "medium-expert", 700, root=tmp_path / str(n), workers=n, policies=policies, epsilon=0.2)
            for n in (0, 1, 2)
        ]
    finally:
        ray.shutdown()
    assert len({each.metadata.digest for each in made}) == 1
    files = [sorted(Path(each.location).glob("*.parquet")) for each in made]
    contents = {tuple(path.read_bytes() for path in paths) for paths in files}
    assert len(contents) == 1


def test_a_killed_collection_leaves_no_dataset_and_resumes(tmp_path, policies):
    whole = make(tmp_path / "straight", "medium", policies=policies)
    script = (
        "import os, sys; from tests.platform.test_datasets import *\n"
        "def stop(done, total): os.kill(os.getpid(), 9) if done else None\n"
        "make_dataset(TASK, 'medium', 400, root=sys.argv[1], workers=0, policies=Path(sys.argv[2]), on_progress=stop)"
    )
    arguments = [sys.executable, "-c", script, str(tmp_path / "killed"), str(policies)]
    done = subprocess.run(arguments, cwd=Path(__file__).parents[2], capture_output=True)
    assert done.returncode == -9, done.stderr.decode()
    assert list_datasets(tmp_path / "killed") == []
    with pytest.raises(UserError, match="spin-rl data make toy medium --bins 4"):
        open_dataset("toy", "medium", bins=4, root=tmp_path / "killed")
    kept = next((tmp_path / "killed/toy-4").glob(".medium-*/medium-000000.parquet"))
    kept.with_name("medium-000001.parquet").write_bytes(kept.read_bytes()[:100])  # as a power cut leaves it
    collected = []
    resumed = make(tmp_path / "killed", "medium", policies=policies, on_progress=lambda done, _: collected.append(done))
    assert collected[0] > 0
    assert resumed.digest == whole.digest
    assert [path.name for path in (tmp_path / "killed/toy-4").iterdir() if path.is_dir()] == ["medium-v1"]


def test_a_dataset_appears_all_at_once(tmp_path, monkeypatch):
    """A local one when its folder is renamed, one elsewhere when its metadata is written."""
    rename, filesystem = Path.rename, DatasetRoot("memory://once").filesystem

    def fail(path, *rest, **named):
        if Path(path).name.startswith(("whole-", "metadata.json")):
            raise OSError("killed")
        return rename(path, *rest, **named) if isinstance(path, Path) else put(path, *rest, **named)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(UserError, match="killed"):
        make(tmp_path)
    assert list_datasets(tmp_path) == []
    monkeypatch.setattr(Path, "rename", rename)
    assert make(tmp_path).version == 1

    put = filesystem.put_file
    monkeypatch.setenv("SPIN_RL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(filesystem, "put_file", fail)
    with pytest.raises(UserError, match="killed"):
        make("memory://once")
    assert filesystem.glob("/once/toy-4/random-v1/*.parquet")
    assert list_datasets("memory://once") == []
    monkeypatch.setattr(filesystem, "put_file", put)
    assert make("memory://once").version == 1
    filesystem.rm("/once", recursive=True)


def test_two_makers_of_one_dataset_do_the_work_once(tmp_path):
    script = (
        "import sys; from tests.platform.test_datasets import *\n"
        "print(make_dataset(TASK, 'random', 4000, root=sys.argv[1], workers=0).found)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    makers = [subprocess.Popen(command, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE) for _ in range(2)]
    assert sorted(maker.communicate()[0].split()[-1] for maker in makers) == [b"False", b"True"]
    assert [metadata.version for metadata in list_datasets(tmp_path)] == [1]


def test_a_process_that_lost_its_lease_stops_and_publishes_nothing(tmp_path):
    """As after a suspension of a minute, during which another process took over."""

    def taken_over(done, _total):
        if done:
            folder = tmp_path / "toy-4"
            (folder / ".random.lease-00000002").write_text("{}")

    with pytest.raises(UserError, match=r"Another process took over this one's work.*Run the command again"):
        make(tmp_path, size=4000, on_progress=taken_over)
    assert list_datasets(tmp_path) == []
    (tmp_path / "toy-4/.random.lease-00000002").unlink()
    assert make(tmp_path, size=4000).version == 1


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="only root may mount a small disk")
def test_a_full_disk_is_reported_and_collected_episodes_are_kept(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\); free some space"):
            make(disk, size=20_000)
        assert list_datasets(disk) == []
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        assert list((disk / "toy-4").rglob("*.parquet"))
        assert make(disk, size=20_000).digest == make(tmp_path / "roomy", size=20_000).digest
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_size_limit_is_reported_and_leaves_no_dataset(tmp_path):
    make(tmp_path / "before")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot be written .*free some space"):
            make(tmp_path / "full")
        with pytest.raises(UserError, match=r"cannot be written .*SPIN_RL_CACHE"):
            open_dataset("toy", "random", bins=4, root=tmp_path / "before")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
    assert list_datasets(tmp_path / "full") == []
    assert len(open_dataset("toy", "random", bins=4, root=tmp_path / "before")) >= 400


def forged(root: Path, change) -> None:
    """A dataset with its first part modified by ``change``, and unchanged metadata."""
    make(root)
    folder = root / "toy-4/random-v1"
    metadata = DatasetMetadata.from_json((folder / "metadata.json").read_text(), "")
    rows = parts.read_part(folder / metadata.parts[0].file, "", 3, 3)
    rows = parts.Rows(*(column.copy() for column in rows))
    change(rows)
    parts.write_part(folder / metadata.parts[0].file, rows)


@pytest.mark.parametrize(
    ("column", "row", "value", "said"),
    [
        ("observations", 7, np.nan, "an observation that is not finite at row 7"),
        ("observations", 3, np.inf, "an observation that is not finite at row 3"),
        ("rewards", 2, np.nan, "a reward that is not finite at row 2"),
        ("actions", 4, 9, r"an action outside of nvec \[3, 2, 4\] at row 4"),
        ("actions", 5, -1, r"an action outside of nvec \[3, 2, 4\] at row 5"),
        ("step", 1, 5, "a step out of order at row 1"),
        ("episode", slice(None), 3, "a step out of order at row 0"),
        ("terminated", 0, True, "a termination before the end of its episode at row 0"),
        ("rewards", 1, 0.25, r"rows 0 to \d+, differs from what was written"),
    ],
)
def test_a_bad_value_is_refused_by_file_and_row(tmp_path, column, row, value, said):
    forged(tmp_path, lambda rows: getattr(rows, column).__setitem__(row, value))
    with pytest.raises(UserError, match=f"random-v1/part-00000.parquet.* {said}|part-00000.parquet, {said}"):
        open_dataset("toy", "random", bins=4, root=tmp_path)
    assert not list(tmp_path.glob(".cache/arrow/*/*"))


def test_a_duplicated_episode_is_refused(tmp_path):
    make(tmp_path)
    path = tmp_path / "toy-4/random-v1/part-00001.parquet"
    rows = parts.read_part(path, "", 3, 3)
    parts.write_part(path, parts.join([rows, rows.head(1)]))
    with pytest.raises(UserError, match=r"part-00001.parquet has a step out of order at row \d+"):
        open_dataset("toy", "random", bins=4, root=tmp_path)


def test_a_flipped_byte_anywhere_is_refused(tmp_path):
    make(tmp_path)
    path = tmp_path / "toy-4/random-v1/part-00001.parquet"
    content = path.read_bytes()
    refused = 0
    positions = np.random.default_rng(0).choice(len(content), 60, replace=False)
    for position in positions:
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :])
        try:
            dataset = open_dataset("toy", "random", bins=4, root=tmp_path)
        except UserError as error:
            refused += "part-00001.parquet" in str(error)
        else:  # a byte without meaning, such as a statistic: the content is untouched
            path.write_bytes(content)
            verify_dataset(dataset.metadata, DatasetRoot(tmp_path))
            shutil.rmtree(tmp_path / ".cache")
    assert refused > 30


@pytest.mark.parametrize("name", ["steps.arrow", "transitions.arrow", "episodes.arrow"])
def test_a_flipped_byte_of_the_machines_copy_is_found_by_verifying(tmp_path, name):
    metadata = make(tmp_path)
    open_dataset("toy", "random", bins=4, root=tmp_path)
    path = tmp_path / ".cache/arrow" / metadata.digest / name
    content = path.read_bytes()
    verify_dataset(metadata, DatasetRoot(tmp_path))
    values = len(content) // 2  # within the column's values, not in the header
    path.write_bytes(content[:values] + bytes([content[values] ^ 1]) + content[values + 1 :])
    with pytest.raises(UserError, match=rf"{name}.* is damaged; delete the folder .*, and it will be made again"):
        verify_dataset(metadata, DatasetRoot(tmp_path))


def replace_part(path: Path, change) -> None:
    pq.write_table(change(pq.read_table(path)), path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "part-00001.parquet is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "part-00001.parquet is not a complete Parquet file"),
        (lambda path: path.write_bytes(b""), "part-00001.parquet is not a complete Parquet file"),
        (
            lambda path: replace_part(path, lambda table: table.drop_columns("reward")),
            "part-00001.parquet has other columns than its task: missing reward",
        ),
        (
            lambda path: replace_part(path, lambda t: t.set_column(1, "step", t["step"].cast(pa.int64()))),
            "part-00001.parquet has other columns than its task: of another type step",
        ),
        (
            lambda path: replace_part(path, lambda table: table.slice(0, 0)),
            "part-00001.parquet has no rows",
        ),
        (
            lambda path: replace_part(
                path,
                lambda t: t.set_column(1, t.schema.field(1), pa.array([None, *t["step"].to_pylist()[1:]], "int32")),
            ),
            r"part-00001.parquet cannot be read at rows 0 to \d+ \(a value is missing\)",
        ),
        (lambda path: shutil.copy(path, path.with_name("part-00000.parquet")), "part-00000.parquet has a step out of"),
    ],
)
def test_a_damaged_part_is_refused_by_name(tmp_path, damage, said):
    make(tmp_path)
    damage(tmp_path / "toy-4/random-v1/part-00001.parquet")
    with pytest.raises(UserError, match=said):
        open_dataset("toy", "random", bins=4, root=tmp_path)


def edit(root: Path, **fields) -> None:
    path = root / "toy-4/random-v1/metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"digest": "0" * 32}, "metadata.json does not describe its parts"),
        ({"nvec": [3, 3, 4]}, r"has nvec \[3, 3, 4\].* but toy-4 has nvec \[3, 2, 4\]"),
        ({"observation_size": 4}, "4 observations, but toy-4 has .* 3"),
        ({"task": "cheetah-run", "bins": 3}, "describes cheetah-run-3/random-v1"),
        ({"schema": 99}, "has format 99"),
        ({"parts": []}, "is damaged"),
        ({"transitions": -1}, "is damaged"),
        ({"behaviours": [{}]}, "is damaged"),
    ],
)
def test_false_metadata_is_refused(tmp_path, fields, said):
    make(tmp_path)
    edit(tmp_path, **fields)
    with pytest.raises(UserError, match=said):
        open_dataset("toy", "random", bins=4, root=tmp_path)


def test_metadata_that_is_not_json_is_refused(tmp_path):
    make(tmp_path)
    (tmp_path / "toy-4/random-v1/metadata.json").write_text('{"schema": 1')
    with pytest.raises(UserError, match=r"random-v1/metadata\.json is damaged"):
        open_dataset("toy", "random", bins=4, root=tmp_path)


def test_a_folder_without_metadata_is_not_a_dataset(tmp_path):
    make(tmp_path)
    (tmp_path / "toy-4/random-v1/metadata.json").unlink()
    assert list_datasets(tmp_path) == []
    assert make(tmp_path).version == 1


def test_a_half_written_copy_is_made_again(tmp_path):
    metadata = make(tmp_path)
    copy = tmp_path / ".cache/arrow" / metadata.digest
    copy.mkdir(parents=True)
    (copy / "steps.arrow").write_bytes(b"half")
    assert len(open_dataset("toy", "random", bins=4, root=tmp_path)) == metadata.transitions
    (copy / "steps.arrow").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"steps\.arrow is damaged; delete the folder"):
        open_dataset("toy", "random", bins=4, root=tmp_path)


@pytest.mark.parametrize(
    ("task", "level", "bins", "said"),
    [
        ("cheetah-rum", "random", 3, "Did you mean cheetah-run?"),
        ("cheetah-run", "randon", 3, "There is no level 'randon'. Did you mean random?"),
        ("cheetah-run", "random", 5, "number of bins for cheetah-run '5'"),
        ("cheetah-run", "random", 3, "spin-rl data make cheetah-run random"),
    ],
)
def test_a_missing_dataset_is_reported_with_the_command_that_makes_it(tmp_path, task, level, bins, said):
    with pytest.raises(UserError) as error:
        open_dataset(task, level, bins=bins, root=tmp_path)
    assert said in str(error.value)


@pytest.mark.parametrize("options", [{"size": 0}, {"seed": -1}, {"epsilon": 1.5}])
def test_invalid_numbers_are_refused(tmp_path, options):
    with pytest.raises(UserError, match="size >= 1, seed >= 0 and epsilon"):
        make(tmp_path, **options)
    with pytest.raises(UserError, match="There is no medium behaviour policy for toy-4"):
        make(tmp_path, "medium", policies=tmp_path)


def test_one_transition_is_a_dataset(tmp_path):
    metadata = make(tmp_path, size=1)
    assert metadata.episodes == 1
    assert len(open_dataset("toy", "random", bins=4, root=tmp_path)) == metadata.transitions


def test_other_file_systems_work_as_roots(tmp_path, monkeypatch):
    monkeypatch.setenv("SPIN_RL_CACHE", str(tmp_path))
    try:
        metadata = make("memory://bucket/data")
        assert make("memory://bucket/data") == metadata
        assert len(open_dataset("toy", "random", bins=4, root="memory://bucket/data")) == metadata.transitions
        assert [each.digest for each in list_datasets("memory://bucket/data")] == [make(tmp_path / "local").digest]
    finally:
        DatasetRoot("memory://bucket").filesystem.rm("/bucket", recursive=True)


def test_a_folder_that_cannot_be_written_is_reported(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"file/data cannot be written \(Not a directory\).*--root"):
        make(tmp_path / "file/data")
    make(tmp_path)
    monkeypatch.setenv("SPIN_RL_CACHE", str(tmp_path / "file/cache"))
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\).*SPIN_RL_CACHE"):
        open_dataset("toy", "random", bins=4, root=tmp_path)
    monkeypatch.delenv("SPIN_RL_CACHE")


def test_a_folder_without_permission_is_reported(tmp_path):
    with TemporaryDirectory() as outside:  # readable for other users
        folder = Path(outside)
        make(folder)
        folder.chmod(0o555)
        (folder / "toy-4").chmod(0o555)
        with _as_unprivileged_user():
            for root in (folder, folder / "new"):
                with pytest.raises(UserError, match=r"cannot be written \(Permission denied\).*--root"):
                    make(root, size=1)
            with pytest.raises(
                UserError, match=r"Arrow copy .* cannot be written \(Permission denied\).*SPIN_RL_CACHE"
            ):
                open_dataset("toy", "random", bins=4, root=folder)
            assert [each.key for each in list_datasets(folder)] == ["toy-4/random-v1"]
        folder.chmod(0o755)


@contextmanager
def _as_unprivileged_user() -> Iterator[None]:
    """Drop root's privileges for a while, because root may write everywhere."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_an_invalid_location_is_reported():
    with pytest.raises(UserError, match="nowhere://x is not a valid location for datasets: Protocol not known"):
        list_datasets("nowhere://x")


@pytest.mark.integration
def test_an_s3_server_holds_datasets(tmp_path, monkeypatch):
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("SPIN_RL_CACHE", str(tmp_path))
    try:
        place = DatasetRoot("s3://bucket/data")
        place.filesystem.mkdir("bucket")
        made = make("s3://bucket/data")
        assert make("s3://bucket/data").version == 1
        assert len(open_dataset("toy", "random", bins=4, root="s3://bucket/data")) == made.transitions
        assert [each.digest for each in list_datasets("s3://bucket/data")] == [make(tmp_path / "local").digest]
        damaged = f"bucket/data/{made.key}/{made.parts[1].file}"
        place.filesystem.pipe_file(damaged, place.filesystem.cat_file(damaged)[:-9])
        with pytest.raises(UserError, match=r"s3://bucket/data/toy-4/random-v1/part-00001.parquet is not a complete"):
            verify_dataset(made, DatasetRoot("s3://bucket/data"))
    finally:
        server.stop()


@pytest.mark.integration
def test_readers_share_their_memory(tmp_path):
    """Proportional memory (a page mapped by k processes counts 1/k for each) of the dataset's mapped files."""
    make(tmp_path, size=30_000)
    open_dataset("toy", "random", bins=4, root=tmp_path)
    script = (
        "import re, sys; from spin_rl.platform.datasets import open_dataset\n"
        "private = lambda: sum(int(n) for n in re.findall(r'Anonymous: +(\\d+)', open('/proc/self/smaps').read()))\n"
        "before = private()\n"
        "dataset = open_dataset('toy', 'random', bins=4, root=sys.argv[1])\n"
        "total = sum(float(column.sum()) for column in (dataset.observations, dataset.actions, dataset.rewards,\n"
        "    dataset.terminated, dataset.transitions, dataset.episode_offsets))\n"
        "print('read', private() - before, flush=True); sys.stdin.read(1)\n"
        "maps = open('/proc/self/smaps').read().split('VmFlags')\n"
        "print(sum(int(n) for part in maps if '.arrow' in part for n in re.findall(r'\\nPss: +(\\d+)', part)))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    readers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    private = [int(reader.stdout.readline().split()[1]) for reader in readers]
    mapped = []
    for reader in readers:  # all have read everything and still map it
        mapped.append(int(reader.communicate("x")[0]))
    size = sum(path.stat().st_size for path in tmp_path.glob(".cache/arrow/*/*.arrow")) / 1024
    assert mapped[0] < 1.2 * size / 3
    assert max(private) < 0.8 * size  # some hundred kB whatever the size


def test_reading_loads_neither_ray_nor_mlflow_nor_torch_nor_pandas(tmp_path):
    make(tmp_path)
    open_dataset("toy", "random", bins=4, root=tmp_path)
    script = (
        "import sys; from spin_rl.platform.datasets import open_dataset\n"
        "open_dataset('toy', 'random', bins=4, root=sys.argv[1]).batch([0, 1])\n"
        "print({'ray', 'mlflow', 'torch', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == "set()", done.stderr


def test_a_batch_holds_the_requested_transitions(tmp_path):
    make(tmp_path)
    dataset = open_dataset("toy", "random", bins=4, root=tmp_path)
    last = int(dataset.episode_offsets[1]) - 1  # the last transition of the first episode
    indices = np.array([last + 1, 0, last])
    batch = dataset.batch(indices)
    rows = np.array([last + 2, 0, last])
    np.testing.assert_array_equal(dataset.transitions[indices], rows)
    np.testing.assert_array_equal(batch.observation, dataset.observations[rows])
    np.testing.assert_array_equal(batch.next_observation, dataset.observations[rows + 1])
    np.testing.assert_array_equal(batch.action, dataset.actions[rows])
    np.testing.assert_array_equal(batch.reward, dataset.rewards[rows])
    np.testing.assert_array_equal(batch.terminated, dataset.terminated[rows])
    assert not np.shares_memory(batch.observation, dataset.observations)


def test_the_metadata_is_written_last(tmp_path):
    metadata = make(tmp_path)
    folder = Path(DatasetRoot(tmp_path).folder(metadata.key))
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert max(times, key=lambda name: times[name]) == "metadata.json"


def fake(actions: np.ndarray, nvec: tuple[int, ...]) -> OfflineDataset:
    """One long episode with these actions (T, N)."""
    count = len(actions)
    return OfflineDataset(
        metadata=SimpleNamespace(nvec=nvec),
        observations=np.zeros((count + 1, 1), np.float32),
        actions=np.append(actions, [[0] * len(nvec)], 0).astype(np.int16),
        rewards=np.zeros(count + 1, np.float32),
        terminated=np.zeros(count + 1, bool),
        transitions=np.arange(count, dtype=np.int32),
        episode_offsets=np.array([0, count]),
    )


def test_dependence_is_measured_in_bits():
    generator = np.random.default_rng(0)
    free = generator.integers(4, size=40_000)
    coin = generator.integers(2, size=40_000)
    # the third repeats the first: 2 bits; the second and fourth are independent of everything
    dataset = fake(np.stack([free, coin, free, generator.integers(3, size=40_000)], 1), (4, 2, 4, 3))
    found = inspect.dependence(dataset)
    assert found.total_correlation == pytest.approx(2, abs=0.01)
    assert found.by_chance == pytest.approx(0, abs=0.01)
    assert found.distinct == 4 * 2 * 3
    information = inspect.mutual_information(dataset)
    expected = np.array([[2, 0, 2, 0], [0, 1, 0, 0], [2, 0, 2, 0], [0, 0, 0, np.log2(3)]])
    np.testing.assert_allclose(information, expected, atol=0.01)
    assert [counts.sum() for counts in inspect.action_counts(dataset)] == [40_000] * 4


def test_distinct_episodes_are_counted(tmp_path):
    make(tmp_path)
    dataset = open_dataset("toy", "random", bins=4, root=tmp_path)
    assert inspect.distinct_episodes(dataset) == dataset.metadata.episodes > 3
    once, twice = (np.arange(start, end) for start, end in pairwise(dataset.starts()[:3]))
    order = np.concatenate([once, twice, once])
    again = dataclasses.replace(
        dataset,
        observations=dataset.observations[order],
        actions=dataset.actions[order],
        rewards=dataset.rewards[order],
        terminated=dataset.terminated[order],
        episode_offsets=np.cumsum([0, *(len(each) - 1 for each in (once, twice, once))]),
    )
    assert inspect.distinct_episodes(again) == 2


def test_a_small_sample_is_distinguished_from_dependence():
    """A thousand transitions of forty independent sub-actions: all joint actions differ, as they do when shuffled."""
    found = inspect.dependence(fake(np.random.default_rng(0).integers(3, size=(1000, 40)), (3,) * 40))
    assert found.distinct == 1000
    assert found.total_correlation > 50
    assert found.total_correlation == pytest.approx(found.by_chance, abs=0.01)


def test_a_dataset_is_drawn(tmp_path):
    make(tmp_path)
    draw(open_dataset("toy", "random", bins=4, root=tmp_path), tmp_path / "folder/picture.png")
    height, width = matplotlib.image.imread(tmp_path / "folder/picture.png").shape[:2]
    assert width > height > 300
