"""The order of operations, resolved by the addresses that the traced kernel handed out."""
