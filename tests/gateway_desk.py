"""A gateway that serves on loopback, with the keys and certificates of a caller."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from federation import SUBMITTER
from server_host import Host, server_host

from sordino.profile import Profile, load_profile
from sordino_protocols.signing import Signer, load_signer
from sordino_server.config import ServerConfig
from sordino_server.gateway import serve_gateway
from sordino_server.queue import Queue


@dataclass(frozen=True, slots=True)
class Desk:
    """A gateway that serves, and what a caller needs."""

    host: Host
    port: int
    profile: Profile
    submitter: Signer
    server: grpc.Server

    def channel(self, credentials: grpc.ChannelCredentials) -> grpc.Channel:
        options = (("grpc.enable_http_proxy", 0),)
        return grpc.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options)


@contextmanager
def open_desk(directory: Path) -> Iterator[Desk]:
    with server_host(directory) as host:
        gateway = replace_address(host.config, "127.0.0.1:0")
        queue = Queue(gateway, host.superlink, host.runs)
        server, port = serve_gateway(gateway, host.superlink, queue, host.runs)
        profile = load_profile(host.profile).model_copy(update={"gateway": f"127.0.0.1:{port}"})
        submitter = load_signer(profile.signing_key, SUBMITTER)
        try:
            yield Desk(host, port, profile, submitter, server)
        finally:
            server.stop(grace=None).wait()


def replace_address(config: ServerConfig, address: str) -> ServerConfig:
    return replace(config, gateway=config.gateway.model_copy(update={"address": address}))
