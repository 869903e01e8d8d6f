"""The server's side of HTTP/2 (RFC 9113), as far as gRPC uses it: no push, no priorities, no upgrade from HTTP/1.1."""
