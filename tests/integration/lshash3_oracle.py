"""Runs in lshash3's own environment: the real lshash3, asked through standard input."""

import json
import sys

from lshash.lshash import LSHash

work = json.load(sys.stdin)
lsh = LSHash(*work["sizes"], matrices_filename=work["planes"])
for number, point in enumerate(work["points"], start=1):
    lsh.index(point, extra_data=number)
found = [
    [(entry[1], float(far)) for entry, far in lsh.query(query, distance_func=work["distance"])]
    for query in work["queries"]
]
buckets = [
    [int(lsh._hash(planes, point), 2) for planes in lsh.uniform_planes] for point in work["points"]
]
json.dump({"found": found, "buckets": buckets}, sys.stdout)
