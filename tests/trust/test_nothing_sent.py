"""A song stays on this machine: separating it asks nobody, whatever the file names"""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import corpus
import pytest
import soundfile

BLOCKED = Path(__file__).with_name("no_network")

# Files that name another: to play one is to fetch what it names.
PLAYLISTS = {
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}/a.ts\n#EXT-X-ENDLIST\n",
    "hls.mp3": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}/a.ts\n#EXT-X-ENDLIST\n",
    "concat.wav": "ffconcat version 1.0\nfile '{url}/a.wav'\n",
    "dash.mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT9S"><Period><AdaptationSet mimeType="audio/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{url}/a.mp4</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>\n",
    "radio.pls": "[playlist]\nFile1={url}/a.mp3\nNumberOfEntries=1\nVersion=2\n",
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=audio {port} RTP/AVP 0\n",
}


@pytest.fixture
def blocked(tmp_path):
    """Run Python without a network; return the run and the attempts to use one."""
    attempts = tmp_path / "attempts"
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [BLOCKED, root])),
        "TRUST_ATTEMPTS": str(attempts),
    }

    def run(*arguments):
        made = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        return made, attempts.read_text() if attempts.exists() else ""

    return run


@pytest.fixture
def listener():
    """A port on this machine, and the list of who knocked."""
    knocks = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen():
            while True:
                try:
                    caller, _ = server.accept()
                except OSError:  # closed
                    return
                knocks.append(caller.recv(200))
                caller.close()

        threading.Thread(target=listen, daemon=True).start()
        yield server.getsockname()[1], knocks


def test_the_block_blocks(blocked):
    code = "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')"
    run, attempts = blocked("-c", code)
    assert run.returncode == 1 and attempts


@pytest.mark.parametrize("name", ["wav 16", "mp3 vbr", "m4a aac"])
def test_separate_works_without_a_network_and_never_asks_for_one(blocked, tmp_path, name, ffmpeg):
    song = f"song{corpus.FORMATS[name][0]}"
    corpus.encode(name, corpus.song(), tmp_path / song)
    run, attempts = blocked("-m", "sepkit", "separate", song, "-o", "out")
    assert (run.returncode, run.stderr, attempts) == (0, "", "")
    assert len([*(tmp_path / "out").iterdir()]) == 4


@pytest.mark.parametrize(
    "code",
    ["import sepkit; sepkit.list_models(); song = sepkit.example(); "
     "sepkit.separate(song.mixture, song.rate)",
     "from sepkit.cli import main; main(['models'])",
     "from sepkit.cli import main; main(['evaluate', '--mode', 'song', '--hop', '25', '-j', '1'])",
     "import sepkit.study.band; sepkit.study.band.band_songs(1, seed=0)[0].mixture"],
    ids=["library", "models", "evaluate", "band"],
)  # fmt: skip
def test_the_library_works_without_a_network_and_never_asks_for_one(blocked, code, falcon):
    run, attempts = blocked("-c", code)
    assert (run.returncode, attempts) == (0, ""), run.stderr


def test_the_listener_listens(listener):
    port, knocks = listener
    with socket.create_connection(("127.0.0.1", port)) as caller:
        caller.sendall(b"hello")
        caller.recv(1)
    assert knocks == [b"hello"]


@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_file_that_names_an_address_is_not_followed(listener, tmp_path, name, ffmpeg):
    port, knocks = listener
    text = PLAYLISTS[name].format(url=f"http://127.0.0.1:{port}", port=port)
    (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "sepkit", "separate", name, "-o", "out"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert knocks == []
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1, run.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["concat.wav", "hls.mp3"])
def test_a_file_that_names_another_file_does_not_play_it(tmp_path, name, ffmpeg):
    """Else a song from a stranger sends the listener's own recordings back in its stems."""
    soundfile.write(tmp_path / "a.wav", corpus.song(1), corpus.RATE)
    corpus.encode("m4a aac", corpus.song(1), tmp_path / "a.ts")
    text = PLAYLISTS[name].format(url=".").replace("./", "")
    (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "sepkit", "separate", name, "-o", "out"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1, (run.stdout, run.stderr)


def test_an_address_is_not_a_song(listener, tmp_path):
    port, knocks = listener
    address = f"http://127.0.0.1:{port}/song.wav"
    command = [sys.executable, "-m", "sepkit", "separate", address, "-o", "out"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert knocks == [] and run.returncode == 2 and len(run.stderr.splitlines()) == 1
