"""Run by `rebuild` in a venv of its own that has pyspark: duplicates dropped, revisions applied, windows summed, from the lake's
files of a day.

_spark_rebuild.py FILES RUNS OUT, then one line of JSON. OUT is the result of the last run, as Parquet.
"""

from __future__ import annotations

import json
import sys
import time

from pyspark.sql import SparkSession
from pyspark.sql import functions as f


def main() -> None:
    """As often as asked."""
    files, runs, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "8g")
        .config("spark.sql.shuffle.partitions", "32")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .config("spark.driver.maxResultSize", "4g")
        .config("spark.ui.enabled", "false")
        .config("spark.log.level", "ERROR")
        .getOrCreate()
    )  # fmt: skip
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        stands = spark.read.parquet(files).groupBy("channel", "start").agg(f.max_by("quantity", "revision").alias("q"))
        slot = f.floor(f.unix_timestamp("start") / 300).alias("win")
        measures = (f.count("*"), f.sum("q"), f.min("q"), f.max("q"), f.max_by("q", "start"))
        named = [m.alias(n) for m, n in zip(measures, ("count", "sum", "min", "max", "last"), strict=True)]
        table = stands.groupBy("channel", slot).agg(*named).toPandas()
        seconds.append(time.perf_counter() - began)
    table.to_parquet(out)
    print(json.dumps({"version": spark.version, "seconds": seconds}))
    spark.stop()


if __name__ == "__main__":
    main()
