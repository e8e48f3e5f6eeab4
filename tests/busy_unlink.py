"""Runs a command whose file systems remove no file that is open, as some network ones do (Linux, x86-64 and aarch64).

    python tests/busy_unlink.py LOG COMMAND...

Every unlink of the command and of what it starts is looked at before it is done (a seccomp filter that notifies): it
fails with EBUSY while the process has the file open, and LOG gets a line. Exits with the code of the command.
"""

import ctypes
import errno
import fcntl
import os
import platform
import select
import signal
import socket
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
# System calls by number: seccomp, unlink (where there is one), unlinkat.
SECCOMP, UNLINK, UNLINKAT = {"x86_64": (317, 87, 263), "aarch64": (277, None, 35)}[platform.machine()]
NO_NEW_PRIVS, SET_FILTER, NEW_LISTENER = 38, 1, 8
ALLOW, NOTIFY = 0x7FFF0000, 0x7FC00000
# A notice is id, pid, flags, then nr, arch, instruction pointer and six arguments; an answer id, value, error, flags.
NOTICE, ANSWER = "=QII iIQ6Q", "=QqiI"
RECEIVE, SEND = 0xC0502100, 0xC0182101
CONTINUE = 1
AT_FDCWD, AT_REMOVEDIR = 0xFFFFFF9C, 0x200


def listen():
    """Puts the filter on this process, and returns the descriptor that tells of calls."""
    watched = [number for number in (UNLINK, UNLINKAT) if number is not None]
    step = lambda code, yes, no, value: struct.pack("=HBBI", code, yes, no, value)
    steps = [step(0x20, 0, 0, 0)]
    steps += [step(0x15, len(watched) - i, 0, number) for i, number in enumerate(watched)]
    steps += [step(0x06, 0, 0, ALLOW), step(0x06, 0, 0, NOTIFY)]
    filters = ctypes.create_string_buffer(b"".join(steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(filters)))
    if LIBC.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    found = LIBC.syscall(SECCOMP, SET_FILTER, NEW_LISTENER, program)
    if found < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    return found


def text_at(pid, address):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        return memory.read(4096).split(b"\0")[0]


def is_open(pid, number, arguments):
    """Whether what is to be unlinked is open in the process."""
    if number == UNLINKAT:
        directory, path, flags = arguments[0] & 0xFFFFFFFF, arguments[1], arguments[2]
        if flags & AT_REMOVEDIR:
            return False
    else:
        directory, path = AT_FDCWD, arguments[0]
    above = f"/proc/{pid}/cwd" if directory == AT_FDCWD else f"/proc/{pid}/fd/{directory}"
    name = text_at(pid, path)
    if name.startswith(b"/proc/self/"):
        name = name.replace(b"self", str(pid).encode(), 1)
    at = name if name.startswith(b"/") else os.path.join(above.encode(), name)
    try:
        wanted = os.stat(at, follow_symlinks=False)
    except OSError:
        return False
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        try:
            found = os.stat(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


def answer(listener, log):
    notice = bytearray(struct.calcsize(NOTICE))
    fcntl.ioctl(listener, RECEIVE, notice)
    number_of, pid, _, number, _, _, *arguments = struct.unpack(NOTICE, notice)
    refused = is_open(pid, number, arguments)
    if refused:
        print("refused", file=log, flush=True)
    reply = (number_of, 0, -errno.EBUSY, 0) if refused else (number_of, 0, 0, CONTINUE)
    fcntl.ioctl(listener, SEND, struct.pack(ANSWER, *reply))


def main():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    child = os.fork()
    if child == 0:
        ours.close()
        socket.send_fds(theirs, [b"."], [listen()])
        theirs.close()
        os.execvp(sys.argv[2], sys.argv[2:])
    theirs.close()
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    _, [listener], _, _ = socket.recv_fds(ours, 1, 1)
    log = open(sys.argv[1], "w")
    calls = select.poll()
    calls.register(listener, select.POLLIN)
    while True:
        [(_, events)] = calls.poll() or [(listener, 0)]
        if events & select.POLLIN:
            try:
                answer(listener, log)
            except OSError as error:
                # Who called has ended meanwhile.
                if error.errno != errno.ENOENT:
                    raise
        elif events & select.POLLHUP:
            break
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status))


main()
