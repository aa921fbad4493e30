"""The handshake, once more and by hand: what stands between a server and us, in words that lead somewhere.

gRPC says of a certificate that was refused `Unwrap failed (TSI_DATA_CORRUPTED)`.  So where a line cannot be opened, and TLS may be
the reason, the same is tried with Python's own, which knows whose certificate it was and what is wrong with it.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

from netloom.datastore.etcd.target import Server, Target
from netloom.errors import Unavailable

_PATIENCE = 2.0  # seconds
_ALERT = 0.5  # seconds in which a server says that it does not like our certificate: TLS 1.3 lets it do so after the handshake
_SIGNS = ("tls", "ssl", "tsi", "security", "socket closed", "handshake")
_EXPIRED = "certificate has expired"


def fault(server: Server, target: Target, said: str) -> Unavailable | None:
    """`said`: gRPC's words.  None where they may stand."""
    if not any(sign in said.lower() for sign in _SIGNS):
        return None
    if not server.tls:
        return Unavailable(
            f"{server} closes the connection at once; it may speak TLS alone", hint=f"write https://{server.place}"
        )
    try:
        context = _context(target)
    except (OSError, ssl.SSLError) as e:
        return Unavailable(str(e), hint=f"ls -l {target.cert_file} {target.key_file} {target.ca_file}")
    with suppress(OSError), socket.create_connection((server.host, server.port), _PATIENCE) as plain:
        try:
            _shake_hands(plain, server.host, context)
        except ssl.SSLCertVerificationError as e:
            return _theirs(server, target, e.verify_message)
        except ssl.SSLError as e:
            return _ours(server, target, e.reason or str(e))
        except ConnectionError:
            return _ours(server, target, "it closes the connection")
    return None


def _context(target: Target) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=target.ca_file or None)
    except ssl.SSLError as e:
        raise OSError(f"etcdCaFile: {target.ca_file} holds no certificate") from e
    context.set_alpn_protocols(["h2"])
    if target.cert_file:
        try:
            context.load_cert_chain(target.cert_file, target.key_file)
        except ssl.SSLError as e:
            message = f"etcdCertFile, etcdKeyFile: {target.cert_file} and {target.key_file} are no certificate and its key"
            raise OSError(message) from e
    return context


def _shake_hands(plain: socket.socket, host: str, context: ssl.SSLContext) -> None:
    with context.wrap_socket(plain, server_hostname=host) as secured:
        secured.settimeout(_ALERT)
        secured.recv(1)


def _theirs(server: Server, target: Target, reason: str) -> Unavailable:
    if _EXPIRED in reason:
        return Unavailable(
            f"the certificate of {server} has expired", hint="renew it there, and see that both clocks are right"
        )
    if "issuer" in reason or "self-signed" in reason:
        whose = f"the authority in {target.ca_file}" if target.ca_file else "an authority that this machine trusts"
        return Unavailable(
            f"the certificate of {server} is not from {whose}: {reason}", hint="set etcdCaFile to the one that signs it"
        )
    return Unavailable(
        f"the certificate of {server} cannot be trusted: {reason}", hint=f"openssl s_client -connect {server.place}"
    )


def _ours(server: Server, target: Target, reason: str) -> Unavailable:
    if "ALERT" not in reason:
        return Unavailable(f"{server} speaks no TLS: {reason}", hint=f"write http://{server.place}, or see who listens there")
    if not target.cert_file:
        return Unavailable(f"{server} wants a certificate of ours", hint="set etcdCertFile and etcdKeyFile")
    if _has_expired(target):
        return Unavailable(f"our certificate {target.cert_file} has expired", hint="renew it")
    return Unavailable(
        f"{server} refuses our certificate {target.cert_file}: {reason}",
        hint="see which authority it trusts: --trusted-ca-file",
    )


def _has_expired(target: Target) -> bool:
    """Asks a server of our own, in memory, which trusts this certificate and none else: its dates are left to complain about."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    server.load_verify_locations(target.cert_file)
    for context in (server, client):
        context.load_cert_chain(target.cert_file, target.key_file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours, theirs = client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)
    try:
        for end in (ours, theirs, ours, theirs):
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLCertVerificationError as e:
        return _EXPIRED in e.verify_message
    return False
