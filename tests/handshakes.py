"""TLS handshakes in memory: two contexts, no socket, no thread."""

import ssl


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, *, name: str) -> None:
    """Connect a client to a server that it calls `name`.

    Raises:
        ssl.SSLError: one of the two does not want the other.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    # Hello; the server's answer and the client's; what the server says to that.
    for _ in range(3):
        for end in tuple(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    assert not ends
