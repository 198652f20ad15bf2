"""How a command starts: flags, errors, exit codes, the compilation cache."""
