"""Runs in lshash3's own environment: indexes a file of vectors, then answers queries.

    python lshash3_worker.py TABLES BITS SOCKET VECTORS.npy

Asked through standard input: 0 to index; or a number of results and a query. The answer is a line:
how many candidates there were, and the URIs of the best.
"""

import json
import struct
import sys

import numpy as np
from lshash.lshash import LSHash

tables, bits = int(sys.argv[1]), int(sys.argv[2])
vectors = np.load(sys.argv[4])
dim = vectors.shape[1]
# Its planes are unseeded.
np.random.seed(0)
lsh = LSHash(bits, dim, tables, storage_config={"redis": {"unix_socket_path": sys.argv[3]}})
print("ready", flush=True)
while head := sys.stdin.buffer.read(4):
    (wanted,) = struct.unpack("<i", head)
    if not wanted:
        for row, vector in enumerate(vectors):
            # As bench.index_data.uri has it, which cannot be imported here.
            folder = f"file:///photographs/caltech-101/{row % 101:03d}"
            lsh.index(vector, extra_data=f"{folder}/crop_{row:014d}.jpeg")
        print("done", flush=True)
        continue
    query = np.frombuffer(sys.stdin.buffer.read(4 * dim), dtype=np.float32)
    found = lsh.query(query)
    uris = [json.loads(entry)[1] for entry, _ in found[:wanted]]
    print(len(found), *uris, flush=True)
