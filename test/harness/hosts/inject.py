#!/usr/bin/python3
"""
Sends frames as they are out of an interface: inject.py INTERFACE, in the network namespace it is started in.
One JSON request a line on standard input: {"id", "frames": [hex], "count", "intervalMs"}: each frame in turn, `count` times over,
with `intervalMs` between two. The answer comes when all are with the kernel: {"id", "ok": true, "sent", "at"} (at: monotonic ms of
the last one). While the link is away the kernel takes no frames: their places in `frames` are in the answer's "lost".
Ends with standard input.
"""

import errno
import json
import signal
import socket
import sys
import time

MAX_FRAMES = 100_000
# What the kernel says while the carrier is away: the queue is full, or the interface is down.
LINK_AWAY = (errno.ENOBUFS, errno.ENETDOWN)


def send(sock, frames, count=1, intervalMs=0, **_):
    """Sends them all; bounded."""
    if len(frames) * count > MAX_FRAMES:
        raise ValueError(f"more than {MAX_FRAMES} frames in one request")
    raw = [bytes.fromhex(frame) for frame in frames]
    first = True
    lost = []
    for _round in range(count):
        for place, frame in enumerate(raw):
            if not first and intervalMs > 0:
                time.sleep(intervalMs / 1000)
            first = False
            try:
                sock.send(frame)
            except OSError as error:
                if error.errno not in LINK_AWAY:
                    raise
                lost.append(place)
    return {"sent": len(raw) * count - len(lost), "lost": lost, "at": time.clock_gettime(time.CLOCK_MONOTONIC) * 1000}


def main(interface):
    """Requests until the input ends."""
    # Ctrl-C reaches every process of a terminal: the harness decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        # Protocol 0: receives nothing.
        sock.bind((interface, 0))
        for line in sys.stdin:
            request = json.loads(line)
            try:
                result = {"id": request["id"], "ok": True, **send(sock, **request)}
            except (OSError, ValueError) as error:
                result = {"id": request["id"], "ok": False, "error": f"{type(error).__name__}: {error}"}
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
