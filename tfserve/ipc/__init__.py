"""Communication between processes: messages, frames (their wire format) and connections."""
