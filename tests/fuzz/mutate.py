"""Connections that are nearly valid."""

from random import Random

from hpack import Encoder

from serving.transport.native import frames
from serving.transport.native.frames import PREFACE, frame
from tests.fuzz.memory import Rig

from serving.transport.native.limits import Limits  # isort: skip

LIMITS = Limits(
    max_message_bytes=200_000,
    max_streams=6,
    message_budget=150_000,
    patience=100,
    patience_per_second=0,
    max_unsent_bytes=20_000,
)
_PATHS = ("/t/Echo", "/t/Hold", "/t/Grow", "/t/Fail", "/t/Stream", "/t/None")
_EDGES = (0, 1, 4, 5, 8, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1)


def execute(seed: int) -> None:
    """One connection, from its preface to its end; raises AssertionError where an invariant does not hold."""
    random = Random(seed)
    rig = Rig(LIMITS)
    parts = connection(random)
    for _ in range(random.choice((0, 0, 1, 1, 2, 5))):
        mutate(random, parts)
    data = b"".join(parts)
    if random.random() < 0.2:
        data = _flip(random, data)
    largest = random.choice((1, 7, 100, 5000, 1 << 20))
    if len(data) // largest > 2000:
        largest = 100
    position = 0
    while position < len(data):
        size = random.randint(1, largest)
        rig.feed(data[position : position + size])
        position += size
        whim = random.random()
        if whim < 0.02:
            rig.handlers.release()
        elif whim < 0.025:
            rig.connection.drain()
        elif whim < 0.03:
            rig.connection.pause_writing()
            rig.connection.resume_writing()
        elif whim < 0.035 and not rig.connection.paused:
            rig.connection.pause_writing()
        rig.server.loop.run()
    if rig.connection.paused:
        rig.connection.resume_writing()
    rig.end()


def connection(random: Random) -> list[bytes]:
    """A client's frames, all valid."""
    encoder = Encoder()
    settings = {}
    if random.random() < 0.5:
        settings[frames.INITIAL_WINDOW_SIZE] = random.choice((0, 1, 10, 1000, 65_535, 1 << 20))
    parts = [PREFACE, frames.settings(settings), frame(frames.SETTINGS, frames.ACK, 0)]
    number = 1
    for _ in range(random.randint(1, 10)):
        parts += _call(random, encoder, number)
        number += random.choice((2, 2, 2, 4))
        parts += _control(random, number)
    return parts


def _call(random: Random, encoder: Encoder, number: int) -> list[bytes]:
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", random.choice(_PATHS)),
        (":authority", "x"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    if random.random() < 0.3:
        fields.append(("grpc-timeout", f"{random.randint(1, 999)}m"))
    if random.random() < 0.2:
        fields.append(("x-data-bin", "AAE"))
    block = encoder.encode(fields, huffman=random.random() < 0.5)
    parts = []
    if random.random() < 0.2:
        cut = random.randint(0, len(block))
        parts.append(frame(frames.HEADERS, 0, number, block[:cut]))
        parts.append(frame(frames.CONTINUATION, frames.END_HEADERS, number, block[cut:]))
    else:
        parts.append(frame(frames.HEADERS, frames.END_HEADERS, number, block))
    body = b""
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        message = random.randbytes(random.choice((0, 1, 20, 300, 70_000 if random.random() < 0.1 else 30)))
        body += b"\x00" + len(message).to_bytes(4) + message
    size = random.choice((1 << 14, 1 << 14, 1000, 10)) if len(body) < 5000 else 1 << 14
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    for position, chunk in enumerate(chunks):
        end = position == len(chunks) - 1 and random.random() < 0.9
        if random.random() < 0.1 and len(chunk) < 1 << 14:
            chunk = b"\x00" + chunk
            parts.append(frame(frames.DATA, frames.PADDED | end, number, chunk))
        else:
            parts.append(frame(frames.DATA, int(end), number, chunk))
        if random.random() < 0.05:
            parts += _control(random, number + 2)
    return parts


def _control(random: Random, number: int) -> list[bytes]:
    other = random.randrange(1, number + 1, 2)
    return random.choice(
        (
            [],
            [],
            [frame(frames.PING, 0, 0, bytes(8))],
            [frame(frames.PING, frames.ACK, 0, b"goodbye?")],
            [frames.window_update(0, random.choice((1, 100, 65_535, 1 << 20)))],
            [frames.window_update(max(other - 2, 1), random.choice((1, 100, 65_535, 1 << 20)))],
            [frame(frames.RST_STREAM, 0, max(other - 2, 1), bytes(4))],
            [frame(frames.PRIORITY, 0, other, bytes(5))],
            [frames.settings({frames.INITIAL_WINDOW_SIZE: random.choice((0, 1, 100, 65_535, 1 << 20))})],
            [frames.goaway(0, frames.ErrorCode.NO_ERROR)] if random.random() < 0.1 else [],
        )
    )


def mutate(random: Random, parts: list[bytes]) -> None:
    """One step away from valid."""
    at = random.randrange(len(parts))
    way = random.randrange(8)
    if way == 0:
        parts[at] = _flip(random, parts[at])
    elif way == 1:
        parts[at] = parts[at][: random.randint(0, len(parts[at]))]
    elif way == 2:
        del parts[at]
        parts.append(b"")
    elif way == 3:
        other = random.randrange(len(parts))
        parts[at], parts[other] = parts[other], parts[at]
    elif way == 4:
        parts.insert(at, parts[random.randrange(len(parts))])
    elif way == 5:
        parts[at:at] = [parts[at]] * random.choice((2, 10, 120))
    elif way == 6:
        splice = connection(random)
        parts[at:at] = splice[random.randrange(len(splice)) :]
    else:
        kind = random.choice((*range(10), random.randrange(256)))
        payload = random.choice(
            (random.randbytes(random.choice((0, 4, 5, 6, 8, 12, 40))), random.choice(_EDGES).to_bytes(4))
        )
        number = random.choice((0, 1, 2, 3, 5, 7, 9, 2**31 - 1, random.randrange(2**32)))
        parts.insert(at, frame(kind, random.choice((0, 1, 4, 5, 8, 32, random.randrange(256))), number, payload))


def _flip(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 10))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)
