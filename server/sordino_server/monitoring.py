"""What monitoring asks of the server: `/metrics`, `/livez`, `/readyz`.

Nothing here changes anything, and nothing here knows more than metrics and checks say.
"""

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sordino_protocols.health import Checks, is_ready, readiness


def monitoring_app(registry: CollectorRegistry, checks: Checks) -> Starlette:
    """The three paths.

    `/livez` says that this process answers, and no more: whoever restarts by it must not restart
    because a disk is full. `/readyz` says 503 while a check fails, with each check and its reason.
    """

    def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    def ready(_: Request) -> Response:
        found = checks.evaluate()
        status = 200 if is_ready(found) else 503
        return Response(readiness(found), status_code=status, media_type="application/json")

    # Plain functions: Starlette runs them on threads, and a slow one holds up no other.
    return Starlette(
        routes=[
            Route("/metrics", metrics, methods=["GET"]),
            Route("/readyz", ready, methods=["GET"]),
            Route("/livez", live, methods=["GET"]),
        ]
    )


async def live(_: Request) -> Response:
    """Answered on the event loop itself: it needs no free thread."""
    return JSONResponse({"live": True})
