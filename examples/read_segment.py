#!/usr/bin/env python3
"""Prints the records of a casklog segment and checks every checksum; from FORMAT.md alone, with `pip install msgpack`.

usage: read_segment.py FILE     exit code 0: good to its end; 1: bad, stderr says where; 2: made by a later version
A line is: offset, < where a batch begins, > where it ends, kind, contents.
"""
import re, struct, sys, zlib, msgpack

BLOCK = 32768
KINDS = "- entry tombstone truncation meta watermark head resume gap footer - - skip skip skip skip".split()
TABLE = range(256)
for _ in range(8):
    TABLE = [crc >> 1 ^ 0xC96C5795D7870F42 * (crc & 1) for crc in TABLE]

def crc64(bytes_, crc=2**64 - 1):
    for byte in bytes_:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 2**64 - 1

def stop(at, why, code=1):
    sys.stdout.flush()
    sys.exit(print(f"byte {at}: {why}", file=sys.stderr) or code)

def fragment(at, numbers, previous=b""):
    """The fragment at an offset: type, log number, payload, the bytes of its checksum."""
    room = min(BLOCK - at % BLOCK, len(data) - at)
    if room < H:
        stop(at, "cut short")
    length, type_, log_number = struct.unpack_from("<HBI", data, at + W)
    if not numbers(log_number):
        stop(at, "zeros in front of other bytes" if not any(data[at:at + H]) else "foreign or stale log number")
    if H + length > room:
        stop(at, "cut short")
    chained = previous if type_ >> 4 & 3 >= 2 else b""
    if SUM(data[at + W:at + H + length]) ^ at ^ NUMBER(chained) != NUMBER(data[at:at + W]):
        stop(at, "bad checksum")
    return type_, log_number, data[at + H:at + H + length], data[at:at + W]

def skip(at, need):
    """The offset, or the next block where fewer bytes than needed are left of this one; those must be zero."""
    rest = BLOCK - at % BLOCK
    if rest < need and any(data[at:at + rest]):
        stop(at, "the rest of a block is not zero")
    return at + rest if rest < need else at

data = open(sys.argv[1], "rb").read()
if len(data) < 64 or data[:8] != b"casklog\n":
    stop(0, "not a segment")
if zlib.crc32(data[:60]) != struct.unpack_from("<I", data, 60)[0]:
    stop(0, "bad checksum of the header")
version, kind, read, write, log_id, segment, number = struct.unpack_from("<HBxII16sQI", data, 8)
if version != 3 or read or kind not in (1, 2):
    stop(8, f"version {version}, checksum {kind}, features {read:#x}: made by a later version", 2)
W = 4 * kind
H, SUM, NUMBER = W + 7, crc64 if W == 8 else zlib.crc32, lambda bytes_: int.from_bytes(bytes_, "little")
print(f"segment {segment} checksum {W * 8} log {log_id[::-1].hex()}")
trailer_at, at, sealed = len(data) - H - 96, 64, None
if trailer_at >= 64 and trailer_at % BLOCK + H + 96 <= BLOCK and data[trailer_at + H:][:8] == b"caskfoot":
    sealed = struct.unpack("<8sIIIIQQQ12I", fragment(trailer_at, lambda n: n >> 16 == number >> 16)[2])
limit, batch, parts, previous, start = sealed[1] if sealed else len(data), [], [], b"", 0
taken, deleted, cuts, resumes, mine = {}, {}, [], [], lambda log_number: log_number == number
gone = lambda index, cuts: any((index < bound, index > bound, True)[what] for what, _, bound in cuts)
while at < limit:
    if not (batch or parts or any(data[at:at + H]) or any(data[at:])):
        break
    at = skip(at, H)
    type_, _, payload, previous = fragment(at, mine, previous)
    part, kind, begins, ends = type_ >> 4 & 3, type_ & 15, type_ >> 6 & 1, type_ >> 7
    if (part >= 2) != bool(parts) or (parts and type_ & 0xCF != parts[0][0] & 0xCF):
        stop(at, "fragment out of sequence")
    if kind in (0, 10, 11):
        stop(at, f"unknown kind {kind}", 2)
    if kind == 9 and not batch:
        stop(at, "footer without a good trailer")
    start, parts, at = start if parts else at, parts + [(type_, payload)], at + H + len(payload)
    if part in (1, 2):
        continue
    if bool(begins) == bool(batch):
        stop(start, "record out of its batch")
    payload, parts = b"".join(piece for _, piece in parts), []
    value = msgpack.unpackb(payload, strict_map_key=False, use_list=False) if kind < 9 else len(payload)
    if kind == 7 and (value[0] != number or value[1] >> 16 != number >> 16) or (kind == 6) != (start == 64):
        stop(start, "resume or head stamp out of place")
    if kind in (1, 2):
        (taken, deleted)[kind - 1][value[0]] = start
    elif kind == 3:
        cuts.append((value[0], start, value[1]))
        taken, deleted = ({i: table[i] for i in table if not gone(i, cuts[-1:])} for table in (taken, deleted))
    elif kind == 7:
        number, resumes = value[1], resumes + [(start, value[1])]
    batch.append(f"{start} {'-<'[begins]}{'->'[ends]} {KINDS[kind]} {value!r}")
    if ends:
        batch = print("\n".join(batch)) or []
if batch or parts or (sealed and at != limit):
    stop(at, "a batch without its end")
print(f"end {at} {'sealed' if sealed else 'not sealed'}")
if sealed:
    _, _, last_number, count, size, _, first, last, *sections = sealed
    at, stream, members, behind = skip(at, H), b"", [], 0
    end = -(-(at + H) // 4096) * 4096
    while len(stream) < size:
        holds, (type_, _, page, _) = min((end - at - H) // 12 * 12, size - len(stream)), fragment(at, mine)
        if type_ != 0xC9 or page[holds:] != bytes(0 if len(stream) + holds == size else end - at - H - holds):
            stop(at, "not this page of the footer")
        at, end, stream = at + H + len(page), end + 4096, stream + page[:holds]
    if H <= BLOCK - at % BLOCK < H + 96:
        at += H + len(fragment(at, mine)[2])
    section = lambda number: stream[sections[2 * number]:][:sections[2 * number + 1]]
    rows = lambda number, form: list(struct.iter_unpack("<" + form, section(number)))
    codes = re.findall(rb"[\x80-\xff]*[\0-\x7f]", section(0))
    numbers = iter([sum((byte & 127) << 7 * place for place, byte in enumerate(code)) for code in codes])
    for head in numbers:
        start = behind + head // 2
        behind = start + (next(numbers) + 2 if head % 2 else 1)
        members += range(start, behind)
    listed, keys, edges = rows(2, "IIQ"), rows(5, "QI"), {cut[2] + side for cut in cuts for side in (-1, 0, 1)}
    for what, agrees in {
        "trailer": (skip(at, H + 96), last_number, count) == (trailer_at, number, len(taken)),
        "members": members == sorted(taken) and [first, last] == (members or [1])[:1] + (members or [0])[-1:],
        "offsets": rows(4, "I") == [(at,) for _, at in sorted(taken.items())],
        "tombstones, resumes": (rows(1, "QI"), rows(3, "II")) == (sorted(deleted.items()), resumes),
        "truncations": set(listed) <= set(cuts) and all(gone(i, listed) == gone(i, cuts) for i in edges),
        "keys": keys == sorted(keys) and sorted(place for _, place in keys) in ([], [*range(count)]),
    }.items():
        agrees or stop(sealed[1], f"the records say otherwise than the footer: {what}")
    print(f"footer {count} entries")
