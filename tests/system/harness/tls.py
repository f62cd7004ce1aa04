"""TLS of clients and servers by hand.

    r = pool(main=for_clients(authority, auth_type="trust"))
    with encrypt(Client(r.at("pool"))) as client:
        client.log_in()
"""

import contextlib
import ssl

from . import wire


def for_clients(authority, sslmode="require", name="router", hosts=("127.0.0.1", "localhost"), **more):
    """Settings of a listener that has TLS."""
    key, certificate = authority.issue(name, hosts)
    return {"client_tls_sslmode": sslmode, "client_tls_key_file": key,
            "client_tls_cert_file": certificate, **more}


def context_of(authority=None, alpn=None, identity=None, version=None, ciphers=None):
    context = ssl.create_default_context(cafile=authority.certificate if authority else None)
    context.check_hostname = authority is not None
    if authority is None:
        context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols([alpn])
    if identity:
        context.load_cert_chain(identity[1], identity[0])
    if version:
        context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def server_context(identity):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity[1], identity[0])
    return context


def encrypt(client, context=None):
    """Asks for TLS, and has it."""
    client.send(wire.ssl_request())
    assert client.receive(1) == b"S"
    client.socket = (context or context_of()).wrap_socket(client.socket, server_hostname="127.0.0.1")
    return client


def encrypt_directly(client, context):
    client.socket = context.wrap_socket(client.socket, server_hostname="127.0.0.1")
    return client


def is_refused_in_silence(client):
    """The connection ends, and nothing was said."""
    with contextlib.suppress(ConnectionResetError):
        return client.at_end()
    return True
