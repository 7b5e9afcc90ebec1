"""The command line: one file a subcommand. Modules here import what is heavy inside the commands."""
