"""The end of the admin socket that people's commands hold."""

import json
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import grpc

from sordino_client.admin_service import STATUS_OF
from sordino_protocols.approval import Approval
from sordino_protocols.errors import InputError, PeerError, UnreachableError
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

_SERVICE = "/sordino.site.v1.Admin"
_SECONDS = 30.0

_Request = TypeVar("_Request")
_Reply = TypeVar("_Reply")


class AdminClient:
    """A connection to a vault's admin socket. A context manager."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        options = (("grpc.enable_http_proxy", 0),)
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=options)
        unary = self._channel.unary_unary
        self._list: grpc.UnaryUnaryMultiCallable[ListApprovalsRequest, ListApprovalsReply] = unary(
            f"{_SERVICE}/ListApprovals",
            request_serializer=ListApprovalsRequest.SerializeToString,
            response_deserializer=ListApprovalsReply.FromString,
        )
        self._show: grpc.UnaryUnaryMultiCallable[ShowApprovalRequest, ShowApprovalReply] = unary(
            f"{_SERVICE}/ShowApproval",
            request_serializer=ShowApprovalRequest.SerializeToString,
            response_deserializer=ShowApprovalReply.FromString,
        )
        self._metrics: grpc.UnaryUnaryMultiCallable[MetricsRequest, MetricsReply] = unary(
            f"{_SERVICE}/Metrics",
            request_serializer=MetricsRequest.SerializeToString,
            response_deserializer=MetricsReply.FromString,
        )
        self._decide: grpc.UnaryUnaryMultiCallable[DecideRequest, DecideReply] = unary(
            f"{_SERVICE}/Decide",
            request_serializer=DecideRequest.SerializeToString,
            response_deserializer=DecideReply.FromString,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()

    def listed(self, *, everything: bool) -> list[dict[str, object]]:
        """Runs that were put before people; those that wait, or all.

        Raises:
            UnreachableError: no vault answers.
        """
        found = json.loads(self._ask(self._list, ListApprovalsRequest(all=everything)).json)
        return [each for each in found if isinstance(each, dict)]

    def shown(self, run_id: str) -> dict[str, object]:
        """All that is known of one of them.

        Raises:
            NotFoundError: nobody was asked about it.
            UnreachableError: no vault answers.
        """
        shown = json.loads(self._ask(self._show, ShowApprovalRequest(run_id=run_id)).json)
        if not isinstance(shown, dict):
            raise PeerError("the vault answered something that is no JSON object")
        return shown

    def metrics(self) -> str:
        """All metrics in Prometheus' text format, those too that depend on records.

        Raises:
            UnreachableError: no vault answers.
        """
        return self._ask(self._metrics, MetricsRequest()).text

    def decide(self, approval: Approval, *, reason: str) -> DecideReply:
        """Hand in a decision.

        Raises:
            SordinoError: it does not count; says why.
        """
        subject = approval.subject
        request = DecideRequest(
            run_id=subject.run_id,
            job_digest=subject.job_digest,
            policy_sha256=subject.policy_sha256,
            approver=approval.approver,
            decision=approval.decision,
            at=approval.at,
            signature=approval.signature,
            reason=reason,
        )
        return self._ask(self._decide, request)

    def _ask(
        self, call: "grpc.UnaryUnaryMultiCallable[_Request, _Reply]", request: _Request
    ) -> _Reply:
        try:
            return call(request, timeout=_SECONDS)
        except grpc.RpcError as error:
            code, words = error.code(), error.details() or ""
        if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
            raise UnreachableError(
                f"{self._socket}: no vault answers; is it running, and may you open its socket?"
            )
        for kind, known in STATUS_OF.items():
            if known is code:
                raise kind(words)
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            raise InputError(words)
        raise PeerError(f"the vault failed with {code.name}")
