"""A Dask cluster on this machine in a process of its own, with all of its threads and children.

It prints the scheduler's address, and ends when its standard input does.
"""

from __future__ import annotations

import logging
import sys


def main() -> None:
    """Run the cluster."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=int(sys.argv[1]),
        threads_per_worker=1,
        host="127.0.0.1",
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
