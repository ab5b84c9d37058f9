#!/usr/bin/env python3
"""Server CPU of a 1 KiB memory hit: nginx proxy_cache, Larder with native rules, Larder with Wasm.

One origin, one machine, in turn within one run. Of each round's servers the CPU is user plus system
time of all their processes from /proc, divided by the requests that wrk counted; of all rounds the
least is quoted. Needs nginx and wrk (Debian packages of those names) and a release build:

    cargo build --release -p larder && tests/side-by-side.py

Exit code 1 if a ratio misses its bound.
"""

import argparse
import collections
import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICK = os.sysconf("SC_CLK_TCK")
BOUND_NGINX = 0.80
BOUND_NATIVE = 1.12
CONNECTIONS = 64


class Origin(http.server.BaseHTTPRequestHandler):
    """Answers every path with the same number of bytes, fresh for ten minutes."""

    protocol_version = "HTTP/1.1"
    size = 1024
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        body = (self.path.encode() + b" ") * (self.size // len(self.path) + 1)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(self.size))
        self.send_header("Cache-Control", "max-age=600")
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body[: self.size])

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processes(pid):
    """`pid` and its children."""
    found = [pid]
    for parent in found:
        for task in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def cpu_seconds(pid):
    total = 0
    for each in processes(pid):
        fields = pathlib.Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def wait_for(url):
    deadline = time.monotonic() + 30
    while True:
        try:
            return urllib.request.urlopen(url, timeout=5).read()
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f"nothing answers at {url}")
            time.sleep(0.05)


def wrk(url, seconds, script=None):
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}", url]
    if script:
        command += ["-s", str(script)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"{url} answered with errors:\n{text}")
    return requests


@contextlib.contextmanager
def nginx(origin, folder):
    port = free_port()
    user = "user root;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"""
        {user} worker_processes 2; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
        events {{ worker_connections 1024; }}
        http {{
          access_log off; keepalive_requests 100000000; open_file_cache max=1000;
          proxy_cache_path {folder}/cache keys_zone=z:10m; client_body_temp_path {folder}/body;
          proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
          scgi_temp_path {folder}/s;
          server {{
            listen 127.0.0.1:{port} reuseport;
            location / {{
              proxy_pass http://127.0.0.1:{origin}; proxy_http_version 1.1;
              proxy_cache z; proxy_cache_valid 200 10m;
            }}
          }}
        }}""")
    command = ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield process.pid, port, None
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextlib.contextmanager
def larder(origin, folder, program, keying, eviction, memory="64MiB"):
    port, admin = free_port(), free_port()
    (folder / "larder.toml").write_text(f"""
        [listen]
        http = "127.0.0.1:{port}"
        [admin]
        listen = "127.0.0.1:{admin}"
        [memory]
        capacity = "{memory}"
        [[site]]
        origin = "http://127.0.0.1:{origin}"
        [site.policy]
        keying = "{keying}"
        eviction = "{eviction}"
        """)
    command = [program, "serve", "--config", str(folder / "larder.toml")]
    process = subprocess.Popen(command, stderr=(folder / "log").open("w"))
    try:
        yield process.pid, port, admin
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def metrics(admin):
    values = collections.Counter()
    for line in wait_for(f"http://127.0.0.1:{admin}/metrics").decode().splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] += float(value)
    return values


def summed(values, name, *labels):
    return int(sum(v for k, v in values.items() if k.startswith(name) and all(l in k for l in labels)))


def measure(server, seconds):
    pid, port, admin = server
    url = f"http://127.0.0.1:{port}/one-kilobyte"
    wait_for(url)
    wrk(url, 1)
    before_counts = metrics(admin) if admin else None
    before = cpu_seconds(pid)
    requests = wrk(url, seconds)
    used = cpu_seconds(pid) - before
    if admin:
        after = metrics(admin)
        calls = summed(after, "larder_policy_calls_total", 'hook="keying"') - summed(
            before_counts, "larder_policy_calls_total", 'hook="keying"')
        answered = summed(after, "larder_requests_total") - summed(
            before_counts, "larder_requests_total")
        if calls != answered:
            sys.exit(f"{calls} keying calls for {answered} requests")
    return used / requests * 1e6


def evictions(origin, program, eviction, seconds):
    """A working set four times the memory, drawn by a power law: who chose the victims?"""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        script = folder / "zipf.lua"
        script.write_text("""
            math.randomseed(1)
            request = function()
              local key = math.floor(20000 ^ math.random())
              return wrk.format("GET", "/object/" .. key)
            end""")
        with larder(origin, folder, program, "normalize-query", eviction, memory="8MiB") as server:
            _, port, admin = server
            wait_for(f"http://127.0.0.1:{port}/object/1")
            wrk(f"http://127.0.0.1:{port}", seconds, script)
            after = metrics(admin)
    reasons = {
        reason: summed(after, "larder_evictions_total", f'reason="{reason}"')
        for reason in ["policy", "refused", "native_overrun", "native_fallback", "capacity"]
    }
    batches = summed(after, "larder_policy_calls_total", 'hook="eviction"')
    hits = summed(after, "larder_tier_hits_total")
    lookups = summed(after, "larder_tier_lookups_total")
    return {"eviction_calls": batches, "hit_ratio": round(hits / lookups, 4), **reasons}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    arguments.add_argument("--program", default=str(pathlib.Path(target) / "release/larder"))
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--seconds", type=int, default=3)
    arguments.add_argument("--size", type=int, default=1024)
    options = arguments.parse_args()
    for tool in ["nginx", "wrk", options.program]:
        if not shutil.which(tool):
            sys.exit(f"{tool} is not here; install nginx and wrk, and build with --release")

    Origin.size = options.size
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    origin = server.server_address[1]
    kinds = {
        "nginx": lambda folder: nginx(origin, folder),
        "larder native": lambda folder: larder(
            origin, folder, options.program, "native:default", "native:lru"),
        "larder wasm": lambda folder: larder(
            origin, folder, options.program, "normalize-query", "lru"),
    }
    least = {}
    for number in range(options.rounds):
        for name, start in kinds.items():
            with tempfile.TemporaryDirectory() as folder, start(pathlib.Path(folder)) as running:
                used = measure(running, options.seconds)
                least[name] = min(used, least.get(name, used))
                print(f"round {number + 1}: {name:14} {used:6.2f} us a request", flush=True)
    to_nginx = least["larder wasm"] / least["nginx"]
    to_native = least["larder wasm"] / least["larder native"]
    print(json.dumps({name: round(used, 2) for name, used in least.items()}))
    print(f"larder wasm / nginx:         {to_nginx:.3f} (at most {BOUND_NGINX})")
    print(f"larder wasm / larder native: {to_native:.3f} (at most {BOUND_NATIVE})")
    for eviction in ["lru", "s3-fifo"]:
        print(f"evictions under {eviction}: {json.dumps(evictions(origin, options.program, eviction, 3))}")
    sys.exit(0 if to_nginx <= BOUND_NGINX and to_native <= BOUND_NATIVE else 1)


if __name__ == "__main__":
    main()
