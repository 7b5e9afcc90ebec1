"""The order of operations, settled by the addresses that the traced kernel handed out."""
