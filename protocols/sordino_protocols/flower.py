"""Our envelope inside a Flower message.

The one place in `protocols` that imports Flower. A message carries a single opaque `bytes` value:
our signed envelope. To Flower that is three objects (message, record, value), the fewest it knows,
and every object is a request of its own on the network.

No size limit was found below 1 GB (SQLite's own for one value in the SuperLink's database), so a
model travels as one value; `limits.MAX_ENVELOPE_BYTES` stays below it.
"""

from flwr.app import ConfigRecord, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from google.protobuf.message import DecodeError

from sordino_protocols.errors import PeerError

_RECORD = "sordino"
_ENVELOPE = "envelope"


def to_record(envelope: bytes) -> RecordDict:
    """Wrap an envelope as the content of a Flower message."""
    return RecordDict({_RECORD: ConfigRecord({_ENVELOPE: envelope})})


def from_record(content: RecordDict) -> bytes:
    """Unwrap the envelope of a message's content.

    Raises:
        PeerError: anything but exactly one record with exactly one `bytes` value in it.
    """
    if list(content) != [_RECORD]:
        raise PeerError(f"a message must carry exactly the record {_RECORD!r}")
    return _from_value(content[_RECORD])


def envelope_id(tree: ObjectTree) -> str:
    """The object that holds the envelope, in the tree that Flower sends ahead of a message.

    A receiver that fetches this object alone saves two requests of three: what the other two
    objects say is known (the wrapping) or already there (the message's metadata).

    Raises:
        PeerError: the tree is not the chain that `to_record` makes.
    """
    node = tree
    for _ in range(2):
        if len(node.children) != 1:
            raise PeerError("a message must carry exactly one record with one value")
        node = node.children[0]
    if node.children:
        raise PeerError("an envelope has no parts")
    return node.object_id


def from_object(content: bytes) -> bytes:
    """Unwrap the envelope of the object that `envelope_id` names.

    Raises:
        PeerError: the object is not what `to_record` makes.
    """
    try:
        record = ConfigRecord.inflate(content)
    except (ValueError, TypeError, KeyError, DecodeError) as error:
        raise PeerError("an envelope's object cannot be read") from error
    return _from_value(record)


def _from_value(record: object) -> bytes:
    if not isinstance(record, ConfigRecord) or list(record) != [_ENVELOPE]:
        raise PeerError(f"a record must hold exactly the value {_ENVELOPE!r}")
    envelope = record[_ENVELOPE]
    if not isinstance(envelope, bytes):
        raise PeerError("an envelope must be bytes")
    return envelope
