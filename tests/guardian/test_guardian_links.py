"""TLS links and sessions between guardians, in one process over loopback."""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from three_guardians import free_ports

from facefare.guardian.ceremony import Folder, init, perform_on_one_machine
from facefare.guardian.errors import LinkError
from facefare.guardian.identity import GuardianIdentity
from facefare.guardian.links import Links, Session, client_context
from facefare.mpc.channels import Channel
from facefare.mpc.errors import ChannelClosed


@pytest.fixture
def base(tmp_path: Path) -> Path:
    perform_on_one_machine(tmp_path, ports=free_ports(6), galleries=[])
    return tmp_path


def open_links(base: Path, index: int, peers: dict[int, GuardianIdentity] | None = None) -> Links:
    folder = Folder(base / f"guardian-{index}")
    return Links(folder.identity, peers or folder.peers(), folder.certificate, folder.tls_key)


@pytest.fixture
def trio_of_links(base: Path) -> Iterator[list[Links]]:
    links = [open_links(base, index) for index in range(3)]
    yield links
    for one in links:
        one.close()


def meet(links: list[Links]) -> list[Session]:
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(lambda one: persistently(one.connect), links))


def persistently(connect) -> Session:
    for _ in range(20):
        with contextlib.suppress(LinkError):
            return connect()
    raise AssertionError("no session in 20 attempts")


def receive(channel: Channel, count: int) -> bytes:
    buffer = bytearray(count)
    channel.receive_into(memoryview(buffer))
    return bytes(buffer)


def test_what_is_sent_arrives_in_order_whatever_its_size(trio_of_links: list[Links]) -> None:
    sessions = meet(trio_of_links)
    parts = [os.urandom(size) for size in (1, 16_384, 16_385, 3_000_000, 0, 5, 262_144, 262_145, 7)]
    whole = b"".join(parts)

    def talk(index: int) -> bool:
        session = sessions[index]
        for part in parts:  # all three send everything before anyone reads
            session.previous.send(part)
            session.following.send(memoryview(part))
        return all(receive(channel, len(whole)) == whole for channel in session.channels.values())

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(talk, range(3)))


def test_a_closed_session_wakes_whoever_waits_for_it(trio_of_links: list[Links]) -> None:
    sessions = meet(trio_of_links)
    failed = []

    def wait(index: int) -> None:
        with pytest.raises(ChannelClosed):
            receive(sessions[index].channels[1], 1)
        failed.append(index)

    waiting = [threading.Thread(target=wait, args=(index,)) for index in (0, 2)]
    for thread in waiting:
        thread.start()
    sessions[1].close()
    for thread in waiting:
        thread.join(timeout=10)
    assert sorted(failed) == [0, 2]
    with pytest.raises(ChannelClosed):
        sessions[1].previous.send(b"x")


def test_a_silent_peer_is_given_up_after_the_patience(trio_of_links: list[Links]) -> None:
    sessions = meet(trio_of_links)
    sessions[0].set_patience(0.05)
    with pytest.raises(ChannelClosed, match="guardian 1"):
        receive(sessions[0].following, 1)


def test_nothing_of_an_old_session_is_read_in_a_new_one(trio_of_links: list[Links]) -> None:
    for old in meet(trio_of_links):
        old.previous.send(b"old" * 1000)
        old.following.send(b"old" * 1000)
    sessions = meet(trio_of_links)
    for session in sessions:
        session.previous.send(b"new")
        session.following.send(b"new")
    for session in sessions:
        assert {receive(channel, 3) for channel in session.channels.values()} == {b"new"}


def test_a_peer_that_is_not_there_is_named(base: Path) -> None:
    links = open_links(base, 0)
    with pytest.raises(LinkError) as error:
        links.connect()
    assert error.value.peer == 1
    links.close()


def test_an_impostor_with_its_own_certificate_gets_no_session(base: Path, tmp_path: Path) -> None:
    genuine = Folder(base / "guardian-1").identity
    init(
        tmp_path / "impostor",
        index=1,
        name="impostor",
        host=genuine.host,
        http_port=genuine.http_port,
        link_port=genuine.link_port,
    )
    folder = Folder(tmp_path / "impostor")
    peers = {index: Folder(base / f"guardian-{index}").identity for index in (0, 2)}
    links = [
        open_links(base, 0),
        Links(folder.identity, peers, folder.certificate, folder.tls_key),
        open_links(base, 2),
    ]
    with pytest.raises(LinkError) as error:
        links[0].connect()
    assert error.value.peer == 1
    for one in links:
        one.close()


def test_one_guardian_can_not_pass_for_another(base: Path) -> None:
    folder = Folder(base / "guardian-0")
    swapped = {
        1: GuardianIdentity(**{**folder.peers()[2].__dict__, "index": 1}),
        2: GuardianIdentity(**{**folder.peers()[1].__dict__, "index": 2}),
    }
    links = [open_links(base, 0, swapped), open_links(base, 1), open_links(base, 2)]
    with pytest.raises(LinkError):
        links[0].connect()
    for one in links:
        one.close()


@pytest.mark.parametrize("garbage", [b"", b"GET / HTTP/1.1\r\n\r\n", bytes(5000)])
def test_strangers_and_garbage_on_the_port_do_no_harm(trio_of_links: list[Links], base: Path, garbage) -> None:
    identity = Folder(base / "guardian-1").identity
    stranger = Folder(base / "guardian-0")
    with socket.create_connection((identity.host, identity.link_port)) as plain:
        plain.sendall(garbage)
    context = client_context(stranger.certificate, stranger.tls_key, identity.certificate)
    context.maximum_version = context.minimum_version
    with (
        socket.create_connection((identity.host, identity.link_port)) as plain,
        context.wrap_socket(plain, server_hostname=identity.server_name) as tls,
    ):
        tls.sendall(b"short")
    assert len(meet(trio_of_links)) == 3


def test_only_tls_1_3_with_a_client_certificate_is_spoken(base: Path, trio_of_links: list[Links]) -> None:
    identity = Folder(base / "guardian-1").identity
    old = ssl.create_default_context(cadata=identity.certificate)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((identity.host, identity.link_port)) as plain,
        pytest.raises(ssl.SSLError),
    ):
        old.wrap_socket(plain, server_hostname=identity.server_name)
    anonymous = ssl.create_default_context(cadata=identity.certificate)

    def talk(tls: ssl.SSLSocket) -> None:
        while tls.recv(1):
            pass
        raise ConnectionResetError

    # In TLS 1.3 the client learns only afterwards that the server wanted a certificate.
    with (
        socket.create_connection((identity.host, identity.link_port)) as plain,
        anonymous.wrap_socket(plain, server_hostname=identity.server_name) as tls,
        pytest.raises(OSError),
    ):
        talk(tls)
