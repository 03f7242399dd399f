"""Two processes that fill one cache leave it whole, and so does one that is killed"""

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import corpus
import pytest
import soundfile

from sepkit.tracks import SOURCES

SCRIPT = Path(__file__).with_name("fetching.py")

pytestmark = [pytest.mark.xdist_group("cache"), pytest.mark.usefixtures("ffmpeg")]


def wav(seed):
    file = io.BytesIO()
    soundfile.write(file, corpus.song(3, seed), corpus.RATE, format="WAV")
    return file.getvalue()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """What the server holds: two files for each source, and an archive of six songs."""
    pytest.importorskip("musdb")
    files = {f"src/{s} {i}.wav": wav(2 * j + i) for j, s in enumerate(SOURCES) for i in range(2)}
    path = tmp_path_factory.mktemp("served") / "song.stem.mp4"
    corpus.encode("stem.mp4", corpus.song(4), path)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as folder:
        for i in range(6):
            folder.writestr(f"{'train' if i < 3 else 'test'}/Song {i}.stem.mp4", path.read_bytes())
    files["archive.zip"] = archive.getvalue()
    return files


@pytest.fixture
def server(served):
    """The address of a server on this machine that answers slowly."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = urllib.parse.unquote(self.path)
            found = [data for name, data in served.items() if asked.endswith(name)]
            data = found[0] if found else served["archive.zip"]
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            for start in range(0, len(data), 1 << 16):
                time.sleep(0.02)
                self.wfile.write(data[start : start + (1 << 16)])

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            """Ignore a process that was killed while it fetched."""

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def fetch(server, served, tmp_path):
    """Start to fetch a data set into the cache that all share."""
    paths = {s: [path for path in served if f"/{s} " in path] for s in SOURCES}
    hashes = {path: hashlib.sha256(data).hexdigest() for path, data in served.items()}
    song = {
        "artist": "Nobody", "title": "Song", "license": "CC0-1.0", "commit": "0" * 40,
        "source_repository": "github nobody/songs", "sources": paths, "gain": 1.0,
        "folder": "open-stems/Nobody - Song", "credit": "Nobody, Song",
        "upstream_sha256": hashes, "sha256": {},
    }  # fmt: skip
    manifest = tmp_path / "open_stems.json"
    manifest.write_text(json.dumps({"songs": [song]}))
    (tmp_path / "tmp").mkdir()
    place = {"SEPKIT_DATA": str(tmp_path / "data"), "TMPDIR": str(tmp_path / "tmp")}

    def start(dataset):
        command = [sys.executable, SCRIPT, server, manifest, dataset]
        return subprocess.Popen(
            [*map(str, command)], env={**os.environ, **place}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


def begun(folder):
    return folder.exists() and any(path.is_file() for path in folder.rglob("*"))


def wait_until_begun(folder, process):
    while not begun(folder) and process.poll() is None:
        time.sleep(0.005)


def finish(*processes):
    """Return what processes printed; each must have succeeded."""
    texts = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), texts
    return [[line for line in out.splitlines() if " " in line][-12:] for out, _ in texts]


def check(folder, served, dataset, *, killed=False):
    """Check that the cache holds the files of the server and, if none was killed, nothing else."""
    if dataset == "open-stems":
        wanted = [data for name, data in served.items() if name.startswith("src/")]
    else:
        archive = zipfile.ZipFile(io.BytesIO(served["archive.zip"]))
        wanted = [archive.read(name) for name in archive.namelist()]
    made = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
    assert all(data in made for data in wanted), [*folder.rglob("*")]
    # Nobody can take away the temporary file of a process that is no more: it has another name.
    assert killed or len(made) == len(wanted), [*folder.rglob("*")]


@pytest.mark.parametrize("dataset", ["open-stems", "musdb18"])
@pytest.mark.parametrize("later", [False, True], ids=["at once", "a moment later"])
def test_two_that_fetch_at_the_same_time_both_succeed(fetch, served, tmp_path, dataset, later):
    one = fetch(dataset)
    if later:
        wait_until_begun(tmp_path / "data", one)
    two = fetch(dataset)
    first, second = finish(one, two)
    assert first == second and len(first) >= 4
    check(tmp_path / "data", served, dataset)


@pytest.mark.parametrize("dataset", ["open-stems", "musdb18"])
@pytest.mark.parametrize("seconds", [0.0, 0.15, 0.4])
def test_after_one_was_killed_the_next_makes_it_whole(fetch, served, tmp_path, dataset, seconds):
    killed = fetch(dataset)
    wait_until_begun(tmp_path / "data", killed)
    time.sleep(seconds)
    killed.kill()
    killed.communicate()
    (found,) = finish(fetch(dataset))
    assert len(found) >= 4
    check(tmp_path / "data", served, dataset, killed=True)
