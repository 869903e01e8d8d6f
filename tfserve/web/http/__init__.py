"""HTTP for every API: request ids, errors, access log, guard, bodies with limits, responses, and the server."""
