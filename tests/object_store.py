"""A real S3 API server on loopback for tests, with a bucket; gone when the test is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx
from moto.server import ThreadedMotoServer

BUCKET = "wards"
SECRET = "hunter2-secret"
REGION = "eu-central-1"


@dataclass(frozen=True, slots=True)
class ObjectServer:
    """A running server.

    Attributes:
        url: its endpoint.
    """

    url: str

    def make_bucket(self) -> None:
        """Start with an empty bucket: what the server knows outlives it in this process."""
        httpx.post(f"{self.url}/moto-api/reset").raise_for_status()
        region = {"LocationConstraint": REGION}
        self._client().create_bucket(Bucket=BUCKET, CreateBucketConfiguration=region)

    def put(self, key: str, content: bytes) -> None:
        """Store an object."""
        self._client().put_object(Bucket=BUCKET, Key=key, Body=content)

    def write_options(self, path: Path) -> Path:
        """An options file that leads here."""
        path.touch(mode=0o600)
        path.write_text(
            f'endpoint_url = "{self.url}"\nkey = "reader"\nsecret = "{SECRET}"\n'
            f'region = "{REGION}"\n'
        )
        return path

    def _client(self) -> "boto3.client":
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="reader",
            aws_secret_access_key=SECRET,
        )


@contextmanager
def object_server() -> Iterator[ObjectServer]:
    """A server with an empty bucket on a free port."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        running = ObjectServer(f"http://{host}:{port}")
        running.make_bucket()
        yield running
    finally:
        server.stop()
