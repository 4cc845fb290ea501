"""Every internal of Flower 1.41.0 that we lean on is there and is as we lean on it.

Another version of Flower must fail here first, with a name, instead of in a run.
"""

import importlib
import inspect
from dataclasses import fields
from importlib.metadata import version

import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.superlink.config_loader import SuperLinkLifespanConfig

from sordino_protocols import flower
from sordino_protocols.errors import PeerError
from sordino_protocols.flower_environment import environment

SIGNATURES = {
    "flwr.app.message:make_message": "metadata content error",
    "flwr.app.message:remove_content_from_message": "message",
    "flwr.cli.build:build_fab_from_files": "files",
    "flwr.common.serde:message_from_proto": "message_proto",
    "flwr.common.serde:message_to_proto": "message",
    "flwr.common.serde:user_config_to_proto": "user_config",
    "flwr.supercore.inflatable.inflatable_object:get_all_nested_objects": "obj",
    "flwr.supercore.inflatable.inflatable_object:get_object_tree": "obj",
    "flwr.supercore.inflatable.inflatable_object:no_object_id_recompute": "",
    "flwr.supercore.primitives.asymmetric:public_key_to_bytes": "public_key",
    "flwr.supernode.fleet_http_client:FleetHttpClient": (
        "base_url interceptors verify timeout retry_invoker"
    ),
    "flwr.supernode.node_auth_http_interceptor:NodeAuthHttpInterceptor": "private_key public_key",
    "flwr.superlink.main:create_app": "config superlink_lifespan_class",
    "flwr.superlink.routers.fleet.node_auth:authenticate_node": "request",
    "flwr.superlink.servicer.control.control_handlers:register_node": "request account state",
    "flwr.superlink.servicer.control.control_handlers:start_run": (
        "request account state fleet_api_type source"
    ),
    "flwr.superlink.servicer.control.control_handlers:stop_run": "request account state",
    "flwr.superlink.servicer.control.control_handlers:unregister_node": "request account state",
    "flwr.superlink.servicer.fleet.fleet_handlers:activate_node": "request state",
    "flwr.superlink.servicer.fleet.fleet_handlers:confirm_message_received": "request state store",
    "flwr.superlink.servicer.fleet.fleet_handlers:deactivate_node": "request state",
    "flwr.superlink.servicer.fleet.fleet_handlers:pull_messages": "request state store",
    "flwr.superlink.servicer.fleet.fleet_handlers:pull_object": "request state",
    "flwr.superlink.servicer.fleet.fleet_handlers:push_messages": "request state",
    "flwr.superlink.servicer.fleet.fleet_handlers:push_object": "request state",
    "flwr.superlink.servicer.fleet.fleet_handlers:send_node_heartbeat": "request state",
}


def test_flower_is_the_version_that_was_read() -> None:
    assert version("flwr") == "1.41.0"


@pytest.mark.parametrize(("name", "parameters"), SIGNATURES.items())
def test_an_internal_function_takes_what_we_give_it(name: str, parameters: str) -> None:
    module, _, attribute = name.partition(":")
    signature = inspect.signature(getattr(importlib.import_module(module), attribute))
    assert list(signature.parameters) == parameters.split()


def test_the_superlink_is_configured_by_these_fields() -> None:
    names = {field.name for field in fields(SuperLinkLifespanConfig)}
    assert {"isolation", "superexec_auth_secret", "enable_supernode_auth", "database"} <= names
    assert len(names) == 22


def test_the_http_grid_has_the_client_and_node_that_we_use() -> None:
    grid = importlib.import_module("flwr.superlink.grid").HttpGrid
    assert isinstance(inspect.getattr_static(grid, "_runtime_client"), property)
    assert "self.node = Node(" in inspect.getsource(grid.__init__)


def test_the_states_keep_their_engine_where_we_set_the_timeout() -> None:
    mixin = importlib.import_module("flwr.supercore.sql_mixin").SqlMixin
    assert "self._engine" in inspect.getsource(mixin.__init__)


def test_a_record_is_two_objects_and_the_envelope_is_in_the_inner_one() -> None:
    objects = importlib.import_module("flwr.supercore.inflatable.inflatable_object")
    record = flower.to_record(b"envelope")
    nested = objects.get_all_nested_objects(record)
    leaf = next(iter(nested.values()))
    assert len(nested) == 2
    assert flower.from_object(leaf.deflate()) == b"envelope"


@pytest.mark.parametrize("envelope", [b"", b"x", bytes(range(256)) * 512])
def test_an_envelope_survives_the_wrapping(envelope: bytes) -> None:
    assert flower.from_record(flower.to_record(envelope)) == envelope


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"other": ConfigRecord({"envelope": b"x"})}),
        RecordDict({"sordino": ConfigRecord({"envelope": "text"})}),
        RecordDict({"sordino": ConfigRecord({"other": b"x"})}),
        RecordDict({"sordino": ConfigRecord({"envelope": b"x", "more": b"y"})}),
        RecordDict({"sordino": ConfigRecord({"envelope": b"x"}), "more": ConfigRecord()}),
    ],
)
def test_refuses_content_that_is_not_exactly_one_envelope(content: RecordDict) -> None:
    with pytest.raises(PeerError):
        flower.from_record(content)


@pytest.mark.parametrize("content", [b"", b"ConfigRecord", b"\x00" * 40, b"Array  3\x00abc"])
def test_refuses_an_object_that_is_not_an_envelope(content: bytes) -> None:
    with pytest.raises(PeerError):
        flower.from_object(content)


def test_refuses_an_object_tree_of_another_shape() -> None:
    tree = importlib.import_module("flwr.proto.message_pb2").ObjectTree
    leaf = tree(object_id="leaf")
    chain = tree(object_id="message", children=[tree(object_id="record", children=[leaf])])
    assert flower.envelope_id(chain) == "leaf"
    for wrong in (
        leaf,
        tree(object_id="message", children=[leaf]),
        tree(object_id="message", children=[chain]),
        tree(object_id="message", children=[tree(object_id="r", children=[leaf, leaf])]),
    ):
        with pytest.raises(PeerError):
            flower.envelope_id(wrong)


def test_the_environment_silences_flower() -> None:
    variables = environment()
    assert variables["FLWR_TELEMETRY_ENABLED"] == "0"
    assert variables["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert "127.0.0.1" in variables["NO_PROXY"]


def test_the_state_looks_for_dead_apps_in_the_function_that_we_slow_down() -> None:
    state = importlib.import_module("flwr.server.superlink.linkstate.sql_linkstate").SqlLinkState
    assert list(inspect.signature(state._cleanup_expired_task_tokens).parameters) == ["self"]
    assert "self._cleanup_expired_task_tokens()" in inspect.getsource(state.get_run_status)


def test_the_superlinks_layers_are_the_ones_that_were_sorted() -> None:
    layers = importlib.import_module("flwr.superlink.main")._get_middleware()
    assert [each.cls.__name__ for each in layers] == [
        "ControlSensitiveResponseMiddleware",
        "BaseHTTPMiddleware",
        "ControlAuthenticationMiddleware",
        "ControlLicenseMiddleware",
        "ProtobufTranslationMiddleware",
        "RuntimeTracingMiddleware",
        "ControlEventLogMiddleware",
        "NodeAuthMiddleware",
        "FleetEventLogMiddleware",
    ]
    assert layers[1].kwargs["dispatch"].__name__ == "http_error_translator"
