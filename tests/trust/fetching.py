"""Fetch a data set into the cache: fetching.py ADDRESS MANIFEST DATASET.

Every request goes to a server on this machine instead, and what is unpacked from an archive is
written slowly, as on a busy disk. Prints a hash of each stem.
"""

import hashlib
import shutil
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import musdb
import requests

from sepkit import datasets

address, manifest, dataset = sys.argv[1:]


def here(url):
    return address + urllib.parse.urlsplit(url).path


def request(session, method, url, **options):
    return plain_request(session, method, here(url), **options)


def urlopen(wanted, *arguments, **options):
    url = wanted if isinstance(wanted, str) else wanted.full_url
    return plain_urlopen(here(url), *arguments, **options)


def copyfileobj(source, target, length=0):
    while data := source.read(1 << 15):
        target.write(data)
        target.flush()
        time.sleep(0.02)


plain_request, requests.Session.request = requests.Session.request, request
plain_urlopen, urllib.request.urlopen = urllib.request.urlopen, urlopen
musdb.urlopen = urlopen
shutil.copyfileobj = copyfileobj
plain_packaged = datasets.packaged
datasets.packaged = lambda name: (
    Path(manifest) if name == "open_stems.json" else plain_packaged(name)
)

# The archive of the server holds six songs.
rows = [row for row in datasets.musdb_table() if row["musdb_split"] != "validation"]
few = [row for row in rows if row["musdb_split"] == "train"][:3]
few += [row for row in rows if row["musdb_split"] == "test"][:3]
few = [{**row, "track": f"Song {i}"} for i, row in enumerate(few)]
datasets.musdb_table = lambda: few

tracks = datasets.open_stems() if dataset == "open-stems" else datasets.musdb18("test")
for track in tracks:
    for source, stem in track.stems.items():
        print(track.name, source, hashlib.sha256(stem.tobytes()).hexdigest())
