"""Other ids for a file's channels, by a template: `--id-template "london/{meter}"`.

{id} is the id that the format gives, {meter} and {stream} its two parts (4103035421:E1), {file} the file's name without
its ending.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from meterpulse.ingest.contract import BodyError, FileBatch
from meterpulse.ingest.media import ARROW
from meterpulse.model.channel import Channel, ChannelError

FIELDS = ("id", "meter", "stream", "file")
_BRACES = re.compile(r"\{(\w*)\}")


class TemplateError(ValueError):
    """The template cannot be used; the message says why."""


class Names:
    """Renames the channels of one file's batches."""

    def __init__(self, template: str, path: Path):
        check(template)
        self._template, self._file = template, path.name.partition(".")[0]
        self._meters: dict[str, str] = {}

    def of(self, id: str) -> str:
        """The new id of a channel."""
        meter = self._meters.get(id) or id.partition(":")[0]
        known = {"id": id, "meter": meter, "stream": id.removeprefix(meter).removeprefix(":"), "file": self._file}
        return _BRACES.sub(lambda match: known[match[1]], self._template)

    def renamed(self, batch: FileBatch) -> FileBatch:
        """The batch under the new ids; raises BodyError where its format leaves the names to the decoder."""
        self._meters |= {c.id: c.meter for c in batch.channels if c.meter and c.id.startswith(c.meter)}
        try:
            channels = [self._channel(channel) for channel in batch.channels]
        except ChannelError as error:
            raise BodyError(422, f"--id-template makes an id that cannot be: {error}") from None
        if batch.media_type != ARROW:
            raise BodyError(422, "--id-template works for formats that name their channels; this file's rows name them")
        with pa.ipc.open_stream(batch.body) as stream:
            parts = [self._part(part) for part in stream]
            schema = parts[0].schema if parts else stream.schema
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as out:
            for part in parts:
                out.write_batch(part)
        return replace(batch, body=sink.getvalue().to_pybytes(), channels=channels)

    def _channel(self, channel: Channel) -> Channel:
        return replace(channel, id=self.of(channel.id))

    def _part(self, part: pa.RecordBatch) -> pa.RecordBatch:
        at = part.schema.get_field_index("channel")
        ids = part.column(at)
        if not pa.types.is_dictionary(ids.type):
            ids = ids.dictionary_encode()
        if pa.types.is_integer(ids.dictionary.type):
            raise BodyError(422, "--id-template cannot rename dense indices; this file's rows hold those")
        new = pa.array([None if id is None else self.of(id) for id in ids.dictionary.to_pylist()], pa.string())
        return part.set_column(at, "channel", pa.DictionaryArray.from_arrays(ids.indices, new).cast(pa.string()))


def check(template: str) -> None:
    """Raises TemplateError."""
    rest = _BRACES.sub("", template)
    unknown = [name for name in _BRACES.findall(template) if name not in FIELDS]
    if unknown or "{" in rest or "}" in rest:
        raise TemplateError(f"{template!r}: in braces stand {', '.join('{' + name + '}' for name in FIELDS)}")
    if not {"id", "meter"} & set(_BRACES.findall(template)):
        raise TemplateError(f"{template!r} gives all channels one id; it takes {{id}}, or {{meter}} with {{stream}}")
