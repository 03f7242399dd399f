"""No connection to anywhere: each attempt raises an error, and is noted in a file."""

import os
import socket


def refuse(*arguments, **options):
    with open(os.environ["TRUST_ATTEMPTS"], "a") as file:
        file.write(f"{arguments}\n")
    raise OSError("this process may not use the network")


for name in ("connect", "connect_ex", "sendto", "sendmsg", "bind"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
