#!/usr/bin/env python3
"""What slow clients cost the others: the 99th percentile of hits alone, beside 2,000 connections that
send their heads slowly, and beside 2,000 that read their answers slowly.

Each round measures all of them in turn, and of all rounds the least of each is compared: other work
on the machine only adds. Needs wrk and slowhttptest (Debian packages of those names) and a release
build:

    cargo build --release -p larder && tests/slow-clients.py

Exit code 1 if a percentile beside slow clients is more than 1.2 times what it is alone.
"""

import argparse
import http.server
import pathlib
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
SLOW = 2000
BOUND = 1.2
ATTACKS = {
    "slow heads": ["-H", "-i", "2", "-x", "8"],
    "slow reads": ["-X", "-w", "64", "-y", "128", "-n", "2", "-z", "32", "-k", "3"],
}


class Origin(http.server.BaseHTTPRequestHandler):
    """Answers `/large` with a megabyte and everything else with a kilobyte, fresh for ten minutes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"x" * (1 << 20 if self.path == "/large" else 1 << 10)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "max-age=600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(url):
    return urllib.request.urlopen(url, timeout=5).read()


def wait_until(what, holds):
    deadline = time.monotonic() + 60
    while True:
        try:
            if holds():
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.05)


def open_connections(admin):
    text = fetch(f"http://127.0.0.1:{admin}/metrics").decode()
    return int(re.search(r"^larder_connections (\d+)$", text, re.M).group(1))


def p99(url, seconds):
    """In microseconds."""
    command = ["wrk", "-t1", "-c16", f"-d{seconds}", "--latency", url]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"{url} answered with errors:\n{text}")
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def beside(attack, port, admin, seconds):
    """The percentile while the attack is at its height, and how many connections it then has."""
    url = f"http://127.0.0.1:{port}/large"
    command = ["slowhttptest", "-c", str(SLOW), "-r", str(SLOW), "-l", "120", "-p", "5", "-u", url]
    slow = subprocess.Popen(command + ATTACKS[attack], stdout=subprocess.DEVNULL)
    try:
        wait_until(f"{SLOW} connections", lambda: open_connections(admin) >= SLOW)
        return p99(f"http://127.0.0.1:{port}/small", seconds)
    finally:
        slow.terminate()
        slow.wait()
        wait_until("their end", lambda: open_connections(admin) < 50)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--larder", default=ROOT / "target/release/larder", type=pathlib.Path)
    arguments.add_argument("--rounds", default=3, type=int)
    arguments.add_argument("--seconds", default=5, type=int, help="of each measurement; below 10")
    arguments = arguments.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    origin = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    port, admin = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            arguments.larder, "serve", "--origin", f"http://127.0.0.1:{origin.server_port}",
            "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}",
        ]
        larder = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
        try:
            wait_until("Larder", lambda: fetch(f"http://127.0.0.1:{admin}/readyz"))
            for path in ("small", "large"):
                fetch(f"http://127.0.0.1:{port}/{path}")
            figures = {"alone": [], **{attack: [] for attack in ATTACKS}}
            for _ in range(arguments.rounds):
                figures["alone"].append(p99(f"http://127.0.0.1:{port}/small", arguments.seconds))
                for attack in ATTACKS:
                    figures[attack].append(beside(attack, port, admin, arguments.seconds))
        finally:
            larder.terminate()
            larder.wait()
    alone = min(figures["alone"])
    missed = False
    for name, found in figures.items():
        ratio = min(found) / alone
        missed |= ratio > BOUND
        each = ", ".join(f"{one / 1e3:.2f}" for one in found)
        print(f"{name:<12} p99 {min(found) / 1e3:8.2f} ms  {ratio:5.2f} x  (rounds: {each})")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
