"""A listing cut into shards: parts that are scored alone, whose name says what is in them.

A shard's name is a digest of its files (path, size, time) and of what rows depend on. So a finished shard can be
recognised by its name alone, by any machine, and doing one twice does no harm. Cuts fall after files chosen by a
digest of their path, not by counting: a file that comes or goes changes the shard it is in and no other.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from edge.listing import Entry

MOST_PICTURES = 1024  # about ten seconds of one core: little to lose, and few enough files for ten million pictures
FEWEST_PICTURES = 16
SHARDS_AT_LEAST = 64  # of a small folder, so that all workers end at about the same time


@dataclass(frozen=True)
class Shard:
    """Some files of a listing, in its order. first, last: names. listing: JSON of path, size and time, compressed."""

    shard_id: str
    pictures: int
    first: str
    last: str
    listing: bytes

    def entries(self) -> list[Entry]:
        """The files."""
        return [Entry(*fields) for fields in json.loads(zlib.decompress(self.listing))]

    def __str__(self) -> str:
        return f"{self.first!r} to {self.last!r}"


def pictures_per_shard(pictures: int) -> int:
    """How many pictures a shard should have, on average, for a folder of so many."""
    return max(FEWEST_PICTURES, min(MOST_PICTURES, pictures // SHARDS_AT_LEAST))


def cut(entries: Iterable[Entry], facts_sha256: str, mean_pictures: int) -> Iterator[Shard]:
    """Shards of a quarter to four times mean_pictures, in the order of the listing."""
    part: list[Entry] = []
    for entry in entries:
        part.append(entry)
        is_large_enough = len(part) * 4 >= mean_pictures
        if len(part) >= mean_pictures * 4 or (is_large_enough and _is_cut_after(entry, mean_pictures)):
            yield _shard(part, facts_sha256)
            part = []
    if part:
        yield _shard(part, facts_sha256)


def _is_cut_after(entry: Entry, mean_pictures: int) -> bool:
    digest = hashlib.blake2b(entry.name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % mean_pictures == 0


def _shard(part: Sequence[Entry], facts_sha256: str) -> Shard:
    listing = json.dumps([(e.path, e.size_bytes, e.changed_at) for e in part]).encode()
    shard_id = hashlib.sha256(facts_sha256.encode() + listing).hexdigest()[:24]
    return Shard(shard_id, len(part), part[0].name, part[-1].name, zlib.compress(listing, 1))
