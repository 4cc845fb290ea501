"""An HTTP server on an event loop of ours, which says when it serves."""

import socket
import threading

import uvicorn


class HttpServer(uvicorn.Server):
    """A server that says when it serves, or that it will not.

    Attributes:
        settled: set once it serves; whoever runs it sets it too when it has ended.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve, and say so; uvicorn calls this."""
        await super().startup(sockets)
        self.settled.set()

    def disconnect_all(self) -> None:
        """End every connection, each as soon as nothing is under way on it."""
        for connection in list(self.server_state.connections):
            connection.shutdown()
