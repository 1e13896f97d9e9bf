#!/usr/bin/python3
"""
One end of numbered datagrams that go both ways between two hosts at a steady rate: datagrams.py, in the network namespace it is started in.
Node's timers are too coarse for one datagram a millisecond, and its sockets do not tell when the kernel received one.

One JSON object a line on standard input and output, {"id", "do", ...} and {"id", "ok", ...}; it ends with its input.

  open   "token": 16 hexadecimal digits that every datagram of this measurement carries, "perSecond", "seconds",
         "flows": [{"local": [address, port], "remote": [address, port]}]. Receives from now on.
  start  sends on every flow; the flows take turns, so that they do not send at the same moment
  stop   sends no more
  take   "what": "sent" or "received": what has been recorded since it was last asked for, for each flow:
         {"at"}, or {"numbers", "at", "foreign", "overflows", "refused"}

Datagrams of a flow are numbered from 0. `at` are times of CLOCK_MONOTONIC in ms, as base64 of little-endian doubles (`numbers`: of 32-bit integers):
when a datagram was handed to the kernel, and when the kernel received it. `foreign`: datagrams without the token. `overflows`: what this program did not
read in time, and therefore says nothing of. `refused`: what the kernel would not send, as while the link is away: these count as sent.
"""

import base64
import json
import signal
import socket
import struct
import sys
import threading
import time
from array import array

MAX_FLOWS = 8
MAX_PER_SECOND = 5_000
MAX_SECONDS = 14_400
# The size of a small voice packet.
PAYLOAD_BYTES = 64
# Whatever keeps this program from reading for a while must not look like a loss.
RECEIVE_BUFFER = 16 * 2**20
# Of socket(7); Python's module has no names for them.
SO_TIMESTAMPNS = 35
SO_RXQ_OVFL = 40
SO_RCVBUFFORCE = 33
HEADER = struct.Struct(">8sI")
TIMESPEC = struct.Struct("qq")
UNSIGNED = struct.Struct("I")


class Flow:
    """One socket, connected to the other end: its datagrams, and those of the other end."""

    def __init__(self, token, local, remote):
        self.token = token
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        self.socket.bind(tuple(local))
        self.socket.connect(tuple(remote))
        self.lock = threading.Lock()
        self.sent = array("d")
        self.numbers = array("I")
        self.received = array("d")
        self.next = 0
        self.foreign = 0
        self.overflows = 0
        self.refused = 0
        threading.Thread(target=self.receive, daemon=True).start()

    def send(self):
        """The next datagram. It is recorded first: nothing is received that is not known to be sent."""
        payload = HEADER.pack(self.token, self.next).ljust(PAYLOAD_BYTES, b"\0")
        self.next += 1
        with self.lock:
            self.sent.append(time.monotonic_ns() / 1e6)
        try:
            self.socket.send(payload)
        except OSError:
            self.refused += 1

    def receive(self):
        """Until the program ends."""
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(PAYLOAD_BYTES + 1, 256)
            except OSError:
                # What an ICMP message said of some datagram: it counts as lost.
                continue
            # The kernel's time is of the clock that can be set: it is told in the other one.
            offset = time.monotonic_ns() - time.time_ns()
            at = None
            for _level, kind, value in ancillary:
                if kind == SO_TIMESTAMPNS:
                    seconds, nanoseconds = TIMESPEC.unpack(value)
                    at = (seconds * 1_000_000_000 + nanoseconds + offset) / 1e6
                elif kind == SO_RXQ_OVFL:
                    (self.overflows,) = UNSIGNED.unpack(value)
            if len(data) != PAYLOAD_BYTES or at is None or not data.startswith(self.token):
                self.foreign += 1
                continue
            with self.lock:
                self.numbers.append(HEADER.unpack_from(data)[1])
                self.received.append(at)

    def take(self, what):
        """What was recorded since the last time."""
        with self.lock:
            if what == "sent":
                sent, self.sent = self.sent, array("d")
                return {"at": text(sent)}
            numbers, self.numbers = self.numbers, array("I")
            received, self.received = self.received, array("d")
        return {
            "numbers": text(numbers),
            "at": text(received),
            "foreign": self.foreign,
            "overflows": self.overflows,
            "refused": self.refused,
        }


class Program:
    """The commands."""

    def __init__(self):
        self.flows = []
        self.interval = 0
        self.count = 0
        self.stopping = threading.Event()
        self.sender = None

    def open(self, token, flows, perSecond, seconds):
        """Sockets; nothing is sent yet."""
        if self.flows or not 0 < len(flows) <= MAX_FLOWS:
            raise ValueError(f"open once, from 1 to {MAX_FLOWS} flows")
        if not 0 < perSecond <= MAX_PER_SECOND or not 0 < seconds <= MAX_SECONDS:
            raise ValueError(f"at most {MAX_PER_SECOND} datagrams a second for {MAX_SECONDS} seconds")
        self.interval = 1_000_000_000 // perSecond
        self.count = int(perSecond * seconds)
        self.flows = [Flow(bytes.fromhex(token), flow["local"], flow["remote"]) for flow in flows]
        return {}

    def start(self):
        """In a thread of its own, until `stop` or the last."""
        if self.sender is None:
            self.sender = threading.Thread(target=self.send, daemon=True)
            self.sender.start()
        return {}

    def send(self):
        """At the due time of each; whatever has become due meanwhile goes out at once."""
        turn = self.interval // len(self.flows)
        begun = time.monotonic_ns()
        for number in range(self.count):
            for place, flow in enumerate(self.flows):
                early = begun + number * self.interval + place * turn - time.monotonic_ns()
                if early > 0:
                    # clock_nanosleep(2), by Python since 3.11.
                    time.sleep(early / 1e9)
                if self.stopping.is_set():
                    return
                flow.send()

    def stop(self):
        """Settles when the last has been sent."""
        self.stopping.set()
        if self.sender is not None:
            self.sender.join()
        return {}

    def take(self, what):
        """For each flow, in their order."""
        return {"flows": [flow.take(what) for flow in self.flows]}


def text(values):
    """Numbers as JSON can hold them."""
    return base64.b64encode(values.tobytes()).decode()


def main():
    """Requests until the input ends."""
    # Ctrl-C reaches every process of a terminal: the harness decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program = Program()
    commands = {"open": program.open, "start": program.start, "stop": program.stop, "take": program.take}
    for line in sys.stdin:
        request = json.loads(line)
        number, name = request.pop("id"), request.pop("do")
        try:
            result = {"id": number, "ok": True, **commands[name](**request)}
        except Exception as error:  # pylint: disable=broad-except
            result = {"id": number, "ok": False, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
