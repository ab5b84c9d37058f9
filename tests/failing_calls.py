"""A program whose calls to the system on files can be made to fail or to take long, and to work
again, while it runs.

The system asks us before each of these calls (seccomp, user notification) and runs on, fails or
waits as we say. All other calls, and so all threads that make no such call, are left alone: unlike
under a debugger, nothing else becomes slower.

Linux on x86-64 or arm64. No privileges are needed.
"""

import ctypes
import errno
import fcntl
import heapq
import os
import platform
import select
import signal
import socket
import struct
import sys
import threading
import time

# Numbers of the calls: asm/unistd_64.h, asm-generic/unistd.h.
NUMBERS = {
    "x86_64": {
        "seccomp": 317, "pread64": 17, "pwrite64": 18, "pwritev": 296, "fsync": 74,
        "fdatasync": 75, "ftruncate": 77, "fallocate": 285, "rename": 82,
    },
    "aarch64": {
        "seccomp": 277, "pread64": 67, "pwrite64": 68, "pwritev": 70, "fsync": 82,
        "fdatasync": 83, "ftruncate": 46, "fallocate": 47, "rename": 38,
    },
}[platform.machine()]
CALLS = [name for name in NUMBERS if name != "seccomp"]

# linux/seccomp.h, linux/prctl.h, linux/filter.h
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1
NOTIFICATION = struct.Struct("=QIIiIQ6Q")
ANSWER = struct.Struct("=QqiI")
SECCOMP_IOCTL_NOTIF_RECV = 3 << 30 | NOTIFICATION.size << 16 | ord("!") << 8
SECCOMP_IOCTL_NOTIF_SEND = 3 << 30 | ANSWER.size << 16 | ord("!") << 8 | 1
LOAD_NUMBER, IF_EQUAL, RETURN = 0x20, 0x15, 0x06


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]


def watch_own_calls():
    """Has the calls of this process asked about from now on: the descriptor that is asked."""
    code = struct.pack("=HBBI", LOAD_NUMBER, 0, 0, 0)
    for at, name in enumerate(CALLS):
        code += struct.pack("=HBBI", IF_EQUAL, len(CALLS) - at, 0, NUMBERS[name])
    code += struct.pack("=HBBI", RETURN, 0, 0, SECCOMP_RET_ALLOW)
    code += struct.pack("=HBBI", RETURN, 0, 0, SECCOMP_RET_USER_NOTIF)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    rules = Filter(len(code) // 8, code)
    arguments = SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, ctypes.byref(rules)
    listener = libc.syscall(NUMBERS["seccomp"], *arguments)
    if listener < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"seccomp: {os.strerror(number)}")
    return listener


class Program:
    """A running program. `fail` and `delay` say what becomes of its calls from then on."""

    def __init__(self, command, environment, folder, log):
        ours, its = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.chdir(folder)
                os.dup2(log.fileno(), 2)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                socket.send_fds(its, [b"."], [watch_own_calls()])
                os.execve(command[0], command, environment)
            finally:
                os._exit(127)
        its.close()
        _, (self.listener, *_), _, _ = socket.recv_fds(ours, 1, 1)
        ours.close()
        self.lock = threading.Lock()
        self.rule = {}
        self.waiting = []
        self.met = 0
        self.halted = self.seen_halted = False
        self.wake, self.woken = os.pipe()
        self.over = False
        self.thread = threading.Thread(target=self.answer_all, daemon=True)
        self.thread.start()

    def fail(self, calls, number):
        """`calls` fail with this error, and all others work."""
        self.set({name: (number, 0) for name in calls})

    def delay(self, calls, seconds):
        """`calls` take so much longer, and all others work as ever."""
        self.set({name: (0, seconds) for name in calls})

    def work(self):
        """All calls work."""
        self.set({})

    def set(self, rule):
        """Has `rule` hold from now on. Calls that wait go on."""
        with self.lock:
            self.rule = {NUMBERS[name]: does for name, does in rule.items()}
        os.write(self.woken, b".")

    def was_halted(self):
        """Whether somebody has halted it (SIGSTOP) since this was last asked, or halts it now."""
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if pid == 0:
                break
            if not os.WIFSTOPPED(status) and not os.WIFCONTINUED(status):
                sys.exit(f"the program has ended, with {status}")
            self.halted = os.WIFSTOPPED(status)
            self.seen_halted = True
        seen, self.seen_halted = self.seen_halted, self.halted
        return seen

    def stop(self):
        """Ends it; whether it ended well."""
        self.work()
        os.kill(self.pid, signal.SIGTERM)
        _, status = os.waitpid(self.pid, 0)
        self.over = True
        os.write(self.woken, b".")
        self.thread.join()
        for descriptor in (self.listener, self.wake, self.woken):
            os.close(descriptor)
        return status == 0

    def answer_all(self):
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        poll.register(self.wake, select.POLLIN)
        while not self.over:
            wait = None
            if self.waiting:
                wait = max(0, self.waiting[0][0] - time.monotonic()) * 1e3
            ready = dict(poll.poll(wait))
            if self.wake in ready:
                os.read(self.wake, 4096)
                while self.waiting:
                    self.reply(heapq.heappop(self.waiting)[1], 0)
            if ready.get(self.listener, 0) & select.POLLIN:
                self.meet()
            while self.waiting and self.waiting[0][0] <= time.monotonic():
                self.reply(heapq.heappop(self.waiting)[1], 0)

    def meet(self):
        """Answers one call, or has it wait."""
        asked = bytearray(NOTIFICATION.size)
        try:
            fcntl.ioctl(self.listener, SECCOMP_IOCTL_NOTIF_RECV, asked)
        except OSError as error:
            # Who asked is gone, or was interrupted.
            if error.errno in (errno.ENOENT, errno.EINTR):
                return
            raise
        call, _, _, number, *_ = NOTIFICATION.unpack(asked)
        with self.lock:
            error, seconds = self.rule.get(number, (0, 0))
        self.met += error != 0 or seconds != 0
        if seconds:
            heapq.heappush(self.waiting, (time.monotonic() + seconds, call))
        else:
            self.reply(call, error)

    def reply(self, call, error):
        flags = 0 if error else SECCOMP_USER_NOTIF_FLAG_CONTINUE
        try:
            fcntl.ioctl(self.listener, SECCOMP_IOCTL_NOTIF_SEND, ANSWER.pack(call, 0, -error, flags))
        except OSError as problem:
            if problem.errno != errno.ENOENT:
                raise
