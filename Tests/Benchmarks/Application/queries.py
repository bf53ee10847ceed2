#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An application for the benchmarks to move: SQLite in memory, asked for one row after the other.

    queries.py MIB UPDATES

Nine of ten rows come from a tenth of the keys; UPDATES of 100 operations write. Prints `ready`, then for each 100 ms the time
(CLOCK_REALTIME, its end) and the operations in it, and after SIGUSR1 `wrong NUMBER`: rows that were not what they had to be.
"""
import random
import signal
import sqlite3
import sys
import time

ROW = 200
INTERVAL = 0.1


def text(key, version):
    return f"{key}:{version}:".ljust(ROW, "x")


def main():
    rows, updates = int(sys.argv[1]) * 4000, int(sys.argv[2])
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("create table rows(key integer primary key, value text)")
    database.execute("begin")
    database.executemany("insert into rows values (?, ?)", ((key, text(key, 0)) for key in range(rows)))
    database.execute("commit")
    ended = []
    signal.signal(signal.SIGUSR1, lambda *_: ended.append(True))
    chance = random.Random(7)
    versions, wrong, count = {}, 0, 0
    print("ready", flush=True)
    next_line = time.time() + INTERVAL
    while not ended:
        key = chance.randrange(rows // 10) if chance.random() < 0.9 else chance.randrange(rows)
        if chance.randrange(100) < updates:
            versions[key] = versions.get(key, 0) + 1
            database.execute("update rows set value = ? where key = ?", (text(key, versions[key]), key))
        else:
            found = database.execute("select value from rows where key = ?", (key,)).fetchone()
            wrong += found != (text(key, versions.get(key, 0)),)
        count += 1
        now = time.time()
        if now >= next_line:
            print(f"{now:.6f} {count}", flush=True)
            count, next_line = 0, now + INTERVAL
    print(f"wrong {wrong}", flush=True)


main()
