"""Studies in a PostgreSQL database: a server of the test's own, with a password, that goes away and comes back."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optuna
import pytest
from toy_search import make_search, run_points, states, told

from spin_rl.errors import UserError
from spin_rl.sweeps.search.studies import open_study, study_url

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'spin-rl[postgresql]'")

PASSWORD = "sesame open/%"


def find(program):
    places = [Path(found).parent for found in [shutil.which(program)] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((str(place / program) for place in places if (place / program).exists()), None)


class Server:
    """PostgreSQL on a port of its own; it refuses to run as root, so another user runs it then."""

    def __init__(self, folder):
        self.user = {"user": "nobody"} if os.geteuid() == 0 else {}
        self.folder = folder
        if self.user:
            shutil.chown(folder, "nobody")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        secret = folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self.data = folder / "data"
        make = [find("initdb"), "-D", self.data, "-U", "me", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        made = subprocess.run(list(map(str, make)), capture_output=True, text=True, cwd=folder, **self.user)
        assert made.returncode == 0, made.stderr
        self.process = None

    @property
    def url(self):
        return f"postgresql://me:sesame%20open%2F%25@127.0.0.1:{self.port}/postgres"

    def start(self):
        options = ["-D", self.data, "-p", self.port, "-k", self.folder, "-h", "127.0.0.1", "-F"]
        command = list(map(str, [find("postgres"), *options]))
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.user
        )
        until = time.monotonic() + 120
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert self.process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.1)

    def stop(self):
        self.process.send_signal(signal.SIGQUIT)  # at once, as a crash
        self.process.wait(60)


@pytest.fixture
def server():
    if not (find("initdb") and find("postgres")):
        pytest.skip("there is no PostgreSQL server here: install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # another user has to get in
    made = Server(folder)
    made.start()
    yield made
    made.stop()
    shutil.rmtree(folder)


@pytest.mark.integration
def test_a_search_on_postgresql_gives_what_one_on_sqlite_gives(server, tmp_path, caplog):
    with make_search(tmp_path / "sqlite/toy", 5) as search:
        run_points(search, 5)
    expected = told(search)

    def begin(name):  # two sweeps at the same moment, on an empty database
        return open_study(study_url(server.url, tmp_path), name, ["maximize"], optuna.samplers.RandomSampler())

    with ThreadPoolExecutor(2) as threads:
        assert [study.study_name for study in threads.map(begin, ("one", "other"))] == ["one", "other"]

    with make_search(tmp_path / "toy", 5, server.url) as search:
        run_points(search, 2)
        server.stop()
        assert search.draw() is None  # the sweep waits, and the trials that run go on
        server.start()
        run_points(search, 1)
        assert states(search)[:2] == ["COMPLETE"] * 2
        search.draw()  # and the driver dies with a trial at work
    with make_search(tmp_path / "toy", 5, server.url) as search:
        run_points(search, 3)
    assert search.complete
    assert told(search) == expected

    wrong = server.url.replace("sesame", "simsim")
    with pytest.raises(UserError, match="password authentication failed") as raised:
        make_search(tmp_path / "toy", 5, wrong).__enter__()
    shown = str(raised.value) + search.place + "".join(caplog.messages)
    assert "sesame" not in shown
    assert "simsim" not in shown
