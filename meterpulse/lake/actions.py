"""Delta's actions and the two forms they are kept in: commits (JSON, sealed by a hash) and checkpoints (Parquet)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from meterpulse.lake.parts import Part
from meterpulse.model.window import day_text

APP = "meterpulse-log"
Action = dict[str, Any]
_TEXT_MAP = pa.map_(pa.string(), pa.string())
_CHECKPOINT_SCHEMA = pa.schema(
    {
        "txn": pa.struct({"appId": pa.string(), "version": pa.int64(), "lastUpdated": pa.int64()}),
        "add": pa.struct(
            {
                "path": pa.string(),
                "partitionValues": _TEXT_MAP,
                "size": pa.int64(),
                "modificationTime": pa.int64(),
                "dataChange": pa.bool_(),
                "stats": pa.string(),
                "tags": _TEXT_MAP,
            }
        ),
        "remove": pa.struct(
            {
                "path": pa.string(),
                "deletionTimestamp": pa.int64(),
                "dataChange": pa.bool_(),
                "extendedFileMetadata": pa.bool_(),
                "partitionValues": _TEXT_MAP,
                "size": pa.int64(),
            }
        ),
        "metaData": pa.struct(
            {
                "id": pa.string(),
                "name": pa.string(),
                "description": pa.string(),
                "format": pa.struct({"provider": pa.string(), "options": _TEXT_MAP}),
                "schemaString": pa.string(),
                "partitionColumns": pa.list_(pa.string()),
                "createdTime": pa.int64(),
                "configuration": _TEXT_MAP,
            }
        ),
        "protocol": pa.struct({"minReaderVersion": pa.int32(), "minWriterVersion": pa.int32()}),
    }
)


class Damaged(Exception):
    """A file of the log cannot be what was written."""


@dataclass
class State:
    """What the commits up to `version` add up to."""

    version: int = -1
    position: int | None = None
    adds: dict[str, Action] = field(default_factory=dict)
    removes: dict[str, Action] = field(default_factory=dict)
    meta: Action | None = None

    def apply(self, version: int, actions: Sequence[Action]) -> None:
        """Move on by one commit."""
        for action in actions:
            for kind, body in action.items():
                if kind == "add":
                    self.adds[body["path"]] = body
                    self.removes.pop(body["path"], None)
                elif kind == "remove":
                    self.adds.pop(body["path"], None)
                    self.removes[body["path"]] = body
                elif kind == "txn" and body["appId"] == APP:
                    self.position = body["version"]
                elif kind == "metaData":
                    self.meta = body
        self.version = version


def add_action(part: Part) -> Action:
    """The Delta action that adds a file."""
    low, high = part.channels
    stats: Action = {"numRecords": part.rows}
    if high >= 0:
        stats |= {"minValues": {"channel": low}, "maxValues": {"channel": high}, "nullCount": {"channel": 0}}
    body = {"path": part.name.path, "partitionValues": {"day": day_text(part.name.day)}, "size": part.bytes}
    body |= {
        "modificationTime": part.modified_ms,
        "dataChange": True,
        "stats": json.dumps(stats, separators=(",", ":")),
    }
    return {"add": body}


def remove_action(add: Action, when_ms: int, changes: str) -> Action:
    """The Delta action that removes a file; `changes` is "data" or "layout" (the rows stay, elsewhere)."""
    body = {"path": add["path"], "deletionTimestamp": when_ms, "dataChange": changes == "data"}
    return {
        "remove": {**body, "extendedFileMetadata": True, "partitionValues": add["partitionValues"], "size": add["size"]}
    }


def position_action(position: int) -> Action:
    """The Delta action that says how far the log has been taken."""
    return {"txn": {"appId": APP, "version": position}}


def rows_of(add: Action) -> int:
    """Rows of a file by its statistics."""
    return json.loads(add["stats"])["numRecords"]


_PROTOCOL = {"minReaderVersion": 1, "minWriterVersion": 2}


def birth(name: str, schema_text: str) -> list[Action]:
    """What the first commit of a table says."""
    table: Action = {
        "id": str(uuid.uuid4()),
        "name": name,
        "description": None,
        "format": {"provider": "parquet", "options": {}},
    }
    table |= {"schemaString": schema_text, "partitionColumns": ["day"], "createdTime": None, "configuration": {}}
    return [{"protocol": _PROTOCOL}, {"metaData": table}]


def sealed(actions: Sequence[Action], operation: str, note: Action) -> bytes:
    """A commit as bytes: the first line counts and hashes the rest, so that a torn or changed one is known as such."""
    lines = b"".join(json.dumps(a, separators=(",", ":")).encode() + b"\n" for a in actions)
    seal = {"actions": len(actions), "hash": xxhash.xxh3_64_hexdigest(lines), **note}
    info = {"commitInfo": {"operation": operation, "engineInfo": "meterpulse", "meterpulse": seal}}
    return json.dumps(info, separators=(",", ":")).encode() + b"\n" + lines


def parse_commit(data: bytes) -> list[Action]:
    """The actions of a commit; raises Damaged unless it is exactly what was written."""
    head, _, lines = data.partition(b"\n")
    try:
        seal = json.loads(head)["commitInfo"]["meterpulse"]
        actions = [json.loads(line) for line in lines.splitlines()]
        whole = len(actions) == seal["actions"] and xxhash.xxh3_64_hexdigest(lines) == seal["hash"]
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise Damaged("empty" if not data.strip(b"\0") else "torn or changed")
    return actions


def checkpoint_bytes(state: State) -> tuple[bytes, int]:
    """A checkpoint of `state` as a Parquet file, and its number of actions."""
    rows: list[Action] = [{"protocol": _PROTOCOL}, {"metaData": state.meta}]
    if state.position is not None:
        rows.append(position_action(state.position))
    rows += [{"add": add} for add in state.adds.values()] + [{"remove": remove} for remove in state.removes.values()]
    table = pa.Table.from_pylist([{k: _maps_as_pairs(v) for k, v in row.items()} for row in rows], _CHECKPOINT_SCHEMA)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes(), len(rows)


def read_checkpoint(path: Path) -> State:
    """The state that a checkpoint holds; raises Damaged."""
    try:
        with open(path, "rb") as file:
            rows = pq.ParquetFile(pa.BufferReader(file.read()), page_checksum_verification=True).read().to_pylist()
        state = State()
        state.apply(-1, [{k: _pairs_as_maps(v) for k, v in row.items() if v is not None} for row in rows])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"torn or changed ({error})") from error
    if state.meta is None:
        raise Damaged("it has no table description")
    return state


def _maps_as_pairs(body: Action | None) -> Action | None:
    if body is None:
        return None
    out = {k: list(v.items()) if isinstance(v, dict) and k != "format" else v for k, v in body.items()}
    if "format" in out:
        out["format"] = {"provider": body["format"]["provider"], "options": []}
    return out


def _pairs_as_maps(body: Action) -> Action:
    maps = {"partitionValues", "tags", "configuration"}
    out = {k: dict(v) if k in maps and v is not None else v for k, v in body.items()}
    if "format" in out:
        out["format"] = {"provider": body["format"]["provider"], "options": {}}
    return out
