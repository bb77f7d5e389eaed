"""The kernel of a headless execution, without two faults of the one that papermill starts by default.

jupyter_client 8.10 sends on the shell socket past its event loop. If a reply is just coming in, its wake-up
is lost (see ZMQ_FD in zmq_getsockopt(3)), and the wait for it never ends. nbclient sends so whenever an
Output widget changes. And TCP ports are chosen before the kernel binds them: of two executions at a time,
one can take the other's.
"""

import os
import secrets
import tempfile
import time
from pathlib import Path
from queue import Empty

import zmq
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from traitlets import Type, default

LOOK_SECONDS = 1.0  # how long a message can wait whose wake-up was lost


class Channel(AsyncZMQSocketChannel):
    """A channel that looks by itself, every second, whether a message came."""

    async def get_msg(self, timeout: float | None = None) -> dict:
        """The next message; queue.Empty if none came in `timeout` seconds (None: wait for ever)."""
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return await super().get_msg(min(left, LOOK_SECONDS))
            except Empty:
                if left <= LOOK_SECONDS:
                    raise


class Client(AsyncKernelClient):
    """A client that receives through `Channel`."""

    shell_channel_class = Type(Channel)
    iopub_channel_class = Type(Channel)


class Manager(AsyncKernelManager):
    """Starts a kernel that listens on Unix sockets named like its connection file, or on TCP where that cannot be."""

    client_factory = Type(Client)

    @default("transport")
    def _transport(self) -> str:
        fits = len(os.fsencode(f"{self.connection_file}-ipc-5")) <= zmq.IPC_PATH_MAX_LEN
        return "ipc" if os.name == "posix" and fits else "tcp"

    @default("connection_file")
    def _connection_file(self) -> str:
        return str(Path(tempfile.gettempdir()) / f"arithlab-{os.getpid()}-{secrets.token_hex(4)}.json")
