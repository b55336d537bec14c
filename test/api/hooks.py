"""What schemathesis does not know by itself; see schemathesis.toml."""

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(_ctx, value):
    """The schema says that the body is text: whatever it is, it is sent as it is."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
