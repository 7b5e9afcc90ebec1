"""How a kernel is compiled and cached."""
