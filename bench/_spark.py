"""Run by `peers` in a venv of its own that has pyspark: the tumbling sum as one query, and as a stream.

_spark.py FILES RUNS SCRATCH, then one line of JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

WINDOW_MS = 300_000


def digest(channel: np.ndarray, window: np.ndarray, count: np.ndarray, total: np.ndarray) -> list[int]:
    """As in `peers`."""
    mixed = channel.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ window.astype(np.uint64) * np.uint64(
        0xC2B2AE3D27D4EB4F
    )
    mixed ^= count.astype(np.uint64) * np.uint64(0x165667B19E3779F9) ^ total.astype(np.uint64) * np.uint64(
        0x27D4EB2F165667C5
    )
    return [
        len(channel),
        int(count.sum()),
        int(total.sum()),
        int(mixed.sum(dtype=np.uint64)),
        int((mixed * mixed).sum(dtype=np.uint64)),
    ]


def of(frame: DataFrame) -> list[int]:
    """The digest of columns channel, win, n, total."""
    table = frame.toPandas()
    return digest(*(table[c].to_numpy().astype(np.int64) for c in ("channel", "win", "n", "total")))


def main() -> None:
    """Runs both ways."""
    files, runs, scratch = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "8g")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.execution.arrow.pyspark.enabled", "true")
        .config("spark.driver.maxResultSize", "4g")
        .config("spark.ui.enabled", "false")
        .config("spark.log.level", "ERROR")
        .config("spark.sql.streaming.stateStore.providerClass",
                "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider")
        .getOrCreate()
    )  # fmt: skip
    source = spark.read.parquet(files)
    grouped = source.groupBy("channel", (f.col("start") / WINDOW_MS).cast("long").alias("win"))
    task = grouped.agg(f.count("*").alias("n"), f.sum("quantity").alias("total"))
    batch, stream, digests = [], [], []
    task.write.format("noop").mode("overwrite").save()  # warms up
    for _ in range(runs):
        began = time.perf_counter()
        table = task.toPandas()
        batch.append(time.perf_counter() - began)
        digests.append(digest(*(table[c].to_numpy().astype(np.int64) for c in ("channel", "win", "n", "total"))))
    end = source.agg(f.max("start")).first()[0] + 4 * WINDOW_MS
    closing = scratch / "closing"
    last = spark.createDataFrame([(-1, end, 0)], "channel long, start long, quantity long")
    for run in range(runs):
        # A row far ahead closes all windows: its file is taken after the others.
        feed = scratch / f"feed-{run}"
        shutil.copytree(files, feed)
        out, checkpoint = scratch / f"out-{run}", scratch / f"checkpoint-{run}"
        began = time.perf_counter()
        for number in range(2):
            rows = spark.readStream.schema(source.schema).option("maxFilesPerTrigger", 5).parquet(str(feed))
            timed = rows.withColumn("at", f.timestamp_millis("start")).withWatermark("at", "10 seconds")
            sums = timed.groupBy("channel", f.window("at", "5 minutes").alias("w"))
            shown = sums.agg(f.count("*").alias("n"), f.sum("quantity").alias("total")).select(
                "channel", (f.unix_millis("w.start") / WINDOW_MS).cast("long").alias("win"), "n", "total"
            )
            query = (
                shown.writeStream.format("parquet").option("checkpointLocation", str(checkpoint)).outputMode("append")
            )
            query.trigger(availableNow=True).start(str(out)).awaitTermination()
            if number == 0:
                shutil.rmtree(closing, ignore_errors=True)
                last.coalesce(1).write.parquet(str(closing))
                for file in closing.glob("*.parquet"):
                    shutil.copy(file, feed / "99999.parquet")
        stream.append(time.perf_counter() - began)
        digests.append(of(spark.read.parquet(str(out)).where("channel >= 0")))
        shutil.rmtree(feed), shutil.rmtree(out), shutil.rmtree(checkpoint)
    print(json.dumps({"version": spark.version, "batch_seconds": batch, "stream_seconds": stream, "digests": digests}))
    spark.stop()


if __name__ == "__main__":
    main()
