"""The journal's bytes: one line per record, `CRC32 JSON`, the first one the header.  Pure but for `read`.

A line is whole or it is not there: a file that does not end with a line feed has a torn tail, which is passed over.  Every line
before that has to fit, to its checksum and to what came before.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import msgspec

from netloom.errors import JournalDamaged
from netloom.ipam.holdings import Holdings, Record
from netloom.model.attachments import NetnsId
from netloom.model.resources import dec_hook

FORMAT = 1
_encoder = msgspec.json.Encoder(enc_hook=str)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """`sequence`: the last one given out before the records that follow."""

    format: int = FORMAT
    boot: str
    netns: NetnsId
    sequence: int = 0


_header_decoder = msgspec.json.Decoder(Header)
_record_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record, dec_hook=dec_hook)


@dataclass(frozen=True, slots=True)
class Replay:
    """What a journal's bytes say.  `length`: bytes up to the torn tail, if there is one."""

    header: Header
    holdings: Holdings = field(repr=False)
    length: int


def replay(data: bytes) -> Replay:
    """Raises JournalDamaged that names the line."""
    first, *lines = data.split(b"\n")[:-1] or [b""]
    header = _read_header(first)
    holdings = Holdings(header.sequence)
    for number, text in enumerate(lines, start=2):
        try:
            holdings.apply(_record_decoder.decode(_checked(text)))
        except (msgspec.MsgspecError, ValueError, RecursionError) as e:
            raise JournalDamaged(f"line {number}: {e}") from e
    return Replay(header, holdings, data.rfind(b"\n") + 1)


def read(path: str) -> Replay:
    """A journal as it is, for looking at: an agent may be writing to it."""
    try:
        with open(path, "rb") as file:
            return replay(file.read())
    except OSError as e:
        raise JournalDamaged(f"{path} cannot be read: {e.strerror}") from e


def line(content: Record | Header) -> bytes:
    text = _encoder.encode(content)
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _checked(line: bytes) -> bytes:
    """The line's JSON; ValueError if its checksum is another."""
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        raise ValueError("the checksum does not fit")
    return text


def _read_header(line: bytes) -> Header:
    try:
        header = _header_decoder.decode(_checked(line))
    except (msgspec.MsgspecError, ValueError, RecursionError) as e:
        raise JournalDamaged(f"line 1: {e}") from e
    if header.format != FORMAT:
        raise JournalDamaged(f"line 1: format {header.format} is not known here, {FORMAT} is")
    return header
