"""Decodes Parquet files in a process of its own, for Polars ends the whole process on some that are damaged.

Started by `laserrec.data.reading.parquet` as `python -I parquet_worker.py FOLDER`, where FOLDER holds Polars: it reads nothing of the
working folder. Each line of its input is a request in JSON, `{"path", "columns", "out", "memory"}`, where `memory` is in bytes; each line
of its output the answer: the names of the columns where `columns` is null, else nothing but that they were written to `out` as a file of
Arrow; or an error.
"""

from __future__ import annotations

import json
import resource
import sys


def main() -> None:
    """Answer requests until the input ends."""
    sys.path.append(sys.argv[1])
    import polars as pl

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    for line in sys.stdin:
        request = json.loads(line)
        # A small file may decode to more than there is; then this process ends, and not one that the system chooses.
        resource.setrlimit(resource.RLIMIT_DATA, (request["memory"] if most < 0 else min(request["memory"], most), most))
        answer: dict[str, object] = {}
        try:
            table = pl.scan_parquet(request["path"], glob=False, hive_partitioning=False)
            if request["columns"] is None:
                answer["columns"] = table.collect_schema().names()
            else:
                table.select(pl.col(name) for name in request["columns"]).collect().write_ipc(request["out"])
        except BaseException as error:  # panics of Polars are no Exceptions
            answer["error"] = str(error).partition("\n")[0][:300]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
