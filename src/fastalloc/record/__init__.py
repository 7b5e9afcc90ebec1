"""Recording on the machine in question: one POSIX shell script."""
