"""Flower's application as our SuperLink runs it: made, and cut down to what is asked of it.

Always: process isolation with a secret, node authentication, a database on disk, no installation of
what a bundle asks for.
"""

import logging
from pathlib import Path

from fastapi import FastAPI
from flwr.common.constant import ISOLATION_MODE_PROCESS, TRANSPORT_TYPE_GRPC_RERE
from flwr.supercore.protobuf.translation import ProtobufTranslationMiddleware
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app
from starlette.middleware.base import BaseHTTPMiddleware

from sordino_server.listeners import LOOPBACK

_NEEDED_LAYERS = (BaseHTTPMiddleware, ProtobufTranslationMiddleware)


class _WithoutData(logging.Filter):
    """Drops what a failed query carried from Flower's log: models, of any size."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, dict):
            record.msg = {"query": record.msg.get("query")}
        return True


def quiet_flower() -> None:
    """Keep Flower's log to warnings, and models out of it. May be called again."""
    logger = logging.getLogger("flwr")
    logger.setLevel(logging.WARNING)
    if not any(isinstance(each, _WithoutData) for each in logger.filters):
        logger.addFilter(_WithoutData())


def make_app(database: Path, secret: bytes) -> FastAPI:
    """Flower's application: its state is in `app.state.linkstate_factory`.

    Args:
        database: the file that it keeps everything in.
        secret: what SuperExec shows to be let in.
    """
    config = SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host=LOOPBACK,
        port=0,
        insecure=False,
        certificates=None,
        superexec_auth_secret=secret,
        authn_plugin=NoOpControlAuthnPlugin(),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=None,
        ssl_certfile=None,
        ssl_keyfile=None,
        database=str(database),
        isolation=ISOLATION_MODE_PROCESS,
        runtime_dependency_install=False,
    )
    app = create_app(config, SuperLinkLifespan)
    # Nine layers wrap every request; seven of them only look at paths that no gate lets through
    # (control) or that never come this way (fleet). They were a fifth of the server's time.
    app.user_middleware = [
        each
        for each in app.user_middleware
        if each.cls in _NEEDED_LAYERS  # type: ignore[comparison-overlap]  # Starlette types a factory
    ]
    return app
