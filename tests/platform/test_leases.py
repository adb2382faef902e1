"""Leases: one holder at a time, the dead are replaced, the replaced notice it; with processes that are killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spin_rl.platform.common import leases
from spin_rl.platform.common.leases import Lease, LeaseLostError

HEAD = """
import fcntl, os, sys, time
from pathlib import Path
def no_locks(*arguments):
    raise OSError(37, "No locks available")
fcntl.flock = fcntl.lockf = no_locks  # a file system without a lock service
from spin_rl.platform.common.leases import Lease, LeaseLostError
lease = Lease(Path(sys.argv[1]), lasts=float(sys.argv[2]))
"""
HOLD = (
    HEAD
    + """
lease.acquire()
print("held", flush=True)
sys.stdin.readline()
try:
    lease.check()
except LeaseLostError as error:
    sys.exit(f"lost: {error}")
"""
)
COUNT = (
    HEAD
    + """
counter = Path(sys.argv[1]).with_name("counter")
for _ in range(10):
    lease.acquire()
    with lease:
        seen = int(counter.read_text())
        time.sleep(0.002)
        lease.check()
        counter.write_text(str(seen + 1))
"""
)


@pytest.fixture
def place(tmp_path):
    return tmp_path / ".lease"


@pytest.fixture
def hold(place):
    """Starts processes that take the lease and keep it until they are asked whether they still have it."""
    started = []

    def start(lasts: float) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLD, str(place), str(lasts)]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def change_record(place: Path, number: int, **changes: object) -> None:
    path = place.with_name(f"{place.name}-{number:08d}")
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_one_process_at_a_time_holds_it(place):
    place.with_name("counter").write_text("0")
    counting = [subprocess.Popen([sys.executable, "-c", COUNT, str(place), "30"]) for _ in range(4)]
    assert [process.wait(60) for process in counting] == [0, 0, 0, 0]
    assert place.with_name("counter").read_text() == "40"
    assert [path.name for path in place.parent.glob(".lease-*")] == [".lease-00000040"]


def test_a_killed_holder_on_this_machine_is_replaced_at_once(place, hold):
    holder = hold(600)
    lease = Lease(place)
    assert not lease.try_acquire()
    assert f"process {holder.pid} on " in str(lease.holder())
    os.kill(holder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # dead, but not yet taken notice of by its parent
    assert lease.try_acquire()
    lease.check()


def test_a_holder_that_was_suspended_learns_that_it_was_replaced(place, hold):
    holder = hold(0.5)
    os.kill(holder.pid, signal.SIGSTOP)
    lease = Lease(place, lasts=0.5)
    started = time.monotonic()
    assert lease.acquire()
    assert time.monotonic() - started >= 0.5
    os.kill(holder.pid, signal.SIGCONT)
    time.sleep(0.5)  # for heartbeats of the one that was replaced: they must not reach the successor's file
    lease.check()
    assert holder.communicate("well?\n")[1].startswith(f"lost: {place} was taken over by process {os.getpid()} on ")


def test_a_holder_on_another_machine_is_judged_by_its_heartbeats_alone(place, hold, monkeypatch):
    monkeypatch.setattr(leases, "machine_id", lambda: "another")
    holder = hold(1.5)
    lease = Lease(place)
    assert not lease.acquire(unless=deadline(2.5))  # it beats
    holder.kill()
    holder.wait()
    assert not lease.try_acquire()  # its process number says nothing here
    assert lease.acquire(unless=deadline(20))  # after what the holder said that it lasts, not what the waiter's lasts


def deadline(seconds):
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end


def test_a_process_id_that_was_reused_is_not_taken_for_the_holder(place):
    with Lease(place) as held:
        assert held.try_acquire()
        change_record(place, 1, birth="1")
        assert Lease(place).try_acquire()


def test_a_late_comer_who_creates_a_number_that_was_over_long_ago_does_not_hold_it(place, monkeypatch):
    """It looked when the first was free; meanwhile others had the second and the third, and deleted the second."""
    late, others = Lease(place), [Lease(place), Lease(place), Lease(place)]
    for other in others:
        assert other.try_acquire()
        if other is not others[-1]:
            other.release()
    monkeypatch.setattr(late, "_latest", lambda: 1)
    monkeypatch.setattr(late, "_is_free", lambda number: True)
    assert not late.try_acquire()
    others[-1].check()
    assert [path.name for path in place.parent.iterdir()] == [".lease-00000003"]
    others[-1].release()


@pytest.mark.parametrize("content", ["", '{"pid": 1', "[]", "null"])
def test_a_holder_that_died_while_it_wrote_is_waited_for_and_replaced(place, content):
    place.with_name(".lease-00000007").write_text(content)
    lease = Lease(place, lasts=0.2)
    assert not lease.try_acquire()
    assert lease.acquire()
    assert [path.name for path in place.parent.iterdir()] == [".lease-00000008"]
    lease.release()


def test_a_lease_whose_state_is_unknown_counts_as_lost(place):
    lease = Lease(place)
    with pytest.raises(LeaseLostError, match="taken over"):
        lease.check()
    assert lease.try_acquire()
    place.with_name(".lease-00000001").unlink()
    with pytest.raises(LeaseLostError, match="taken over by another process"):
        lease.check()
    place.parent.rename(place.parent.with_name("gone"))
    with pytest.raises(LeaseLostError, match="Cannot determine"):
        lease.check()
    lease.release()
