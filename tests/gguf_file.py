"""A writer of GGUF files, from the format's own description."""

import struct

ALIGNMENT = 32


def write(path, tensors, settings=(), version=3):
    """Tensors: name -> (type number, shape with the fastest axis last, bytes)."""
    head = struct.pack("<4sIQQ", b"GGUF", version, len(tensors), len(settings))
    for name, kind, data in settings:
        head += _text(name) + struct.pack("<I", kind) + data
    body = b""
    for name, (number, shape, data) in tensors.items():
        head += _text(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += struct.pack("<IQ", number, len(body))
        body += data + bytes(-len(data) % ALIGNMENT)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + body)
    return path


def _text(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
