"""`sordino.site.v1.Admin`: where people at the site see what waits for them, and decide.

On a socket of its own, which the link cannot open. Who opens it may look; what counts as a decision
is a signature. People here may be told why something failed, in words.
"""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

import grpc

from sordino_client.approval_desk import ApprovalDesk
from sordino_protocols.approval import Approval, ApprovalSubject, read_approval
from sordino_protocols.errors import (
    AuthenticationError,
    InputError,
    IntegrityError,
    NotFoundError,
    SordinoError,
)
from sordino_protocols.site_pb2 import (
    DecideReply,
    DecideRequest,
    ListApprovalsReply,
    ListApprovalsRequest,
    MetricsReply,
    MetricsRequest,
    ShowApprovalReply,
    ShowApprovalRequest,
)
from sordino_protocols.site_pb2_grpc import AdminServicer

_Answer = TypeVar("_Answer")

STATUS_OF: Mapping[type[SordinoError], grpc.StatusCode] = MappingProxyType(
    {
        InputError: grpc.StatusCode.INVALID_ARGUMENT,
        NotFoundError: grpc.StatusCode.NOT_FOUND,
        AuthenticationError: grpc.StatusCode.UNAUTHENTICATED,
        IntegrityError: grpc.StatusCode.DATA_LOSS,
    }
)
"""How errors travel to the command, which makes the same errors of them again."""


class AdminService(AdminServicer):
    """`sordino.site.v1.Admin`."""

    def __init__(self, desk: ApprovalDesk, *, site: str, local_metrics: Callable[[], str]) -> None:
        """Serve people at the site.

        Args:
            desk: what waits for them.
            site: its name.
            local_metrics: all metrics, those too that depend on records.
        """
        self._desk = desk
        self._site = site
        self._local_metrics = local_metrics

    def ListApprovals(  # noqa: N802
        self, request: ListApprovalsRequest, context: grpc.ServicerContext
    ) -> ListApprovalsReply:
        """Runs that were put before people."""
        listed = _explained(context, lambda: self._desk.listed(everything=request.all))
        return ListApprovalsReply(json=json.dumps(listed))

    def ShowApproval(  # noqa: N802
        self, request: ShowApprovalRequest, context: grpc.ServicerContext
    ) -> ShowApprovalReply:
        """One of them."""
        shown = _explained(context, lambda: self._desk.shown(request.run_id))
        return ShowApprovalReply(json=json.dumps(shown))

    def Decide(self, request: DecideRequest, context: grpc.ServicerContext) -> DecideReply:  # noqa: N802
        """A person's yes or no."""
        return _explained(context, lambda: self._decide(request))

    def Metrics(self, _: MetricsRequest, context: grpc.ServicerContext) -> MetricsReply:  # noqa: N802
        """Metrics of every release class: here, and nowhere else, those that depend on records."""
        return MetricsReply(text=_explained(context, self._local_metrics))

    def _decide(self, request: DecideRequest) -> DecideReply:
        standing = self._desk.decide(self._approval(request), reason=request.reason)
        missing = self._desk.missing(request.run_id, standing)
        return DecideReply(state=standing.state, missing=missing)

    def _approval(self, request: DecideRequest) -> Approval:
        subject = ApprovalSubject(
            self._site, request.run_id, request.job_digest, request.policy_sha256
        )
        facts = {
            "approver": request.approver,
            "decision": request.decision,
            "at": request.at,
            "signature": request.signature,
        }
        return read_approval(facts, subject)


def _explained(context: grpc.ServicerContext, answer: Callable[[], _Answer]) -> _Answer:
    """The answer, or the error's own words; a bug stays without words, as gRPC would quote it."""
    try:
        return answer()
    except SordinoError as error:
        code = STATUS_OF.get(type(error), grpc.StatusCode.FAILED_PRECONDITION)
        context.abort(code, str(error))
    except Exception as error:  # noqa: BLE001  # the boundary: no library's text leaves the vault
        context.abort(grpc.StatusCode.INTERNAL, type(error).__name__)
    raise AssertionError("abort raises")
