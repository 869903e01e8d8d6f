"""How a machine becomes a member of the cluster: it proves that it has the join token, and gets a certificate."""

from __future__ import annotations

from tfserve import __version__
from tfserve.cluster.connecting import CannotConnect, connect_as_stranger
from tfserve.cluster.identity import Identity, JoinToken, new_key, private_pem, public_pem
from tfserve.ipc.connections import ConnectionLost
from tfserve.ipc.messages import Join


async def join(address: str, token: JoinToken, name: str, identity: Identity) -> None:
    """Writes the certificate of the node `name` into the folder of `identity`.

    Raises `CannotConnect`, `WrongHead`, and the error with which the head refuses it: a wrong token, another version.
    """
    key = new_key()
    connection = await connect_as_stranger(address, token)
    try:
        joined = await connection.ask(
            Join(secret=token.secret, name=name, version=__version__, public_key=public_pem(key))
        )
    except ConnectionLost:
        raise CannotConnect(address=address, cause="it closed the connection.") from None
    finally:
        connection.close()
    identity.write(ca=joined.ca, certificate=joined.certificate, key=private_pem(key))
