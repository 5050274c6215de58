"""The command line: one file a command. Data on stdout, everything else on stderr."""
