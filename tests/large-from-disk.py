#!/usr/bin/env python3
"""One large object from disk: nginx proxy_cache with and without sendfile, and Larder.

One origin, one machine, in turn within one run. Each server fetches the object once, and then
answers it `--rounds` times from its disk to a client that throws it away; of each server the
quickest answer is quoted, and of Larder how much its resident memory grew through fill and hits.
Needs nginx (the Debian package) and a release build:

    cargo build --release -p larder && tests/large-from-disk.py

Exit code 1 if a bound is missed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
MIB = 1 << 20
# Throughput against nginx, and growth of resident memory.
BOUND_SENDFILE = 0.7
BOUND_COPYING = 1.0
BOUND_MEMORY = 32 * MIB


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, path):
    deadline = time.monotonic() + 30
    while True:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).read()
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f"nothing answers at port {port}")
            time.sleep(0.05)


def resident(pid):
    pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def running(command, log):
    process = subprocess.Popen(command, stderr=log.open("w"))
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def nginx_conf(folder, origin, copying, sending):
    user = "user root;" if os.getuid() == 0 else ""
    cached = """
        location / {
          proxy_pass http://127.0.0.1:%d; proxy_cache z; proxy_cache_valid 200 10m;
          proxy_max_temp_file_size 8192m;
        }""" % origin
    return f"""
        {user} worker_processes 2; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
        events {{ worker_connections 1024; }}
        http {{
          access_log off;
          proxy_cache_path {folder}/cache keys_zone=z:10m max_size=8g;
          client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
          fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
          server {{
            listen 127.0.0.1:{origin}; sendfile on; root {folder}/root;
            add_header Cache-Control max-age=600;
          }}
          server {{ listen 127.0.0.1:{sending}; sendfile on; {cached} }}
          server {{ listen 127.0.0.1:{copying}; sendfile off; {cached} }}
        }}"""


def fetch(port, length):
    """Reads the object as fast as it comes; the seconds that took."""
    room = bytearray(MIB)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.monotonic()
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        received = connection.recv_into(room)
        head = bytes(room[:received]).split(b"\r\n\r\n")[0]
        if not head.startswith(b"HTTP/1.1 200"):
            sys.exit(f"port {port} answered {head[:200]!r}")
        received -= len(head) + 4
        while count := connection.recv_into(room):
            received += count
        took = time.monotonic() - began
    if received != length:
        sys.exit(f"port {port} answered {received} bytes of {length}")
    return took


def digest(port):
    hasher = hashlib.blake2b()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/large") as answer:
        while piece := answer.read(MIB):
            hasher.update(piece)
    return hasher.digest()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    arguments.add_argument("--program", default=str(pathlib.Path(target) / "release/larder"))
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--mebibytes", type=int, default=1024)
    options = arguments.parse_args()
    for tool in ["nginx", options.program]:
        if not shutil.which(tool):
            sys.exit(f"{tool} is not here; install nginx, and build with --release")
    length = options.mebibytes * MIB
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "root").mkdir()
        folder.chmod(0o755)
        block = os.urandom(MIB)
        with (folder / "root/large").open("wb") as large:
            for number in range(options.mebibytes):
                large.write(number.to_bytes(8, "big") + block[8:])
        (folder / "root/small").write_bytes(b"small")
        origin, copying, sending, port, admin = (free_port() for _ in range(5))
        (folder / "nginx.conf").write_text(nginx_conf(folder, origin, copying, sending))
        nginx = ["nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        larder = [
            options.program, "serve", "--origin", f"http://127.0.0.1:{origin}",
            "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}",
            "--memory", "16MiB", "--disk", "4GiB", "--data-dir", str(folder / "data"),
        ]
        with running(nginx, folder / "nginx.log"), running(larder, folder / "larder.log") as edge:
            wait_for(origin, "/small")
            wait_for(port, "/small")
            wait_for(admin, "/readyz")
            before = resident(edge.pid)
            most = before
            servers = {"nginx, sendfile": sending, "nginx, copying": copying, "larder": port}
            for server in servers.values():
                fetch(server, length)
            urllib.request.urlopen(f"http://127.0.0.1:{admin}/v1/flush", data=b"").read()
            least = {}
            for _ in range(options.rounds):
                for name, server in servers.items():
                    took = fetch(server, length)
                    least[name] = min(took, least.get(name, took))
                    most = max(most, resident(edge.pid))
            if digest(port) != digest(origin):
                sys.exit("larder answered other bytes than the origin")
            stats = json.loads(wait_for(admin, "/v1/stats"))
    disk = next(tier for tier in stats["tiers"] if tier["name"] == "disk")
    if disk["hits"] < options.rounds:
        sys.exit(f"larder did not answer from disk: {disk}")
    to_sendfile = least["nginx, sendfile"] / least["larder"]
    to_copying = least["nginx, copying"] / least["larder"]
    print(json.dumps({name: round(took, 3) for name, took in least.items()}))
    print(f"throughput against nginx with sendfile:    {to_sendfile:.2f} (at least {BOUND_SENDFILE})")
    print(f"throughput against nginx without sendfile: {to_copying:.2f} (at least {BOUND_COPYING})")
    print(f"resident memory grew by {(most - before) / MIB:.1f} MiB (at most {BOUND_MEMORY // MIB})")
    met = to_sendfile >= BOUND_SENDFILE and to_copying >= BOUND_COPYING
    sys.exit(0 if met and most - before <= BOUND_MEMORY else 1)


if __name__ == "__main__":
    main()
