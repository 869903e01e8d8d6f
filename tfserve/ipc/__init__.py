"""How the processes talk: messages (what), frames (how it looks on the wire), connections (who with)."""
