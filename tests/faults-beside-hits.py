#!/usr/bin/env python3
"""What a disk that fails and a store that fails cost the hits in memory: their 99th percentile.

An edge with memory, a disk and an object store (moto, behind a proxy) is asked for what memory has at
a fixed rate, whatever becomes of the answers, and for other things beside it: new ones, which are
fetched and stored at every tier, and old ones, which memory has lost. Windows with a fault and
windows without one take turns, and the medians are compared: of those with the fault, and of all
without any. The lower quartiles say the same with less of what else the machine does, which only
adds. No window begins before every tier is well again.

Others may halt the edge to have the machine for themselves (SIGSTOP); a window in which it was halted
is measured anew.

The disk fails where the edge calls the system (see failing_calls.py), so both kinds of windows pay
alike for being watched. Every answer is checked to the byte.

Needs moto (`pip install 'moto[server,s3]'`; `LARDER_MOTO` is the path of its `moto_server` if it is
not on the `PATH`) and a release build:

    cargo build --release -p larder && tests/faults-beside-hits.py

Exit code 1 if a percentile beside a fault of the disk is more than 1.1 times what it is without, or
beside one of the store more than 1.05 times, or if an answer was wrong.
"""

import argparse
import errno
import http.client
import http.server
import json
import multiprocessing
import os
import pathlib
import random
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import failing_calls

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Requests a second for what memory has, and for the rest.
HITS, REST = 1000, 20
# What memory has, and what the rest is, in bytes.
HOT, HOT_SIZE, COLD_SIZE = 50, 1 << 10, 48 << 10
CONNECTIONS = 32
WRITES = ["pwritev", "pwrite64"]
DISK = {
    "slow disk": lambda edge: edge.delay(failing_calls.CALLS, 2),
    "EIO": lambda edge: edge.fail(["pread64", "fsync", "fdatasync", *WRITES], errno.EIO),
    "ENOSPC": lambda edge: edge.fail(["fallocate", *WRITES], errno.ENOSPC),
}
STORE = ["store down", "+500 ms", "10 % errors", "429"]
BOUNDS = {**dict.fromkeys(DISK, 1.1), **dict.fromkeys(STORE, 1.05)}
# How soon after a fault every tier is to be well, in seconds.
RECOVERY = 5


def body(path, size):
    return (path.encode() + b" ").ljust(64, b".") * (size // 64)


def size_of(path):
    return HOT_SIZE if path.startswith("/hot") else COLD_SIZE


class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def send(self, status, fields, content):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Origin(Quiet):
    def do_GET(self):
        content = body(self.path, size_of(self.path))
        self.send(200, [("Cache-Control", "max-age=36000")], content)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        # Whoever asked may leave at any time.
        pass


class Proxy(Quiet):
    """What lies between the edge and the store."""

    upstream = None
    fault = None
    link = None

    def relay(self):
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length)
        fault = STORE[self.fault.value] if self.fault.value >= 0 else None
        if fault == "store down":
            self.close_connection = True
            return
        if fault == "429":
            self.send(429, [("Retry-After", "1")], b"")
            return
        if fault == "10 % errors" and random.random() < 0.1:
            self.send(500, [], b"")
            return
        if fault == "+500 ms":
            time.sleep(0.5)
        self.link = self.link or http.client.HTTPConnection(*self.upstream)
        self.link.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "keep-alive"):
                self.link.putheader(name, value)
        self.link.endheaders(content)
        answer = self.link.getresponse()
        found = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "date", "server", "content-length"):
                self.send_header(name, value)
        told = answer.getheader("Content-Length") if self.command == "HEAD" else len(found)
        self.send_header("Content-Length", str(told or 0))
        self.end_headers()
        self.wfile.write(found)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = relay


def serve(handler, ports):
    server = Server(("127.0.0.1", 0), handler)
    ports.send(server.server_port)
    server.serve_forever()


def serve_store(upstream, fault, ports):
    Proxy.upstream, Proxy.fault = upstream, fault
    serve(Proxy, ports)


class Connection:
    """One request at a time, read as it comes."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.path = None

    def ask(self, path, due):
        self.path, self.due, self.read = path, due, b""
        self.socket.send(f"GET {path} HTTP/1.1\r\nHost: edge.test\r\n\r\n".encode())

    def take(self):
        """What came, once it is whole: head and content."""
        try:
            piece = self.socket.recv(1 << 17)
        except BlockingIOError:
            return None
        if not piece:
            raise ConnectionError
        self.read += piece
        head, end, content = self.read.partition(b"\r\n\r\n")
        if not end:
            return None
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        if not length or len(content) < int(length.group(1)):
            return None
        return head, content


def check(path, head, content):
    """What is wrong with an answer; nothing, or words."""
    if not head.startswith(b"HTTP/1.1 200 "):
        return "refused"
    return None if content == body(path, size_of(path)) else "wrong"


def ask_at_a_rate(port, seconds, rate, paths):
    """Asks for `paths` at fixed times, whether or not earlier requests are answered. How long each
    answer took from when it was due, but for what was our own delay; how many answers were what; and
    how many requests found no free connection in time to be sent."""
    idle, asking = [Connection(port) for _ in range(CONNECTIONS)], {}
    poll = select.epoll()
    took, counts, late = [], {}, []
    begin = time.perf_counter()
    sent, total = 0, int(seconds * rate)
    give_up = begin + seconds + 10
    while sent < total or asking or late:
        now = time.perf_counter()
        if now > give_up:
            counts["unanswered"] = len(asking) + len(late)
            break
        while sent < total and begin + sent / rate <= now:
            late.append((paths(), now))
            sent += 1
        while late and idle:
            path, due = late.pop(0)
            connection = idle.pop()
            connection.ask(path, due)
            asking[connection.socket.fileno()] = connection
            poll.register(connection.socket, select.EPOLLIN)
        next_at = begin + sent / rate if sent < total else now + 0.1
        # The poll knows milliseconds; select knows microseconds.
        if not select.select([poll], [], [], max(0, next_at - time.perf_counter()))[0]:
            continue
        for number, _ in poll.poll(0):
            connection = asking[number]
            try:
                answer = connection.take()
            except OSError:
                counts["broken off"] = counts.get("broken off", 0) + 1
                del asking[number]
                connection.socket.close()
                idle.append(Connection(port))
                continue
            if answer is None:
                continue
            poll.unregister(connection.socket)
            del asking[number]
            took.append(time.perf_counter() - connection.due)
            kind = check(connection.path, *answer)
            if kind is None:
                hit = re.search(rb"\r\ncache-status: *larder; *hit", answer[0], re.I)
                kind = "hits" if hit else "misses"
            counts[kind] = counts.get(kind, 0) + 1
            idle.append(connection)
    for connection in [*idle, *asking.values()]:
        connection.socket.close()
    return took, counts


def hit_forever(commands):
    """Measures hits for as long as it is told to."""
    dice = random.Random(1)
    while True:
        port, seconds = commands.recv()
        took, counts = ask_at_a_rate(port, seconds, HITS, lambda: f"/hot/{dice.randrange(HOT)}")
        took.sort()
        # An answer that never came took for ever.
        took += [seconds] * (int(seconds * HITS) - len(took))
        commands.send((took[len(took) * 99 // 100], took[len(took) // 2], counts))


def ask_rest_forever(port, counted):
    """Half new ones, half of the last thousand: most of them are not in memory any more."""
    dice, newest = random.Random(2), 0

    def path():
        nonlocal newest
        if dice.random() < 0.5:
            newest += 1
            return f"/cold/{newest}"
        return f"/cold/{dice.randint(max(1, newest - 1000), max(1, newest))}"

    while True:
        try:
            _, counts = ask_at_a_rate(port, 2, REST, path)
        except ConnectionError:
            # The edge has ended.
            return
        counted.send(counts)


def fetch(url, host=None):
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    return urllib.request.urlopen(request, timeout=5).read()


def wait_until(what, holds, patience=60):
    began = time.monotonic()
    while True:
        try:
            if holds():
                return time.monotonic() - began
        except OSError:
            pass
        if time.monotonic() - began > patience:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(work, *arguments):
    """Runs `work` in a process of its own, with a pipe to it."""
    ours, its = multiprocessing.Pipe()
    process = multiprocessing.Process(target=work, args=(*arguments, its), daemon=True)
    process.start()
    return ours


def states(admin):
    tiers = json.loads(fetch(f"http://127.0.0.1:{admin}/v1/stats"))["tiers"]
    return {tier["name"]: tier["state"] for tier in tiers}


def add(sums, counts):
    for name, count in counts.items():
        sums[name] = sums.get(name, 0) + count


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--larder", default=ROOT / "target/release/larder", type=pathlib.Path)
    arguments.add_argument("--rounds", default=12, type=int, help="at least 2")
    arguments.add_argument("--seconds", default=2, type=float, help="of each window")
    arguments.add_argument("--only", action="append", choices=BOUNDS, help="these faults")
    arguments = arguments.parse_args()
    faults = arguments.only or list(BOUNDS)
    moto = shutil.which(os.environ.get("LARDER_MOTO", "moto_server"))
    if not moto:
        sys.exit("there is no moto_server (set LARDER_MOTO)")
    port, admin, store_port = free_port(), free_port(), free_port()
    multiprocessing.set_start_method("fork")
    fault = multiprocessing.Value("i", -1)
    origin_port = start(serve, Origin).recv()
    proxy_port = start(serve_store, ("127.0.0.1", store_port), fault).recv()
    hits = start(hit_forever)
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "w+") as log:
        store = subprocess.Popen(
            [moto, "-H", "127.0.0.1", "-p", str(store_port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            bucket = urllib.request.Request(f"http://127.0.0.1:{store_port}/edge", method="PUT")
            wait_until("the store", lambda: urllib.request.urlopen(bucket, timeout=5))
            command = [
                str(arguments.larder.resolve()), "serve",
                "--origin", f"http://127.0.0.1:{origin_port}",
                "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}",
                "--data-dir", "data", "--memory", "16MiB", "--disk", "128MiB",
                "--object-store", "s3://edge/tests",
            ]
            environment = {
                **os.environ, "NO_COLOR": "1", "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy_port}", "AWS_ALLOW_HTTP": "true",
            }
            edge = failing_calls.Program(command, environment, folder, log)
            try:
                measured = measure(arguments, faults, fault, edge, hits, port, admin)
            finally:
                ended = edge.stop()
        finally:
            store.terminate()
            store.wait()
        log.seek(0)
        lines = sum(1 for _ in log)
    sys.exit(report(*measured, lines, ended))


def measure(arguments, faults, fault, edge, hits, port, admin):
    """Percentiles, medians and recoveries by fault, and what the answers were."""
    wait_until("Larder", lambda: fetch(f"http://127.0.0.1:{admin}/readyz"))
    for number in range(HOT):
        fetch(f"http://127.0.0.1:{port}/hot/{number}", "edge.test")
    rest = start(ask_rest_forever, port)

    def window(name):
        """Percentile and half of a window with the fault `name`, or with none; nothing if the edge
        was halted meanwhile."""
        wait_until("the edge to go on", lambda: not edge.was_halted(), 600)
        if name in DISK:
            DISK[name](edge)
        elif name:
            fault.value = STORE.index(name)
        # Until somebody has met it.
        time.sleep(0.2)
        hits.send((port, arguments.seconds))
        p99, half, counts = hits.recv()
        edge.work()
        fault.value = -1
        if edge.was_halted():
            return None
        add(answers, counts)
        took = wait_until("every tier", lambda: set(states(admin).values()) == {"online"}, 600)
        if name and not edge.was_halted():
            slowest[name] = max(slowest[name], took)
        return p99, half

    def until_measured(name):
        while True:
            if measured := window(name):
                return measured

    figures = {name: ([], []) for name in faults}
    slowest, answers, others = dict.fromkeys(faults, 0.0), {}, {}
    # Both sides warm up.
    for _ in range(3):
        until_measured(None)
    for _ in range(arguments.rounds):
        for name in random.sample(faults, len(faults)):
            for broken in random.sample([False, True], 2):
                figures[name][broken].append(until_measured(name if broken else None))
    while rest.poll():
        add(others, rest.recv())
    return figures, slowest, answers, others, edge.met


def quartiles(windows):
    """The lower quartile and the median of percentiles, and the median of halves, in milliseconds."""
    p99, half = zip(*windows)
    low, median, _ = statistics.quantiles(p99, n=4, method="inclusive")
    return low * 1e3, median * 1e3, statistics.median(half) * 1e3


def report(figures, slowest, answers, others, met, lines, ended):
    none = quartiles([window for without, _ in figures.values() for window in without])
    print("with          p99, median of windows    lower quartile       half of the hits")
    print(f"no fault     {none[1]:8.2f} ms          {none[0]:8.2f} ms          {none[2]:8.3f} ms")
    missed = False
    for name, (_, windows) in figures.items():
        low, median, half = quartiles(windows)
        ratio = median / none[1]
        missed |= ratio > BOUNDS[name] or slowest[name] > RECOVERY
        print(
            f"{name:<12} {median:8.2f} ms {ratio:5.2f} x  {low:8.2f} ms {low / none[0]:5.2f} x"
            f"  {half:8.3f} ms {half / none[2]:5.2f} x  (bound {BOUNDS[name]}; well after at most"
            f" {slowest[name]:.1f} s)"
        )
    print(f"hits: {answers}; beside them: {others}; {met} calls failed or waited; {lines} lines logged")
    bad = sum(answers.get(kind, 0) for kind in ("wrong", "refused", "unanswered", "broken off"))
    return 1 if missed or bad or others.get("wrong", 0) or not ended else 0


if __name__ == "__main__":
    main()
