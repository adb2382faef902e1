"""Videos of episodes as MP4: of a policy, or of an episode of a dataset, replayed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from spin_rl.envs import BatchPolicy, Task, rollout
from spin_rl.errors import UserError
from spin_rl.platform.datasets import DatasetMetadata, OfflineDataset
from spin_rl.platform.datasets.collect import stream_of

Frame = NDArray[np.uint8]  # (height, width, 3) RGB

_MAX_FPS = 25
"""Frames per second; of tasks with more, only every k-th frame is used."""


class _Filmed(gymnasium.Wrapper):
    """Passes a frame to ``on_frame`` after the reset and after every ``every``-th step."""

    def __init__(self, env: gymnasium.Env, every: int, on_frame: Callable[[Frame], None]) -> None:
        super().__init__(env)
        self._every, self._on_frame = every, on_frame

    def reset(self, **options: Any) -> Any:
        result = self.env.reset(**options)
        self._step = 0
        self._film()
        return result

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        self._step += 1
        if self._step % self._every == 0 or result[2]:
            self._film()
        return result

    def _film(self) -> None:
        frame: Any = None
        with suppress(NotImplementedError):
            frame = self.env.render()
        if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise UserError(
                f"{type(self.env.unwrapped).__name__}.render() returns no picture: it must return a uint8 array "
                "(height, width, 3)."
            )
        self._on_frame(frame)


def film_policy(
    task: Task,
    policy: BatchPolicy,
    path: Path,
    *,
    seed: int = 0,
    episode: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> float:
    """Film the episode that ``rollout`` plays with this seed and number.

    Returns:
        The episode's return.

    Raises:
        UserError: no renderer or encoder on this machine, or an environment without pictures.
    """
    with _filming(task, path) as make_env:
        played = rollout(make_env, policy, episodes=1, seed=seed, first_episode=episode, on_step=on_step)
    return float(played.returns[0])


def film_episode(
    task: Task, dataset: OfflineDataset, number: int, path: Path, *, on_step: Callable[[int], None] | None = None
) -> float:
    """Film episode ``number`` of a dataset: its actions are replayed from the same initial state.

    Returns:
        The episode's return.

    Raises:
        UserError: no such episode, an unknown initial state (in an imported dataset), an episode that evolves
            differently on this machine, or no renderer or encoder.
    """
    metadata = dataset.metadata
    stream, first = _origin(metadata, number)
    begin, end = dataset.episode_offsets[number : number + 2]
    rows = dataset.transitions[begin:end]
    with _filming(task, path) as make_env:
        played = rollout(
            make_env,
            _Replay(dataset.actions[rows]),
            episodes=1,
            seed=stream,
            first_episode=first,
            record=True,
            on_step=on_step,
        ).recorded[0]
        seen = dataset.observations[rows[0] : rows[-1] + 2]
        if played.observations.shape != seen.shape or not np.allclose(played.observations, seen, atol=1e-3):
            raise UserError(
                f"Episode {number} of {metadata.key} evolves differently on this machine: it was collected with "
                f"{', '.join(f'{name} {version}' for name, version in metadata.versions.items())}; use these versions."
            )
    return played.episode_return


class _Replay:
    """Replays recorded actions (T, N) in order."""

    draws = 0

    def __init__(self, actions: NDArray[np.int16]) -> None:
        self._actions = iter(actions.astype(np.int64))
        self._last = np.zeros(actions.shape[1], np.int64)

    def act(self, _observation: NDArray[np.float32], _uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        self._last = next(self._actions, self._last)  # an episode that lasts longer is refused afterwards
        return self._last[None]


def _origin(metadata: DatasetMetadata, number: int) -> tuple[int, int]:
    """Seed and episode number with which ``rollout`` collected an episode of the dataset."""
    if not 0 <= number < metadata.episodes:
        raise UserError(f"{metadata.key} has episodes 0 to {metadata.episodes - 1}, not {number}.")
    for behaviour in metadata.behaviours:
        if number < behaviour.episodes:
            if behaviour.policy.startswith("imported from"):
                raise UserError(
                    f"{metadata.key} was imported: the simulator's state at the start of its episodes is unknown. "
                    "Only datasets made with spin-rl data make can be filmed."
                )
            return stream_of(metadata.seed, behaviour.name), number
        number -= behaviour.episodes
    raise AssertionError("the numbers of episodes do not add up")


@contextmanager
def _filming(task: Task, path: Path) -> Iterator[Callable[[], gymnasium.Env]]:
    """Yields a factory of filmed environments; the video is at ``path`` once the block ends without an error."""
    env = task.make()
    fps = float(env.metadata.get("render_fps") or _MAX_FPS)
    every = max(1, round(fps / _MAX_FPS))
    video = _Mp4(path, fps / every)
    try:
        yield lambda: _Filmed(env, every, video.add)
        video.finish()
    finally:
        video.close()


class _Mp4:
    """An H.264 video; it gets its final name when it is complete."""

    def __init__(self, path: Path, fps: float) -> None:
        try:
            import av  # optional
        except ImportError as error:
            raise UserError("A video needs the package av; install it with: pip install 'spin-rl[video]'") from error
        self._av: Any = av
        self._path, self._fps = path, fps
        self._unfinished = path.with_name(f".{path.name}.new")
        self._container: Any = None
        self._stream: Any = None

    def add(self, frame: Frame) -> None:
        frame = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]  # yuv420p needs even sizes
        if self._container is None:
            self._open(frame.shape[0], frame.shape[1])
        picture = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        self._container.mux(self._stream.encode(picture))

    def _open(self, height: int, width: int) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._container = self._av.open(str(self._unfinished), "w", format="mp4")
        except OSError as error:
            raise UserError(
                f"{self._path} cannot be written ({error.strerror or error}); choose another file."
            ) from error
        self._stream = self._container.add_stream("libx264", rate=Fraction(self._fps).limit_denominator(1000))
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
        self._stream.options = {"crf": "20", "preset": "veryfast"}

    def finish(self) -> None:
        """Write the remaining frames and give the file its final name."""
        self._container.mux(self._stream.encode())
        self._container.close()
        self._container = None
        self._unfinished.replace(self._path)

    def close(self) -> None:
        """Delete an unfinished video."""
        if self._container is not None:
            self._container.close()
        self._unfinished.unlink(missing_ok=True)
