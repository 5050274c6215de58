"""Import bulkfetch once, and start its command from there as often as one is asked for.

Each run is a fork: a process of its own, with its directory, environment, streams and signals. What
it does not do again is to import, which takes longer than a small export does. Standard input is
a socket of whole messages. Each is a run, as JSON, and brings the three standard streams and
a socket of that run alone: it is told the process's id, the process begins when a byte comes back,
and last it is told how that ended.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
from typing import Any

import anyio

import bulkfetch.__main__
from bulkfetch.cli.app import app

STANDARD_STREAMS = 3
PR_SET_PTRACER, PR_SET_PTRACER_ANY = 0x59616D61, 2**64 - 1


def import_everything() -> None:
    """Import all that the command may import later, and what others import when first used."""
    for module in pkgutil.walk_packages(bulkfetch.__path__, "bulkfetch."):
        if not module.name.startswith("bulkfetch.simulator"):
            importlib.import_module(module.name)
    anyio.run(anyio.sleep, 0)
    with contextlib.suppress(Exception):  # an output is missing
        app(["export"], standalone_mode=False)
    gc.collect()
    gc.freeze()  # no run has to look through all of it


def wait_for_runs(control: socket.socket) -> bool:
    """Fork for each run; return True in the process of a run, and False when there are no more."""
    while True:
        message, descriptors, *_ = socket.recv_fds(control, 2**16, STANDARD_STREAMS + 1)
        if not message:
            return False
        run = json.loads(message)
        if os.fork() == 0:  # who waits for it
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            talk = socket.socket(fileno=descriptors[STANDARD_STREAMS])
            process = os.fork()
            if process == 0:
                control.close()
                begin(run, descriptors, talk)
                return True
            talk.send(os.waitpid(process, 0)[1].to_bytes(4, "little"))
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)


def begin(run: dict[str, Any], descriptors: list[int], talk: socket.socket) -> None:
    """Make this process what `python -m bulkfetch` is as it begins, when it is told to."""
    # Yama, where the kernel has it, lets nobody but ancestors trace a process without this.
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(PR_SET_PTRACER_ANY), 0, 0, 0)
    talk.send(os.getpid().to_bytes(4, "little"))
    talk.recv(1)
    talk.close()
    for number, descriptor in enumerate(descriptors[:STANDARD_STREAMS]):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(run["directory"])
    os.umask(run["umask"])
    os.environ.clear()
    os.environ.update(run["environment"])
    sys.argv = [str(bulkfetch.__main__.__file__), *run["arguments"]]


if __name__ == "__main__":
    import_everything()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if wait_for_runs(socket.socket(fileno=os.dup(0))):
        bulkfetch.__main__.main()
