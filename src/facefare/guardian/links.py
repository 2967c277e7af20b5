"""TLS links between guardians, and the sessions made of them.

Job: give the engine two `Channel`s, to the previous and to the following guardian, and make new ones when a
peer comes back.
Invariants:
- TLS 1.3 only, both sides authenticated by pinned certificates, whose name says which guardian it is;
- each pair has two connections, one for each direction: a TLS connection of Python's `ssl` may not be read
  by one thread while another writes it. A connection is only read, or only written, under one lock;
- a session has a random id chosen by guardian 0 and fresh connections; nothing of an older session can be
  read in a newer one.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path

import structlog

from facefare.guardian.errors import LinkClosed, LinkError
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.messages import GUARDIANS
from facefare.serving import listening

_SESSION_ID_BYTES = 16
_DIAL_TIMEOUT = 2.0
_MEET_TIMEOUT = 5.0  # for the others to dial back
_MAX_WELCOMES = 16  # handshakes at a time, so that a port scanner costs little
_RECORD = 1 << 14  # of TLS, at most
_AT_ONCE = 1 << 18  # bytes up to which a message is written by who sends it, which spares a thread switch
_TURN = 1 << 18  # bytes the sender's thread writes before it lets another message be queued
_SEND_POLL = 1.0
LEADER = 0
PATIENCE, WARM_UP_PATIENCE = 10.0, 180.0
"""Seconds one read may take; and where kernels are compiled first, or a whole gallery is erased."""

_log = structlog.get_logger()


def server_context(certificate: Path, key: Path, trusted: str) -> ssl.SSLContext:
    """TLS 1.3 server that takes only clients with one of the certificates in `trusted` (PEM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0  # else the server would write to a connection that it only reads
    context.load_cert_chain(certificate, key)
    if trusted:
        context.load_verify_locations(cadata=trusted)
    return context


def client_context(certificate: Path, key: Path, trusted: str) -> ssl.SSLContext:
    """TLS 1.3 client that shows its certificate and takes only servers in `trusted` (PEM), by name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(cadata=trusted)
    return context


class LinkChannel:
    """Both directions to one peer; an `mpc.channels.Channel`."""

    def __init__(self, peer: int, outgoing: ssl.SSLSocket, incoming: ssl.SSLSocket) -> None:
        self.peer = peer
        self._outgoing = outgoing
        self._incoming = incoming
        self._outgoing.setblocking(False)
        self._backlog: deque[memoryview] = deque()
        self._change = threading.Condition()  # held while the outgoing connection is written
        self._closed = False
        threading.Thread(target=self._pump, name=f"to guardian {peer}", daemon=True).start()

    def send(self, data: bytes | memoryview) -> None:
        """Queue the bytes; raises `LinkClosed`. What is not too long leaves at once, as far as it can."""
        rest = memoryview(data).cast("B")
        with self._change:
            if self._closed:
                raise self._broken()
            if not self._backlog and len(rest) <= _AT_ONCE:
                rest = self._write(rest)
            if rest:
                self._backlog.append(rest)
                self._change.notify()

    def receive_into(self, buffer: memoryview) -> None:
        """Fill the buffer; raises `LinkClosed`, also when the peer is silent for too long."""
        rest = buffer.cast("B")
        try:
            while rest:
                count = self._incoming.recv_into(rest)
                if count == 0:
                    raise self._broken()
                rest = rest[count:]
        except (OSError, ValueError):  # ValueError: closed by another thread meanwhile
            raise self._broken() from None

    def set_patience(self, seconds: float) -> None:
        """How long one read may wait."""
        try:
            self._incoming.settimeout(seconds)
        except OSError:
            raise self._broken() from None

    def close(self) -> None:
        """Give both connections up; a blocked reader gets `LinkClosed`."""
        with self._change:
            self._closed = True
            self._change.notify()
        for connection in (self._incoming, self._outgoing):
            close_now(connection)

    def _write(self, rest: memoryview) -> memoryview:
        """Write what the connection takes without waiting; what is left. Holds the lock."""
        try:
            while rest:
                rest = rest[self._outgoing.send(rest[:_RECORD]) :]
        except ssl.SSLWantWriteError:
            pass
        except (OSError, ValueError):
            self._closed = True
            close_now(self._incoming)  # wakes a reader: without sending there is no protocol
            raise self._broken() from None
        return rest

    def _pump(self) -> None:
        """The sender's thread: writes the backlog as fast as the connection takes it."""
        while True:
            with self._change:
                self._change.wait_for(lambda: self._backlog or self._closed)
                if self._closed:
                    return
                try:
                    rest = self._write(self._backlog[0][:_TURN])
                except LinkClosed:
                    return
                done = min(_TURN, len(self._backlog[0])) - len(rest)
                self._backlog[0] = self._backlog[0][done:]
                if not self._backlog[0]:
                    self._backlog.popleft()
            if rest:
                with contextlib.suppress(OSError, ValueError):
                    select.select([], [self._outgoing], [], _SEND_POLL)

    def _broken(self) -> LinkClosed:
        return LinkClosed(self.peer, f"The link to guardian {self.peer} broke.")


class Session:
    """Channels of one session: to the previous and to the following guardian."""

    def __init__(self, index: int, channels: Mapping[int, LinkChannel]) -> None:
        self.channels = channels
        self.previous = channels[(index - 1) % GUARDIANS]
        self.following = channels[(index + 1) % GUARDIANS]

    def set_patience(self, seconds: float) -> None:
        """How long one read of any peer may wait."""
        for channel in self.channels.values():
            channel.set_patience(seconds)

    def close(self) -> None:
        """End the session at this guardian; the others notice."""
        for channel in self.channels.values():
            channel.close()


class Links:
    """Listens for the peers, dials them, and makes sessions."""

    def __init__(
        self, identity: GuardianIdentity, peers: Mapping[int, GuardianIdentity], certificate: Path, key: Path
    ) -> None:
        pinned = [(index, one.certificate) for index, peer in peers.items() for one in peer.valid]
        trusted = "\n".join(certificate for _, certificate in pinned)
        self._index = identity.index
        self._peers = peers
        self._pinned = {ssl.PEM_cert_to_DER_cert(certificate): index for index, certificate in pinned}
        self._server = server_context(certificate, key, trusted)
        self._client = client_context(certificate, key, trusted)
        self._arrived: dict[int, tuple[bytes, ssl.SSLSocket]] = {}
        self._change = threading.Condition()
        self._session: Session | None = None
        self._closing = False
        self._welcomes = threading.BoundedSemaphore(_MAX_WELCOMES)
        self._socket = listening(identity.host, identity.link_port)
        threading.Thread(target=self._listen, name="links", daemon=True).start()

    def close(self) -> None:
        """Stop listening and end the session."""
        self._closing = True
        close_now(self._socket)
        with self._change:
            for _, connection in self._arrived.values():
                close_now(connection)
            self._arrived.clear()
            self._change.notify_all()
        if self._session is not None:
            self._session.close()

    def connect(self) -> Session:
        """One attempt to meet both peers in a new session; raises `LinkError` naming who is missing."""
        if self._session is not None:
            self._session.close()
            self._session = None
        others = [index for index in range(GUARDIANS) if index != self._index]
        outgoing: dict[int, ssl.SSLSocket] = {}
        incoming: dict[int, ssl.SSLSocket] = {}
        session_id = b""
        try:
            session_id = os.urandom(_SESSION_ID_BYTES) if self._index == LEADER else self._await_leader()
            for peer in others:
                outgoing[peer] = self._dial(peer, session_id)
            for peer in others:
                incoming[peer] = self._await(peer, session_id)
        except LinkError:
            with self._change:
                if session_id and self._arrived.get(LEADER, (b"",))[0] == session_id:
                    incoming[LEADER] = self._arrived.pop(LEADER)[1]  # that attempt is over
            for connection in [*outgoing.values(), *incoming.values()]:
                close_now(connection)
            raise
        session = Session(self._index, {peer: LinkChannel(peer, outgoing[peer], incoming[peer]) for peer in others})
        self._session = session
        return session

    def _dial(self, peer: int, session_id: bytes) -> ssl.SSLSocket:
        identity = self._peers[peer]
        try:
            plain = socket.create_connection((identity.host, identity.link_port), _DIAL_TIMEOUT)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = self._client.wrap_socket(plain, server_hostname=identity.server_name)
            if self._pinned.get(connection.getpeercert(binary_form=True) or b"") != peer:
                raise ssl.SSLError("not the pinned certificate")
            connection.sendall(session_id)
        except OSError as error:
            raise LinkError(peer, f"Guardian {peer} can't be reached: {type(error).__name__}.") from error
        return connection

    def _await_leader(self) -> bytes:
        with self._change:
            if not self._change.wait_for(lambda: LEADER in self._arrived or self._closing, _MEET_TIMEOUT):
                raise LinkError(LEADER, "Guardian 0 has not called.")
            if self._closing:
                raise LinkError(LEADER, "This guardian is closing.")
            return self._arrived[LEADER][0]

    def _await(self, peer: int, session_id: bytes) -> ssl.SSLSocket:
        deadline = time.monotonic() + _MEET_TIMEOUT
        with self._change:
            while True:
                arrived = self._arrived.get(peer)
                if arrived is not None and arrived[0] == session_id:
                    return self._arrived.pop(peer)[1]
                newer = self._index != LEADER and self._arrived.get(LEADER, (session_id,))[0] != session_id
                left = deadline - time.monotonic()
                if newer or self._closing or left <= 0:
                    raise LinkError(peer, f"Guardian {peer} did not join the session.")
                self._change.wait(left)

    def _listen(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                time.sleep(0.05)  # out of file handles, or closing
                continue
            if not self._welcomes.acquire(blocking=False):
                close_now(connection)
                continue
            threading.Thread(target=self._welcome, args=(connection,), daemon=True).start()

    def _welcome(self, plain: socket.socket) -> None:
        """Find out who calls, and for which session; keep the connection for `connect` to find."""
        connection = plain
        try:
            plain.settimeout(_DIAL_TIMEOUT)
            connection = tls = self._server.wrap_socket(plain, server_side=True)
            peer = self._pinned[tls.getpeercert(binary_form=True) or b""]
            session_id = b""
            while len(session_id) < _SESSION_ID_BYTES:
                part = tls.recv(_SESSION_ID_BYTES - len(session_id))
                if not part:
                    raise ConnectionResetError
                session_id += part
        except (OSError, KeyError) as error:
            close_now(connection)
            _log.info("link_refused", reason=type(error).__name__)
            return
        finally:
            self._welcomes.release()
        with self._change:
            older = self._arrived.get(peer)
            self._arrived[peer] = (session_id, tls)
            self._change.notify_all()
        if older is not None:
            close_now(older[1])
        if peer == LEADER and self._session is not None:
            self._session.close()  # the leader has given that one up


def knows(peer: GuardianIdentity, certificate: Path, key: Path) -> bool | None:
    """Whether the running guardian `peer` takes links from who has this certificate; None where it doesn't answer.

    No session is begun. TLS 1.3 checks the caller last, so the refusal, if it is one, comes after the handshake; a
    guardian that lets the caller in says nothing and waits for the session's id, and hangs up when it hears the end.
    """
    context = client_context(certificate, key, "\n".join(one.certificate for one in peer.valid))
    try:
        with socket.create_connection((peer.host, peer.link_port), _DIAL_TIMEOUT) as plain:
            tls = context.wrap_socket(plain, server_hostname=peer.server_name)
            tls.settimeout(_DIAL_TIMEOUT / 2)
            with contextlib.suppress(TimeoutError):
                return False if tls.recv(1) else None
            with contextlib.suppress(ssl.SSLEOFError, ConnectionError):
                tls.unwrap()
            return True
    except ssl.SSLError as error:
        return False if "ALERT" in (error.reason or "") else None
    except OSError:
        return None


def close_now(connection: socket.socket) -> None:
    """Close without ceremony; a thread that is blocked on it wakes up."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
