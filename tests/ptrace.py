"""Run a child and kill it before its n-th system call: what a crash at any moment can leave behind.

Between two system calls a process changes nothing that outlives it, so killing it once before each
of them covers every moment at which it can be killed. Only the calls between `begin` and `end` are
counted: starting the interpreter is not what is tested. Only the thread that calls them is traced;
a kill ends all threads. Linux, any architecture (kernel 5.3 and newer say what a call is).
"""

import contextlib
import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

# linux/ptrace.h
_TRACEME = 0
_SYSCALL = 24
_SETOPTIONS = 0x4200
_GET_SYSCALL_INFO = 0x420E
_TRACESYSGOOD = 1
_EXITKILL = 1 << 20
_ENTRY = 1
_SYSCALL_STOP = signal.SIGTRAP | 0x80

# Descriptors that nobody has: closing one fails, changes nothing, and is seen by the tracer.
_BEGIN, _END = 0x5EED0001, 0x5EED0002


class ForbiddenError(Exception):
    """The kernel does not let this process trace its children."""


class _SyscallInfo(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction", ctypes.c_uint64),
        ("stack", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
        ("more", ctypes.c_uint64 * 2),
    )


@dataclass(frozen=True, slots=True)
class Traced:
    """How a traced child ended.

    Attributes:
        calls: system calls that it made, or was about to make, between `begin` and `end`.
        lived: whether it came to its own end.
        last: the kernel's number of the call that it was killed before; None if it lived.
    """

    calls: int
    lived: bool
    last: int | None


def begin() -> None:
    """Called by the child: count from here."""
    _mark(_BEGIN)


def end() -> None:
    """Called by the child: count no further, and let it live."""
    _mark(_END)


def run_traced(work: Callable[[], None], *, kill_before: int | None = None) -> Traced:
    """Run `work` in a child, and kill that with SIGKILL before its n-th call that counts.

    Raises:
        ForbiddenError: the kernel forbids tracing.
        RuntimeError: the child failed by itself.
    """
    child = os.fork()
    if child == 0:
        _be_traced(work)
    try:
        return _follow(child, kill_before)
    except BaseException:
        # It may be gone, and waited for, already.
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise


def why_forbidden() -> str | None:
    """Why nothing can be traced here; None where it can."""
    try:
        traced = run_traced(_make_one_call)
    except ForbiddenError as error:
        return str(error)
    return None if traced == Traced(1, lived=True, last=None) else "the kernel shows no calls"


def _follow(child: int, kill_before: int | None) -> Traced:
    _, status = os.waitpid(child, 0)
    if not os.WIFSTOPPED(status):
        raise ForbiddenError("the kernel forbids ptrace")
    _ptrace(_SETOPTIONS, child, 0, _TRACESYSGOOD | _EXITKILL)
    calls, counts, passed_on = 0, False, 0
    while True:
        _ptrace(_SYSCALL, child, 0, passed_on)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            break
        stopped = os.WSTOPSIG(status)
        passed_on = 0 if stopped == _SYSCALL_STOP else stopped
        call = _call(child) if stopped == _SYSCALL_STOP else None
        if call is None:
            continue
        if call.arguments[0] in {_BEGIN, _END}:
            counts = call.arguments[0] == _BEGIN
        elif counts:
            calls += 1
            if calls == kill_before:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return Traced(calls, lived=False, last=int(call.number))
    if status != 0:
        raise RuntimeError(f"the child failed by itself, status {status}")
    return Traced(calls, lived=True, last=None)


def _call(child: int) -> _SyscallInfo | None:
    """The call that a stopped child is about to make; None when it comes back from one."""
    info = _SyscallInfo()
    _ptrace(_GET_SYSCALL_INFO, child, ctypes.sizeof(info), ctypes.addressof(info))
    return info if info.op == _ENTRY else None


def _be_traced(work: Callable[[], None]) -> None:
    """The child's whole life."""
    try:
        _ptrace(_TRACEME, 0, 0, 0)
        signal.raise_signal(signal.SIGSTOP)
        work()
    except BaseException:  # noqa: BLE001 (the child must never go on as the parent)
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


def _ptrace(request: int, child: int, address: int, data: int) -> None:
    if _library().ptrace(request, child, address, data) < 0:
        code = ctypes.get_errno()
        if code in {errno.EPERM, errno.EIO, errno.ENOSYS, errno.EACCES}:
            raise ForbiddenError(f"the kernel forbids ptrace: {os.strerror(code)}")
        raise OSError(code, os.strerror(code))


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    library.ptrace.restype = ctypes.c_long
    return library


def _mark(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _make_one_call() -> None:
    begin()
    os.getppid()
    end()
